package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

const object = "the whole of the object"

func serveObject(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Length", "23")
	w.Header().Set("ETag", `"e"`)
	_, _ = io.WriteString(w, object)
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func TestFaultsAsSeenByAClient(t *testing.T) {
	is := func(status int, contentType, body string) func(*testing.T, reply) {
		return func(t *testing.T, got reply) {
			t.Helper()
			if got.err != nil {
				t.Fatal(got.err)
			}
			if s, ct := got.res.StatusCode, got.res.Header.Get("Content-Type"); s != status || ct != contentType || !strings.Contains(got.body, body) {
				t.Errorf("want %d %q with %q, found %d %q %q", status, contentType, body, s, ct, got.body)
			}
			if body == "" && got.body != "" {
				t.Errorf("want no body, found %q", got.body)
			}
		}
	}
	breaks := func(how func(error) bool, body string) func(*testing.T, reply) {
		return func(t *testing.T, got reply) {
			t.Helper()
			if !how(got.err) || got.body != body {
				t.Errorf("want %q and a break, found %q and %v", body, got.body, got.err)
			}
		}
	}
	tried := map[string]bool{"hang": true, "says": true} // by TestHang and TestAnOracleThatIsWrong
	for name, c := range map[string]struct {
		fault  api.Fault
		method string // GET
		body   string // of the request
		see    func(*testing.T, reply)
		status int // recorded
		raw    int64
		ended  string
		note   string
	}{
		"400":        {fault: api.Fault{Kind: "status", Status: 400}, see: is(400, "application/xml", "<Code>InvalidRequest</Code>"), status: 400},
		"401":        {fault: api.Fault{Kind: "status", Status: 401}, see: is(401, "application/xml", "<Code>AccessDenied</Code>"), status: 401},
		"403":        {fault: api.Fault{Kind: "status", Status: 403}, see: is(403, "application/xml", "<Code>AccessDenied</Code>"), status: 403},
		"404 key":    {fault: api.Fault{Kind: "status", Status: 404}, see: is(404, "application/xml", "<Code>NoSuchKey</Code>"), status: 404},
		"404 bucket": {fault: api.Fault{Kind: "status", Status: 404, Code: "NoSuchBucket"}, see: is(404, "application/xml", "<Code>NoSuchBucket</Code>"), status: 404},
		"429":        {fault: api.Fault{Kind: "status", Status: 429}, see: is(429, "application/xml", "<Code>SlowDown</Code>"), status: 429},
		"500":        {fault: api.Fault{Kind: "status", Status: 500}, see: is(500, "application/xml", "<Code>InternalError</Code>"), status: 500},
		"502":        {fault: api.Fault{Kind: "status", Status: 502, Body: "<h1>", ContentType: "text/html"}, see: is(502, "text/html", "<h1>"), status: 502},
		"503 with headers": {fault: api.Fault{Kind: "status", Status: 503, Headers: map[string]string{"Retry-After": "7"}}, status: 503, see: func(t *testing.T, got reply) {
			is(503, "application/xml", "SlowDown")(t, got)
			wantHeader(t, got, "Retry-After", "7")
		}},
		"504":           {fault: api.Fault{Kind: "status", Status: 504}, see: is(504, "application/xml", "<Code>GatewayTimeout</Code>"), status: 504},
		"204":           {fault: api.Fault{Kind: "status", Status: 204}, see: is(204, "", ""), status: 204},
		"403 of a head": {fault: api.Fault{Kind: "status", Status: 403}, method: "HEAD", see: is(403, "application/xml", ""), status: 403},
		"503 of a put":  {fault: api.Fault{Kind: "status", Status: 503}, method: "PUT", body: strings.Repeat("x", 5<<20), see: is(503, "application/xml", "SlowDown"), status: 503},
		"redirect": {fault: api.Fault{Kind: "redirect", Status: 307, Location: "http://elsewhere/x"}, status: 307, see: func(t *testing.T, got reply) {
			is(307, "", "")(t, got)
			wantHeader(t, got, "Location", "http://elsewhere/x")
		}},
		"reset":             {fault: api.Fault{Kind: "reset"}, see: breaks(isReset, ""), ended: api.EndedReset},
		"reset of a put":    {fault: api.Fault{Kind: "reset"}, method: "PUT", body: "hello", see: breaks(isReset, ""), ended: api.EndedReset},
		"reset in the head": {fault: api.Fault{Kind: "reset-head"}, see: breaks(func(err error) bool { return isReset(err) || isEOF(err) }, ""), raw: 34, ended: api.EndedReset},
		"tls": {fault: api.Fault{Kind: "tls"}, see: breaks(func(err error) bool {
			return err != nil && strings.Contains(err.Error(), `malformed HTTP response "\x15\x03\x01`)
		}, ""), raw: 7, ended: api.EndedClosed},
		"slow":            {fault: api.Fault{Kind: "slow", DelayMillis: 30}, see: is(200, "text/plain; charset=utf-8", object), status: 200},
		"throttle":        {fault: api.Fault{Kind: "throttle", KilobytesPerSecond: 1000}, method: "PUT", body: "hello", see: is(200, "text/plain; charset=utf-8", object), status: 200},
		"absent":          {fault: api.Fault{Kind: "absent"}, see: is(404, "application/xml", "<Code>NoSuchKey</Code>"), status: 404},
		"absent of a put": {fault: api.Fault{Kind: "absent"}, method: "PUT", body: "hello", see: is(200, "text/plain; charset=utf-8", object), status: 200},
		"list-first":      {fault: api.Fault{Kind: "list-first"}, see: is(200, "text/plain; charset=utf-8", object), status: 200},
		"empty-200":       {fault: api.Fault{Kind: "empty-200"}, see: is(200, "", ""), status: 200},
		"html-200":        {fault: api.Fault{Kind: "html-200"}, see: is(200, "text/html; charset=utf-8", "Sign in"), status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, serveObject)
			g.put(api.Rule{ID: "f", Fault: c.fault})
			if c.method == "" {
				c.method = "GET"
			}
			c.see(t, do(t, c.method, "http://"+g.data+"/b/k", c.body))
			if c.fault.Kind != "tls" { // over TLS as in plain
				secure, client := secured(t, serveObject)
				secure.put(api.Rule{ID: "f", Fault: c.fault})
				c.see(t, doBy(t, client, c.method, "https://"+secure.data+"/b/k", c.body))
			}
			r := g.done("/b/k")
			if r.Status != c.status || r.Rule != "f" || !strings.Contains(r.Error, c.note) || (c.note == "" && r.Error != "") {
				t.Errorf("want status %d, rule f, error %q, found %+v", c.status, c.note, r)
			}
			if r.RawBytes != c.raw || r.Ended != c.ended {
				t.Errorf("want %d bytes that are no reply, and %q, found %+v", c.raw, c.ended, r)
			}
		})
		tried[c.fault.Kind] = true
	}
	for name, kind := range kinds {
		if !tried[name] && !kind.beforeRequests() { // those are tried by TestHandshakes and TestQuestionsForTheName
			t.Errorf("the kind %q has no case here: add one", name)
		}
	}
}

