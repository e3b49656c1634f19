package fault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PacketFault is what becomes of the packets of a client on their way to the
// endpoint, those of connections that exist already included.
type PacketFault string

const (
	// Refused answers each packet with a TCP reset.
	Refused PacketFault = "refused"
	// BlackHole drops each packet.
	BlackHole PacketFault = "black-hole"
	// NoRoute answers each packet with ICMP host unreachable. New connections
	// fail at once; one that exists takes it as a hint and goes on trying.
	NoRoute PacketFault = "no-route"
	// Counted lets each packet go on, and counts it.
	Counted PacketFault = "counted"
)

var targets = map[PacketFault][]string{
	Refused:   {"REJECT", "--reject-with", "tcp-reset"},
	BlackHole: {"DROP"},
	NoRoute:   {"REJECT", "--reject-with", "icmp-host-unreachable"},
	Counted:   {"RETURN"},
}

// packetKinds are the rules of each source, by TCP flags. The first two match attempts: a packet that opens a connection, and one
// that pushes data. The last matches all others, such as keep-alives and the closing of connections that nobody uses.
var packetKinds = [][]string{
	{"--tcp-flags", "FIN,SYN,RST,ACK", "SYN"},
	{"--tcp-flags", "PSH", "PSH"},
	nil,
}

// chainPrefix begins the name of each chain of ours. With 20 hex digits after
// it a name is 28 characters long, the most that iptables takes.
const chainPrefix = "SRFAULT-"

// Firewall injects faults into the packets that a cluster's nodes forward, by
// iptables on these nodes. What a node itself sends is not forwarded and goes
// free. A rule on a node does not heal by itself: HealAll clears away what a
// killed run left behind.
type Firewall struct {
	// Nodes are all of the cluster's: a pod's packets are forwarded by its own.
	Nodes []Exec
}

// Exec runs a command on a node, without a shell, and returns its
// stdout; an error, which carries its stderr, if it can't or exits other
// than 0. It is for iptables only: see cluster.Node for other commands.
type Exec func(ctx context.Context, args ...string) (string, error)

// errNoNode keeps a look at no node from being one that found nothing.
var errNoNode = errors.New("nodes: want at least one, found none")

// Armed is a packet fault in force.
type Armed struct {
	firewall *Firewall
	id       string
	chain    string
	sources  []netip.Addr
}

// Arm puts a fault between sources (addresses of pods, before any NAT) and the
// endpoint, IPv4 all. It takes hold of all sources at once, in a chain of its
// own at the top of FORWARD. An id that is armed already is refused.
func (f *Firewall) Arm(ctx context.Context, id string, fault PacketFault, sources []netip.Addr, endpoint netip.AddrPort) (*Armed, error) {
	fail := func(err error) (*Armed, error) { return nil, fmt.Errorf("arming %s (%s): %w", id, fault, err) }
	target, ok := targets[fault]
	switch {
	case !ok:
		return fail(fmt.Errorf("want %s, %s, %s or %s", Refused, BlackHole, NoRoute, Counted))
	case id == "" || len(id) > 200 || strings.ContainsAny(id, "\n\""):
		return fail(errors.New("id: want 1 to 200 bytes without quotes and line ends"))
	case len(sources) == 0:
		return fail(errors.New("sources: want at least one, found none"))
	case len(f.Nodes) == 0:
		return fail(errNoNode)
	case !endpoint.Addr().Is4() || endpoint.Port() == 0:
		return fail(fmt.Errorf("endpoint: want an IPv4 address and port, found %s", endpoint))
	}
	a := &Armed{firewall: f, id: id, chain: chainName(id)}
	for _, s := range sources {
		if s = s.Unmap(); !s.Is4() {
			return fail(fmt.Errorf("sources: want IPv4 addresses, found %s", s))
		} else if !slices.Contains(a.sources, s) {
			a.sources = append(a.sources, s)
		}
	}

	// The chain first, its entry last: a half-made fault is in nobody's way.
	commands := make([][]string, 0, len(packetKinds)*len(a.sources)+1)
	for _, s := range a.sources {
		for _, flags := range packetKinds {
			commands = append(commands, slices.Concat([]string{
				"-A", a.chain, "-s", s.String() + "/32", "-d", endpoint.Addr().String() + "/32",
				"-p", "tcp", "--dport", strconv.Itoa(int(endpoint.Port())),
			}, flags, []string{"-m", "comment", "--comment", "smart-restore fault " + id, "-j"}, target))
		}
	}
	commands = append(commands, []string{"-I", "FORWARD", "1", "-j", a.chain})
	// Each node's chain is made before any other rule: that it is there already means that the fault is somebody else's.
	for i, node := range f.Nodes {
		if err := node.iptables(ctx, "-N", a.chain); err != nil {
			return fail(errors.Join(err, a.on(f.Nodes[:i]).Heal(context.WithoutCancel(ctx))))
		}
	}
	for _, node := range f.Nodes {
		for _, c := range commands {
			if err := node.iptables(ctx, c...); err != nil {
				return fail(errors.Join(err, a.Heal(context.WithoutCancel(ctx))))
			}
		}
	}
	return a, nil
}

// on is the fault on some of the nodes.
func (a *Armed) on(nodes []Exec) *Armed {
	part := *a
	part.firewall = &Firewall{Nodes: nodes}
	return &part
}

