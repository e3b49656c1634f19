// Package external guards runs on an existing cluster, which others use, too. Before anything is created, it says what the run
// would create there, and refuses what could do harm. Afterwards it deletes what the run created, by label and UID, and lists
// what is left.
package external

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Chosen is one context of a kubeconfig.
type Chosen struct {
	Context, Cluster, Server string

	config *api.Config // of this context only
}

// Choose reads the context of a kubeconfig: a file, several as kubectl takes them, or, where none is given, kubectl's own.
// The current context is never asked.
func Choose(kubeconfig, context string) (*Chosen, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if kubeconfig != "" {
		rules.Precedence = filepath.SplitList(kubeconfig)
	}
	config, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	chosen, ok := config.Contexts[context]
	if !ok {
		names := slices.Sorted(maps.Keys(config.Contexts))
		return nil, fmt.Errorf("KUBE_CONTEXT=%s is no context of %s; there are: %s", context, strings.Join(rules.GetLoadingPrecedence(), ", "), cmp.Or(strings.Join(names, ", "), "none"))
	}
	cluster, ok := config.Clusters[chosen.Cluster]
	if !ok {
		return nil, fmt.Errorf("KUBE_CONTEXT=%s is of the cluster %q, which the kubeconfig does not have", context, chosen.Cluster)
	}
	config.CurrentContext = context
	if err := errors.Join(api.MinifyConfig(config), api.FlattenConfig(config)); err != nil {
		return nil, fmt.Errorf("KUBE_CONTEXT=%s: %w", context, err)
	}
	return &Chosen{Context: context, Cluster: chosen.Cluster, Server: cluster.Server, config: config}, nil
}

// Allowed refuses a cluster that is not named: whoever starts a run is to say which cluster it may change. No request is
// sent before.
func (c *Chosen) Allowed(name string) error {
	switch name {
	case c.Cluster:
		return nil
	case "":
		return Refusal{
			Wanted: "ALLOW_CLUSTER, the name of the cluster in which this run may make things",
			Found:  fmt.Sprintf("it is not set; the context %s is of the cluster %s at %s", c.Context, c.Cluster, c.Server),
			Do:     fmt.Sprintf("if that is the one, set ALLOW_CLUSTER=%s", c.Cluster),
		}
	}
	return Refusal{
		Wanted: fmt.Sprintf("the cluster %s, which ALLOW_CLUSTER names", name),
		Found:  fmt.Sprintf("the context %s is of the cluster %s at %s", c.Context, c.Cluster, c.Server),
		Do:     "choose another context with KUBE_CONTEXT, or allow this cluster by its name",
	}
}

// Write writes a kubeconfig of this context alone. Whoever uses it keeps to the cluster that was chosen, whatever becomes
// of the file that it was chosen from.
func (c *Chosen) Write(path string) error { return clientcmd.WriteToFile(*c.config, path) }

// Refusal is why a run does not begin.
type Refusal struct{ Wanted, Found, Do string }

func (r Refusal) Error() string {
	return fmt.Sprintf("wanted: %s\n  found: %s\n  to do: %s", r.Wanted, r.Found, r.Do)
}
