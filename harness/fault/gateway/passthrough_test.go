package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// message is a request or reply as it was on the wire. Header names are in
// small letters and sorted: their order and case have no meaning, and
// signatures use neither.
type message struct {
	first   string
	headers []string
	body    string
}

func readMessage(br *bufio.Reader, head bool) (message, error) {
	var m message
	lines, err := readHead(br)
	if err != nil {
		return m, err
	}
	m.first = lines[0]
	length, chunked := 0, false
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		m.headers = append(m.headers, name+": "+value)
		switch name {
		case "content-length":
			if length, err = strconv.Atoi(value); err != nil {
				return m, err
			}
		case "transfer-encoding":
			chunked = value == "chunked"
		}
	}
	slices.Sort(m.headers)
	if head {
		return m, nil
	}
	body := io.LimitReader(br, int64(length))
	if chunked {
		body = httputil.NewChunkedReader(br)
	}
	b, err := io.ReadAll(body)
	m.body = string(b)
	if chunked && err == nil {
		_, err = br.ReadString('\n')
	}
	return m, err
}

// wire is an upstream that shows what it got, byte for byte, and answers with
// given bytes.
type wire struct {
	addr string
	got  chan message
}

func startWire(t *testing.T, answer string) *wire {
	t.Helper()
	l := listen(t)
	w := &wire{addr: l.Addr().String(), got: make(chan message, 10)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(t, c, answer)
		}
	}()
	return w
}

func (w *wire) serve(t *testing.T, c net.Conn, answer string) {
	defer c.Close()
	br := bufio.NewReader(c)
	if expects, err := br.Peek(1); err != nil || len(expects) == 0 {
		return
	}
	// With Expect: 100-continue the body comes only after a 100.
	if peek, _ := br.Peek(br.Buffered()); strings.Contains(strings.ToLower(string(peek)), "100-continue") {
		if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			t.Error(err)
		}
	}
	m, err := readMessage(br, false)
	if err != nil {
		t.Errorf("upstream: %v", err)
		return
	}
	w.got <- m
	if _, err := io.WriteString(c, answer); err != nil {
		t.Error(err)
	}
}

// ask sends a raw request and returns what the upstream and the client got.
func (w *wire) ask(t *testing.T, addr, raw string) (asked, answered message) {
	t.Helper()
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	c := dialRaw(t, addr, head+"\r\n\r\n")
	br := bufio.NewReader(c)
	if strings.Contains(head, "100-continue") {
		lines, err := readHead(br)
		if err != nil || lines[0] != "HTTP/1.1 100 Continue" {
			t.Fatalf("want 100 Continue before the body, found %q %v", lines, err)
		}
	}
	if _, err := io.WriteString(c, body); err != nil {
		t.Fatal(err)
	}
	answered, err := readMessage(br, strings.HasPrefix(raw, "HEAD "))
	if err != nil {
		t.Fatalf("reply: %v, so far %+v", err, answered)
	}
	select {
	case asked = <-w.got:
	case <-time.After(patience):
		t.Fatal("the request did not arrive")
	}
	return asked, answered
}

const signed = "Host: 192.168.10.133:9000\r\n" +
	"User-Agent: MinIO (linux; amd64) minio-go/v7.0.90\r\n" +
	"Authorization: AWS4-HMAC-SHA256 Credential=KEY/20261122/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=abc\r\n" +
	"X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\nX-Amz-Date: 20261122T000000Z\r\n"

const okAnswer = "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nServer: VERSITYGW\r\nETag: \"e\"\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\nhello"

