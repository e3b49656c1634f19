package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// asked is an oracle of the tests'.
func asked(change func(*api.Oracle)) *api.Oracle {
	o := &api.Oracle{
		Question: "/exists/{namespace}/{pvc}", Bucket: "b", Repository: "{namespace}/{pvc}/",
		Answers: map[string]api.OracleAnswer{
			api.OracleBackup: {Status: 200, Body: `{"exists":true}`}, api.OracleNone: {Status: 200, Body: `{"exists":false}`}, api.OracleUnknown: {Status: 503, Body: `{}`},
		},
	}
	if change != nil {
		change(o)
	}
	return o
}

// holding is an S3 server with these keys in the bucket b.
func holding(keys ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if name != "b" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchBucket</Code></Error>")
			return
		}
		if prefix := r.URL.Query().Get("prefix"); key == "" {
			_, _ = io.WriteString(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
			for _, k := range keys {
				if strings.HasPrefix(k, prefix) {
					_, _ = fmt.Fprintf(w, "<Contents><Key>%s</Key></Contents>", k)
				}
			}
			_, _ = io.WriteString(w, `</ListBucketResult>`)
			return
		}
		for _, k := range keys {
			if k == key {
				w.Header().Set("Content-Type", "binary/octet-stream")
				_, _ = io.WriteString(w, object)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
	}
}

// oracleOf is a gateway before an S3 server, of this scheme and host to clients, and where its oracle is asked.
func oracleOf(t *testing.T, scheme, host string, s3 http.HandlerFunc, o *api.Oracle) (g *running, at string) {
	t.Helper()
	upstream := httptest.NewServer(s3)
	t.Cleanup(upstream.Close)
	c := Config{
		Upstream: &url.URL{Scheme: "http", Host: upstream.Listener.Addr().String()}, Endpoint: scheme + "://" + host, OracleAddress: "127.0.0.1:0",
		DialEndpoint: func(ctx context.Context, elsewhere bool) (net.Conn, error) {
			if elsewhere {
				return nil, fmt.Errorf("led elsewhere")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", g.data)
		},
	}
	if net.ParseIP(host) == nil {
		c.Name = host
	}
	if scheme == "https" {
		var err error
		if c.Certificates, err = authority.New(host, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	g = startWith(t, c)
	if err := g.server.SetOracle(o); err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- g.server.ServeOracle(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return g, "http://" + l.Addr().String()
}

const backupKey = "ns/data/config"

// What S3 holds decides what the oracle says: that there is none takes a bucket with nothing of the repository in it.
func TestWhatTheOracleFinds(t *testing.T) {
	marker := func(o *api.Oracle) { o.Marker = "marker" }
	for name, c := range map[string]struct {
		keys   []string
		change func(*api.Oracle)
		path   string
		want   string
	}{
		"a backup":                     {keys: []string{backupKey}, want: `200 oracle/backup {"exists":true}`},
		"none":                         {keys: []string{"ns/data-2/config"}, want: `200 oracle/none {"exists":false}`},
		"another bucket":               {change: func(o *api.Oracle) { o.Bucket = "c" }, want: `503 oracle/unknown {}`},
		"snapshots without a config":   {keys: []string{"ns/data/snapshots/1"}, want: `503 oracle/unknown {}`},
		"a backup, and a marker":       {keys: []string{backupKey}, change: marker, want: `200 oracle/backup {"exists":true}`},
		"none, and the marker":         {keys: []string{"marker"}, change: marker, want: `200 oracle/none {"exists":false}`},
		"none, and no marker":          {change: marker, want: `503 oracle/unknown {}`},
		"a path without the namespace": {keys: []string{"all/data/config"}, change: func(o *api.Oracle) { o.Repository = "all/{pvc}/" }, want: `200 oracle/backup {"exists":true}`},
		"by a query": {keys: []string{backupKey}, change: func(o *api.Oracle) { o.Question = "/exists?pvc={pvc}&namespace={namespace}" }, path: "/exists?pvc=data&namespace=ns",
			want: `200 oracle/backup {"exists":true}`},
		"another question": {keys: []string{backupKey}, path: "/exists/ns/data/more", want: `404  {"error":"want a question like /exists/{namespace}/{pvc}"}`},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				_, at := oracleOf(t, scheme, "127.0.0.1", holding(c.keys...), asked(c.change))
				if c.path == "" {
					c.path = "/exists/ns/data"
				}
				got := do(t, "GET", at+c.path, "")
				if got.err != nil {
					t.Fatal(got.err)
				}
				if text := fmt.Sprintf("%d %s %s", got.res.StatusCode, got.res.Header.Get("Server"), got.body); text != c.want {
					t.Errorf("got %s, wanted %s", text, c.want)
				}
				if got.res.Header.Get("Content-Type") != "application/json" || !got.res.Close {
					t.Errorf("it is %q, on a connection that is kept: %v", got.res.Header.Get("Content-Type"), !got.res.Close)
				}
			})
		}
	}
}

// Both the question and what the oracle asks are recorded, as being about the repository.
func TestQuestionsAreRecorded(t *testing.T) {
	g, at := oracleOf(t, "http", "127.0.0.1", holding(backupKey), asked(nil))
	if got := do(t, "GET", at+"/exists/ns/data", ""); got.err != nil {
		t.Fatal(got.err)
	}
	question := g.done("/b/ns/data/")
	if question.To != api.ToOracle || question.Path != "/exists/ns/data" || question.Found != api.OracleBackup || question.Status != 200 {
		t.Errorf("the question: %+v", question)
	}
	all := g.page("pathPrefix=/b/ns/data/").Records
	if len(all) != 2 || all[1].To != "" || all[1].Path != "/b/ns/data/config" || all[1].UserAgent != api.OracleAgent || all[1].Auth != api.AuthNone {
		t.Errorf("what the oracle asked: %+v", all)
	}
}

// A fault of S3 is one to the oracle, too: it does not know then, whatever S3 holds.
func TestFaultsOfS3ReachTheOracle(t *testing.T) {
	for name, c := range map[string]struct {
		fault api.Fault
		path  string // /b/ns/
		want  string
	}{
		"403":              {fault: api.Fault{Kind: "status", Status: 403}},
		"404 bucket":       {fault: api.Fault{Kind: "status", Status: 404, Code: "NoSuchBucket"}},
		"reset":            {fault: api.Fault{Kind: "reset"}},
		"empty":            {fault: api.Fault{Kind: "empty-200"}},
		"a page":           {fault: api.Fault{Kind: "html-200"}},
		"a redirect":       {fault: api.Fault{Kind: "redirect", Status: 302, Location: "/b/ns/elsewhere"}},
		"hidden":           {fault: api.Fault{Kind: "absent"}, want: api.OracleNone},
		"its config only":  {fault: api.Fault{Kind: "absent"}, path: "/b/ns/data/config"},
		"another's":        {fault: api.Fault{Kind: "reset"}, path: "/b/ns-2/", want: api.OracleBackup},
		"no such name":     {fault: api.Fault{Kind: api.NameNotFound}},
		"no name server":   {fault: api.Fault{Kind: api.NameFails}},
		"it leads away":    {fault: api.Fault{Kind: api.NameElsewhere}},
		"another name":     {fault: api.Fault{Kind: "cert-other-name"}},
		"nobody's CA":      {fault: api.Fault{Kind: "cert-unknown-ca"}},
		"plain":            {fault: api.Fault{Kind: "handshake-http"}},
		"of other clients": {fault: api.Fault{Kind: "cert-expired"}, path: "10.0.0.1", want: api.OracleBackup},
	} {
		t.Run(name, func(t *testing.T) {
			g, at := oracleOf(t, "https", "s3.home.example.org", holding(backupKey), asked(nil))
			rule := api.Rule{ID: "f", Fault: c.fault}
			switch {
			case !kinds[c.fault.Kind].beforeRequests():
				if rule.PathPrefix = c.path; c.path == "" {
					rule.PathPrefix = "/b/ns/"
				}
			case c.path != "":
				rule.Clients = []string{c.path}
			}
			g.put(rule)
			if c.want == "" {
				c.want = api.OracleUnknown
			}
			got := do(t, "GET", at+"/exists/ns/data", "")
			if got.err != nil || got.res.Header.Get("Server") != api.OracleServer+c.want {
				t.Errorf("want %s, found %+v", c.want, got)
			}
		})
	}
}

// An S3 that does not answer is not waited for: nor is a name of which nothing is heard.
func TestTheOracleIsNotPatient(t *testing.T) {
	for _, fault := range []api.Fault{{Kind: "hang"}, {Kind: api.NameUnheard}} {
		g, _ := oracleOf(t, "http", "s3.home.example.org", holding(backupKey), asked(nil))
		g.put(api.Rule{ID: "f", Fault: fault})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // sooner than its own
		q := &question{of: g.server.oracle, given: g.server.oracle.given.Load(), repository: "ns/data/"}
		if got := q.find(ctx); got != api.OracleUnknown {
			t.Errorf("%s: %s", fault.Kind, got)
		}
		cancel()
	}
}

// A rule to the oracle is about questions, and one without that is about S3.
func TestAnOracleThatIsWrong(t *testing.T) {
	const yes, no = `{"exists":true}`, `{"exists":false}`
	for name, c := range map[string]struct {
		rule  api.Rule
		wants []string // the answers, one after the other, or the error
	}{
		"it lies":                {api.Rule{To: api.ToOracle, Fault: api.Fault{Kind: "says", Says: "none"}}, []string{no, no}},
		"it lies once":           {api.Rule{To: api.ToOracle, Fault: api.Fault{Kind: "says", Says: "none", Times: 1}}, []string{no, yes, yes}},
		"about the namespace":    {api.Rule{To: api.ToOracle, PathPrefix: "/b/ns/", Fault: api.Fault{Kind: "says", Says: "none"}}, []string{no}},
		"about another one":      {api.Rule{To: api.ToOracle, PathPrefix: "/b/ns-2/", Fault: api.Fault{Kind: "says", Says: "none"}}, []string{yes}},
		"it is broken":           {api.Rule{To: api.ToOracle, Fault: api.Fault{Kind: "status", Status: 500}}, []string{"500"}},
		"a page":                 {api.Rule{To: api.ToOracle, Fault: api.Fault{Kind: "html-200"}}, []string{"Sign in"}},
		"another shape":          {api.Rule{To: api.ToOracle, Fault: api.Fault{Kind: "status", Status: 200, Body: "[]", ContentType: "application/json"}}, []string{"[]"}},
		"slow":                   {api.Rule{To: api.ToOracle, Fault: api.Fault{Kind: "slow", DelayMillis: 20}}, []string{yes}},
		"reset":                  {api.Rule{To: api.ToOracle, Fault: api.Fault{Kind: "reset"}}, []string{"reset"}},
		"S3 is broken, not this": {api.Rule{PathPrefix: "/exists/", Fault: api.Fault{Kind: "status", Status: 500}}, []string{yes}},
	} {
		t.Run(name, func(t *testing.T) {
			g, at := oracleOf(t, "http", "127.0.0.1", holding(backupKey), asked(nil))
			c.rule.ID = "f"
			g.put(c.rule)
			for i, want := range c.wants {
				got := do(t, "GET", at+"/exists/ns/data", "")
				text := fmt.Sprint(got.body, got.err)
				if got.err == nil {
					text += fmt.Sprint(got.res.StatusCode)
				}
				if !strings.Contains(text, want) {
					t.Errorf("answer %d: want %s, found %s", i+1, want, text)
				}
			}
			if record := g.done("/b/ns/data/"); record.To != api.ToOracle || (record.Rule == "f") != (c.rule.To != "" && c.rule.PathPrefix != "/b/ns-2/") {
				t.Errorf("%+v", record)
			}
			if got := do(t, "GET", "http://"+g.data+"/b/"+backupKey, ""); got.err != nil || got.body != object {
				t.Errorf("S3 itself: %+v", got)
			}
		})
	}
}

// That an oracle lies once is of each client and each PVC.
func TestLiesAreCounted(t *testing.T) {
	g, at := oracleOf(t, "http", "127.0.0.1", holding(backupKey, "ns/more/config"), asked(nil))
	g.put(api.Rule{ID: "f", To: api.ToOracle, Fault: api.Fault{Kind: "says", Says: "none", Times: 1}})
	for i, c := range []struct{ agent, pvc, want string }{
		{"one", "data", "none"}, {"two", "data", "none"}, {"one", "more", "none"}, {"one", "data", "backup"}, {"two", "data", "backup"},
	} {
		request := httptest.NewRequest("GET", at+"/exists/ns/"+c.pvc, nil)
		request.RequestURI = ""
		request.Header.Set("User-Agent", c.agent)
		res, err := freshClient().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := res.Header.Get("Server"); got != api.OracleServer+c.want {
			t.Errorf("%d: want %s, found %s", i, c.want, got)
		}
	}
}

// What the oracle answers is said by the control API, and until then nothing is.
func TestTheOracleIsTold(t *testing.T) {
	g, at := oracleOf(t, "http", "127.0.0.1", holding(backupKey), nil)
	answers := func(want int) {
		t.Helper()
		if got := do(t, "GET", at+"/exists/ns/data", ""); got.err != nil || got.res.StatusCode != want {
			t.Errorf("want %d, found %+v", want, got)
		}
	}
	answers(503)
	const answersOf = `"answers":{"backup":{"status":200,"body":"{}"},"none":{"status":404,"body":"{}"},"unknown":{"status":500,"body":"{}"}}`
	for body, want := range map[string]string{
		`{"question":"/x/{namespace}","bucket":"b","repository":"{pvc}/",` + answersOf + `}`:                                  "question: want a path with {namespace} and {pvc}, each once",
		`{"question":"x/{namespace}/{pvc}","bucket":"b","repository":"{pvc}/",` + answersOf + `}`:                             "question: want a path",
		`{"question":"/{namespace}/{pvc}","repository":"{pvc}/",` + answersOf + `}`:                                           "bucket: want one",
		`{"question":"/{namespace}/{pvc}","bucket":"b","repository":"{pvc}",` + answersOf + `}`:                               "repository: want keys",
		`{"question":"/{namespace}/{pvc}","bucket":"b","repository":"{pvc}/"}`:                                                "answers: want one for backup",
		`{"question":"/{namespace}/{pvc}","bucket":"b","repository":"{pvc}/","answers":{"backup":{"body":"{}"}}}`:             "answers.backup.status: want 200 to 599",
		`{"question":"/{namespace}/{pvc}","bucket":"b","repository":"{pvc}/","answers":{"backup":{"status":200,"body":"{"}}}`: "answers.backup.body: want JSON",
		`{"question":"x","wrong":1}`: "unknown field",
	} {
		if status, text := g.call("PUT", "/oracle", "Bearer "+token, body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: want 400 and %q, found %d %s", body, want, status, text)
		}
	}
	good := `{"question":"/exists/{namespace}/{pvc}","bucket":"b","repository":"{namespace}/{pvc}/",` + answersOf + `}`
	if status, text := g.call("PUT", "/oracle", "Bearer "+token, good); status != 204 {
		t.Fatalf("%d %s", status, text)
	}
	answers(200)
	if status, _ := g.call("DELETE", "/oracle", "Bearer "+token, ""); status != 204 {
		t.Errorf("%d", status)
	}
	answers(503)
	if err := startBefore(t, "127.0.0.1:1", 0).server.SetOracle(asked(nil)); err == nil {
		t.Error("a gateway that does not know where S3 is has an oracle")
	}
}
