package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

const (
	token    = "control-token"
	patience = 10 * time.Second // for what happens at once
)

// lockedBuffer is a Config.Log that can be read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a gateway before some upstream.
type running struct {
	t       testing.TB
	server  *Server
	data    string // ip:port
	control string // ip:port
	log     *lockedBuffer
}

func startBefore(t testing.TB, upstream string, keep int) *running {
	t.Helper()
	return startWith(t, Config{Upstream: &url.URL{Scheme: "http", Host: upstream}, Keep: keep})
}

func startWith(t testing.TB, c Config) *running {
	t.Helper()
	g := &running{t: t, log: &lockedBuffer{}}
	c.Token, c.Log = token, g.log
	server, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	data, control := listen(t), listen(t)
	g.server, g.data, g.control = server, data.Addr().String(), control.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(data, control) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return g
}

func start(t testing.TB, upstream http.HandlerFunc) *running {
	t.Helper()
	s := httptest.NewServer(upstream)
	t.Cleanup(s.Close)
	return startBefore(t, s.Listener.Addr().String(), 0)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// call makes a control request with a raw body and returns status and answer.
func (g *running) call(method, path, auth, body string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.control+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := freshClient().Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (g *running) put(r api.Rule) {
	g.t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		g.t.Fatal(err)
	}
	if status, text := g.call("PUT", "/rules/"+r.ID, "Bearer "+token, string(b)); status != 200 {
		g.t.Fatalf("putting %s: %d %s", b, status, text)
	}
}

func (g *running) heal(id string) {
	g.t.Helper()
	if status, text := g.call("DELETE", "/rules/"+id, "Bearer "+token, ""); status != 204 {
		g.t.Fatalf("healing %s: %d %s", id, status, text)
	}
}

func (g *running) page(query string) api.RecordsPage {
	g.t.Helper()
	status, text := g.call("GET", "/records?"+query, "Bearer "+token, "")
	var p api.RecordsPage
	if err := json.Unmarshal([]byte(text), &p); err != nil || status != 200 {
		g.t.Fatalf("records: %d %s %v", status, text, err)
	}
	return p
}

// record waits until the record of the first request of that path is ok.
func (g *running) record(path string, what string, ok func(api.Record) bool) api.Record {
	g.t.Helper()
	var last []api.Record
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		last = g.page("pathPrefix=" + url.QueryEscape(path)).Records
		if len(last) > 0 && ok(last[0]) {
			return last[0]
		}
	}
	g.t.Fatalf("want a record of %s that is %s, found %+v", path, what, last)
	return api.Record{}
}

func (g *running) done(path string) api.Record {
	g.t.Helper()
	return g.record(path, "done", func(r api.Record) bool { return !r.InFlight })
}

func (g *running) arrived(path string) api.Record {
	g.t.Helper()
	return g.record(path, "in flight", func(r api.Record) bool { return r.InFlight })
}

// freshClient makes a new connection for each request: net/http repeats a
// request by itself when a used one breaks.
func freshClient() *http.Client {
	return &http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// reply is what a client gets to see.
type reply struct {
	res  *http.Response
	body string
	err  error // of the request, or of its reply's body
}

func do(t testing.TB, method, url, body string) reply {
	t.Helper()
	return doBy(t, freshClient(), method, url, body)
}

func doBy(t testing.TB, client *http.Client, method, url, body string) reply {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res: res, body: string(b), err: err}
}

// dialRaw sends raw bytes and returns the connection.
func dialRaw(t testing.TB, addr, raw string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	return c
}

// readHead reads the lines of a head up to and without the empty one.
func readHead(br *bufio.Reader) ([]string, error) {
	var lines []string
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return lines, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}
