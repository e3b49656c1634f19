// Package testbed puts up everything that a run needs, once for all its specs: the run's network, the S3 server with the
// gateway at the configured endpoint, the cluster with what the stack has, such as Kyverno and VolSync, and the policy under test. It says when all
// of that answers, and takes it down again.
package testbed

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/images"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/subject"
	"github.com/smart-restore/conformance/harness/timing"
)

// Testbed is a stack that is up. As JSON it is all that another process needs to use it; it holds credentials.
type Testbed struct {
	RunID          string                  `json:"runID"`
	Stack          string                  `json:"stack"`
	Endpoint       endpoint.Endpoint       `json:"endpoint"`
	CA             string                  `json:"ca,omitempty"`    // of the endpoint's certificate, PEM; empty: it is http
	Trust          string                  `json:"trust,omitempty"` // who trusts it: policy.TrustImages, …
	EngineHost     string                  `json:"engineHost"`
	Cluster        string                  `json:"cluster"`
	Nodes          []string                `json:"nodes"` // containers; the control plane's comes first
	Kubeconfig     string                  `json:"kubeconfig"`
	AuditLog       string                  `json:"auditLog"`
	AgentImage     string                  `json:"agentImage"`
	Images         *images.Set             `json:"images"`
	Store          *objectstore.Handle     `json:"store"`
	Credentials    objectstore.Credentials `json:"credentials"`
	Controllers    []string                `json:"controllers"`              // the namespaces of what was installed that runs
	PodRoutes      [][]cluster.PodRoute    `json:"podRoutes,omitempty"`      // of each node, to the pods of the others, where the suite made them
	EarlierKyverno string                  `json:"earlierKyverno,omitempty"` // path of the objects of another version of Kyverno, one a line; empty: there is none
	Ready          bool                    `json:"ready"`                    // the installation came to its end
	Platform       *Platform               `json:"platform,omitempty"`       // as it was installed
	Policy         []map[string]any        `json:"policy"`                   // the objects applied last, with their labels
	PolicySHA      string                  `json:"policySHA256"`             // of the policy's objects
	PolicyState    PolicyState             `json:"policyState,omitempty"`
	Earlier        *EarlierPolicy          `json:"earlier,omitempty"`   // the policy that this one replaces; nil: none is known
	Remains        []map[string]any        `json:"remains,omitempty"`   // objects of earlier policies that may still be there
	Contract       policy.Contract         `json:"contract"`            // of the policy applied
	Templates      *subject.Set            `json:"templates,omitempty"` // what is applied for each PVC; nil: nothing
	Alerts         string                  `json:"alerts,omitempty"`    // the alerting rules that it brings
	CreatedAt      time.Time               `json:"createdAt"`
	External       *External               `json:"attached,omitempty"` // nil: the cluster is ours

	Phases func(string) func(error) `json:"-"` // told of each phase; nil: nobody is
	Log    *progress.Log            `json:"-"`
	// Save writes the testbed down for whoever uses it after this process. It is called before what is in the cluster
	// changes, and after it; nil: the testbed does not outlive this process.
	Save func() error `json:"-"`

	fakes *fakes // of tests

	mu     sync.Mutex
	cached client.Client // what it has learnt of the cluster's kinds is dear
}

// Options are what Up needs.
type Options struct {
	Run      *runs.Run
	Engine   *engine.Engine
	Lock     *stack.Lock
	Stack    *stack.Stack
	Images   *images.Set
	Renderer *install.Renderer
	Fixtures fs.FS
	Endpoint endpoint.Endpoint // of S3, as the policy names it
	Contract policy.Contract   // of the policy that is to be applied first
	AuditDir string
	Phases   func(name string) func(error)
	Log      *progress.Log
	// Started is called as soon as there is an API server, to watch what happens from then on.
	Started func(*Testbed) error
	// Prepare is called beside the installation, to make in the cluster what all specs share.
	Prepare func(context.Context, *Testbed) error
}