// Attempts returns how many packets of each source that open a connection or
// push data ran into the fault since it was armed. A source that is 0 has not
// tried: its keep-alives do not count. Error if the fault is not in force any
// more.
func (a *Armed) Attempts(ctx context.Context) (map[netip.Addr]uint64, error) {
	total := map[netip.Addr]uint64{}
	for _, node := range a.firewall.Nodes {
		out, err := node.run(ctx, "-nvxL", a.chain)
		if err != nil {
			return nil, fmt.Errorf("counting attempts of %s: %w", a.id, err)
		}
		counts, err := parseCounters(out)
		if err != nil {
			return nil, fmt.Errorf("counting attempts of %s: %w in:\n%s", a.id, err, out)
		}
		for _, s := range a.sources {
			count, ok := counts[s]
			if !ok {
				return nil, fmt.Errorf("counting attempts of %s: want a rule for %s, found none in:\n%s", a.id, s, out)
			}
			total[s] += count
		}
	}
	return total, nil
}

// Heal takes the fault away. That it is gone already is no error.
func (a *Armed) Heal(ctx context.Context) error {
	err := a.firewall.heal(ctx, func(chain string) bool { return chain == a.chain })
	if err != nil {
		return fmt.Errorf("healing %s: %w", a.id, err)
	}
	return nil
}

// HealAll takes away every fault of ours on the nodes, those of other runs too.
func (f *Firewall) HealAll(ctx context.Context) error {
	err := f.heal(ctx, func(chain string) bool { return strings.HasPrefix(chain, chainPrefix) })
	if len(f.Nodes) == 0 {
		err = errNoNode
	}
	if err != nil {
		return fmt.Errorf("healing all packet faults: %w", err)
	}
	return nil
}

// InForce lists the chains of all faults of ours on the nodes, those of other
// runs too, and the entries into chains that are gone.
func (f *Firewall) InForce(ctx context.Context) ([]string, error) {
	if len(f.Nodes) == 0 {
		return nil, fmt.Errorf("listing packet faults: %w", errNoNode)
	}
	var all []string
	for _, node := range f.Nodes {
		out, err := node.run(ctx, "-S")
		if err != nil {
			return nil, fmt.Errorf("listing packet faults: %w", err)
		}
		entries, chains := parseRules(out, func(chain string) bool { return strings.HasPrefix(chain, chainPrefix) })
		all = append(append(all, chains...), entries...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// heal removes the chains that are wanted away, from every node.
func (f *Firewall) heal(ctx context.Context, which func(chain string) bool) error {
	var problems []error
	for _, node := range f.Nodes {
		problems = append(problems, node.heal(ctx, which))
	}
	return errors.Join(problems...)
}

// heal goes by what is there, since what iptables says of a missing chain
// differs by version. Someone else may heal at the same time: then a command
// fails, and another look decides.
func (node Exec) heal(ctx context.Context, which func(chain string) bool) error {
	var failed error
	for range 3 {
		out, err := node.run(ctx, "-S")
		if err != nil {
			return err
		}
		entries, chains := parseRules(out, which)
		if len(chains) == 0 && len(entries) == 0 {
			return nil
		}
		failed = nil
		for _, chain := range entries {
			failed = errors.Join(failed, node.iptables(ctx, "-D", "FORWARD", "-j", chain))
		}
		for _, chain := range chains {
			failed = errors.Join(failed, node.iptables(ctx, "-F", chain), node.iptables(ctx, "-X", chain))
		}
		if failed == nil {
			return nil
		}
	}
	return failed
}

func (node Exec) iptables(ctx context.Context, args ...string) error {
	_, err := node.run(ctx, args...)
	return err
}

// run waits up to 5 s for the lock that kube-proxy and the CNI take too.
func (node Exec) run(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"iptables", "-w", "5"}, args...)
	out, err := node(ctx, args...)
	if err != nil {
		return out, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

func chainName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return chainPrefix + hex.EncodeToString(sum[:10])
}

// parseRules reads `iptables -S`: the wanted chains, and for each entry from
// FORWARD into one of them its name.
func parseRules(out string, which func(chain string) bool) (entries, chains []string) {
	for line := range strings.Lines(out) {
		w := strings.Fields(line)
		switch {
		case len(w) == 2 && w[0] == "-N" && which(w[1]):
			chains = append(chains, w[1])
		case len(w) == 4 && w[0] == "-A" && w[1] == "FORWARD" && w[2] == "-j" && which(w[3]):
			entries = append(entries, w[3])
		}
	}
	return entries, chains
}

// parseCounters reads `iptables -nvxL CHAIN`, whose rows are
// pkts bytes target prot opt in out source destination …
// and sums the packets of each source's rules that go by TCP flags.
func parseCounters(out string) (map[netip.Addr]uint64, error) {
	counts := map[netip.Addr]uint64{}
	head := false
	for line := range strings.Lines(out) {
		w := strings.Fields(line)
		switch {
		case len(w) == 0 || w[0] == "#" || w[0] == "Chain":
			continue
		case w[0] == "pkts":
			head = true
			continue
		case !head: // a warning of iptables
			continue
		case len(w) < 9:
			return nil, fmt.Errorf("want 9 columns, found %d in %q", len(w), line)
		}
		n, err := strconv.ParseUint(w[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("want a packet count, found %q", w[0])
		}
		source, err := netip.ParseAddr(strings.TrimSuffix(w[7], "/32"))
		if err != nil {
			return nil, fmt.Errorf("want a source address, found %q", w[7])
		}
		if !slices.ContainsFunc(w, func(word string) bool { return strings.HasPrefix(word, "flags:") }) {
			n = 0
		}
		counts[source] += n
	}
	if !head {
		return nil, errors.New("want a table of counters, found none")
	}
	return counts, nil
}
