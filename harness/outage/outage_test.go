package outage

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/probe"
)

func TestTheFaultTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	isUp := probe.Result{Class: probe.OK, Status: 200, Bytes: 155, Received: 500, Millis: 3, Headers: map[string]string{"Content-Type": "binary/octet-stream"}}
	for _, f := range Faults {
		if f.Name == "" || f.Sentence == "" || f.Outcome == "" || seen[f.Name] {
			t.Errorf("fault %q: name, sentence and outcome are needed, and the name once", f.Name)
		}
		seen[f.Name] = true
		for _, rule := range f.Rules("ns", "/b/ns/", "/b/ns/data/") {
			if err := gateway.Validate(rule); err != nil {
				t.Errorf("fault %s: %v", f.Name, err)
			}
		}
		if f.HTTP.Kind == "redirect" && f.HTTP.Location != f.Rules("ns", "/b/ns/", "/b/ns/data/")[len(f.Rules("ns", "/b/ns/", "/b/ns/data/"))-1].PathPrefix {
			// Nothing of a test may ask anybody outside: only the cluster's own names, with nothing to search for.
			u, err := url.Parse(f.HTTP.Location)
			if err != nil || !strings.HasSuffix(u.Hostname(), ".svc.cluster.local.") {
				t.Errorf("fault %s redirects to %s, which is outside the cluster, or a page that nobody serves", f.Name, f.HTTP.Location)
			}
		}
		all := func(r probe.Result) map[Target]probe.Result {
			results := map[Target]probe.Result{}
			for look := range f.Proof {
				results[look] = r
			}
			return results
		}
		if _, ok := f.Proof[TargetConfig]; !ok {
			t.Errorf("fault %s: its proof does not look at what Kyverno looks at", f.Name)
		}
		if f.Proof.Shows(all(isUp)) {
			t.Errorf("fault %s: an S3 that is up passes for it", f.Name)
		}
		if f.Proof.Shows(all(probe.Result{})) || f.Proof.Shows(nil) {
			t.Errorf("fault %s: a look that saw nothing passes for it", f.Name)
		}
		if !f.Up().Shows(all(isUp)) {
			t.Errorf("fault %s: an S3 that is up does not pass for one", f.Name)
		}
	}
}

// Every row's proof, as its rules make S3 look on a real gateway before some server; and that it always heals.
func TestProofsOnARealGateway(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "binary/octet-stream")
		_, _ = io.WriteString(w, "an object")
	}))
	defer upstream.Close()
	u, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	server, err := gateway.New(gateway.Config{Upstream: u, Token: "token", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listeners[0], listeners[1]) }()
	defer func() {
		_ = server.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	control := fault.New("http://"+listeners[1].Addr().String(), "token")
	subject := Subject{
		Endpoint: endpoint.Endpoint{URL: "http://" + listeners[0].Addr().String(), Addr: netip.MustParseAddrPort(listeners[0].Addr().String())},
		Bucket:   "bucket", AccessKey: "a", SecretKey: "s",
	}

	look := func(f Fault, subject Subject) map[Target]probe.Result {
		results := map[Target]probe.Result{}
		for target := range f.Proof {
			address, err := subject.URL(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			result, err := probe.Do(t.Context(), probe.Request{URL: address, Timeout: 5 * time.Second, Follow: f.Name != "name-not-found"})
			if err != nil {
				t.Fatal(err)
			}
			results[target] = result
		}
		return results
	}
	for _, f := range Faults {
		switch {
		case f.HoldsForAll(), f.Late():
			continue // packets are the node's; and nobody waits for 12 s here
		case f.Name == "name-not-found":
			f.Proof = Proof{TargetConfig: answers(307)} // where it leads only a cluster knows
		}
		t.Run(f.Name, func(t *testing.T) {
			namespace := "ns-" + strings.ToLower(f.Name)
			of := subject
			of.NamespacePrefix, of.RepositoryPrefix = namespace+"/", namespace+"/data/"
			if got := look(f, of); !f.Up().Shows(got) || f.Proof.Shows(got) {
				t.Errorf("before: %+v", got)
			}
			rules := of.Rules(f, namespace)
			for _, rule := range rules {
				if err := control.Put(t.Context(), rule); err != nil {
					t.Fatal(err)
				}
			}
			if got := look(f, of); !f.Proof.Shows(got) || f.Up().Shows(got) {
				t.Errorf("during: the proof must hold (it does: %v), and S3 must not look up (it does: %v): %+v", f.Proof.Shows(got), f.Up().Shows(got), got)
			}
			for _, rule := range rules {
				if err := control.Heal(t.Context(), rule.ID); err != nil {
					t.Fatal(err)
				}
			}
			if got := look(f, of); !f.Up().Shows(got) || f.Proof.Shows(got) {
				t.Errorf("after: %+v", got)
			}
			if left, err := control.Rules(t.Context()); err != nil || len(left) > 0 {
				t.Errorf("left behind: %+v, %v", left, err)
			}
		})
	}
}

func TestAFaultOfOneKeyLeavesTheRestAlone(t *testing.T) {
	i := slices.IndexFunc(Faults, func(f Fault) bool { return f.Key != "" })
	if i < 0 {
		t.Fatal("no row is about one key")
	}
	if rules := Faults[i].Rules("id", "/b/ns/", "/b/ns/data/"); len(rules) != 1 || rules[0].PathPrefix != "/b/ns/data/"+Faults[i].Key {
		t.Errorf("rules %+v", rules)
	}
}
