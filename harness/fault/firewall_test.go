package fault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// node is a fake of iptables: it keeps chains and their rules, writes down every
// command, and says of them what iptables v1.8.9 (nf_tables) says.
type node struct {
	commands []string
	order    []string
	chains   map[string][]string
	listing  string                             // of -nvxL
	fail     func(command string) (bool, error) // do it nonetheless?
}

func newNode() *node {
	return &node{order: []string{"INPUT", "FORWARD", "KUBE-FORWARD"}, chains: map[string][]string{
		"INPUT":        nil,
		"FORWARD":      {`-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD`},
		"KUBE-FORWARD": {"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},
	}}
}

// exec is docker's: what a command that fails prints on stderr is in the error.
func (n *node) exec(ctx context.Context, args ...string) (string, error) {
	out, err := n.run(ctx, args...)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(out))
	}
	return out, nil
}

func (n *node) run(_ context.Context, args ...string) (string, error) {
	command := strings.Join(args, " ")
	n.commands = append(n.commands, command)
	if n.fail != nil {
		if goOn, err := n.fail(command); err != nil {
			if goOn {
				_, _ = n.do(args[3:])
			}
			return "iptables: failed.", err
		}
	}
	return n.do(args[3:])
}

func (n *node) do(args []string) (string, error) {
	verb, rest := args[0], args[1:]
	if verb == "-S" {
		var b strings.Builder
		b.WriteString("# Warning: iptables-legacy tables present, use iptables-legacy to see them\n-P INPUT ACCEPT\n-P FORWARD ACCEPT\n")
		for _, c := range n.order[2:] {
			fmt.Fprintf(&b, "-N %s\n", c)
		}
		for _, c := range n.order {
			for _, r := range n.chains[c] {
				fmt.Fprintf(&b, "-A %s %s\n", c, r)
			}
		}
		return b.String(), nil
	}
	if verb == "-nvxL" {
		return n.listing, nil
	}
	chain := rest[0]
	rules, ok := n.chains[chain]
	exit := errors.New("exit status 1")
	switch {
	case verb == "-N" && ok:
		return "iptables: Chain already exists.\n", exit
	case verb == "-N":
		n.chains[chain] = nil
		n.order = append(n.order, chain)
		return "", nil
	case !ok:
		return "iptables: No chain/target/match by that name.\n", exit
	}
	switch verb {
	case "-A":
		n.chains[chain] = append(rules, strings.Join(rest[1:], " "))
	case "-I":
		n.chains[chain] = slices.Insert(rules, 0, strings.Join(rest[2:], " "))
	case "-D":
		i := slices.Index(rules, strings.Join(rest[1:], " "))
		if i < 0 {
			return "iptables: Bad rule (does a matching rule exist in that chain?).\n", exit
		}
		n.chains[chain] = slices.Delete(rules, i, i+1)
	case "-F":
		n.chains[chain] = nil
	case "-X":
		if len(rules) > 0 {
			return "iptables v1.8.9 (nf_tables):  CHAIN_DEL failed (Device or resource busy): chain " + chain + "\n", exit
		}
		delete(n.chains, chain)
		n.order = slices.DeleteFunc(n.order, func(c string) bool { return c == chain })
	default:
		return "", fmt.Errorf("fake iptables: unknown %s", verb)
	}
	return "", nil
}

// isClean is whether nothing of ours is left and all else is as it was.
func (n *node) isClean() bool {
	return maps.EqualFunc(n.chains, newNode().chains, func(a, b []string) bool { return slices.Equal(a, b) })
}

var (
	podA     = netip.MustParseAddr("10.244.0.5")
	podB     = netip.MustParseAddr("10.244.0.17")
	endpoint = netip.MustParseAddrPort("192.168.10.133:9000")
)

// The chain of id "run-1/refused".
const (
	theID    = "run-1/refused"
	theChain = "SRFAULT-0e1e2713f33bb9a9a1c3"
)