// A listing that lags behind names what was stored first, and says that it is whole.
func TestAListingOfTheFirst(t *testing.T) {
	const head = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	const namespace = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
	contents := func(key, at string) string {
		return "<Contents><Key>" + key + "</Key><LastModified>" + at + `</LastModified><ETag>"e"</ETag><Size>7</Size></Contents>`
	}
	older, newer := contents("p/b", "2026-11-01T00:00:00.000Z"), contents("p/a", "2026-11-01T00:00:01Z")
	for name, c := range map[string]struct {
		answer, want, without string
		status                int
		note                  string
	}{
		"the first of two":    {head + "<ListBucketResult" + namespace + "><Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>" + newer + older + "</ListBucketResult>", "<EncodingType>url</EncodingType><KeyCount>1</KeyCount><MaxKeys>0</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>p/b</Key>", "p/a", 200, ""},
		"without a namespace": {"<ListBucketResult>" + older + newer + "</ListBucketResult>", "<Key>p/b</Key>", "p/a", 200, ""},
		"of one":              {"<ListBucketResult>" + newer + "</ListBucketResult>", "<Key>p/a</Key>", "p/b", 200, ""},
		"of none":             {"<ListBucketResult><Prefix>p/</Prefix></ListBucketResult>", "<KeyCount>0</KeyCount>", "<Contents>", 200, ""},
		"an error":            {"<Error><Code>AccessDenied</Code></Error>", "<Error><Code>AccessDenied</Code></Error>", "ListBucketResult", 403, ""},
		"no XML":              {"hello", "hello", "ListBucketResult", 200, "shortening the listing"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.answer)
			})
			g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "list-first"}})
			got := do(t, "GET", "http://"+g.data+"/b/?list-type=2&prefix=p/", "")
			if got.err != nil || got.res.StatusCode != c.status || !strings.Contains(got.body, c.want) || strings.Contains(got.body, c.without) {
				t.Errorf("want %d with %q and without %q, found %q, %v", c.status, c.want, c.without, got.body, got.err)
			}
			if r := g.done("/b/"); r.Rule != "f" || !strings.Contains(r.Error, c.note) || c.note == "" && r.Error != "" {
				t.Errorf("recorded %+v, wanted %q", r, c.note)
			}
			g.put(api.Rule{ID: "f", About: api.AboutObjects, Fault: api.Fault{Kind: "list-first"}})
			if got := do(t, "GET", "http://"+g.data+"/b/?list-type=2&prefix=p/", ""); got.body != c.answer {
				t.Errorf("without the fault: %q", got.body)
			}
		})
	}
}

