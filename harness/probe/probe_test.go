package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serve answers each connection to a fresh port of 127.0.0.1 with handle, which closes it, and returns host:port.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go handle(conn.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

// readRequest reads up to the end of the header.
func readRequest(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return
		}
	}
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

func handler(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func httpServer(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func tlsServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler(200, "ok"))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func TestDo(t *testing.T) {
	closed := serve(t, reset)
	refused := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}()
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	hang := func(conn *net.TCPConn) {
		defer conn.Close()
		<-done
	}
	alert := func(conn *net.TCPConn) {
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 64<<10))                              // all of a small request, or a ClientHello
		_, _ = conn.Write([]byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a}) // fatal, unexpected_message
	}
	asHTTPS := func(url string) string { return "https" + strings.TrimPrefix(url, "http") }
	asHTTP := func(url string) string { return "http" + strings.TrimPrefix(url, "https") }

	for name, tc := range map[string]struct {
		url    string
		method string
		want   Result // Error and Millis aside
	}{
		"ok": {
			url: httpServer(t, handler(200, "hello", "Content-Type", "text/plain", "Server", "test", "X-Other", "1")),
			want: Result{Status: 200, Class: OK, Bytes: 5,
				Headers: map[string]string{"Content-Type": "text/plain", "Server": "test"}},
		},
		"ok without a body": {
			url:  httpServer(t, handler(200, "")),
			want: Result{Status: 200, Class: OK},
		},
		"a listing": {
			url: httpServer(t, handler(200, `<?xml version="1.0"?><ListBucketResult xmlns="x"><Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></ListBucketResult>`,
				"Content-Type", "application/xml")),
			want: Result{Status: 200, Class: OK, Bytes: 134, Lists: true, Keys: 2, Headers: map[string]string{"Content-Type": "application/xml"}},
		},
		"a listing of nothing": {
			url:  httpServer(t, handler(200, `<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>`, "Content-Type", "application/xml")),
			want: Result{Status: 200, Class: OK, Bytes: 59, Lists: true, Headers: map[string]string{"Content-Type": "application/xml"}},
		},
		"HEAD": {
			url:    httpServer(t, handler(200, "hello", "Content-Type", "text/plain")),
			method: "HEAD",
			want:   Result{Status: 200, Class: OK, Headers: map[string]string{"Content-Type": "text/plain"}},
		},
		"403": {
			url: httpServer(t, handler(403, "<Error/>", "Content-Type", "application/xml")),
			want: Result{Status: 403, Class: HTTP, Bytes: 8,
				Headers: map[string]string{"Content-Type": "application/xml"}},
		},
		"redirect": {
			url: httpServer(t, handler(302, "", "Location", "http://127.0.0.1:1/elsewhere")),
			want: Result{Status: 302, Class: HTTP,
				Headers: map[string]string{"Location": "http://127.0.0.1:1/elsewhere"}},
		},
		"redirect to nowhere": {
			url:  httpServer(t, handler(301, "")),
			want: Result{Status: 301, Class: HTTP},
		},
		"204": {
			url:  httpServer(t, handler(204, "")),
			want: Result{Status: 204, Class: HTTP},
		},
		"refused":             {url: "http://" + refused, want: Result{Class: Refused}},
		"refused, https":      {url: "https://" + refused, want: Result{Class: Refused}},
		"reset at once":       {url: "http://" + closed, want: Result{Class: Reset}},
		"reset at once, TLS":  {url: "https://" + closed, want: Result{Class: Reset}},
		"never answers":       {url: "http://" + serve(t, hang), want: Result{Class: Timeout}},
		"never answers, TLS":  {url: "https://" + serve(t, hang), want: Result{Class: Timeout}},
		"HTTP where TLS":      {url: asHTTPS(httpServer(t, handler(200, "ok"))), want: Result{Class: TLS}},
		"unknown certificate": {url: tlsServer(t), want: Result{Class: TLS}},
		"TLS alert where TLS": {url: "https://" + serve(t, alert), want: Result{Class: TLS}},
		"TLS where HTTP":      {url: "http://" + serve(t, alert), want: Result{Class: TLS}},
		"TLS where HTTP, Go's server says so in HTTP": {
			url:  asHTTP(tlsServer(t)),
			want: Result{Status: 400, Class: HTTP, Bytes: 48},
		},
		"TLS where HTTP, then reset": {
			url: "http://" + serve(t, func(conn *net.TCPConn) {
				_, _ = conn.Write([]byte{0x15, 0x03, 0x01})
				readRequest(conn)
				reset(conn)
			}),
			want: Result{Class: TLS},
		},
		"reset before the reply": {
			url: "http://" + serve(t, func(conn *net.TCPConn) {
				readRequest(conn)
				reset(conn)
			}),
			want: Result{Class: Reset},
		},
		"closed before the reply": {
			url: "http://" + serve(t, func(conn *net.TCPConn) {
				readRequest(conn)
				conn.Close()
			}),
			want: Result{Class: EOF},
		},
		"closed in the middle of the header": {
			url: "http://" + serve(t, func(conn *net.TCPConn) {
				readRequest(conn)
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-")
				conn.Close()
			}),
			want: Result{Class: EOF},
		},
		"closed in the middle of the body": {
			url: "http://" + serve(t, func(conn *net.TCPConn) {
				readRequest(conn)
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234")
				conn.Close()
			}),
			want: Result{Status: 200, Class: EOF, Bytes: 4},
		},
		"hangs in the middle of the body": {
			url: "http://" + serve(t, func(conn *net.TCPConn) {
				readRequest(conn)
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234")
				hang(conn)
			}),
			want: Result{Status: 200, Class: Timeout, Bytes: 4},
		},
		"not HTTP": {
			url: "http://" + serve(t, func(conn *net.TCPConn) {
				readRequest(conn)
				fmt.Fprint(conn, "220 mail.example ESMTP\r\n\r\n")
				conn.Close()
			}),
			want: Result{Class: Other},
		},
		// Never asked of a resolver, because no name may have an empty label.
		"no such name": {url: "http://no..such.name/", want: Result{Class: DNS}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Only what hangs waits for all of it.
			limit := 10 * time.Second
			if tc.want.Class == Timeout {
				limit = 200 * time.Millisecond
			}
			got, err := Do(context.Background(), Request{URL: tc.url, Method: tc.method, Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			if got.Class != tc.want.Class || got.Status != tc.want.Status || got.Bytes != tc.want.Bytes || got.URL != tc.url {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if (got.Error == "") != (got.Class == OK || got.Class == HTTP) {
				t.Errorf("class %s with error %q", got.Class, got.Error)
			}
			for name, value := range tc.want.Headers {
				if got.Headers[name] != value {
					t.Errorf("%s is %q, want %q", name, got.Headers[name], value)
				}
			}
			if _, ok := got.Headers["X-Other"]; ok {
				t.Errorf("headers %v have what nobody asked for", got.Headers)
			}
			if got.Millis <= 0 || got.Class == Timeout && got.Millis < 200 {
				t.Errorf("took %v ms", got.Millis)
			}
		})
	}
}

func TestDoFollowsRedirects(t *testing.T) {
	page := httpServer(t, handler(200, "<html>", "Content-Type", "text/html"))
	to := func(status int, location string) string {
		return httpServer(t, handler(status, "", "Location", location))
	}
	tlsWhereHTTP := serve(t, func(conn *net.TCPConn) {
		defer conn.Close()
		readRequest(conn)
		_, _ = conn.Write([]byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a})
	})
	var loop string
	loop = httpServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, loop, http.StatusFound) }))
	for name, tc := range map[string]struct {
		url       string
		class     Class
		status    int
		redirects []int
	}{
		"none":                {page, OK, 200, nil},
		"one":                 {to(301, page), OK, 200, []int{301}},
		"relative":            {httpServer(t, relative(page)), OK, 200, []int{302}},
		"two":                 {to(301, to(302, page)), OK, 200, []int{301, 302}},
		"to a refusal":        {to(302, "http://127.0.0.1:1/"), Refused, 0, []int{302}},
		"to no such name":     {to(302, "http://no..such.name/"), DNS, 0, []int{302}},
		"to TLS":              {to(302, "http://"+tlsWhereHTTP), TLS, 0, []int{302}},
		"to a bad cert":       {to(302, tlsServer(t)), TLS, 0, []int{302}},
		"to an error":         {to(302, httpServer(t, handler(503, ""))), HTTP, 503, []int{302}},
		"round and round":     {loop, Other, 0, []int{302, 302, 302, 302, 302, 302, 302, 302, 302, 302}},
		"to nowhere":          {httpServer(t, handler(301, "")), HTTP, 301, nil},
		"that is no redirect": {httpServer(t, handler(304, "")), HTTP, 304, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Do(context.Background(), Request{URL: tc.url, Timeout: 10 * time.Second, Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			if got.Class != tc.class || got.Status != tc.status || !slices.Equal(got.Redirects, tc.redirects) || got.URL != tc.url {
				t.Errorf("got %+v, want %+v", got, tc)
			}
			if strings.Contains(got.Error, tc.url) {
				t.Errorf("the error has the URL: %s", got.Error)
			}
		})
	}
}

