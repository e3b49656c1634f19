package s3down

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

// node is a node's iptables, of which some commands fail.
type node struct {
	fails    string // begins the commands that do
	chains   atomic.Int64
	commands atomic.Int64
}

func (n *node) exec(_ context.Context, args ...string) (string, error) {
	n.commands.Add(1)
	command := strings.Join(args[3:], " ") // after iptables -w 5
	if n.fails != "" && strings.HasPrefix(command, n.fails) {
		return "", errors.New("the node does not answer")
	}
	switch args[3] {
	case "-N":
		n.chains.Add(1)
	case "-X":
		n.chains.Add(-1)
	case "-S":
		if n.chains.Load() > 0 {
			return "-N SRFAULT-x\n-A FORWARD -j SRFAULT-x\n", nil
		}
	}
	return "", nil
}

// s3In is S3 as one spec of a run sees it, whose processes share folder.
func s3In(folder string, n *node, g *fault.Gateway) (*S3, *recorded.Reporter) {
	r := &recorded.Reporter{}
	times := timing.Default()
	times.Heal, times.Poll, times.PollMax = 50*time.Millisecond, 2*time.Millisecond, 5*time.Millisecond
	e := env.Offline(folder, env.Parts{
		Times: times, Firewall: &fault.Firewall{Nodes: []fault.Exec{n.exec}}, Gateway: g,
		Testbed: &testbed.Testbed{
			Contract: policy.Default(), Store: &objectstore.Handle{Bucket: "bucket"},
			Endpoint: endpoint.Endpoint{Addr: netip.MustParseAddrPort("10.9.8.7:9000")},
		},
	}).In("ns", "core/x", r)
	return Of(e, repository.Of(e)), r
}

func TestDownByAnother(t *testing.T) {
	folder := t.TempDir()
	one, _ := s3In(folder, &node{}, nil)
	other, _ := s3In(folder, &node{}, nil)
	is := func(when string, want bool, s *S3) {
		t.Helper()
		if down, err := s.DownByAnother(); down != want || err != nil {
			t.Errorf("%s: %t, %v; wanted %t", when, down, err, want)
		}
	}
	is("at first", false, other)
	up := one.Up(t.Context())
	is("while another needs it", false, other)
	up()
	heal := one.exclusively(t.Context())
	is("in another's outage", true, other)
	is("in its own", false, one)
	heal()
	is("after it", false, other)
	one.exclusively(t.Context())() // asking keeps nobody waiting
}