// A reply that is written past net/http is recorded as a client reads it.
func TestRecordOfWhatIsWrittenRaw(t *testing.T) {
	for name, c := range map[string]struct {
		raw               string
		status, out, raws int64
	}{
		"a whole reply":            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, 3, 0},
		"of the wrong length":      {"HTTP/1.1 200 OK\r\nContent-Length: 155\r\n\r\nabc", 200, 3, 0},
		"without a body":           {"HTTP/1.1 503 Slow Down\r\n\r\n", 503, 0, 0},
		"part of a head":           {"HTTP/1.1 200 OK\r\nContent-Le", 0, 0, 27},
		"no HTTP, with empty line": {"hello\r\n\r\n", 0, 0, 9},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/b/k", nil)
			x := &exchange{r: r, entry: newBook(1, io.Discard).start(r, "", "/b/k", "f")}
			server, client := net.Pipe()
			read := make(chan string)
			go func() {
				b, _ := io.ReadAll(client)
				read <- string(b)
			}()
			x.say(server, []byte(c.raw))
			_ = server.Close()
			if got := <-read; got != c.raw {
				t.Errorf("want %q on the wire, found %q", c.raw, got)
			}
			got := x.entry.snapshot()
			if int64(got.Status) != c.status || got.BytesOut != c.out || got.RawBytes != c.raws {
				t.Errorf("want status %d, %d bytes of a body and %d of no reply, found %+v", c.status, c.out, c.raws, got)
			}
		})
	}
}

