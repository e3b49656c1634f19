package cluster

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
)

const (
	s3, gateway = "192.168.10.133", "172.18.0.2"
	whole       = "10.96.0.0/16 dev lo scope link\n10.244.0.0/24 dev cni0\n172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.3\n" +
		"192.168.10.133 via 172.18.0.2 dev eth0\n-P POSTROUTING ACCEPT\n-A POSTROUTING -d 192.168.10.133/32 -j ACCEPT\n-A POSTROUTING -j KIND-MASQ-AGENT\n"
)

func TestTheNodesNetworkIsAsItWasLeft(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		want []string
	}{
		"whole":                     {whole, nil},
		"no route to S3":            {strings.ReplaceAll(whole, "192.168.10.133 via 172.18.0.2 dev eth0\n", ""), []string{wayToS3}},
		"another way to S3":         {strings.ReplaceAll(whole, "via 172.18.0.2", "via 172.18.0.9"), []string{wayToS3}},
		"masqueraded":               {strings.ReplaceAll(whole, "-A POSTROUTING -d 192.168.10.133/32 -j ACCEPT\n", ""), []string{sources}},
		"services outside":          {strings.ReplaceAll(whole, "10.96.0.0/16 dev lo scope link\n", ""), []string{services}},
		"a way out":                 {"default via 172.18.0.1 dev eth0\n" + whole, []string{wayOut}},
		"after a start of the node": {"default via 172.18.0.1 dev eth0\n", []string{wayOut, sources, services, wayToS3}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := CheckNetwork(t.Context(), func(context.Context, ...string) (string, error) { return c.out, nil }, s3, gateway)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("found %q, %v, wanted %q", got, err, c.want)
			}
		})
	}
	if got, err := CheckNetwork(t.Context(), func(context.Context, ...string) (string, error) { return "", errors.New("no") }, s3, gateway); err == nil {
		t.Errorf("nobody could look: found %q", got)
	}
}

var toWorker = PodRoute{Pods: "10.244.1.0/24", Via: "172.18.0.4"}

func TestTheRoutesToOtherNodesPodsAreSeenAndRestored(t *testing.T) {
	for name, c := range map[string]struct {
		more string
		want []string
	}{
		"there":       {"10.244.1.0/24 via 172.18.0.4 dev eth0\n", nil},
		"away":        {"", []string{others}},
		"another way": {"10.244.1.0/24 via 172.18.0.9 dev eth0\n", []string{others}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := CheckNetwork(t.Context(), func(context.Context, ...string) (string, error) { return c.more + whole, nil }, s3, gateway, toWorker)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("found %q, %v, wanted %q", got, err, c.want)
			}
		})
	}
	var ran []string
	err := RestoreNetwork(t.Context(), func(_ context.Context, args ...string) (string, error) {
		ran = append(ran, strings.Join(args, " "))
		return "", nil
	}, s3, gateway, toWorker)
	if want := "ip route replace 10.244.1.0/24 via 172.18.0.4"; err != nil || !slices.Contains(ran, want) {
		t.Errorf("ran %q, %v, wanted %q among them", ran, err, want)
	}
}

// The node's file, as it is built in, has the range of the first node.
func TestEachNodeGivesItsPodsAddressesOfItsOwn(t *testing.T) {
	const inNode = "/etc/cni/net.d/10-kind.conflist"
	content, err := fixtures.Files.ReadFile("node/kind.conflist")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kind.conflist")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	node := func(ctx context.Context, args ...string) (string, error) {
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], inNode, file)
		}
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		return string(out), err
	}
	for _, i := range []int{0, 2, 1} {
		if err := setPods(t.Context(), node, PodsOf(i)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if want := strings.ReplaceAll(string(content), PodsOf(0), PodsOf(i)); err != nil || string(got) != want || !strings.Contains(want, PodsOf(i)) {
			t.Errorf("node %d: %v\n%s", i, err, got)
		}
		if p, all := netip.MustParsePrefix(PodsOf(i)), netip.MustParsePrefix(PodSubnet); !all.Contains(p.Addr()) {
			t.Errorf("node %d: its pods are in %s, wanted a part of %s", i, p, all)
		}
	}
}

func TestTheNodesNetworkIsRestoredWhateverOfItIsThere(t *testing.T) {
	var ran []string
	err := RestoreNetwork(t.Context(), func(_ context.Context, args ...string) (string, error) {
		command := strings.Join(args, " ")
		ran = append(ran, command)
		if command == "ip route del default" || strings.Contains(command, " -D ") {
			return "", errors.New("it is not there")
		}
		return "", nil
	}, s3, gateway)
	want := []string{
		"ip route del default", "ip route replace 10.96.0.0/16 dev lo", "iptables -w -t nat -D POSTROUTING -d 192.168.10.133 -j ACCEPT",
		"ip route replace 192.168.10.133/32 via 172.18.0.2", "iptables -w -t nat -I POSTROUTING -d 192.168.10.133 -j ACCEPT",
	}
	if err != nil || !slices.Equal(ran, want) {
		t.Errorf("ran %q, %v, wanted %q", ran, err, want)
	}
	if RestoreNetwork(t.Context(), func(context.Context, ...string) (string, error) { return "", errors.New("no") }, s3, gateway) == nil {
		t.Error("what could not be restored is no error")
	}
}

func TestTheNodeOfAClusterThatIsNotOursIsNotTouched(t *testing.T) {
	if _, err := (Node{}).Exec(t.Context(), "true"); !errors.Is(err, ErrNotOurs) {
		t.Errorf("found %v", err)
	}
}
