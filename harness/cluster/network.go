package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Exec runs a command in a node, as Node.Exec does.
type Exec func(ctx context.Context, args ...string) (string, error)

// Route sends traffic of the nodes and their pods for one address to a container, and keeps the pods' own addresses as
// its source: without that, nobody behind it could tell one client from another.
func (c *Cluster) Route(ctx context.Context, address, via string) error {
	for _, node := range c.nodes() {
		if err := route(ctx, node.Exec, address, via); err != nil {
			return fmt.Errorf("node %s: %w", node.Container, err)
		}
	}
	return nil
}

// setPods gives the pods of a node addresses of this range. The node's image has that of the first node. It is changed before the node
// has joined: a pod that starts sooner would have the address of another's.
func setPods(ctx context.Context, exec Exec, pods string) error {
	_, err := exec(ctx, "sed", "--in-place", `s|"subnet": "[0-9./]*"|"subnet": "`+pods+`"|`, "/etc/cni/net.d/10-kind.conflist")
	return err
}

func route(ctx context.Context, exec Exec, address, via string) error {
	// Deleted first, so that a second call does not stack it up; that it is not there is no matter.
	rule := []string{"POSTROUTING", "-d", address, "-j", "ACCEPT"}
	_, _ = exec(ctx, append([]string{"iptables", "-w", "-t", "nat", "-D"}, rule...)...)
	for _, args := range [][]string{
		{"ip", "route", "replace", address + "/32", "via", via},
		append([]string{"iptables", "-w", "-t", "nat", "-I"}, rule...),
	} {
		if _, err := exec(ctx, args...); err != nil {
			return fmt.Errorf("route %s via %s: %w", address, via, err)
		}
	}
	return nil
}

// PodRoute is the way to the pods of another node.
type PodRoute struct {
	Pods string `json:"pods"` // their range
	Via  string `json:"via"`  // the node's address
}

func leadToOthers(ctx context.Context, exec Exec, routes []PodRoute) error {
	var problems []error
	for _, r := range routes {
		if _, err := exec(ctx, "ip", "route", "replace", r.Pods, "via", r.Via); err != nil {
			problems = append(problems, fmt.Errorf("route %s via %s: %w", r.Pods, r.Via, err))
		}
	}
	return errors.Join(problems...)
}

// keepServicesInside gives a node a route for the services' addresses. Until kube-proxy has set a service up, packets to it would
// take the default route, out of this machine, and whoever answers there would be taken for the service.
func keepServicesInside(ctx context.Context, exec Exec) error {
	_, err := exec(ctx, "ip", "route", "replace", ServiceSubnet, "dev", "lo")
	return err
}

func closeWayOut(ctx context.Context, exec Exec) error {
	_, err := exec(ctx, "ip", "route", "del", "default")
	return err
}

// The parts of a node's network that a run relies on.
const (
	wayToS3  = "route to S3"
	sources  = "pods' own addresses on the way to S3"
	services = "route of the services"
	wayOut   = "no default route"
	others   = "routes to the other nodes' pods"
)

// CheckNetwork returns what of a node's network is not as Create and Route have left it. An error says that this could not
// be seen.
func CheckNetwork(ctx context.Context, exec Exec, address, via string, toOthers ...PodRoute) ([]string, error) {
	out, err := exec(ctx, "bash", "-c", "ip route show && iptables -w 5 -t nat -S POSTROUTING")
	if err != nil {
		return nil, fmt.Errorf("look at the node's network: %w", err)
	}
	lines := slices.Collect(strings.Lines(out))
	has := func(words ...string) bool {
		return slices.ContainsFunc(lines, func(line string) bool {
			found := strings.Fields(line)
			return len(found) >= len(words) && slices.Equal(found[:len(words)], words)
		})
	}
	var wrong []string
	for part, right := range map[string]bool{
		wayToS3:  has(address, "via", via),
		sources:  has("-A", "POSTROUTING", "-d", address+"/32", "-j", "ACCEPT"),
		services: has(ServiceSubnet, "dev", "lo"),
		wayOut:   !has("default"),
		others:   !slices.ContainsFunc(toOthers, func(r PodRoute) bool { return !has(r.Pods, "via", r.Via) }),
	} {
		if !right {
			wrong = append(wrong, part)
		}
	}
	slices.Sort(wrong)
	return wrong, nil
}

// RestoreNetwork makes a node's network as Create and Route have left it.
func RestoreNetwork(ctx context.Context, exec Exec, address, via string, toOthers ...PodRoute) error {
	_ = closeWayOut(ctx, exec) // that there is none is no matter: CheckNetwork tells
	return errors.Join(keepServicesInside(ctx, exec), leadToOthers(ctx, exec, toOthers), route(ctx, exec, address, via))
}