func TestAListingOfWhatIsAbsentIsEmpty(t *testing.T) {
	g := start(t, serveObject)
	g.put(api.Rule{ID: "f", PathPrefix: "/b/ns/", Fault: api.Fault{Kind: "absent"}})
	got := do(t, "GET", "http://"+g.data+"/b/?list-type=2&prefix=ns%2Fp%26q%2F", "")
	if got.err != nil {
		t.Fatal(got.err)
	}
	for _, want := range []string{"<ListBucketResult xmlns=", "<Name>b</Name>", "<Prefix>ns/p&amp;q/</Prefix>", "<KeyCount>0</KeyCount>", "<IsTruncated>false</IsTruncated>"} {
		if got.res.StatusCode != 200 || !strings.Contains(got.body, want) || strings.Contains(got.body, "<Contents>") {
			t.Errorf("want 200 and %s, and nothing listed; found %d and %s", want, got.res.StatusCode, got.body)
		}
	}
	if got := do(t, "GET", "http://"+g.data+"/b/?list-type=2&prefix=other%2F", ""); got.body != object {
		t.Errorf("a listing of something else: %q", got.body)
	}
}

func wantHeader(t *testing.T, got reply, name, want string) {
	t.Helper()
	if v := got.res.Header.Get(name); v != want {
		t.Errorf("want %s: %s, found %q", name, want, v)
	}
}

// A client that asked first learns of the refusal without sending its body.
func TestStatusAnswersAnExpectingClient(t *testing.T) {
	g := start(t, serveObject)
	g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "status", Status: 403}})
	c := dialRaw(t, g.data, "PUT /b/k HTTP/1.1\r\nHost: s3\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 403 {
		t.Errorf("want 403 at once, found %d", res.StatusCode)
	}
}

// The bytes before the end are on the client's side when the end comes, also of
// a client that is still sending.
func TestLastBytesAreDelivered(t *testing.T) {
	for kind, c := range map[string]struct {
		want string
		ends func(error) bool
	}{
		"reset-head": {"HTTP/1.1 200 OK\r\nContent-Type: bin", isReset},
		"tls":        {"\x15\x03\x01\x00\x02\x02\x0a", func(err error) bool { return err == nil }},
	} {
		g := start(t, serveObject)
		g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: kind}})
		conn := dialRaw(t, g.data, "PUT /b/k HTTP/1.1\r\nHost: s3\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 100_000))
		if b, err := io.ReadAll(conn); string(b) != c.want || !c.ends(err) {
			t.Errorf("%s: want %q, found %q %v", kind, c.want, b, err)
		}
		if r := g.record("/b/k", "noted", func(r api.Record) bool { return r.Rule == "f" }); r.Status != 0 {
			t.Errorf("%s: want no status, found %+v", kind, r)
		}
	}
}

func TestHang(t *testing.T) {
	for name, c := range map[string]struct {
		onHeal, method, body string
		end                  func(*running, net.Conn)
		wantReply            string // how it begins; "": reset
		note                 string
		upstreamHits         int
	}{
		"reset when healed":            {method: "GET", end: func(g *running, _ net.Conn) { g.heal("f") }, note: "reset when the rule ended"},
		"reset of a put":               {method: "PUT", body: "hello", onHeal: "reset", end: func(g *running, _ net.Conn) { g.heal("f") }, note: "reset when the rule ended"},
		"answer when healed":           {method: "GET", onHeal: "answer", end: func(g *running, _ net.Conn) { g.heal("f") }, wantReply: "HTTP/1.1 200 OK", upstreamHits: 1},
		"answer of a put":              {method: "PUT", body: "hello", onHeal: "answer", end: func(g *running, _ net.Conn) { g.heal("f") }, wantReply: "HTTP/1.1 200 OK", upstreamHits: 1},
		"the rule is replaced":         {method: "GET", end: func(g *running, _ net.Conn) { g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "reset"}}) }, note: "reset when the rule ended"},
		"the client goes":              {method: "GET", onHeal: "answer", end: func(_ *running, c net.Conn) { c.Close() }, note: "the client went while it was held"},
		"the client goes from its put": {method: "PUT", body: "hello", onHeal: "answer", end: func(_ *running, c net.Conn) { c.Close() }, note: "the client went while it was held"},
	} {
		t.Run(name, func(t *testing.T) {
			hits := make(chan string, 10)
			g := start(t, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				hits <- string(b)
				serveObject(w, r)
			})
			g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "hang", OnHeal: c.onHeal}})
			conn := dialRaw(t, g.data, c.method+" /b/k HTTP/1.1\r\nHost: s3\r\nConnection: close\r\nContent-Length: "+string(rune('0'+len(c.body)))+"\r\n\r\n"+c.body)
			if r := g.arrived("/b/k"); r.Status != 0 || r.Rule != "f" || r.Seq != 1 {
				t.Errorf("in flight: %+v", r)
			}
			if len(hits) > 0 {
				t.Error("the request was passed on while held")
			}
			c.end(g, conn)
			if r := g.done("/b/k"); r.Error != c.note {
				t.Errorf("want error %q, found %+v", c.note, r)
			}
			if len(hits) != c.upstreamHits {
				t.Errorf("want %d requests at the real server, found %d", c.upstreamHits, len(hits))
			} else if c.upstreamHits > 0 {
				if b := <-hits; b != c.body {
					t.Errorf("want body %q, found %q", c.body, b)
				}
			}
			b, err := io.ReadAll(conn)
			switch {
			case errors.Is(err, net.ErrClosed): // we went
			case c.wantReply == "" && !isReset(err):
				t.Errorf("want a reset, found %q %v", b, err)
			case c.wantReply != "" && (err != nil || !strings.HasPrefix(string(b), c.wantReply)):
				t.Errorf("want %q, found %q %v", c.wantReply, b, err)
			}
		})
	}
}

