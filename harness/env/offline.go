package env

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/redact"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

// Parts are what an Offline suite is made of. Those that a test does not ask may be nil.
type Parts struct {
	API      client.Client
	Pods     podexec.Streamer
	Created  absence.Creations
	Gateway  *fault.Gateway
	Firewall *fault.Firewall
	Node     cluster.Exec
	Testbed  *testbed.Testbed
	Times    timing.Times
}

// Offline is a suite for unit tests, which connects to nothing. Its artifacts, and what its processes share, are in folder.
func Offline(folder string, p Parts) *Suite {
	if p.Testbed == nil {
		p.Testbed = &testbed.Testbed{}
	}
	return &Suite{
		Testbed: p.Testbed, API: p.API, Created: p.Created, Gateway: p.Gateway, Firewall: p.Firewall, Node: p.Node, Pods: podexec.Runner{Streamer: p.Pods},
		Redactor: redact.NewRedactor(), Artifacts: artifacts.Dir(folder), times: p.Times, folder: folder,
	}
}
