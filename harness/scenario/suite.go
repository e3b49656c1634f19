// Package scenario is what specs are written in: namespaces with labelled PVCs, apps that write and read real data,
// backups looked at with restic, outages of S3 that are proven on, and proofs that something did not happen. It knows
// no test framework: what it sees and where it gives up goes through a Reporter.
package scenario

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/observe"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
)

// Environment variables by which the process that puts the testbed up tells the specs' processes about it.
const (
	TestbedVariable   = "SMART_RESTORE_TESTBED"   // path of the testbed's JSON
	ArtifactsVariable = "SMART_RESTORE_ARTIFACTS" // folder of this run's artifacts
)

// Files in the artifacts folder that specs append to, a line of JSON at a time.
const (
	ProgressFile = "progress.jsonl"
	AbsenceFile  = "absence.jsonl"
)

// toolsNamespace holds the pod that looks into repositories. It is no spec's, and no policy's business.
func (s *Suite) toolsNamespace() string {
	if s.Testbed.External != nil {
		return s.Testbed.Namespace("tools")
	}
	return testbed.ToolsNamespace
}

// Reporter takes what a scenario sees. Fail and Unknown do not return.
type Reporter interface {
	// Evidence records one observation.
	Evidence(kind, text string, data map[string]any)
	// Fail ends the spec: the requirement does not hold.
	Fail(reason string)
	// Unknown ends the spec: whether the requirement holds could not be seen.
	Unknown(reason string)
}

// Creations knows what was made in the cluster, also what is gone again: the API server's audit log or, in a cluster that
// has none of ours, a watch.
type Creations interface {
	// Created returns what was made of a resource in a namespace since then, oldest first.
	Created(ctx context.Context, resource, namespace string, since time.Time) ([]observe.CreatedObject, error)
	// Covers says whether all that was made before t is known.
	Covers(ctx context.Context, t time.Time) (bool, error)
	Close() error
}

// Suite is one process's connection to the testbed.
type Suite struct {
	Testbed   *testbed.Testbed
	Config    *rest.Config
	Kube      klient.Client
	API       client.Client // Kube's own
	Made      Creations
	Gateway   *fault.Gateway
	Firewall  *fault.Firewall
	Redactor  *observe.Redactor
	Artifacts string

	watch      *observe.Watch // what Made is on an external testbed
	ownsBucket bool           // the run's prefixes were empty before it
}

// Connect connects to the testbed that the environment names.
func Connect() (*Suite, error) {
	path, artifacts := os.Getenv(TestbedVariable), os.Getenv(ArtifactsVariable)
	if path == "" || artifacts == "" {
		return nil, fmt.Errorf("there is no testbed to run on (%s and %s are not set): run the specs with make e2e", TestbedVariable, ArtifactsVariable)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("testbed: %w", err)
	}
	up := &testbed.Testbed{}
	if err := json.Unmarshal(raw, up); err != nil {
		return nil, fmt.Errorf("testbed %s: %w", path, err)
	}
	return Open(up, artifacts)
}

// Open connects to a testbed.
func Open(up *testbed.Testbed, artifacts string) (*Suite, error) {
	s := &Suite{Testbed: up, Artifacts: artifacts}
	var err error
	if s.Kube, err = s.Testbed.Client(); err != nil {
		return nil, fmt.Errorf("testbed of run %s: %w", up.RunID, err)
	}
	s.Config = s.Kube.RESTConfig()
	s.API = s.Kube.Resources().GetControllerRuntimeClient()
	s.Redactor = observe.NewRedactor(s.Testbed.Credentials.Secrets()...)
	if up.External != nil {
		return s, s.attach()
	}
	node := &cluster.Cluster{Node: s.Testbed.Node, Engine: &engine.Engine{Host: s.Testbed.EngineHost}}
	s.Made = observe.OpenAudit(s.Testbed.AuditLog)
	s.Gateway = s.Testbed.Store.Gateway(s.Testbed.Credentials)
	s.Firewall = &fault.Firewall{Exec: node.Exec}
	return s, nil
}

// Prepare makes what all specs share: the pod that looks into repositories, a repository with a good backup to copy from,
// and a testbed without faults or volumes of earlier runs. It is called before any spec; what is there already stays.
func (s *Suite) Prepare(ctx context.Context) error {
	if s.Testbed.External == nil { // of one that is not, nothing is left
		if err := s.Firewall.HealAll(ctx); err != nil {
			return err
		}
		if err := s.Gateway.HealAll(ctx); err != nil {
			return err
		}
		if err := s.pruneVolumes(ctx); err != nil {
			return err
		}
	}
	if err := s.prepareTools(ctx); err != nil {
		return err
	}
	return s.prepareSeed(ctx)
}

// prepareTools starts the pod that looks into repositories.
func (s *Suite) prepareTools(ctx context.Context) error {
	err := s.API.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: s.toolsNamespace(), Labels: map[string]string{runs.Label: s.Testbed.RunID},
	}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := s.createInspector(ctx); err != nil {
		return err
	}
	return s.inspectorRuns(ctx)
}

// applyBaseSecret makes the base Secret in a namespace, where it is to be in each.
func (s *Suite) applyBaseSecret(ctx context.Context, namespace string) error {
	secret := s.Testbed.BaseSecret()
	if secret == nil {
		return nil
	}
	secret.Namespace = namespace
	return client.IgnoreAlreadyExists(s.API.Create(ctx, secret))
}

// baseSecretNamespace is where the base Secret is that the policy takes for a namespace.
func (s *Suite) baseSecretNamespace(namespace string) string {
	return cmp.Or(s.Testbed.Contract.BaseSecret.Namespace, namespace)
}

// appendLine appends one JSON line to a file of the artifacts.
func (s *Suite) appendLine(file string, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return observe.AppendLine(filepath.Join(s.Artifacts, file), s.Redactor.Bytes(line))
}

// ProgressLine is one line of ProgressFile.
type ProgressLine struct {
	Time time.Time `json:"time"`
	Spec string    `json:"spec"`
	Text string    `json:"text"`
}

// Close ends the connection.
func (s *Suite) Close() error {
	s.Testbed.Store.Close()
	return s.Made.Close()
}
