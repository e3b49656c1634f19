package s3down

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/probe"
)

var oracle = policy.Oracle{URL: "http://o.kyverno.svc/exists/{namespace}/{pvc}"}

// row is the row of both tables with this situation.
func row(t *testing.T, situation string) outage.Fault {
	t.Helper()
	for _, f := range outage.All() {
		if f.Situation() == situation {
			return f
		}
	}
	t.Fatalf("there is no row %s", situation)
	return outage.Fault{}
}

// That somebody ran into an outage is seen of who asks, by the contract: Kyverno, or the oracle that it asks.
func TestWhoRunsIntoAnOutage(t *testing.T) {
	const kyverno, itself = "10.244.0.5:1", "10.9.8.7:1"
	met := func(change func(*gateway.Record)) []gateway.Record {
		r := gateway.Record{Client: itself, Rule: "ns", Auth: gateway.AuthNone, UserAgent: gateway.OracleAgent, Status: 500}
		if change != nil {
			change(&r)
		}
		return []gateway.Record{r}
	}
	asked := func(r *gateway.Record) { r.To, r.Client, r.UserAgent = gateway.ToOracle, kyverno, "Go-http-client/1.1" }
	for name, c := range map[string]struct {
		row     string
		oracle  policy.Oracle
		armed   *fault.Armed
		records []gateway.Record
		want    string
		says    string
	}{
		"S3, the oracle":                {row: "s3-down/500", oracle: oracle, records: met(nil), want: "pass"},
		"S3, nobody":                    {row: "s3-down/500", oracle: oracle, want: "unknown", says: "the oracle sent no request to S3"},
		"S3, nobody, and no oracle":     {row: "s3-down/500", want: "unknown", says: "Kyverno sent no request to S3"},
		"S3, a mover only":              {row: "s3-down/500", oracle: oracle, records: met(func(r *gateway.Record) { r.Auth = gateway.AuthAWS4 }), want: "unknown", says: "the oracle sent no request"},
		"packets, the oracle":           {row: "s3-down/refused", oracle: oracle, armed: &fault.Armed{}, records: met(nil), want: "pass"},
		"packets, nobody":               {row: "s3-down/refused", oracle: oracle, armed: &fault.Armed{}, want: "unknown", says: "the oracle sent no request to S3"},
		"a handshake of the oracle's":   {row: "s3-down/cert-expired", oracle: oracle, records: met(func(r *gateway.Record) { r.Method, r.Rule = gateway.MethodTLS, "ns/before" }), want: "pass"},
		"a handshake of Kyverno's":      {row: "s3-down/cert-expired", oracle: oracle, records: met(func(r *gateway.Record) { r.Method, r.Rule, r.Client = gateway.MethodTLS, "ns/before", kyverno }), want: "unknown", says: "the oracle neither asked"},
		"the oracle, Kyverno":           {row: "oracle-down/500", oracle: oracle, records: met(asked), want: "pass"},
		"the oracle, nobody":            {row: "oracle-down/500", oracle: oracle, want: "unknown", says: "Kyverno sent no request to the oracle"},
		"the oracle, the suite's probe": {row: "oracle-down/500", oracle: oracle, records: met(func(r *gateway.Record) { r.To, r.UserAgent = gateway.ToOracle, probe.UserAgent }), want: "unknown"},
		"the oracle, another spec's":    {row: "oracle-down/500", oracle: oracle, records: met(func(r *gateway.Record) { asked(r); r.Rule = "ns-2" }), want: "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(gateway.RecordsPage{Records: c.records})
			}))
			defer server.Close()
			s, _ := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
			s.env.Testbed.Contract.Oracle = c.oracle
			o := &inForce{S3: s, fault: row(t, c.row), id: "ns", pvc: "data", armed: c.armed, kyverno: []netip.Addr{netip.MustParseAddr("10.244.0.5")}, prober: &prober{}}
			if got := recorded.Outcome(func() { o.ranInto(t.Context(), 0) }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
			}
		})
	}
}