func TestArmCommands(t *testing.T) {
	for fault, target := range map[PacketFault]string{
		Refused:   "REJECT --reject-with tcp-reset",
		BlackHole: "DROP",
		NoRoute:   "REJECT --reject-with icmp-host-unreachable",
		Counted:   "RETURN",
	} {
		n := newNode()
		f := &Firewall{Nodes: []Exec{n.exec}}
		mapped := netip.AddrFrom16(podB.As16())
		a, err := f.Arm(t.Context(), theID, fault, []netip.Addr{podA, mapped, podA}, endpoint)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"iptables -w 5 -N " + theChain}
		for _, source := range []string{"10.244.0.5", "10.244.0.17"} {
			for _, flags := range []string{" --tcp-flags FIN,SYN,RST,ACK SYN", " --tcp-flags PSH PSH", ""} {
				want = append(want, "iptables -w 5 -A "+theChain+" -s "+source+"/32 -d 192.168.10.133/32 -p tcp --dport 9000"+flags+
					" -m comment --comment smart-restore fault run-1/refused -j "+target)
			}
		}
		want = append(want, "iptables -w 5 -I FORWARD 1 -j "+theChain)
		if !slices.Equal(n.commands, want) {
			t.Errorf("%s: want\n%s\nfound\n%s", fault, strings.Join(want, "\n"), strings.Join(n.commands, "\n"))
		}
		if first := n.chains["FORWARD"][0]; first != "-j "+theChain {
			t.Errorf("%s: want our chain first in FORWARD, found %s", fault, first)
		}
		n.commands = nil
		if err := a.Heal(t.Context()); err != nil || !n.isClean() {
			t.Errorf("%s: want a clean node, found %v and %v", fault, n.chains, err)
		}
		want = []string{
			"iptables -w 5 -S",
			"iptables -w 5 -D FORWARD -j " + theChain,
			"iptables -w 5 -F " + theChain,
			"iptables -w 5 -X " + theChain,
		}
		if !slices.Equal(n.commands, want) {
			t.Errorf("%s: want\n%s\nfound\n%s", fault, strings.Join(want, "\n"), strings.Join(n.commands, "\n"))
		}
		if err := a.Heal(t.Context()); err != nil {
			t.Errorf("%s: healing again: %v", fault, err)
		}
	}
}

func TestChainNames(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"a", "A", "a/b", "a-b", strings.Repeat("x", 200), "ü"} {
		name := chainName(id)
		if len(name) > 28 || !strings.HasPrefix(name, chainPrefix) {
			t.Errorf("%s: chain %q", id, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q share chain %s", id, other, name)
		}
		seen[name] = id
	}
}

func TestArmRefuses(t *testing.T) {
	one := []netip.Addr{podA}
	for name, c := range map[string]struct {
		id       string
		fault    PacketFault
		sources  []netip.Addr
		endpoint netip.AddrPort
		want     string
	}{
		"unknown fault": {"x", "rst", one, endpoint, "arming x (rst): want refused, black-hole, no-route or counted"},
		"no id":         {"", Refused, one, endpoint, "id: want"},
		"line end":      {"a\nb", Refused, one, endpoint, "id: want"},
		"no source":     {"x", Refused, nil, endpoint, "sources: want at least one"},
		"IPv6 source":   {"x", Refused, []netip.Addr{podA, netip.MustParseAddr("fd00::1")}, endpoint, "found fd00::1"},
		"no endpoint":   {"x", Refused, one, netip.AddrPort{}, "endpoint: want"},
		"no port":       {"x", Refused, one, netip.AddrPortFrom(endpoint.Addr(), 0), "endpoint: want"},
		"IPv6 endpoint": {"x", Refused, one, netip.MustParseAddrPort("[fd00::1]:9000"), "endpoint: want"},
	} {
		n := newNode()
		_, err := (&Firewall{Nodes: []Exec{n.exec}}).Arm(t.Context(), c.id, c.fault, c.sources, c.endpoint)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(n.commands) > 0 {
			t.Errorf("%s: want %q and no command, found %v and %q", name, c.want, err, n.commands)
		}
	}
}

func TestWithoutANodeNothingCanBeSaid(t *testing.T) {
	none := &Firewall{}
	_, armed := none.Arm(t.Context(), theID, Refused, []netip.Addr{podA}, endpoint)
	_, inForce := none.InForce(t.Context())
	for what, err := range map[string]error{"arming": armed, "listing": inForce, "healing": none.HealAll(t.Context())} {
		if !errors.Is(err, errNoNode) {
			t.Errorf("%s: found %v", what, err)
		}
	}
}

