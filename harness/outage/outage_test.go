package outage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/fault/gateway/resolver"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/probe"
)

func TestTheFaultTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	paths := Paths{Namespace: "/b/ns/", Repository: "/b/ns/data/", Marker: "/b/marker", Clients: []string{"10.244.0.7"}}
	isUp := probe.Result{Class: probe.OK, Status: 200, Bytes: 155, Lists: true, Keys: 3, Received: 500, Millis: 3, Headers: map[string]string{"Content-Type": "binary/octet-stream", "Server": api.OracleServer + api.OracleBackup}}
	for _, f := range All() {
		if f.Name == "" || f.Sentence == "" || f.Outcome == "" || seen[f.Requirement()] {
			t.Errorf("fault %q: name, sentence and outcome are needed, and the name once", f.Name)
		}
		seen[f.Requirement()] = true
		if (f.Proof[TargetOracle] != nil) != f.Oracle {
			t.Errorf("fault %s: its proof is not about what it is of", f.Requirement())
		}
		rules := f.Rules("ns", paths)
		for _, rule := range rules {
			if !IsRule(rule.ID, "ns") || IsRule(rule.ID, "n") {
				t.Errorf("fault %s: the rule %s is not taken for its own", f.Name, rule.ID)
			}
			if err := gateway.Validate(rule); err != nil {
				t.Errorf("fault %s: %v", f.Name, err)
			}
		}
		if f.HTTP.Kind == "redirect" && f.HTTP.Location != rules[len(rules)-1].PathPrefix {
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

// name is of an endpoint that has one.
const name = "s3.home.example.org"

// certificates are those of an https endpoint of that name. Probes trust what this process does: it is told before it first looks.
var certificates *authority.Certificates

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "outage")
	if err == nil {
		certificates, err = authority.New(name, time.Now())
	}
	if err == nil {
		file := filepath.Join(folder, "ca.crt")
		err = errors.Join(os.WriteFile(file, []byte(certificates.CA), 0o600), os.Setenv("SSL_CERT_FILE", file))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// nameServer is who is asked for names meanwhile; nil: whoever the machine asks. The resolver itself stays: a question may outlive its test.
var nameServer atomic.Pointer[string]

func init() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if other := nameServer.Load(); other != nil {
			address = *other
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

// aGateway is a real gateway before some server, with its name in the DNS of this process.
func aGateway(t *testing.T, scheme string) (Subject, *fault.Gateway) {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
		case r.URL.Query().Has("list-type"):
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, "<ListBucketResult><Contents><Key>k</Key></Contents><Contents><Key>l</Key></Contents></ListBucketResult>")
		default:
			w.Header().Set("Content-Type", "binary/octet-stream")
			_, _ = io.WriteString(w, "an object")
		}
	}))
	t.Cleanup(upstream.Close)
	u, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	config := gateway.Config{Upstream: u, Token: "token", Log: io.Discard}
	if scheme == "https" {
		config.Certificates = certificates
	}
	var at netip.AddrPort
	config.Endpoint, config.DialEndpoint = scheme+"://"+name, func(ctx context.Context, _ bool) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", at.String())
	}
	server, err := gateway.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listen := func(address string) net.Listener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	data, control := listen("127.0.0.1:0"), listen("127.0.0.1:0")
	at = netip.MustParseAddrPort(data.Addr().String())
	answers := map[string]api.OracleAnswer{}
	for _, found := range []string{api.OracleBackup, api.OracleNone, api.OracleUnknown} {
		answers[found] = api.OracleAnswer{Status: 200, Body: `{"found": "` + found + `"}`}
	}
	if err := server.SetOracle(&api.Oracle{Question: "/exists/{namespace}/{pvc}", Bucket: "bucket", Repository: "{namespace}/{pvc}/", Answers: answers}); err != nil {
		t.Fatal(err)
	}
	oracle := listen("127.0.0.1:0")
	portal := listen(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), at.Port()).String())
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dns := listen(udp.LocalAddr().String())
	names := resolver.Config{Name: name, Address: at.Addr(), Elsewhere: netip.MustParseAddr("127.0.0.2"), Fault: server.NameFault}
	ended := make(chan error, 4)
	go func() { ended <- server.Serve(data, control) }()
	go func() { ended <- server.ServeOracle(oracle) }()
	go func() { ended <- server.ServePortal(portal) }()
	go func() { ended <- names.Serve(udp, dns) }()
	address := udp.LocalAddr().String()
	nameServer.Store(&address)
	t.Cleanup(func() {
		nameServer.Store(nil)
		if err := errors.Join(server.Close(), udp.Close(), dns.Close(), <-ended, <-ended, <-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	e, err := endpoint.Parse(fmt.Sprintf("%s://%s:%d", scheme, name, at.Port()))
	if err != nil {
		t.Fatal(err)
	}
	return Subject{Oracle: "http://" + oracle.Addr().String() + "/exists/", Endpoint: e, Bucket: "bucket", Marker: "marker.json", AccessKey: "a", SecretKey: "s", Clients: []netip.Addr{at.Addr()}},
		fault.New("http://"+control.Addr().String(), "token")
}

// Every row's proof, as its rules make S3 look on a real gateway, of either sort; and that it always heals.
func TestProofsOnARealGateway(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) { proofs(t, scheme) })
	}
}

