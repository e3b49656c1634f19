// Package cluster starts the kind cluster of one run: one node or a few, the API server's audit log on, in a Docker network of
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
	"strconv"
	"strings"
	"text/template"
	"time"

	"golang.org/x/sync/errgroup"
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
	Nodes      int    // how many; 0 is 1
	Kubeconfig string // where the kubeconfig is written, mode 0600
	AuditDir   string // a folder of this host that gets the audit log
	StateDir   string // a folder of this host for the cluster's configuration files
	Trust      Trust
	Status     func(format string, args ...any)
}

// Cluster is a running cluster.
type Cluster struct {
	Name       string
	Nodes      []string // the nodes' containers, which are named as the nodes are; the control plane's comes first
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
	c := &Cluster{Name: o.Name, Nodes: nodeNames(o.Name, o.Nodes), Kubeconfig: o.Kubeconfig, Engine: eng}
	created := make(chan error, 1)
	booting, booted := context.WithCancel(ctx)
	defer booted()
	for i, node := range c.nodes() {
		go untilDone(booting, func() error { return keepServicesInside(booting, node.Exec) })
		if i > 0 && !o.NodePulled {
			go untilDone(booting, func() error { return setPods(booting, node.Exec, PodsOf(i)) })
		}
	}
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
			for _, node := range c.Nodes {
				_, _ = eng.Docker(cleanup, "rm", "--force", "--volumes", node)
			}
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
	if err := c.join(ctx, o); err != nil {
		return nil, errors.Join(err, c.undo(ctx))
	}
	// From here on the nodes need nobody outside the run's network, and shall reach nobody.
	for _, node := range c.nodes() {
		if err := closeWayOut(ctx, node.Exec); err != nil {
			return nil, errors.Join(fmt.Errorf("close the way out of node %s: %w", node.Container, err), c.undo(ctx))
		}
	}
	return c, os.Chmod(o.Kubeconfig, 0o600)
}

// nodeNames are the containers that kind makes for a cluster's nodes.
func nodeNames(cluster string, count int) []string {
	names := []string{cluster + "-control-plane"}
	for i := 1; i < count; i++ {
		name := cluster + "-worker"
		if i > 1 {
			name += strconv.Itoa(i)
		}
		names = append(names, name)
	}
	return names
}

// PodsOf is the range of the addresses of a node's pods: the control plane gives its nodes one /24 after the other, in the order in which
// they join.
func PodsOf(node int) string { return fmt.Sprintf("10.244.%d.0/24", node) }

// join makes one cluster of the nodes: the control plane's takes pods too, each node has the range of pods that the control plane gave
// it, and knows the way to the others'. Upstream's node image brings a daemon for that. One node has nobody to join.
func (c *Cluster) join(ctx context.Context, o Options) error {
	if len(c.Nodes) == 1 {
		return nil
	}
	const kubectl = "kubectl --kubeconfig=/etc/kubernetes/admin.conf "
	if _, err := c.nodes()[0].Exec(ctx, "bash", "-c", kubectl+"taint nodes "+c.Nodes[0]+" node-role.kubernetes.io/control-plane-"); err != nil {
		return fmt.Errorf("let node %s take pods: %w", c.Nodes[0], err)
	}
	for i, node := range c.nodes() {
		if err := c.checkPods(ctx, i, kubectl+"get node "+node.Container+" --output=jsonpath={.spec.podCIDR}"); err != nil {
			return fmt.Errorf("node %s: %w", node.Container, err)
		}
	}
	if o.NodePulled {
		return nil
	}
	for i, node := range c.nodes() {
		routes, err := c.PodRoutes(ctx, i)
		if err == nil {
			err = errors.Join(setPods(ctx, node.Exec, PodsOf(i)), leadToOthers(ctx, node.Exec, routes))
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", node.Container, err)
		}
	}
	return nil
}

