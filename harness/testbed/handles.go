package testbed

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

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

// Firewall injects faults into the packets that the nodes forward. An external testbed has none: each call is ErrNotOurs.
func (s *Testbed) Firewall() *fault.Firewall {
	firewall := &fault.Firewall{}
	for _, node := range s.execs() {
		firewall.Nodes = append(firewall.Nodes, fault.Exec(node))
	}
	return firewall
}

// NodeExec runs a command on each of the cluster's nodes at once, as cluster.Node.Exec does, and returns what they printed, one after
// the other. On an external testbed it is ErrNotOurs.
func (s *Testbed) NodeExec(ctx context.Context, args ...string) (string, error) {
	nodes := s.execs()
	if len(nodes) == 0 {
		return "", errors.New("the testbed has no node: another version of the suite put it up")
	}
	out, problems := make([]string, len(nodes)), make([]error, len(nodes))
	var group sync.WaitGroup
	for i, node := range nodes {
		group.Go(func() { out[i], problems[i] = node(ctx, args...) })
	}
	group.Wait()
	return strings.Join(slices.DeleteFunc(out, func(text string) bool { return text == "" }), "\n"), errors.Join(problems...)
}

// execs run a command on one node each.
func (s *Testbed) execs() (nodes []cluster.Exec) {
	if s.fakes != nil {
		return s.fakes.nodes
	}
	if s.External != nil {
		return []cluster.Exec{cluster.Node{}.Exec}
	}
	for _, container := range s.Nodes {
		nodes = append(nodes, cluster.Node{Container: container, Engine: &engine.Engine{Host: s.EngineHost}}.Exec)
	}
	return nodes
}

// eachNetwork looks at the network of each node, or mends it. routes are those to the pods of the others.
func (s *Testbed) eachNetwork(do func(node cluster.Exec, routes []cluster.PodRoute) ([]Damage, error)) ([]Damage, error) {
	var all []Damage
	var problems []error
	for i, node := range s.execs() {
		var routes []cluster.PodRoute
		if i < len(s.PodRoutes) {
			routes = s.PodRoutes[i]
		}
		damage, err := do(node, routes)
		for j := range damage {
			if len(s.Nodes) > 1 {
				damage[j].What += " (" + s.Nodes[i] + ")"
			}
		}
		all, problems = append(all, damage...), append(problems, err)
	}
	return all, errors.Join(problems...)
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
	nodes    []cluster.Exec
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