// Up puts the testbed up, the policy excepted. What it made, also where it fails, carries the run's ID.
func Up(ctx context.Context, o Options) (*Testbed, error) {
	s := &Testbed{
		RunID: o.Run.ID, Stack: o.Stack.Name, Endpoint: o.Endpoint, Contract: o.Contract, EngineHost: o.Engine.Host,
		Cluster: cluster.ContainerPrefix + o.Run.ID, Kubeconfig: filepath.Join(o.Run.Dir, "kubeconfig"),
		AuditLog: artifacts.AuditLogIn(o.AuditDir), AgentImage: o.Images.Agent, Images: o.Images,
		Credentials: objectstore.NewCredentials(), CreatedAt: time.Now().UTC(), Phases: o.Phases, Log: o.Log,
	}
	var certificates *authority.Certificates
	if s.Endpoint.HTTPS() {
		var err error
		if certificates, err = authority.New(s.Endpoint.Hostname(), s.CreatedAt); err != nil {
			return nil, err
		}
		s.CA, s.Trust = certificates.CA, o.Contract.S3.Trust
	}
	network := cluster.ContainerPrefix + o.Run.ID
	if _, err := o.Engine.Docker(ctx, "network", "create", "--label", runs.Label+"="+o.Run.ID, network); err != nil {
		return nil, err
	}
	// Rendered while the cluster boots.
	manifests := make([][]*unstructured.Unstructured, len(o.Stack.Manifests))
	var earlier []*unstructured.Unstructured
	var c *cluster.Cluster
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for i, name := range o.Stack.Manifests {
			manifest, _ := o.Lock.Manifest(name)
			objects, err := o.Renderer.Render(groupCtx, o.Lock, manifest)
			if err != nil {
				return err
			}
			manifests[i] = objects
		}
		if o.Stack.UpgradesFrom == "" {
			return nil
		}
		manifest, _ := o.Lock.Manifest(o.Stack.UpgradesFrom)
		var err error
		earlier, err = o.Renderer.Render(groupCtx, o.Lock, manifest)
		return err
	})
	group.Go(func() error {
		return s.phase("s3", "S3 server and gateway for %s", []any{s.Endpoint.URL}, func(*progress.Task) (err error) {
			server, _ := o.Lock.ObjectStore(o.Stack.ObjectStore)
			s.Store, err = objectstore.Start(groupCtx, objectstore.Options{
				Network: network, Labels: map[string]string{runs.Label: o.Run.ID}, NamePrefix: cluster.ContainerPrefix + o.Run.ID,
				Server: server, ServerImage: o.Images.ObjectStore, GatewayImage: o.Images.Gateway,
				Endpoint: s.Endpoint, Certificates: certificates, Bucket: o.Contract.S3.Bucket, Credentials: s.Credentials,
			})
			return err
		})
	})
	group.Go(func() error {
		return s.phase("boot", "kind cluster %s", []any{s.Cluster}, func(task *progress.Task) (err error) {
			c, err = cluster.Create(groupCtx, o.Engine, o.Fixtures, cluster.Options{
				Name: s.Cluster, Network: network, NodeImage: o.Images.Node, NodePulled: o.Images.NodePulled, Nodes: o.Stack.Nodes,
				Kubeconfig: s.Kubeconfig, AuditDir: o.AuditDir, StateDir: o.Run.Dir, Status: task.Status,
				Trust: cluster.Trust{CA: s.CA, ByImages: s.Trust == policy.TrustImages},
			})
			return err
		})
	})
	if err := group.Wait(); err != nil {
		return s, err
	}
	s.Nodes = c.Nodes
	s.Controllers = controllersOf(slices.Concat(manifests...))
	if err := s.connect(ctx, o, c); err != nil {
		return s, err
	}
	if o.Started != nil {
		if err := o.Started(s); err != nil {
			return s, err
		}
	}
	api, err := s.api()
	if err != nil {
		return s, err
	}
	if s.Endpoint.Name != "" {
		if err := install.ForwardName(ctx, api, s.Endpoint.Name, s.Endpoint.Addr.Addr().String()); err != nil {
			return s, err
		}
	}
	err = s.phase("install", "%s", []any{installing(o.Stack)}, func(task *progress.Task) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error {
			if err := c.ImportImage(ctx, s.AgentImage, o.Images.AgentArchive); err != nil || o.Prepare == nil {
				return err
			}
			if s.Endpoint.Name != "" { // what is prepared asks S3 by it
				if err := install.DeploymentsReady(ctx, api, "kube-system", timing.Setup.Ready); err != nil {
					return err
				}
			}
			return o.Prepare(ctx, s)
		})
		group.Go(func() error {
			// All at once: VolSync, for one, does not start without the snapshot CRDs.
			if err := install.Apply(ctx, api, slices.Concat(manifests...), c.ServicesReachable); err != nil {
				return err
			}
			task.Status("waiting for the controllers")
			waiting, ctx := errgroup.WithContext(ctx)
			for _, namespace := range s.Controllers {
				waiting.Go(func() error { return install.DeploymentsReady(ctx, api, namespace, timing.Setup.Ready) })
			}
			waiting.Go(func() error { return install.VolSyncAnswers(ctx, api, timing.Setup.Ready) })
			waiting.Go(func() error {
				return install.DriversRegistered(ctx, api, driversOf(slices.Concat(manifests...)), timing.Setup.Ready)
			})
			return waiting.Wait()
		})
		return group.Wait()
	})
	if err != nil {
		return s, err
	}
	if s.Platform, err = untilSeen(ctx, "what was installed", func(ctx context.Context) (*Platform, error) {
		return record(ctx, api, filepath.Join(o.Run.Dir, "installed.jsonl"), slices.Concat(manifests...))
	}); err != nil {
		return s, err
	}
	if len(earlier) > 0 {
		s.EarlierKyverno = filepath.Join(o.Run.Dir, "earlier-kyverno.jsonl")
		if err := writeObjects(s.EarlierKyverno, earlier); err != nil {
			return s, err
		}
	}
	s.Ready = true
	return s, nil
}

