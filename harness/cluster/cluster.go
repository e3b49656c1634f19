// Package cluster starts the kind cluster of one run: one node, the API server's audit log on, in a Docker network of
// its own. It never uses or deletes a cluster that it did not make.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	kind "sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/subnet"
	"github.com/smart-restore/conformance/harness/timing"
)

// ContainerPrefix begins the name of every cluster of ours; the run's ID follows.
const ContainerPrefix = "smart-restore-"

// The ranges of the pods' and services' addresses, as fixtures/cluster/kind.yaml sets them, and the address of the
// service that is the API server.
const (
	PodSubnet     = subnet.Pods
	ServiceSubnet = subnet.Services
	apiService    = subnet.APIServer
)

// Options describe the cluster of one run.
type Options struct {
	Name       string // ContainerPrefix and the run's ID
	Network    string // the Docker network, which must exist
	NodeImage  string
	NodePulled bool   // upstream's node image: what ours has built in is patched in
	Kubeconfig string // where the kubeconfig is written, mode 0600
	AuditDir   string // a folder of this host that gets the audit log
	StateDir   string // a folder of this host for the cluster's configuration files
	Status     func(format string, args ...any)
}

// Cluster is a running cluster.
type Cluster struct {
	Name       string
	Node       string // the node's container
	Kubeconfig string
	Engine     *engine.Engine
}

// Create boots the cluster. Where it fails, nothing of it is left; ctx ending early has the same effect.
func Create(ctx context.Context, eng *engine.Engine, fixtures fs.FS, o Options) (_ *Cluster, err error) {
	provider, err := newProvider(o.Network, o.Status)
	if err != nil {
		return nil, err
	}
	existing, err := provider.List()
	if err != nil {
		return nil, fmt.Errorf("list kind clusters: %w", err)
	}
	for _, name := range existing {
		if name == o.Name {
			return nil, fmt.Errorf("a kind cluster %s is there already: it is not this run's, so it is left alone", name)
		}
	}
	config, err := configuration(fixtures, o)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: o.Name, Node: o.Name + "-control-plane", Kubeconfig: o.Kubeconfig, Engine: eng}
	created := make(chan error, 1)
	booting, booted := context.WithCancel(ctx)
	defer booted()
	go c.keepServicesInside(booting)
	go func() {
		created <- provider.Create(o.Name,
			kind.CreateWithRawConfig(config),
			kind.CreateWithNodeImage(o.NodeImage),
			kind.CreateWithKubeconfigPath(o.Kubeconfig),
			kind.CreateWithWaitForReady(0),
			kind.CreateWithDisplayUsage(false),
			kind.CreateWithDisplaySalutation(false))
	}()
	select {
	case err = <-created:
	case <-ctx.Done():
		// kind takes no context: without its node it gives up at once.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), timing.Setup.Delete)
		defer cancel()
		for done := false; !done; {
			_, _ = eng.Docker(cleanup, "rm", "--force", "--volumes", c.Node)
			select {
			case err = <-created:
				done = true
			case <-time.After(time.Second):
			case <-cleanup.Done():
				done = true
			}
		}
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("kind cluster %s: %w", o.Name, err), c.undo(ctx))
	}
	// From here on the node needs nobody outside the run's network, and shall reach nobody.
	if err := closeWayOut(ctx, c.Exec); err != nil {
		return nil, errors.Join(fmt.Errorf("close the node's way out: %w", err), c.undo(ctx))
	}
	return c, os.Chmod(o.Kubeconfig, 0o600)
}

// keepServicesInside gives the node a route for the services' addresses as soon as it runs. Until kube-proxy has set a
// service up, packets to it would take the default route, out of this machine, and whoever answers there would be taken
// for the service.
func (c *Cluster) keepServicesInside(ctx context.Context) {
	for ctx.Err() == nil {
		if keepServicesInside(ctx, c.Exec) == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ServicesReachable waits until the API server answers at its service's address: a controller that starts sooner finds
// nobody there, exits, and is restarted late.
func (c *Cluster) ServicesReachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timing.Setup.Services)
	defer cancel()
	for {
		_, err := c.Exec(ctx, "timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/"+apiService+"/443")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server does not answer at %s, its service's address, within %s: kube-proxy does not work (%w)", apiService, timing.Setup.Services, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func newProvider(network string, status func(string, ...any)) (*kind.Provider, error) {
	// kind has no option for it, only this.
	if err := engine.TellLibraries(map[string]string{"KIND_EXPERIMENTAL_DOCKER_NETWORK": network}); err != nil {
		return nil, err
	}
	return kind.NewProvider(kind.ProviderWithDocker(), kind.ProviderWithLogger(logger{status})), nil
}

// LacksSysResource says whether this host's capability bounding set lacks CAP_SYS_RESOURCE, as in many sandboxes.
func LacksSysResource() bool {
	const capSysResource = 24
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		var bounding uint64
		if n, _ := fmt.Sscanf(line, "CapBnd:\t%x", &bounding); n == 1 {
			return bounding>>capSysResource&1 == 0
		}
	}
	return false
}

