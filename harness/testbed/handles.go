package testbed

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// ErrNotOurs comes of an attempt to touch what is not ours on an external testbed.
var ErrNotOurs = cluster.ErrNotOurs

// Gateway is a client of the fault gateway before S3. An external testbed has none: each call is an error.
func (s *Testbed) Gateway() *fault.Gateway {
	if s.External != nil {
		return fault.New("", "")
	}
	return s.Store.Gateway(s.Credentials)
}

// Firewall injects faults into the packets that the node forwards. An external testbed has none: each call is ErrNotOurs.
func (s *Testbed) Firewall() *fault.Firewall { return &fault.Firewall{Exec: s.NodeExec} }

// NodeExec runs a command on the cluster's node, as cluster.Node.Exec does. On an external testbed it is ErrNotOurs.
func (s *Testbed) NodeExec(ctx context.Context, args ...string) (string, error) {
	if s.fakes != nil {
		return s.fakes.node(ctx, args...)
	}
	if s.External != nil {
		return "", ErrNotOurs
	}
	return cluster.Node{Container: s.Node, Engine: &engine.Engine{Host: s.EngineHost}}.Exec(ctx, args...)
}

// api is a client of the cluster's objects.
func (s *Testbed) api() (client.Client, error) {
	if s.fakes != nil {
		return s.fakes.api, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cached == nil {
		kube, err := s.Client()
		if err != nil {
			return nil, err
		}
		s.cached = kube.Resources().GetControllerRuntimeClient()
	}
	return s.cached, nil
}

// fakes stand in for the cluster and what is around it.
type fakes struct {
	api      client.Client
	rules    gatewayRules
	firewall packetFaults
	node     cluster.Exec
}

// gatewayRules and packetFaults are what an examination needs of the clients of gateway and firewall.
type gatewayRules interface {
	Rules(ctx context.Context) ([]gateway.RuleStatus, error)
	HealAll(ctx context.Context) error
}

type packetFaults interface {
	InForce(ctx context.Context) ([]string, error)
	HealAll(ctx context.Context) error
}

func (s *Testbed) faults() (gatewayRules, packetFaults) {
	if s.fakes != nil {
		return s.fakes.rules, s.fakes.firewall
	}
	return s.Gateway(), s.Firewall()
}