// TrustEnv has a program of the suite's own trust the endpoint's certificate, whoever else does.
func (s *Testbed) TrustEnv() []corev1.EnvVar {
	if s.CA == "" {
		return nil
	}
	return []corev1.EnvVar{{Name: "SSL_CERT_FILE", Value: cluster.CAFile}}
}

// connect leads the endpoint's address to the gateway, in the node, and the gateway's answers back to the pods.
func (s *Testbed) connect(ctx context.Context, o Options, c *cluster.Cluster) error {
	if err := c.Route(ctx, s.Endpoint.Addr.Addr().String(), s.Store.GatewayIP); err != nil {
		return err
	}
	for i := range c.Nodes {
		node, err := c.NodeAddress(ctx, i)
		if err != nil {
			return err
		}
		pods := cluster.PodSubnet
		if len(c.Nodes) > 1 {
			pods = cluster.PodsOf(i)
		}
		if _, err := o.Engine.Docker(ctx, "exec", s.Store.GatewayContainer(), "/gateway", "--route", pods+"="+node); err != nil {
			return err
		}
		if o.Images.NodePulled { // upstream's nodes find each other's pods by themselves
			continue
		}
		routes, err := c.PodRoutes(ctx, i)
		if err != nil {
			return err
		}
		s.PodRoutes = append(s.PodRoutes, routes)
	}
	return nil
}

// installing says what is installed of a stack beside the API server.
func installing(of *stack.Stack) string {
	parts := []string{"VolSync"}
	if of.HasKyverno() {
		parts = append(parts, "Kyverno")
	}
	if len(of.Storage.SnapshotClasses) > 0 {
		parts = append(parts, "the CSI driver")
	}
	if of.HasExternalSecrets() {
		parts = append(parts, "the External Secrets Operator")
	}
	if of.HasArgoCD() {
		parts = append(parts, "Argo CD")
	}
	return strings.Join(parts, ", ") + " and the snapshot CRDs"
}

// Client is a client of the testbed's cluster. Its requests go through what each of wrap makes of the transport.
func (s *Testbed) Client(wrap ...transport.WrapperFunc) (klient.Client, error) {
	config, err := (&cluster.Cluster{Kubeconfig: s.Kubeconfig}).Config()
	if err != nil {
		return nil, err
	}
	if s.External != nil {
		config.QPS, config.Burst = 20, 40 // not ours: others use it, too
	}
	config.WarningHandler = rest.NoWarnings{} // of deprecated kinds, which are listed whatever the policy is made of
	for _, w := range wrap {
		config.Wrap(w)
	}
	return klient.New(config)
}

func (s *Testbed) phase(name, format string, args []any, do func(*progress.Task) error) error {
	end := func(error) {}
	if s.Phases != nil {
		end = s.Phases(name)
	}
	task := s.Log.Task(format, args...)
	err := do(task)
	end(err)
	return task.Done(err)
}
