// Package env is what specs run in: one process's connection to the testbed (Suite), and one spec's namespace with the verbs by
// which it waits (Env). The packages named after what a user has (claim, app, repository) and what all share (platform) are
// built on it. Specs see none of it: they use harness/scenario.
package env

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/blind"
	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/redact"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

// Environment variables by which the process that puts the testbed up tells the specs' processes about it.
const (
	TestbedVariable   = "SMART_RESTORE_TESTBED"   // path of the testbed's JSON
	ArtifactsVariable = "SMART_RESTORE_ARTIFACTS" // folder of this run's artifacts
	ScaleVariable     = "SMART_RESTORE_TIME_SCALE"
)

// KyvernoNamespace is where Kyverno's pods are.
const KyvernoNamespace = "kyverno"

// Suite is one process's connection to the testbed.
type Suite struct {
	Testbed   *testbed.Testbed
	Config    *rest.Config
	Kube      klient.Client
	API       client.Client // Kube's own
	Created   absence.Creations
	Gateway   *fault.Gateway
	Firewall  *fault.Firewall
	Node      cluster.Exec // runs a command on each of the cluster's nodes
	Pods      podexec.Runner
	Redactor  *redact.Redactor
	Artifacts artifacts.Dir

	times  timing.Times
	folder string // of the testbed's file: private to the run, and shared by its processes
	senses blind.Senses
	skew   time.Duration    // from this host's clock to the API server's
	watch  *creations.Watch // what Created is on an external cluster
}

// Connect connects to the testbed that the environment names.
func Connect() (*Suite, error) {
	path, folder := os.Getenv(TestbedVariable), os.Getenv(ArtifactsVariable)
	if path == "" || folder == "" {
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
	scale, err := scale()
	if err != nil {
		return nil, err
	}
	timing.ScaleSetup(scale)
	senses, err := blind.FromEnvironment()
	if err != nil {
		return nil, err
	}
	s, err := open(up, folder, senses)
	if err == nil {
		s.folder, s.times = filepath.Dir(path), timing.Default().Scaled(scale)
	}
	return s, err
}

// scale is by how much the bounds of this process are longer than on a machine with two cores.
func scale() (float64, error) {
	set := os.Getenv(ScaleVariable)
	if set == "" {
		return 1, nil
	}
	factor, err := strconv.ParseFloat(set, 64)
	if err == nil {
		err = timing.CheckScale(factor)
	}
	if err != nil {
		return 1, fmt.Errorf("%s=%s: %w", ScaleVariable, set, err)
	}
	return factor, nil
}

// Scaled is a bound of a whole spec on this machine: one that stayed shorter than the waits in it would make an unknown of each of
// their failures. A wrong scale is Connect's to refuse.
func Scaled(bound time.Duration) time.Duration {
	factor, _ := scale()
	return time.Duration(float64(bound) * factor)
}

// Open connects to a testbed.
func Open(up *testbed.Testbed, folder string) (*Suite, error) {
	return open(up, folder, blind.Senses{})
}

func open(up *testbed.Testbed, folder string, senses blind.Senses) (*Suite, error) {
	s := &Suite{Testbed: up, Artifacts: artifacts.Dir(folder), times: timing.Default(), senses: senses}
	var err error
	if s.Kube, err = up.Client(senses.Transport); err != nil {
		return nil, fmt.Errorf("testbed of run %s: %w", up.RunID, err)
	}
	s.Config = s.Kube.RESTConfig()
	s.API = s.Kube.Resources().GetControllerRuntimeClient()
	s.Redactor = redact.NewRedactor(up.Credentials.Secrets()...)
	s.Pods = podexec.Runner{Streamer: senses.Stream(podexec.Kubernetes{Config: s.Config}), Redact: s.Redactor.String}
	if up.External != nil || senses.ByWatch() {
		if s.watch, err = creations.NewWatch(s.Config); err != nil {
			return nil, err
		}
		s.watch.Now = s.Now
		s.Created = s.watch
	}
	if s.Created == nil {
		s.Created = senses.Audit(creations.OpenAudit(up.AuditLog))
	}
	s.Gateway, s.Firewall, s.Node = up.Gateway(), up.Firewall(), up.NodeExec
	s.Gateway.Wrap(senses.GatewayTransport)
	up.Store.Wrap = senses.S3Transport()
	return s, nil
}

// Timing are the times that waits of this process have.
func (s *Suite) Timing() timing.Times { return s.times }

// Close ends the connection.
func (s *Suite) Close() error { return s.Created.Close() }

// Witness is what is asked about what was made.
func (s *Suite) Witness() string {
	if s.watch != nil {
		return "the watch of the namespace (there is no audit log)"
	}
	return "the API server's audit log"
}

// Watches says that what was made is known from a watch, and not from the audit log.
func (s *Suite) Watches() bool { return s.watch != nil }

// Now is the time on the API server's clock, by which objects and audit events are dated.
func (s *Suite) Now() time.Time { return s.senses.Now().Add(s.skew) }

// clockTolerance is how far apart two clocks may be that count as one: the API server dates objects by the second.
const clockTolerance = 2 * time.Second

// ClockError is by how much Now may be off the clocks of the cluster's nodes. A cluster of the suite's own has this host's.
func (s *Suite) ClockError() time.Duration {
	if s.Testbed.External == nil {
		return 0
	}
	return clockTolerance
}

// ReadClock asks the API server for the time. Now is by its clock from then on.
func (s *Suite) ReadClock(ctx context.Context) error {
	before := s.senses.Now()
	dated := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "smart-restore-clock-"}}
	if err := s.API.Create(ctx, dated, client.DryRunAll); err != nil {
		return fmt.Errorf("ask the API server for the time: %w", err)
	}
	if skew := dated.CreationTimestamp.Sub(before); skew.Abs() > clockTolerance {
		s.skew = skew
	}
	return nil
}

// BaseSecretNamespace is where the base Secret is that the policy takes for a namespace.
func (s *Suite) BaseSecretNamespace(namespace string) string {
	return cmp.Or(s.Testbed.Contract.BaseSecret.Namespace, namespace)
}

// ApplyBaseSecret makes the base Secret in a namespace, where it is to be in each.
func (s *Suite) ApplyBaseSecret(ctx context.Context, namespace string) error {
	secret := s.Testbed.BaseSecret()
	if secret == nil {
		return nil
	}
	secret.Namespace = namespace
	err := s.API.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) { // by a try before, or it was there empty
		return s.API.Update(ctx, secret)
	}
	return err
}

// ApplySecretStore makes the store of secrets that the contract names in a namespace, where it is to be in each.
func (s *Suite) ApplySecretStore(ctx context.Context, namespace string) error {
	store := s.Testbed.SecretStore(namespace)
	if store == nil || store.GetNamespace() == "" {
		return nil
	}
	return client.IgnoreAlreadyExists(s.API.Create(ctx, store))
}

// SharedFile is the path of a file that all processes of the run share.
func (s *Suite) SharedFile(name string) string { return filepath.Join(s.folder, name) }

// appendLine appends one JSON line to a file of the artifacts.
func (s *Suite) appendLine(path string, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return artifacts.AppendLine(path, s.Redactor.Bytes(line))
}

// ProgressLine is one line of the artifacts' progress file.
type ProgressLine struct {
	Time time.Time `json:"time"`
	Spec string    `json:"spec"`
	Text string    `json:"text"`
}