// checkPods waits until a node has a range of pods, which the command prints, and sees that it is the one that the node was set up with.
func (c *Cluster) checkPods(ctx context.Context, node int, command string) error {
	ctx, cancel := context.WithTimeout(ctx, timing.Setup.Services)
	defer cancel()
	for {
		given, err := c.nodes()[0].Exec(ctx, "bash", "-c", command)
		switch {
		case err == nil && given == PodsOf(node):
			return nil
		case err == nil && given != "":
			return fmt.Errorf("wanted its pods in %s, found %s: the nodes did not join in their order; try again", PodsOf(node), given)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the control plane has given its pods no range within %s: %w", timing.Setup.Services, errors.Join(ctx.Err(), err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// PodRoutes are the routes of a node to the pods of the others.
func (c *Cluster) PodRoutes(ctx context.Context, node int) (routes []PodRoute, err error) {
	for i := range c.Nodes {
		if i == node {
			continue
		}
		via, err := c.NodeAddress(ctx, i)
		if err != nil {
			return nil, err
		}
		routes = append(routes, PodRoute{Pods: PodsOf(i), Via: via})
	}
	return routes, nil
}

// nodes are the nodes, to run commands in.
func (c *Cluster) nodes() (nodes []Node) {
	for _, container := range c.Nodes {
		nodes = append(nodes, Node{Container: container, Engine: c.Engine})
	}
	return nodes
}

// untilDone does it again and again until it is done once: a node's container may not run yet.
func untilDone(ctx context.Context, do func() error) {
	for ctx.Err() == nil && do() != nil {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ServicesReachable waits until the API server answers at its service's address on each node: a controller that starts sooner
// finds nobody there, exits, and is restarted late.
func (c *Cluster) ServicesReachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timing.Setup.Services)
	defer cancel()
	for _, node := range c.nodes() {
		for {
			_, err := node.Exec(ctx, "timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/"+apiService+"/443")
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the API server does not answer on node %s at %s, its service's address, within %s: kube-proxy does not work (%w)",
					node.Container, apiService, timing.Setup.Services, err)
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return nil
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
	trust, err := trustFiles(fixtures, o)
	if err != nil {
		return nil, err
	}
	var config bytes.Buffer
	lacking := LacksSysResource()
	err = parsed.Execute(&config, map[string]any{
		"AuditPolicy":         auditPolicyFile,
		"AuditFolder":         o.AuditDir,
		"Patches":             patchesFolder,
		"Trust":               trust,
		"Workers":             make([]struct{}, max(o.Nodes, 1)-1),
		"UserNamespace":       lacking,
		"RestrictOOMScoreAdj": lacking && o.NodePulled,
	})
	return config.Bytes(), err
}

// Delete removes the cluster's nodes. It is safe to call for a cluster that is half made or gone.
func (c *Cluster) Delete(ctx context.Context) error {
	var problems []error
	for _, node := range c.Nodes {
		if _, err := c.Engine.Docker(ctx, "rm", "--force", "--volumes", node); err != nil && !strings.Contains(err.Error(), "No such container") {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
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
	config.QPS, config.Burst = 200, 400 // a cluster of our own: no need to spare it
	return config, nil
}

// Node is the container that is one of a cluster's nodes. The zero Node is the node of a cluster that is not ours.
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

// ImportImage puts a docker archive into the containerd of each node, where its tag is not there yet.
func (c *Cluster) ImportImage(ctx context.Context, reference, archive string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range c.nodes() {
		group.Go(func() error { return node.importImage(ctx, reference, archive) })
	}
	return group.Wait()
}

func (n Node) importImage(ctx context.Context, reference, archive string) error {
	if out, err := n.Exec(ctx, "ctr", "--namespace", "k8s.io", "images", "list", "--quiet", "name=="+reference); err == nil && out != "" {
		return nil
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	_, err = n.Engine.DockerWithInput(ctx, in, "exec", "--interactive", n.Container,
		"ctr", "--namespace", "k8s.io", "images", "import", "--local", "-")
	return err
}

// NodeAddress is the address of a node in the run's network.
func (c *Cluster) NodeAddress(ctx context.Context, node int) (string, error) {
	return c.Engine.Docker(ctx, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", c.Nodes[node])
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