// relative redirects to a path of the same host, where there is what page has.
func relative(page string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			http.Error(w, page, http.StatusOK)
			return
		}
		w.Header().Set("Location", "/page")
		w.WriteHeader(http.StatusFound)
	}
}

func TestDoCountsWhatItReceived(t *testing.T) {
	const begun = "HTTP/1.1 200 OK\r\nContent-Type: bin"
	for name, tc := range map[string]struct {
		before string
		want   int64
	}{"nothing": {"", 0}, "half a head": {begun, int64(len(begun))}} {
		got, err := Do(context.Background(), Request{Timeout: 10 * time.Second, URL: "http://" + serve(t, func(conn *net.TCPConn) {
			readRequest(conn)
			_, _ = conn.Write([]byte(tc.before))
			conn.Close()
		})})
		if err != nil || got.Class != EOF || got.Status != 0 || got.Received != tc.want {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestDoResetInTheMiddle(t *testing.T) {
	// The reset must not overtake the first bytes: the kernel drops what was not read yet.
	answer := make(chan *net.TCPConn, 1)
	addr := serve(t, func(conn *net.TCPConn) {
		readRequest(conn)
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234")
		answer <- conn
	})
	go func() {
		conn := <-answer
		time.Sleep(100 * time.Millisecond)
		reset(conn)
	}()
	got, err := Do(context.Background(), Request{URL: "http://" + addr, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if got.Class != Reset || got.Status != 200 {
		t.Errorf("got %+v, want a reset after status 200", got)
	}
}

func TestDoSendsWhatItSays(t *testing.T) {
	requests := make(chan *http.Request, 2)
	url := httpServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { requests <- r }))
	for _, method := range []string{"", "PUT"} {
		if _, err := Do(context.Background(), Request{URL: url + "/key?x=1", Method: method, Timeout: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	first, second := <-requests, <-requests
	if first.Method != "GET" || second.Method != "PUT" {
		t.Errorf("methods %s, %s", first.Method, second.Method)
	}
	if first.UserAgent() != UserAgent || first.URL.String() != "/key?x=1" || first.Header.Get("Accept-Encoding") != "" {
		t.Errorf("request to %s with %v", first.URL, first.Header)
	}
	if first.RemoteAddr == second.RemoteAddr {
		t.Error("two probes shared a connection")
	}
}

func TestDoIgnoresProxies(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	// net/http would not use a proxy for 127.0.0.1 anyway, but for a name.
	got, err := Do(context.Background(), Request{URL: "http://no..such.name/", Timeout: time.Second})
	if err != nil || got.Class != DNS {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDoErrors(t *testing.T) {
	for name, r := range map[string]Request{
		"no URL":     {Timeout: time.Second},
		"relative":   {URL: "/config", Timeout: time.Second},
		"no host":    {URL: "http:///config", Timeout: time.Second},
		"scheme":     {URL: "ftp://127.0.0.1/", Timeout: time.Second},
		"unparsable": {URL: "http://127.0.0.1:port/", Timeout: time.Second},
		"method":     {URL: "http://127.0.0.1/", Method: "G T", Timeout: time.Second},
		"timeout":    {URL: "http://127.0.0.1/"},
	} {
		if got, err := Do(context.Background(), r); err == nil || got.Class != "" {
			t.Errorf("%s: got %+v, no error", name, got)
		}
	}
}

// Causes that 127.0.0.1 cannot be made to give.
func TestFromCause(t *testing.T) {
	dial := func(errno syscall.Errno) error {
		return fmt.Errorf("wrapped: %w", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)})
	}
	read := func(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }
	for _, tc := range []struct {
		err  error
		want Class
	}{
		{nil, Other},
		{errors.New("connection refused"), Other}, // by what it is, not by what it says
		{dial(syscall.ECONNREFUSED), Refused},
		{dial(syscall.EHOSTUNREACH), NoRoute},
		{dial(syscall.ENETUNREACH), NoRoute},
		{dial(syscall.EINVAL), NoRoute},
		{dial(syscall.EACCES), NoRoute},
		{read(syscall.EINVAL), Other},
		{dial(syscall.ETIMEDOUT), Timeout},
		{read(os.ErrDeadlineExceeded), Timeout},
		{context.DeadlineExceeded, Timeout},
		{context.Canceled, Other},
		{read(syscall.EPIPE), Reset},
		{read(syscall.ECONNRESET), Reset},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), EOF},
	} {
		if got := fromCause(tc.err); got != tc.want {
			t.Errorf("%v is %s, want %s", tc.err, got, tc.want)
		}
	}
}

func TestClassify(t *testing.T) {
	opaque := errors.New("net/http: something without a cause")
	for name, tc := range map[string]struct {
		seen *observation
		err  error
		want Class
	}{
		"resolver's timeout":        {&observation{}, &net.DNSError{IsTimeout: true}, DNS},
		"while it is resolved":      {&observation{resolving: true}, context.DeadlineExceeded, DNS},
		"nothing known":             {&observation{}, opaque, Other},
		"the connection knows":      {&observation{connErr: io.EOF}, opaque, EOF},
		"the connection knows more": {&observation{connErr: syscall.EPIPE}, opaque, Reset},
		"the error knows better":    {&observation{connErr: io.EOF}, syscall.ECONNRESET, Reset},
		"handshake failed":          {&observation{https: true, handshakeErr: tls.AlertError(40)}, opaque, TLS},
		"handshake timed out":       {&observation{https: true, handshakeErr: os.ErrDeadlineExceeded}, opaque, Timeout},
		"TLS in TLS is no surprise": {&observation{https: true, head: []byte{0x16, 3}}, opaque, Other},
	} {
		if got := tc.seen.classify(tc.err); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