// What is met before a request is met by the oracle, too, where that asks.
func TestTheOracleMeetsWhatIsBeforeRequests(t *testing.T) {
	for name, c := range map[string]struct {
		oracle policy.Oracle
		want   string
	}{"Kyverno asks": {policy.Oracle{}, "10.244.0.9 10.244.0.5"}, "the oracle asks": {oracle, "10.244.0.9 10.244.0.5 10.9.8.7"}} {
		s, _ := s3In(t.TempDir(), &node{}, nil)
		s.env.Testbed.Contract.Oracle = c.oracle
		o := &inForce{S3: s, fault: row(t, "s3-down/cert-expired"), id: "ns", pvc: "data", prober: &prober{address: netip.MustParseAddr("10.244.0.9")}, kyverno: []netip.Addr{netip.MustParseAddr("10.244.0.5")}}
		var clients []string
		for _, rule := range o.rules() {
			clients = append(clients, rule.Clients...)
		}
		if got := strings.Join(clients, " "); got != c.want {
			t.Errorf("%s: it is for %s, wanted %s", name, got, c.want)
		}
	}
}

// Questions are held where they are asked.
func TestWhereQuestionsAreHeld(t *testing.T) {
	for name, c := range map[string]struct {
		oracle policy.Oracle
		to     string
	}{"of S3": {policy.Oracle{}, ""}, "of the oracle": {oracle, gateway.ToOracle}} {
		var rule gateway.Rule
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			_ = json.NewDecoder(r.Body).Decode(&rule)
			_ = json.NewEncoder(w).Encode(gateway.RuleStatus{Rule: rule})
		}))
		s, _ := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
		s.env.Testbed.Contract.Oracle = c.oracle
		s.HoldQuestions(t.Context(), "data")()
		if rule.To != c.to || rule.PathPrefix != "/bucket/ns/data/" || (len(rule.Auth) == 0) != c.oracle.Named() {
			t.Errorf("%s: %+v", name, rule)
		}
		server.Close()
	}
}

// The endpoints of the oracle's Service go, and come back when the outage ends, or when the next one begins.
func TestTheOraclesEndpoints(t *testing.T) {
	ready := discoveryv1.EndpointSlice{}
	ready.Name, ready.Namespace = "o", "kyverno"
	errAPI := errors.New("connection refused")
	var refuses error
	api := interceptor.NewClient(fake.NewClientBuilder().WithObjects(&ready).Build(), interceptor.Funcs{
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			if refuses != nil {
				return refuses
			}
			return api.Patch(ctx, o, patch, options...)
		},
	})
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer control.Close()
	n := &node{}
	s, r := s3In(t.TempDir(), n, fault.New(control.URL, ""))
	s.env.API, s.env.Testbed.Contract.Oracle = api, oracle
	addresses := func() (all []string) {
		t.Helper()
		var slice discoveryv1.EndpointSlice
		if err := api.Get(t.Context(), client.ObjectKeyFromObject(&ready), &slice); err != nil {
			t.Fatal(err)
		}
		for _, e := range slice.Endpoints {
			all = append(all, e.Addresses...)
		}
		return all
	}
	set := func(there bool) {
		t.Helper()
		if err := s.setEndpoints(t.Context(), there); err != nil {
			t.Fatal(err)
		}
	}
	if set(true); strings.Join(addresses(), " ") != "10.9.8.7" {
		t.Errorf("it leads to %v", addresses())
	}
	if set(false); len(addresses()) > 0 {
		t.Errorf("without endpoints it leads to %v", addresses())
	}
	o := &inForce{S3: s, fault: row(t, "oracle-down/no-endpoints"), id: "ns", pvc: "data", gone: true}
	refuses = errAPI
	if err := o.heal(t.Context()); !errors.Is(err, errAPI) || !o.left || !o.gone || len(r.SuiteErrors) != 1 {
		t.Errorf("they cannot be put back: %v, left %v, %q", err, o.left, r.SuiteErrors)
	}
	refuses = nil
	if err := o.heal(t.Context()); err != nil || o.left || o.gone || len(addresses()) != 1 {
		t.Errorf("put back: %v, left %v, %v", err, o.left, addresses())
	}
	set(false)
	s.leave(o.rules())
	if s.Up(t.Context())(); len(addresses()) != 1 {
		t.Error("the next one does not put them back")
	}
}