func TestArmTwiceIsRefusedAndTheFirstStays(t *testing.T) {
	n := newNode()
	f := &Firewall{Nodes: []Exec{n.exec}}
	if _, err := f.Arm(t.Context(), theID, Refused, []netip.Addr{podA}, endpoint); err != nil {
		t.Fatal(err)
	}
	_, err := f.Arm(t.Context(), theID, BlackHole, []netip.Addr{podB}, endpoint)
	if err == nil || !strings.Contains(err.Error(), "Chain already exists") {
		t.Errorf("want a refusal, found %v", err)
	}
	if n.chains["FORWARD"][0] != "-j "+theChain || len(n.chains[theChain]) != len(packetKinds) {
		t.Errorf("want the first fault as it was, found %v", n.chains)
	}
}

// A pod's packets are forwarded by its own node, wherever that is.
func TestEachNodeHasTheFault(t *testing.T) {
	first, second := newNode(), newNode()
	f := &Firewall{Nodes: []Exec{first.exec, second.exec}}
	a, err := f.Arm(t.Context(), theID, Refused, []netip.Addr{podA, podB}, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]*node{"first": first, "second": second} {
		if n.chains["FORWARD"][0] != "-j "+theChain || len(n.chains[theChain]) != 2*len(packetKinds) {
			t.Errorf("%s node: want the fault, found %v", name, n.chains)
		}
	}
	const head = "Chain X (1 references)\n    pkts      bytes target     prot opt in     out     source               destination         \n"
	row := func(packets int, source string) string {
		return fmt.Sprintf("%d 120 REJECT 6 -- * * %s 192.168.10.133 tcp dpt:9000 flags:0x17/0x02\n", packets, source)
	}
	first.listing = head + row(2, "10.244.0.5") + row(0, "10.244.0.17")
	second.listing = head + row(0, "10.244.0.5") + row(3, "10.244.0.17")
	if got, err := a.Attempts(t.Context()); err != nil || !maps.Equal(got, map[netip.Addr]uint64{podA: 2, podB: 3}) {
		t.Errorf("attempts of all nodes: found %v, %v", got, err)
	}
	second.listing = head + row(0, "10.244.0.5")
	if got, err := a.Attempts(t.Context()); err == nil {
		t.Errorf("a node without a rule for a source: want an error, found %v", got)
	}
	second.chains["FORWARD"] = second.chains["FORWARD"][1:]
	if left, err := f.InForce(t.Context()); err != nil || !slices.Equal(left, []string{theChain}) {
		t.Errorf("in force on both, once: found %v, %v", left, err)
	}
	if err := f.HealAll(t.Context()); err != nil || !first.isClean() || !second.isClean() {
		t.Errorf("want clean nodes, found %v and %v, %v", first.chains, second.chains, err)
	}
	second.fail = func(string) (bool, error) { return false, errors.New("no such container") }
	if _, err := f.InForce(t.Context()); err == nil {
		t.Error("want an error where one of the nodes could not be looked at")
	}
	if err := f.HealAll(t.Context()); err == nil {
		t.Error("want an error where one of the nodes could not be healed")
	}
}

// On several nodes as on one: no part of it stays, and what another has armed does.
func TestArmCleansUpEveryNode(t *testing.T) {
	for at, armed := range map[string]bool{"-N SRFAULT": false, "-s 10.244.0.5/32": false, "-I FORWARD": false, "another's": true} {
		first, second := newNode(), newNode()
		if armed {
			if _, err := (&Firewall{Nodes: []Exec{second.exec}}).Arm(t.Context(), theID, BlackHole, []netip.Addr{podB}, endpoint); err != nil {
				t.Fatal(err)
			}
		}
		second.fail = func(command string) (bool, error) {
			if strings.Contains(command, at) {
				return false, errors.New("no such container")
			}
			return false, nil
		}
		_, err := (&Firewall{Nodes: []Exec{first.exec, second.exec}}).Arm(t.Context(), theID, Refused, []netip.Addr{podA}, endpoint)
		if err == nil || !first.isClean() || second.isClean() == armed {
			t.Errorf("failure at %s: want an error and nothing left, found %v, %v and %v", at, err, first.chains, second.chains)
		}
	}
}