func TestLock(t *testing.T) {
	soon := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	up := func(ctx context.Context, s *S3) func() { return s.Up(ctx) }
	down := func(ctx context.Context, s *S3) func() { return s.exclusively(ctx) }
	for name, c := range map[string]struct {
		first, second func(context.Context, *S3) func()
		want          string
	}{
		"two need it":                  {up, up, "pass"},
		"one has it down":              {down, up, "unknown"},
		"one needs it":                 {up, down, "unknown"},
		"two want it down":             {down, down, "unknown"},
		"it was given back in between": {func(ctx context.Context, s *S3) func() { s.exclusively(ctx)(); return func() {} }, up, "pass"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			one, _ := s3In(folder, &node{}, nil)
			other, _ := s3In(folder, &node{}, nil)
			release := c.first(t.Context(), one)
			if got := recorded.Outcome(func() { c.second(soon(t), other)() }); got.How != c.want {
				t.Errorf("%+v, wanted %s", got, c.want)
			}
			release()
			// Whoever gave up keeps nobody waiting.
			if got := recorded.Outcome(func() { other.exclusively(soon(t))() }); got.How != "pass" {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
}

func TestASpecThatNeedsS3TwiceDoesNotWaitForItself(t *testing.T) {
	folder := t.TempDir()
	one, _ := s3In(folder, &node{}, nil)
	other, _ := s3In(folder, &node{}, nil)
	release := one.Up(t.Context())
	waits := make(chan struct{})
	go func() { // in the queue, and so before all that come later
		defer close(waits)
		other.exclusively(t.Context())()
	}()
	for { // until it waits
		turn := flock.New(one.env.SharedFile(queueFile))
		free, err := turn.TryLock()
		_ = turn.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !free {
			break
		}
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got := recorded.Outcome(func() { one.WhileS3IsUp(ctx, func() {}) }); got.How != "pass" {
		t.Errorf("%+v", got)
	}
	release()
	<-waits
}

// A packet fault that stays holds for all of Kyverno: whoever comes next takes it away, or does not judge.
func TestWhatAnOutageLeaves(t *testing.T) {
	for name, c := range map[string]struct {
		fails  string
		status int // of the gateway's answer
		want   string
		left   bool
	}{
		"is taken away":                       {"", http.StatusNoContent, "pass", false},
		"cannot be taken away":                {"-S", http.StatusNoContent, "unknown", true},
		"cannot be taken away at the gateway": {"", http.StatusBadGateway, "unknown", true},
	} {
		folder := t.TempDir()
		n := &node{fails: c.fails}
		n.chains.Store(1)
		var healed []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			healed = append(healed, r.Method+" "+r.URL.EscapedPath())
			w.WriteHeader(c.status)
		}))
		s, _ := s3In(folder, n, fault.New(server.URL, ""))
		s.leave([]gateway.Rule{{ID: "ns"}, {ID: "ns/before"}})
		if got := recorded.Outcome(func() { s.Up(t.Context())() }); got.How != c.want {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := os.Stat(s.env.SharedFile(leftFile)); (err == nil) != c.left {
			t.Errorf("%s: %v", name, err)
		}
		if want := []string{"DELETE /rules/ns", "DELETE /rules/ns%2Fbefore"}; !slices.Equal(healed, want) {
			t.Errorf("%s: want %q, found %q", name, want, healed)
		}
		server.Close()
	}
	// And nothing is asked of the node where nothing was left.
	n := &node{}
	s, _ := s3In(t.TempDir(), n, nil)
	s.Up(t.Context())()
	if n.commands.Load() > 0 {
		t.Errorf("%d commands", n.commands.Load())
	}
}

// A fault that was half put on, and could not be taken away at once, is taken away when the outage ends.
func TestHealOfAHalfArmedFault(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = json.NewEncoder(w).Encode(gateway.RuleStatus{})
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		fails       string
		left        bool
		suiteErrors int
	}{
		"it can be":    {"", false, 0},
		"it cannot be": {"-S", true, 1},
	} {
		n := &node{fails: c.fails}
		n.chains.Store(1)
		s, r := s3In(t.TempDir(), n, fault.New(server.URL, ""))
		o := &inForce{S3: s, fault: outage.Faults[0], id: "ns", pvc: "data", packets: true}
		err := o.heal(t.Context())
		if o.left != c.left || (err != nil) != c.left || len(r.SuiteErrors) != c.suiteErrors || (n.chains.Load() > 0) != c.left {
			t.Errorf("%s: left %v, %v, %q, %d chains", name, o.left, err, r.SuiteErrors, n.chains.Load())
		}
	}
}

func TestAFaultThatStays(t *testing.T) {
	for name, c := range map[string]struct {
		put     func(context.Context, *S3) func()
		deleted int // what the gateway answers
		want    string
		errors  bool
	}{
		"slow, taken away":    {func(ctx context.Context, s *S3) func() { return s.SlowS3(ctx, 1) }, http.StatusNoContent, "pass", false},
		"slow, and it stays":  {func(ctx context.Context, s *S3) func() { return s.SlowS3(ctx, 1) }, http.StatusInternalServerError, "unknown", true},
		"held, taken away":    {func(ctx context.Context, s *S3) func() { return s.HoldBackups(ctx, "data") }, http.StatusNoContent, "pass", false},
		"a restore held":      {func(ctx context.Context, s *S3) func() { return s.HoldRestores(ctx, "data") }, http.StatusNoContent, "pass", false},
		"and it stays held":   {func(ctx context.Context, s *S3) func() { return s.HoldRestores(ctx, "data") }, http.StatusInternalServerError, "unknown", true},
		"held until the end":  {func(ctx context.Context, s *S3) func() { return s.HoldBackups(ctx, "data") }, http.StatusInternalServerError, "pass", true},
		"it cannot be put on": {func(ctx context.Context, s *S3) func() { return s.SlowS3(ctx, 1) }, 0, "unknown", false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case c.deleted == 0:
				w.WriteHeader(http.StatusBadGateway)
			case r.Method == http.MethodDelete:
				w.WriteHeader(c.deleted)
			}
		}))
		s, r := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
		var heal func()
		if got := recorded.Outcome(func() {
			heal = c.put(t.Context(), s)
			heal()
		}); got.How != c.want || (len(r.SuiteErrors) > 0) != c.errors {
			t.Errorf("%s: %+v, %q", name, got, r.SuiteErrors)
		}
		if heal != nil { // again, when the spec ends: its verdict stays
			if got := recorded.Outcome(heal); got.How != "pass" {
				t.Errorf("%s, at the end: %+v", name, got)
			}
		}
		server.Close()
	}
}

