package scenario

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/cmd/agent/probe"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stand"
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
			if err := rule.Validate(); err != nil {
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
		all := func(r probe.Result) map[Look]probe.Result {
			results := map[Look]probe.Result{}
			for look := range f.Proof {
				results[look] = r
			}
			return results
		}
		if _, ok := f.Proof[LookConfig]; !ok {
			t.Errorf("fault %s: its proof does not look at what Kyverno looks at", f.Name)
		}
		if f.Proof.shows(all(isUp)) {
			t.Errorf("fault %s: an S3 that is up passes for it", f.Name)
		}
		if f.Proof.shows(all(probe.Result{})) || f.Proof.shows(nil) {
			t.Errorf("fault %s: a look that saw nothing passes for it", f.Name)
		}
		if !upAll(f).shows(all(isUp)) {
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
	sc, _ := newScenario(t)
	sc.Gateway = fault.New("http://"+listeners[1].Addr().String(), "token")
	sc.Stand = &stand.Stand{
		Endpoint:    settings.Endpoint{URL: "http://" + listeners[0].Addr().String(), Addr: netip.MustParseAddrPort(listeners[0].Addr().String())},
		Store:       &objectstore.Handle{Bucket: "bucket"},
		Credentials: objectstore.Credentials{AccessKey: "a", SecretKey: "s"},
		Contract:    policy.Default(),
	}

	look := func(o *outage) map[Look]probe.Result {
		results := map[Look]probe.Result{}
		for look := range o.fault.Proof {
			result, err := probe.Do(t.Context(), probe.Request{URL: o.urls[look], Timeout: 5 * time.Second, Follow: o.fault.Name != "name-not-found"})
			if err != nil {
				t.Fatal(err)
			}
			results[look] = result
		}
		return results
	}
	for _, f := range Faults {
		switch {
		case f.HoldsForAll(), f.late():
			continue // packets are the node's; and nobody waits for 12 s here
		case f.Name == "name-not-found":
			f.Proof = Proof{LookConfig: answers(307)} // where it leads only a cluster knows
		}
		t.Run(f.Name, func(t *testing.T) {
			sc.Namespace = "ns-" + strings.ToLower(f.Name)
			o := &outage{sc: sc, fault: f, id: sc.Namespace, pvc: "data"}
			if err := o.findURLs(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := look(o); !upAll(f).shows(got) || f.Proof.shows(got) {
				t.Errorf("before: %+v", got)
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the spec did not panic")
					}
				}()
				defer o.heal(t.Context())
				o.arm(t.Context())
				if got := look(o); !f.Proof.shows(got) || upAll(f).shows(got) {
					t.Errorf("during: the proof must hold (it does: %v), and S3 must not look up (it does: %v): %+v", f.Proof.shows(got), upAll(f).shows(got), got)
				}
				panic("as a spec does that fails")
			}()
			if got := look(o); !upAll(f).shows(got) || f.Proof.shows(got) {
				t.Errorf("after: %+v", got)
			}
			if rules, err := sc.Gateway.Rules(t.Context()); err != nil || len(rules) > 0 {
				t.Errorf("left behind: %+v, %v", rules, err)
			}
		})
	}
}

func TestAFaultOfOneKeyLeavesTheRestAlone(t *testing.T) {
	f, err := FaultNamed("403-key")
	if err != nil {
		t.Fatal(err)
	}
	if rules := f.Rules("id", "/b/ns/", "/b/ns/data/"); len(rules) != 1 || rules[0].PathPrefix != "/b/ns/data/config" {
		t.Errorf("rules %+v", rules)
	}
	if _, err := FaultNamed("rain"); err == nil {
		t.Error("a fault that is not in the table was found")
	}
}

func TestDecisionText(t *testing.T) {
	for name, c := range map[string]struct {
		annotations, labels map[string]string
		want                string
	}{
		"nothing":               {nil, map[string]string{"backup": "hourly"}, ""},
		"Kubernetes'":           {map[string]string{"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "n"}, nil, ""},
		"a decision":            {map[string]string{"smart-restore/decision": "unknown: HTTP 403"}, nil, "smart-restore/decision: unknown: HTTP 403"},
		"a label":               {nil, map[string]string{"backup": "hourly", "restore": "no"}, "label restore: no"},
		"label changed":         {nil, map[string]string{"backup": "never"}, "label backup: never"},
		"not quite Kubernetes'": {map[string]string{"notkubernetes.io/x": "1"}, nil, "notkubernetes.io/x: 1"},
	} {
		if got := decisionText(c.annotations, c.labels, map[string]string{"backup": "hourly"}); got != c.want {
			t.Errorf("%s: %q, wanted %q", name, got, c.want)
		}
	}
}