// Healing ends a long delay and a tight throttle at once.
func TestHealingFreesWhatIsUnderWay(t *testing.T) {
	for name, fault := range map[string]api.Fault{
		"slow":     {Kind: "slow", DelayMillis: 3_600_000},
		"throttle": {Kind: "throttle", KilobytesPerSecond: 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, serveObject)
			g.put(api.Rule{ID: "f", Fault: fault})
			got := make(chan reply, 1)
			go func() { got <- do(t, "GET", "http://"+g.data+"/b/k", "") }()
			g.arrived("/b/k")
			g.heal("f")
			if r := <-got; r.err != nil || r.body != object {
				t.Errorf("want the object, found %q %v", r.body, r.err)
			}
		})
	}
}

func TestSlowEndsWithTheClient(t *testing.T) {
	g := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the request was passed on") })
	g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "slow", DelayMillis: 3_600_000}})
	c := dialRaw(t, g.data, "PUT /b/k HTTP/1.1\r\nHost: s3\r\nContent-Length: 5\r\n\r\nhello")
	g.arrived("/b/k")
	c.Close()
	if r := g.done("/b/k"); r.Error != "the client went while it was held" {
		t.Errorf("record %+v", r)
	}
}

// The rate is that of all readers of a rule together. Virtual time.
func TestThrottleRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, readers, size = 1000, 3, 2000
		var rules ruleSet
		if _, err := rules.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "throttle", KilobytesPerSecond: rate / 1000}}); err != nil {
			t.Fatal(err)
		}
		began, done := time.Now(), make(chan error)
		for range readers {
			go func() {
				n, err := io.Copy(io.Discard, lineReader{strings.NewReader(strings.Repeat("x", size)), rules.rules[0]})
				if err == nil && n != size {
					err = io.ErrShortWrite
				}
				done <- err
			}()
		}
		for range readers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took, want := time.Since(began), readers*size*time.Second/rate; (took - want).Abs() > time.Microsecond {
			t.Errorf("want %s, found %s", want, took)
		}
		rules.remove(func(*activeRule) bool { return true })
	})
}