func proofs(t *testing.T, scheme string) {
	t.Helper()
	subject, control := aGateway(t, scheme)
	look := func(f Fault, subject Subject) map[Target]probe.Result {
		results := map[Target]probe.Result{}
		for target := range f.Proof {
			address, err := subject.URL(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			result, err := probe.Do(t.Context(), probe.Request{URL: address, Method: target.Method(), Timeout: timeout(f), Follow: f.Name != "name-not-found"})
			if err != nil {
				t.Fatal(err)
			}
			results[target] = result
		}
		return results
	}
	faults := All()
	for _, f := range Faults {
		if f.Bucket { // also as a policy without a marker meets it
			f = f.In("")
			f.Name += "-without-marker"
			faults = append(faults, f)
		}
	}
	for _, f := range faults {
		switch {
		case f.Packet != "", f.NoEndpoints, f.Late(), !subject.Endpoint.Is(f.Of):
			continue // packets are the node's; and nobody waits for 12 s here
		case f.Name == "name-not-found":
			f.Proof = Proof{TargetConfig: answers(307)} // where it leads only a cluster knows
		}
		t.Run(f.Situation(), func(t *testing.T) {
			namespace := "ns-" + f.Family() + "-" + strings.ToLower(f.Name)
			of := subject
			of.Oracle += namespace + "/data"
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
			if f.Ends != nil {
				if got := look(f, of); !f.Ends.Shows(got) {
					t.Errorf("at the end: %+v", got)
				}
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

// timeout is short where nothing is to come.
func timeout(f Fault) time.Duration {
	if f.Hangs {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

func TestRules(t *testing.T) {
	absent, refused := api.Fault{Kind: "absent"}, api.Fault{Kind: "status", Status: 500}
	paths := Paths{Namespace: "/b/ns/", Repository: "/b/ns/data/", Marker: "/b/marker", Clients: []string{"10.244.0.7"}}
	for name, c := range map[string]struct {
		fault  Fault
		marker string
		want   string
	}{
		"all of a namespace's":      {Fault{HTTP: absent}, "marker", "id [] /b/ns/ absent"},
		"one key":                   {Fault{HTTP: absent, Key: "config"}, "marker", "id [] /b/ns/data/config absent"},
		"some methods":              {Fault{HTTP: refused, Methods: writes}, "marker", "id [PUT POST DELETE] /b/ns/ status"},
		"writes are refused":        {Fault{HTTP: absent, Writes: refused}, "", "id [] /b/ns/ absent, id/2 [PUT POST DELETE] /b/ns/ status"},
		"the bucket":                {Fault{HTTP: absent, Writes: refused, Bucket: true}, "marker", "id [] /b/ns/ absent, id/2 [PUT POST DELETE] /b/ns/ status, id/3 [] /b/marker absent, id/4 [PUT POST DELETE] /b/marker status"},
		"a bucket of one's own":     {Fault{HTTP: absent, Bucket: true}, "", "id [] /b/ns/ absent"},
		"redirected":                {Fault{HTTP: api.Fault{Kind: "redirect", Location: "/x"}, Elsewhere: absent}, "", "id [] /b/ns/ redirect, id/elsewhere [] /x absent"},
		"before there are requests": {Fault{HTTP: absent, Before: api.Fault{Kind: "cert-expired"}}, "", "id [] /b/ns/ absent, id/before []  cert-expired [10.244.0.7]"},
		"the oracle":                {Fault{HTTP: absent, Oracle: true}, "marker", "id [] /b/ns/ absent to oracle"},
		"nobody's requests":         {Fault{Packet: fault.Refused, Oracle: true}, "marker", ""},
		"listings, of one's own":    {Fault{HTTP: absent, About: api.AboutListings, Auth: unsigned}, "", "id [] /b/ns/ absent listings [none bearer basic other]"},
	} {
		var got []string
		for _, r := range c.fault.In(c.marker).Rules("id", paths) {
			text := fmt.Sprintf("%s %v %s %s", r.ID, r.Methods, r.PathPrefix, r.Fault.Kind)
			if r.About != "" {
				text += fmt.Sprintf(" %s %v", r.About, r.Auth)
			}
			if r.To != "" {
				text += " to " + r.To
			}
			if len(r.Clients) > 0 {
				text += fmt.Sprint(" ", r.Clients)
			}
			got = append(got, text)
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, text, c.want)
		}
	}
}

func TestInABucketWithoutAMarker(t *testing.T) {
	i := slices.IndexFunc(Faults, func(f Fault) bool { return f.Name == "empty-bucket" })
	row := Faults[i]
	with, without := row.In("marker.json"), row.In("")
	if !with.HoldsForAll() || with.Proof[TargetMarker] == nil {
		t.Error("with a marker it is everybody's")
	}
	if without.HoldsForAll() || without.Proof[TargetMarker] != nil || row.Proof[TargetMarker] == nil {
		t.Error("without a marker it is the namespace's alone, and the table stays as it is")
	}
}

func TestDecisionsOfOutcomes(t *testing.T) {
	for outcome, want := range map[Outcome]string{
		OutcomeUnknown: policy.DecisionUnknown, OutcomeAbsent: policy.DecisionFresh, OutcomeLied: policy.DecisionFresh,
		OutcomeBackup: policy.DecisionRestore, OutcomeLater: policy.DecisionRestore, OutcomeNothing: policy.DecisionRestore,
		OutcomeOlder: policy.DecisionRestore,
	} {
		if got := outcome.Decision(); got != want {
			t.Errorf("%s: %s, wanted %s", outcome, got, want)
		}
	}
}