// That movers ran into an outage is seen in requests of theirs, and of nobody else's.
func TestMoversAreSeenAtTheGateway(t *testing.T) {
	begun := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	told := func(client string, status int, rule string) gateway.Record {
		return gateway.Record{Client: client, Status: status, Rule: rule, Auth: gateway.AuthAWS4, Time: begun.Add(time.Second)}
	}
	asks := func(change func(*gateway.Record)) []gateway.Record {
		r := told("10.0.0.1:1", 503, "ns")
		change(&r)
		return []gateway.Record{r}
	}
	moverAsks := func(ctx context.Context, s *S3) { s.MoverAsks(ctx, "data", begun) }
	for name, c := range map[string]struct {
		part    func(context.Context, *S3)
		records []gateway.Record
		want    string
	}{
		"a mover asks":                 {moverAsks, asks(func(*gateway.Record) {}), "pass"},
		"a mover asks and is let by":   {moverAsks, asks(func(r *gateway.Record) { r.Rule = "" }), "unknown"},
		"another spec's outage":        {moverAsks, asks(func(r *gateway.Record) { r.Rule = "ns-2" }), "unknown"},
		"somebody else asks":           {moverAsks, asks(func(r *gateway.Record) { r.Auth = gateway.AuthNone }), "unknown"},
		"the suite's own probe asks":   {moverAsks, asks(func(r *gateway.Record) { r.UserAgent = probe.UserAgent }), "unknown"},
		"an earlier PVC's mover asked": {moverAsks, asks(func(r *gateway.Record) { r.Time = begun.Add(-time.Second) }), "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(gateway.RecordsPage{Records: c.records})
			}))
			defer server.Close()
			s, _ := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
			s.env.Times.Mover, s.env.Times.Probe = 30*time.Millisecond, 30*time.Millisecond
			if got := recorded.Outcome(func() { c.part(t.Context(), s) }); got.How != c.want {
				t.Errorf("%+v, wanted %s", got, c.want)
			}
		})
	}
}

// bucket is the S3 behind the gateway's records: a mover's config is held by a rule, and is written when that is gone.
type bucket struct {
	mu      sync.Mutex
	held    []string // the movers whose config a rule holds
	configs []gateway.Record
	order   []string
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		_ = json.NewEncoder(w).Encode(gateway.RecordsPage{Records: b.configs})
	case http.MethodDelete:
		for i := range b.configs {
			if b.configs[i].InFlight && strings.HasSuffix(r.URL.Path, "hold-config") {
				b.configs[i].InFlight, b.configs[i].Status = false, 200
				b.order = append(b.order, b.configs[i].Client)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		var rule gateway.Rule
		_ = json.NewDecoder(r.Body).Decode(&rule)
		b.held = append(b.held, rule.Clients...)
		_ = json.NewEncoder(w).Encode(gateway.RuleStatus{Rule: rule})
	}
}

// writes has a mover write its config.
func (b *bucket) writes(client string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	host, _, _ := strings.Cut(client, ":")
	record := gateway.Record{Client: client, Method: http.MethodPut, Auth: gateway.AuthAWS4, InFlight: slices.Contains(b.held, host)}
	if !record.InFlight {
		record.Status = 200
		b.order = append(b.order, client)
	}
	b.configs = append(b.configs, record)
}

// Of movers that make a repository each, the one whose key comes last writes its config last, whoever is quicker.
func TestOneRepositoryOverTheOther(t *testing.T) {
	const first, last = "10.0.0.2:1", "10.0.0.1:7"
	two := []Init{{"10.0.0.2", "/bucket/ns/data/keys/1"}, {"10.0.0.1", "/bucket/ns/data/keys/2"}}
	for name, c := range map[string]struct {
		inits  []Init
		writes []string
		order  []string
		want   string
	}{
		"the first is quicker":      {two, []string{first, last}, []string{first, last}, "pass"},
		"the last is quicker":       {two, []string{last, first}, []string{first, last}, "pass"},
		"the first is gone":         {two, []string{last}, nil, "unknown"},
		"the last is gone":          {two, []string{first}, []string{first}, "unknown"},
		"there is one":              {two[:1], []string{first}, []string{first}, "pass"},
		"another has written twice": {two, []string{first, first}, []string{first, first}, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bucket{}
			server := httptest.NewServer(b)
			defer server.Close()
			s, _ := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
			s.env.Times.Mover = 30 * time.Millisecond
			got := recorded.Outcome(func() {
				s.OneOverTheOther(t.Context(), "data", c.inits, func() {
					for _, client := range c.writes {
						b.writes(client)
					}
				})
			})
			if got.How != c.want {
				t.Errorf("%+v, wanted %s", got, c.want)
			}
			if c.want == "pass" && !slices.Equal(b.order, c.order) {
				t.Errorf("configs written by %v, wanted %v", b.order, c.order)
			}
		})
	}
}