func TestPassThroughIsUnchanged(t *testing.T) {
	for name, c := range map[string]struct{ request, answer string }{
		"get":                  {"GET /b/ns/pvc/config HTTP/1.1\r\n" + signed + "\r\n", okAnswer},
		"put":                  {"PUT /b/ns/pvc/data/00/00ff HTTP/1.1\r\n" + signed + "Content-Length: 9\r\n\r\n\x00\x01binary\xff", okAnswer},
		"empty put":            {"PUT /b/locks HTTP/1.1\r\n" + signed + "Content-Length: 0\r\n\r\n", okAnswer},
		"empty delete":         {"DELETE /b/locks/1 HTTP/1.1\r\n" + signed + "Content-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"},
		"delete":               {"DELETE /b/locks/1 HTTP/1.1\r\n" + signed + "\r\n", "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"},
		"head":                 {"HEAD /b/ns/pvc/config HTTP/1.1\r\n" + signed + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nLast-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\n\r\n"},
		"chunked":              {"PUT /b/k HTTP/1.1\r\n" + signed + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", okAnswer},
		"expect":               {"PUT /b/k HTTP/1.1\r\n" + signed + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", okAnswer},
		"escaped path":         {"GET /b/a%2Fb%20c/%e2%82%AC+~'()!*=&$:@;, HTTP/1.1\r\n" + signed + "\r\n", okAnswer},
		"unescaped path":       {"GET /b/{x}|\"<>^`%5B[] HTTP/1.1\r\n" + signed + "\r\n", okAnswer},
		"unclean path":         {"GET //b/../x//y/./ HTTP/1.1\r\n" + signed + "\r\n", okAnswer},
		"odd query":            {"GET /b/?list-type=2&prefix=ns%2Fpvc%2F&x;y&z=%zz&=&uploads HTTP/1.1\r\n" + signed + "\r\n", okAnswer},
		"empty query":          {"GET /b/k? HTTP/1.1\r\n" + signed + "\r\n", okAnswer},
		"no user agent":        {"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\n", okAnswer},
		"accept encoding":      {"GET /b/k HTTP/1.1\r\nHost: s3\r\nAccept-Encoding: gzip, br\r\n\r\n", okAnswer},
		"forwarded":            {"GET /b/k HTTP/1.1\r\nHost: s3\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: https\r\n\r\n", okAnswer},
		"repeated header":      {"GET /b/k HTTP/1.1\r\nHost: s3\r\nX-Amz-Meta-A: 1\r\nX-Amz-Meta-A: 2\r\nRange: bytes=0-4\r\n\r\n", okAnswer},
		"not found":            {"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nContent-Length: 8\r\n\r\n<Error/>"},
		"bare answer":          {"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"},
		"empty answer":         {"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"chunked answer":       {"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		"compressed answer":    {"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"},
		"partial content":      {"GET /b/k HTTP/1.1\r\nHost: s3\r\nRange: bytes=1-2\r\n\r\n", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\nContent-Length: 2\r\n\r\nbc"},
		"options of the whole": {"OPTIONS * HTTP/1.1\r\nHost: s3\r\n\r\n", okAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWire(t, c.answer)
			g := startBefore(t, w.addr, 0)
			askedDirect, answeredDirect := w.ask(t, w.addr, c.request)
			asked, answered := w.ask(t, g.data, c.request)
			if a, d := fmt.Sprintf("%+q", asked), fmt.Sprintf("%+q", askedDirect); a != d {
				t.Errorf("request\n through %s\n direct  %s", a, d)
			}
			if a, d := fmt.Sprintf("%+q", answered), fmt.Sprintf("%+q", answeredDirect); a != d {
				t.Errorf("reply\n through %s\n direct  %s", a, d)
			}
		})
	}
}

// A path that net/http can't send as it came is not sent at all.
func TestPassThroughRefusesWhatItWouldChange(t *testing.T) {
	g := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the request arrived") })
	c := dialRaw(t, g.data, "GET //b/{x} HTTP/1.1\r\nHost: s3\r\n\r\n")
	if b, err := io.ReadAll(c); err == nil || len(b) > 0 {
		t.Errorf("want a reset, found %q %v", b, err)
	}
	if r := g.done("//b/{x}"); !strings.Contains(r.Error, "unchanged") {
		t.Errorf("want the reason recorded, found %+v", r)
	}
}

// Both bodies flow while the other is still open, and early pieces arrive before
// late ones are sent.
func TestPassThroughStreams(t *testing.T) {
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		buf := make([]byte, 4)
		for range 3 {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				t.Error(err)
				return
			}
			if _, err := w.Write(buf); err != nil {
				t.Error(err)
			}
			_ = rc.Flush()
		}
	})
	c := dialRaw(t, g.data, "PUT /b/k HTTP/1.1\r\nHost: s3\r\nContent-Length: 12\r\n\r\nping")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	buf := make([]byte, 4)
	for i := range 3 {
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != "ping" {
			t.Fatalf("piece %d: %q %v", i, buf, err)
		}
		if i < 2 {
			if _, err := io.WriteString(c, "ping"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r := g.done("/b/k"); r.BytesIn != 12 || r.BytesOut != 12 || r.Status != 200 || r.Error != "" {
		t.Errorf("record %+v", r)
	}
}

// A server that refuses before it has the body is heard.
func TestPassThroughOfAnEarlyReply(t *testing.T) {
	for name, request := range map[string]string{
		"body on its way": "PUT /b/k HTTP/1.1\r\nHost: s3\r\nContent-Length: 100000000\r\n\r\nfirst",
		"expecting":       "PUT /b/k HTTP/1.1\r\nHost: s3\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, "no")
			})
			res, err := http.ReadResponse(bufio.NewReader(dialRaw(t, g.data, request)), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("want 403 at once, found %d", res.StatusCode)
			}
		})
	}
}

// A server that refuses and closes while much of the body is under way, too.
func TestPassThroughOfAnEarlyReplyAndClose(t *testing.T) {
	l := listen(t)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = readHead(bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			c.Close()
		}
	}()
	g := startBefore(t, l.Addr().String(), 0)
	for i := range 20 {
		c := dialRaw(t, g.data, "PUT /b/k HTTP/1.1\r\nHost: s3\r\nContent-Length: 8000000\r\n\r\n")
		go func() { _, _ = c.Write(make([]byte, 8_000_000)) }()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("request %d: %v, %+v", i, err, g.page("").Records)
		}
		if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusForbidden || string(b) != "no" {
			t.Errorf("request %d: want 403 no, found %d %q %v", i, res.StatusCode, b, err)
		}
		c.Close()
	}
}

func TestUpstreamFailuresAreResets(t *testing.T) {
	gone := listen(t)
	gone.Close()
	breaks := startWire(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
	closes := startWire(t, "")
	for name, c := range map[string]struct {
		upstream, body, note string
		status               int
	}{
		"not there":         {gone.Addr().String(), "", "connection refused", 0},
		"closes":            {closes.addr, "", "EOF", 0},
		"breaks off a body": {breaks.addr, "abc", "the reply broke off: unexpected EOF", 200},
	} {
		t.Run(name, func(t *testing.T) {
			g := startBefore(t, c.upstream, 0)
			got := do(t, "POST", "http://"+g.data+"/b/k?X-Amz-Signature=secret", "x")
			if !isReset(got.err) || got.body != c.body {
				t.Errorf("want %q and a reset, found %q and %v", c.body, got.body, got.err)
			}
			if r := g.done("/b/k"); r.Status != c.status || !strings.Contains(r.Error, c.note) || strings.Contains(r.Error, "secret") {
				t.Errorf("want status %d and %q, found %+v", c.status, c.note, r)
			}
		})
	}
}