func TestRuleSelectors(t *testing.T) {
	for name, c := range map[string]struct {
		rule           api.Rule
		method, target string
		want           bool
	}{
		"all":                         {api.Rule{}, "GET", "/b/ns/pvc/config", true},
		"prefix":                      {api.Rule{PathPrefix: "/b/ns/pvc/"}, "GET", "/b/ns/pvc/config", true},
		"other prefix":                {api.Rule{PathPrefix: "/b/ns/pvc/"}, "GET", "/b/ns/pvc2/config", false},
		"prefix is escaped":           {api.Rule{PathPrefix: "/b/a%2Fb"}, "GET", "/b/a%2Fb", true},
		"prefix is not unescaped":     {api.Rule{PathPrefix: "/b/a/b"}, "GET", "/b/a%2Fb", false},
		"query is not path":           {api.Rule{PathPrefix: "/b/k?"}, "GET", "/b/k?x", false},
		"listing":                     {api.Rule{PathPrefix: "/b/ns/pvc/"}, "GET", "/b/?list-type=2&prefix=ns%2Fpvc%2Fsnapshots%2F", true},
		"listing without slash":       {api.Rule{PathPrefix: "/b/ns/pvc/"}, "GET", "/b?prefix=ns/pvc/", true},
		"other listing":               {api.Rule{PathPrefix: "/b/ns/pvc/"}, "GET", "/b/?prefix=ns%2Fother%2F", false},
		"prefix parameter of objects": {api.Rule{PathPrefix: "/b/ns/pvc/"}, "GET", "/b/x?prefix=ns/pvc/", false},
		"method":                      {api.Rule{Methods: []string{"PUT", "DELETE"}}, "PUT", "/", true},
		"other method":                {api.Rule{Methods: []string{"PUT", "DELETE"}}, "GET", "/", false},
		"anybody":                     {api.Rule{Auth: []string{api.AuthNone}}, "GET", "/", true},
		"anybody, of movers":          {api.Rule{Auth: []string{api.AuthAWS4}}, "GET", "/", false},
		"presigned":                   {api.Rule{Auth: []string{api.AuthBasic, api.AuthAWS4}}, "GET", "/?X-Amz-Signature=x", true},
		"presigned, of anybody":       {api.Rule{Auth: []string{api.AuthNone}}, "GET", "/?X-Amz-Signature=x", false},
		"this client":                 {api.Rule{Clients: []string{"10.0.0.1", "192.0.2.1"}}, "GET", "/", true},
		"another client":              {api.Rule{Clients: []string{"192.0.2.10"}}, "GET", "/", false},
		"an object":                   {api.Rule{About: api.AboutObjects}, "GET", "/b/k?x=y", true},
		"an object, of listings":      {api.Rule{About: api.AboutListings}, "GET", "/b/k?prefix=k", false},
		"a listing":                   {api.Rule{About: api.AboutListings, PathPrefix: "/b/ns/"}, "GET", "/b/?list-type=2&prefix=ns%2Fp", true},
		"a listing of all":            {api.Rule{About: api.AboutListings}, "GET", "/b", true},
		"a listing of the old kind":   {api.Rule{About: api.AboutListings}, "GET", "/b/?max-keys=1", true},
		"a listing, of objects":       {api.Rule{About: api.AboutObjects}, "GET", "/b/?prefix=ns%2Fp", false},
		"where it is, of listings":    {api.Rule{About: api.AboutListings}, "GET", "/b/?location=", false},
		"where it is, of objects":     {api.Rule{About: api.AboutObjects}, "GET", "/b/?location=", false},
		"made, of listings":           {api.Rule{About: api.AboutListings}, "PUT", "/b", false},
		"one of two fits":             {api.Rule{PathPrefix: "/b", Methods: []string{"PUT"}}, "GET", "/b", false},
	} {
		t.Run(name, func(t *testing.T) {
			var rules ruleSet
			rules.rules = []*activeRule{{Rule: c.rule}}
			r := httptest.NewRequest(c.method, c.target, nil)
			if got := rules.match(r, "", resource(r)) != nil; got != c.want {
				t.Errorf("want %v, found %v", c.want, got)
			}
		})
	}
}