// Who is held is seen in requests that are not answered, by the rule of this spec.
func TestWhoIsHeld(t *testing.T) {
	of := func(rule string, inFlight bool) gateway.Record {
		return gateway.Record{Client: "10.0.0.9:1", Path: "/bucket/ns/data/snapshots/x", Rule: rule, InFlight: inFlight}
	}
	for name, c := range map[string]struct {
		record       gateway.Record
		backup, asks string
	}{
		"a backup":                   {of("ns-hold-backups-data", true), "pass", ""},
		"a backup that went":         {of("ns-hold-backups-data", false), "unknown", ""},
		"a backup that nobody holds": {of("", true), "unknown", ""},
		"a question":                 {of("ns-hold-questions", true), "unknown", "10.0.0.9"},
		"a question, answered":       {of("ns-hold-questions", false), "unknown", ""},
		"another spec's question":    {of("ns-2-hold-questions", true), "unknown", ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(gateway.RecordsPage{Records: []gateway.Record{c.record}})
			}))
			defer server.Close()
			s, _ := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
			s.env.Times.Mover = 20 * time.Millisecond
			if got := recorded.Outcome(func() { s.BackupHeld(t.Context(), "data") }); got.How != c.backup {
				t.Errorf("%+v, wanted %s", got, c.backup)
			}
			if asks, err := s.WhoAsks("data")(t.Context()); err != nil || asks != c.asks {
				t.Errorf("%q asks, %v, wanted %q", asks, err, c.asks)
			}
		})
	}
}

// That Kyverno ran into what is met before there is a request is seen in its handshakes and questions for the name.
func TestKyvernoIsSeenBeforeItAsks(t *testing.T) {
	record := func(change func(*gateway.Record)) []gateway.Record {
		r := gateway.Record{Client: "10.244.0.5:1", Method: gateway.MethodTLS, Rule: "ns/before"}
		change(&r)
		return []gateway.Record{r}
	}
	for name, c := range map[string]struct {
		records []gateway.Record
		want    string
	}{
		"a handshake":            {record(func(*gateway.Record) {}), "pass"},
		"a question for a name":  {record(func(r *gateway.Record) { r.Method = gateway.MethodDNS }), "pass"},
		"nothing":                {nil, "unknown"},
		"another spec's outage":  {record(func(r *gateway.Record) { r.Rule = "ns-2/before" }), "unknown"},
		"the observer":           {record(func(r *gateway.Record) { r.Client = "10.244.0.9:1" }), "unknown"},
		"a request, so no fault": {record(func(r *gateway.Record) { r.Method = http.MethodGet }), "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(gateway.RecordsPage{Records: c.records})
			}))
			defer server.Close()
			s, _ := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
			o := &inForce{S3: s, fault: outage.Named("cert-expired"), id: "ns", pvc: "data", prober: &prober{address: netip.MustParseAddr("10.244.0.9")}, kyverno: []netip.Addr{netip.MustParseAddr("10.244.0.5")}}
			if got := recorded.Outcome(func() { o.ranInto(t.Context(), 0) }); got.How != c.want {
				t.Errorf("%+v, wanted %s", got, c.want)
			}
			var clients []string
			for _, rule := range o.rules() {
				clients = append(clients, rule.Clients...)
			}
			if want := []string{"10.244.0.9", "10.244.0.5"}; !slices.Equal(clients, want) {
				t.Errorf("it is for %q, wanted %q", clients, want)
			}
		})
	}
}

// Held is a mover whose key is not answered, by the rule of this spec, in the order of the keys.
func TestInitsHeld(t *testing.T) {
	held := func(client, key, rule string, inFlight bool) gateway.Record {
		return gateway.Record{Client: client, Path: "/bucket/ns/data/keys/" + key, Rule: rule, InFlight: inFlight}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(gateway.RecordsPage{Records: []gateway.Record{
			held("10.0.0.1:1", "b", "ns-hold-inits", true), held("10.0.0.2:1", "a", "ns-hold-inits", true),
			held("10.0.0.3:1", "c", "ns-hold-inits", false), held("10.0.0.4:1", "d", "", true),
		}})
	}))
	defer server.Close()
	s, _ := s3In(t.TempDir(), &node{}, fault.New(server.URL, ""))
	got, err := s.InitsHeld(t.Context(), "data")
	want := []Init{{"10.0.0.2", "/bucket/ns/data/keys/a"}, {"10.0.0.1", "/bucket/ns/data/keys/b"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, wanted %v", got, err, want)
	}
}