func configuration(fixtures fs.FS, o Options) ([]byte, error) {
	auditPolicy, err := fs.ReadFile(fixtures, "cluster/audit-policy.yaml")
	if err != nil {
		return nil, err
	}
	auditPolicyFile := filepath.Join(o.StateDir, "audit-policy.yaml")
	if err := os.WriteFile(auditPolicyFile, auditPolicy, 0o644); err != nil {
		return nil, err
	}
	patches, err := fs.Sub(fixtures, "cluster/patches")
	if err != nil {
		return nil, err
	}
	patchesFolder := filepath.Join(o.StateDir, "patches")
	if err := errors.Join(os.RemoveAll(patchesFolder), os.CopyFS(patchesFolder, patches)); err != nil {
		return nil, err
	}
	// The API server, root in the node, appends to a file that we own and can read.
	auditLog, err := os.OpenFile(artifacts.AuditLogIn(o.AuditDir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	if err := auditLog.Close(); err != nil {
		return nil, err
	}
	text, err := fs.ReadFile(fixtures, "cluster/kind.yaml")
	if err != nil {
		return nil, err
	}
	parsed, err := template.New("kind.yaml").Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var config bytes.Buffer
	lacking := LacksSysResource()
	err = parsed.Execute(&config, map[string]any{
		"AuditPolicy":         auditPolicyFile,
		"AuditFolder":         o.AuditDir,
		"Patches":             patchesFolder,
		"UserNamespace":       lacking,
		"RestrictOOMScoreAdj": lacking && o.NodePulled,
	})
	return config.Bytes(), err
}

// Delete removes the cluster's node. It is safe to call for a cluster that is half made or gone.
func (c *Cluster) Delete(ctx context.Context) error {
	_, err := c.Engine.Docker(ctx, "rm", "--force", "--volumes", c.Node)
	if err != nil && strings.Contains(err.Error(), "No such container") {
		return nil
	}
	return err
}

// undo is Delete with a time of its own, also where ctx has ended.
func (c *Cluster) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timing.Setup.Delete)
	defer cancel()
	return c.Delete(ctx)
}

// Config is the client configuration of the cluster's administrator.
func (c *Cluster) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 200, 400 // one node of our own: no need to spare it
	return config, nil
}

// Exec runs a command in the node, as Node.Exec does.
func (c *Cluster) Exec(ctx context.Context, args ...string) (string, error) {
	return Node{Container: c.Node, Engine: c.Engine}.Exec(ctx, args...)
}

// Node is the container that is a cluster's node. The zero Node is the node of a cluster that is not ours.
type Node struct {
	Container string
	Engine    *engine.Engine
}

// ErrNotOurs comes of an attempt to touch the node of a cluster that is not ours.
var ErrNotOurs = errors.New("the cluster is not ours: its nodes are not touched")

// Exec runs a command in the node, as root and without a shell, and returns what it printed on stdout, trimmed. A command
// that exits other than 0 is an error, which carries what it printed on stderr.
func (n Node) Exec(ctx context.Context, args ...string) (string, error) {
	if n.Engine == nil {
		return "", ErrNotOurs
	}
	return n.Engine.Docker(ctx, append([]string{"exec", n.Container}, args...)...)
}

// ImportImage puts a docker archive into the node's containerd, where its tag is not there yet.
func (c *Cluster) ImportImage(ctx context.Context, reference, archive string) error {
	if out, err := c.Exec(ctx, "ctr", "--namespace", "k8s.io", "images", "list", "--quiet", "name=="+reference); err == nil && out != "" {
		return nil
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	_, err = c.Engine.DockerWithInput(ctx, in, "exec", "--interactive", c.Node,
		"ctr", "--namespace", "k8s.io", "images", "import", "--local", "-")
	return err
}

// NodeAddress is the node's address in the run's network.
func (c *Cluster) NodeAddress(ctx context.Context) (string, error) {
	return c.Engine.Docker(ctx, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", c.Node)
}

// logger shows kind's own steps as the status of our task.
type logger struct{ status func(string, ...any) }

func (l logger) Warn(message string)               { l.status("%s", message) }
func (l logger) Warnf(format string, args ...any)  { l.status(format, args...) }
func (l logger) Error(message string)              { l.status("%s", message) }
func (l logger) Errorf(format string, args ...any) { l.status(format, args...) }
func (l logger) V(level log.Level) log.InfoLogger  { return infoLogger{l.status, level} }

type infoLogger struct {
	status func(string, ...any)
	level  log.Level
}

func (l infoLogger) Info(message string) {
	if l.level == 0 {
		l.status("%s", strings.TrimSpace(message))
	}
}

func (l infoLogger) Infof(format string, args ...any) {
	if l.level == 0 {
		l.status(strings.TrimSpace(format), args...)
	}
}
func (l infoLogger) Enabled() bool { return l.level == 0 }