// A fault that can't be armed in full is not armed at all, even if it was the
// end of the context that stopped it.
func TestArmCleansUpAfterItself(t *testing.T) {
	for _, at := range []string{"-s 10.244.0.5/32", "-s 10.244.0.17/32", "-I FORWARD"} {
		n := newNode()
		ctx, cancel := context.WithCancel(t.Context())
		n.fail = func(command string) (bool, error) {
			if strings.Contains(command, at) {
				cancel()
				return at == "-I FORWARD", errors.New("exec: signal: killed") // killed, but after the deed
			}
			return false, nil
		}
		_, err := (&Firewall{Nodes: []Exec{func(c context.Context, args ...string) (string, error) {
			if err := c.Err(); err != nil {
				return "", err
			}
			return n.exec(c, args...)
		}}}).Arm(ctx, theID, Refused, []netip.Addr{podA, podB}, endpoint)
		if err == nil || !strings.Contains(err.Error(), "signal: killed: iptables: failed.") || !n.isClean() {
			t.Errorf("failure at %s: want an error and a clean node, found %v and %v", at, err, n.chains)
		}
	}
}

func TestHealAll(t *testing.T) {
	n := newNode()
	f := &Firewall{Nodes: []Exec{n.exec}}
	for _, id := range []string{"a", "b"} {
		if _, err := f.Arm(t.Context(), id, BlackHole, []netip.Addr{podA}, endpoint); err != nil {
			t.Fatal(err)
		}
	}
	// What a run left that was killed while arming, or armed by two.
	n.chains[chainPrefix+"0123"] = []string{"-j DROP"}
	n.order = append(n.order, chainPrefix+"0123")
	n.chains["FORWARD"] = append(n.chains["FORWARD"], "-j "+chainName("a"))
	if err := f.HealAll(t.Context()); err != nil || !n.isClean() {
		t.Errorf("want a clean node, found %v and %v", n.chains, err)
	}
	if err := f.HealAll(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestHealBesideSomeoneElseHealing(t *testing.T) {
	n := newNode()
	a, err := (&Firewall{Nodes: []Exec{n.exec}}).Arm(t.Context(), theID, Refused, []netip.Addr{podA}, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	n.fail = func(command string) (bool, error) {
		if strings.Contains(command, "-D FORWARD") { // the other was faster with everything
			n.chains, n.order = newNode().chains, newNode().order
		}
		return false, nil
	}
	if err := a.Heal(t.Context()); err != nil {
		t.Errorf("want no error as it is gone, found %v", err)
	}
}

func TestHealSaysWhyItCant(t *testing.T) {
	n := newNode()
	a, err := (&Firewall{Nodes: []Exec{n.exec}}).Arm(t.Context(), theID, Refused, []netip.Addr{podA}, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	n.fail = func(command string) (bool, error) {
		if strings.Contains(command, "-X") {
			return false, errors.New("exit status 4")
		}
		return false, nil
	}
	want := "healing run-1/refused: iptables -w 5 -X " + theChain + ": exit status 4: iptables: failed."
	if err := a.Heal(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want %q, found %v", want, err)
	}
	n.fail = func(string) (bool, error) { return false, errors.New("no such container") }
	if err := a.Heal(t.Context()); err == nil || !strings.Contains(err.Error(), "no such container") {
		t.Errorf("want the node's absence, found %v", err)
	}
}

func TestAttempts(t *testing.T) {
	const title = "Chain SRFAULT-0e1e2713f33bb9a9a1c3 (1 references)\n"
	const head = "    pkts      bytes target     prot opt in     out     source               destination         \n"
	both := map[netip.Addr]uint64{podA: 9, podB: 0}
	for name, c := range map[string]struct {
		out  string
		want map[netip.Addr]uint64
		err  string
	}{
		"iptables-nft 1.8.9, protocol as a number": {out: title + head +
			"       2      120 REJECT     6    --  *      *       10.244.0.5           192.168.10.133       tcp dpt:9000 flags:0x17/0x02 /* smart-restore fault run-1/refused */ reject-with tcp-reset\n" +
			"       7      720 REJECT     6    --  *      *       10.244.0.5           192.168.10.133       tcp dpt:9000 flags:0x08/0x08 /* smart-restore fault run-1/refused */ reject-with tcp-reset\n" +
			"      40     1600 REJECT     6    --  *      *       10.244.0.5           192.168.10.133       tcp dpt:9000 /* smart-restore fault run-1/refused */ reject-with tcp-reset\n" +
			"       0        0 REJECT     6    --  *      *       10.244.0.17          192.168.10.133       tcp dpt:9000 flags:0x17/0x02 /* smart-restore fault run-1/refused */ reject-with tcp-reset\n", want: both},
		"iptables-legacy, with a warning": {out: "# Warning: iptables-legacy tables present, use iptables-legacy to see them\n" + title + head +
			"       9      720 DROP       tcp  --  *      *       10.244.0.5           192.168.10.133       tcp dpt:9000 flags:0x08/0x08 /* x */\n" +
			"       0        0 DROP       tcp  --  *      *       10.244.0.17/32       192.168.10.133       tcp dpt:9000 flags:0x08/0x08 /* x */\n", want: both},
		"keep-alives only": {out: title + head +
			"      12      624 DROP       tcp  --  *      *       10.244.0.5           192.168.10.133       tcp dpt:9000\n" +
			"       3      156 DROP       tcp  --  *      *       10.244.0.17          192.168.10.133       tcp dpt:9000\n", want: map[netip.Addr]uint64{podA: 0, podB: 0}},
		"a rule is missing": {out: title + head +
			"      12      720 DROP       tcp  --  *      *       10.244.0.5           192.168.10.133       tcp dpt:9000\n", err: "want a rule for 10.244.0.17, found none"},
		"no rules":     {out: title + head, err: "want a rule for 10.244.0.5"},
		"nothing":      {out: "", err: "want a table of counters"},
		"short row":    {out: title + head + "12 720 DROP\n", err: "want 9 columns, found 3"},
		"rounded":      {out: title + head + "12K 720K DROP tcp -- * * 10.244.0.5 192.168.10.133\n", err: `want a packet count, found "12K"`},
		"not a source": {out: title + head + "12 720 DROP tcp -- * * anywhere 192.168.10.133\n", err: `want a source address, found "anywhere"`},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode()
			a, err := (&Firewall{Nodes: []Exec{n.exec}}).Arm(t.Context(), theID, Refused, []netip.Addr{podA, podB}, endpoint)
			if err != nil {
				t.Fatal(err)
			}
			n.listing = c.out
			got, err := a.Attempts(t.Context())
			if c.err == "" && (err != nil || !maps.Equal(got, c.want)) {
				t.Errorf("want %v, found %v %v", c.want, got, err)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("want %q, found %v %v", c.err, got, err)
			}
			if last := n.commands[len(n.commands)-1]; last != "iptables -w 5 -nvxL "+theChain {
				t.Errorf("command %s", last)
			}
		})
	}
}

// A fault that is gone (healed, or the node restarted) is no fault with 0 packets.
func TestAttemptsOfAFaultThatIsGone(t *testing.T) {
	a := &Armed{id: theID, chain: theChain, sources: []netip.Addr{podA}, firewall: &Firewall{Nodes: []Exec{func(context.Context, ...string) (string, error) {
		return "", errors.New("exit status 1: iptables: No chain/target/match by that name")
	}}}}
	if _, err := a.Attempts(t.Context()); err == nil || !strings.Contains(err.Error(), "counting attempts of run-1/refused: iptables -w 5 -nvxL "+theChain+": exit status 1: iptables: No chain") {
		t.Errorf("found %v", err)
	}
}

func TestFaultsInForceAreSeen(t *testing.T) {
	n := newNode()
	f := &Firewall{Nodes: []Exec{n.exec}}
	if left, err := f.InForce(t.Context()); err != nil || len(left) != 0 {
		t.Fatalf("nothing is armed: found %v, %v", left, err)
	}
	if _, err := f.Arm(t.Context(), theID, Refused, []netip.Addr{podA}, endpoint); err != nil {
		t.Fatal(err)
	}
	if left, err := f.InForce(t.Context()); err != nil || !slices.Equal(left, []string{theChain}) {
		t.Fatalf("want %s, found %v, %v", theChain, left, err)
	}
	if err := f.HealAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := f.InForce(t.Context()); err != nil || len(left) != 0 {
		t.Fatalf("all is healed: found %v, %v", left, err)
	}
	n.fail = func(string) (bool, error) { return false, errors.New("exit status 4") }
	if _, err := f.InForce(t.Context()); err == nil {
		t.Fatal("want an error where nobody could look")
	}
}