// Selection from end to end: the newest fitting rule acts alone, others pass.
func TestSelectionOverTheWire(t *testing.T) {
	g := start(t, serveObject)
	g.put(api.Rule{ID: "all", PathPrefix: "/b/", Fault: api.Fault{Kind: "status", Status: 500}})
	g.put(api.Rule{ID: "one", PathPrefix: "/b/ns/pvc/", Fault: api.Fault{Kind: "status", Status: 403}})
	g.put(api.Rule{ID: "nobody", Auth: []string{api.AuthBasic}, Fault: api.Fault{Kind: "status", Status: 400}})
	see := func(when, path string, want int) {
		t.Helper()
		if got := do(t, "GET", "http://"+g.data+path, ""); got.err != nil || got.res.StatusCode != want {
			t.Errorf("%s: GET %s: want %d, found %+v", when, path, want, got)
		}
	}
	see("newest first", "/b/ns/pvc/config", 403)
	see("older", "/b/ns/other/config", 500)
	see("none", "/elsewhere", 200)
	g.put(api.Rule{ID: "all", PathPrefix: "/b/", Fault: api.Fault{Kind: "status", Status: 502}})
	see("a rule put again is the newest", "/b/ns/pvc/config", 502)
	g.put(api.Rule{ID: "here", Auth: []string{api.AuthNone}, Fault: api.Fault{Kind: "status", Status: 409}})
	see("by credentials", "/elsewhere", 409)
	g.heal("here")
	g.heal("all")
	g.heal("all") // again: no error
	see("healed", "/b/ns/pvc/config", 403)
	var acted []string
	for _, r := range g.page("").Records {
		acted = append(acted, r.Rule)
	}
	if want := []string{"one", "all", "", "all", "here", "one"}; !slices.Equal(acted, want) {
		t.Errorf("by the records acted %q, want %q", acted, want)
	}
}

// Virtual time.
func TestRulesEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rules ruleSet
		began := time.Now()
		for _, r := range []api.Rule{{ID: "short", TTLSeconds: 7}, {ID: "default"}, {ID: "long", TTLSeconds: api.MaxTTLSeconds}, {ID: "again", TTLSeconds: 1}} {
			r.Fault = api.Fault{Kind: "reset"}
			if _, err := rules.put(r); err != nil {
				t.Fatal(err)
			}
		}
		// Put again: the first time's end must not end the second.
		if _, err := rules.put(api.Rule{ID: "again", TTLSeconds: 10, Fault: api.Fault{Kind: "reset"}}); err != nil {
			t.Fatal(err)
		}
		want := map[string]time.Duration{"short": 7, "again": 10, "default": api.DefaultTTLSeconds, "long": api.MaxTTLSeconds}
		rules.mu.Lock()
		inForce := slices.Clone(rules.rules)
		rules.mu.Unlock()
		var watch sync.WaitGroup
		for _, a := range inForce {
			watch.Go(func() {
				<-a.healed
				if took := time.Since(began); took != want[a.ID]*time.Second {
					t.Errorf("rule %s: want an end after %ds, found %s", a.ID, want[a.ID], took)
				}
			})
		}
		watch.Wait()
		if n := len(rules.list().Rules); n != 0 {
			t.Errorf("want no rule left, found %d", n)
		}
	})
}

// The same over the wire, in the shortest real time.
func TestTTLFreesAHangingRequest(t *testing.T) {
	g := start(t, serveObject)
	g.put(api.Rule{ID: "f", TTLSeconds: 1, Fault: api.Fault{Kind: "hang", OnHeal: "answer"}})
	if got := do(t, "GET", "http://"+g.data+"/b/k", ""); got.err != nil || got.body != object {
		t.Errorf("want the object late, found %q %v", got.body, got.err)
	}
	if r := g.done("/b/k"); r.DurationMillis < 500 {
		t.Errorf("want about a second, found %v ms", r.DurationMillis)
	}
}
