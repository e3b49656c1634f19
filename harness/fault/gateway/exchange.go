package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// exchange is one request on its way to its reply.
type exchange struct {
	server *Server
	conn   net.Conn // the client's
	w      *replyWriter
	r      *http.Request
	rule   *activeRule // the one that acts; nil: none
	entry  *entry

	question *question // of a question for the oracle; nil: it is a request for S3
}

// serve lets the rule act, or passes the request on.
func (x *exchange) serve() {
	if x.rule == nil {
		x.passThrough(nil)
		return
	}
	switch kind := kinds[x.rule.Fault.Kind]; {
	case kind.serve != nil:
		kind.serve(x, x.rule.Fault)
	case kind.bodies:
		x.r.Body = body{lineReader{x.r.Body, x.rule}, x.r.Body}
		x.passThrough(func(res *http.Response) { res.Body = body{lineReader{res.Body, x.rule}, res.Body} })
	default:
		x.meet(kind.toxic(x.rule.Fault))
	}
}

// note keeps the first thing that went wrong for the record.
func (x *exchange) note(format string, args ...any) {
	x.entry.note(fmt.Sprintf(format, args...))
}

// reply answers in the real server's stead. It takes the request's body
// first: a client still sending might see its connection break rather than
// the reply. A client that asked (Expect: 100-continue) has not sent it.
func (x *exchange) reply(status int, contentType string, headers map[string]string, body string) {
	if x.r.Header.Get("Expect") == "" {
		if _, err := io.Copy(io.Discard, x.r.Body); err != nil {
			x.note("reading the request: %v", err)
			x.reset()
			return
		}
	}
	h := x.w.Header()
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	for k, v := range headers {
		h.Set(k, v)
	}
	bodyAllowed := status != http.StatusNoContent && status != http.StatusNotModified
	if bodyAllowed {
		h.Set("Content-Length", fmt.Sprint(len(body)))
	}
	x.w.WriteHeader(status)
	if bodyAllowed && x.r.Method != http.MethodHead {
		if _, err := io.WriteString(x.w, body); err != nil {
			x.note("writing the reply: %v", err)
		}
	}
}

// reset ends the connection with a TCP reset, after some last bytes.
func (x *exchange) reset(last ...byte) {
	conn, ok := x.hijack()
	if !ok {
		return
	}
	if len(last) > 0 {
		x.say(conn, last)
		x.awaitDelivery()
	}
	x.entry.ended(api.EndedReset)
	resetConn(conn)
}

// hangUp ends the connection in order (FIN), after some last bytes. It takes
// what the client still sends, for closing a socket with unread bytes would
// send a reset.
func (x *exchange) hangUp(last ...byte) {
	conn, ok := x.hijack()
	if !ok {
		return
	}
	defer func() { _ = conn.Close() }()
	if len(last) > 0 {
		x.say(conn, last)
	}
	x.entry.ended(api.EndedClosed)
	for _, c := range []net.Conn{conn, beneath(conn)} { // TLS has an end of its own
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.Copy(io.Discard, conn)
}

// say writes bytes past net/http. The record has them as a client reads them: a status where the head is whole, and the bytes
// of its body; else bytes that are no reply.
func (x *exchange) say(conn net.Conn, raw []byte) {
	n, err := conn.Write(raw)
	if err != nil {
		x.note("writing the reply: %v", err)
	}
	if head, _, whole := bytes.Cut(raw[:n], []byte("\r\n\r\n")); whole {
		if res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw[:n])), x.r); err == nil {
			_ = res.Body.Close()
			x.entry.status.CompareAndSwap(0, int64(res.StatusCode))
			x.entry.bytesOut.Add(int64(n - len(head) - len("\r\n\r\n")))
			return
		}
	}
	x.entry.rawBytes.Add(int64(n))
}

func (x *exchange) hijack() (net.Conn, bool) {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.note("taking over the connection: %v", err)
		return nil, false
	}
	return conn, true
}

// meet sends the request's head over a line with the toxic, until the rule ends, and passes the request on when it has
// arrived. A line that the toxic closes is a connection that is reset. net/http notices a client's going only once the
// request's body has been read, so the socket is asked; nothing is read.
func (x *exchange) meet(toxic toxics.Toxic) {
	line, arrived := newLine(toxic), make(chan bool, 1)
	heal := sync.OnceFunc(line.heal)
	defer heal()
	go func() { arrived <- line.carry([]byte(x.r.Method + " " + x.r.RequestURI + " " + x.r.Proto + "\r\n")) }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	healed := x.rule.healed
	for {
		gone := false
		select {
		case ok := <-arrived:
			switch {
			case ok:
				x.passThrough(nil)
			case healed == nil:
				x.note("reset when the rule ended")
				fallthrough
			default:
				x.reset()
			}
			return
		case <-healed:
			healed = nil
			heal()
		case <-x.r.Context().Done():
			gone = true
		case <-look.C:
			gone, _ = socketState(x.conn)
		}
		if gone {
			x.note("the client went while it was held")
			x.reset()
			return
		}
	}
}

// passThrough sends the request on and the reply back, both as they are, or
// has the oracle answer what is asked of it. onReply (may be nil) may replace the reply's body. Where the real server can't be reached or breaks off,
// the client's connection is reset: any answer would be the gateway's own.
func (x *exchange) passThrough(onReply func(*http.Response)) {
	if x.question != nil {
		x.question.answer(x, x.question.find(x.r.Context()))
		return
	}
	opaque, err := opaquePath(x.r)
	if err != nil {
		x.note("%v", err)
		x.reset()
		return
	}
	// Else net/http swallows the rest of the request before an early reply.
	if err := http.NewResponseController(x.w).EnableFullDuplex(); err != nil {
		x.note("full duplex: %v", err)
	}
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = x.server.upstream.Scheme, x.server.upstream.Host
			p.Out.URL.Opaque = opaque
			p.Out.URL.RawQuery = p.In.URL.RawQuery // ReverseProxy drops what it can't parse
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := p.In.Header[name]; ok { // ReverseProxy drops them
					p.Out.Header[name] = v
				}
			}
			if p.In.ContentLength == 0 && p.In.Header["Content-Length"] != nil {
				// Else DELETE loses its Content-Length: 0.
				p.Out.Body, p.Out.TransferEncoding = http.NoBody, []string{"identity"}
			}
		},
		Transport:     x.server.transport,
		FlushInterval: -1,
		BufferPool:    buffers{},
		ErrorLog:      log.New(io.Discard, "", 0), // the record has it
		ModifyResponse: func(res *http.Response) error {
			if onReply != nil {
				onReply(res)
			}
			if res.StatusCode != http.StatusSwitchingProtocols {
				res.Body = body{notingReader{res.Body, x}, res.Body}
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if x.r.Context().Err() != nil {
				err = errors.New("the client went before the reply")
			}
			x.note("%v", err)
			x.reset()
		},
	}
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler: // the reply broke off in its body
			x.note("the client went during the reply")
			x.deliver()
			x.reset()
		default:
			panic(p)
		}
	}()
	proxy.ServeHTTP(verbatimWriter{x.w}, x.r)
}

// deliver sends what was written and waits until the client's side has it,
// since a reset throws away what is still on its way.
func (x *exchange) deliver() {
	if err := http.NewResponseController(x.w).Flush(); err != nil {
		return
	}
	x.awaitDelivery()
}

// awaitDelivery waits until the client's side has all that was written.
func (x *exchange) awaitDelivery() {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if gone, delivered := socketState(x.conn); gone || delivered {
			return
		}
	}
}

// opaquePath returns what to put into URL.Opaque so that the path goes out
// byte for byte. Empty: net/url writes it as it came anyway.
func opaquePath(r *http.Request) (string, error) {
	raw := rawPath(r)
	if raw == r.URL.EscapedPath() || !strings.HasPrefix(raw, "/") {
		return "", nil
	}
	if strings.HasPrefix(raw, "//") { // net/url would make an absolute URL of it
		return "", fmt.Errorf("can't pass on the path %q unchanged", raw)
	}
	return raw, nil
}

// rawPath is the path of a request as sent, still escaped.
func rawPath(r *http.Request) string {
	if !strings.HasPrefix(r.RequestURI, "/") { // absolute form, or *
		return r.URL.EscapedPath()
	}
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	return raw
}

// replyWriter counts a reply for the record.
type replyWriter struct {
	http.ResponseWriter
	entry *entry
}

func (w *replyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *replyWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.entry.status.CompareAndSwap(0, int64(status))
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *replyWriter) Write(p []byte) (int, error) {
	w.entry.status.CompareAndSwap(0, http.StatusOK)
	n, err := w.ResponseWriter.Write(p)
	w.entry.bytesOut.Add(int64(n))
	return n, err
}

// verbatimWriter keeps net/http from adding the headers it thinks missing, and
// ReverseProxy from sending 100 Continue: net/http sends it when the body is
// asked for, which is when the real server has sent it; both would be one each.
type verbatimWriter struct{ http.ResponseWriter }

func (w verbatimWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w verbatimWriter) WriteHeader(status int) {
	if status == http.StatusContinue {
		return
	}
	if h := w.Header(); status >= 200 {
		for _, name := range []string{"Content-Type", "Date"} {
			if _, ok := h[name]; !ok {
				h[name] = nil
			}
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// body is a Reader over something that is to be closed.
type body struct {
	io.Reader
	io.Closer
}

// countingReader counts a request's body for the record.
type countingReader struct {
	io.ReadCloser
	entry *entry
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.entry.bytesIn.Add(int64(n))
	return n, err
}

// notingReader notes how the real server's reply broke off.
type notingReader struct {
	io.Reader
	x *exchange
}

func (r notingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF && r.x.r.Context().Err() == nil {
		r.x.note("the reply broke off: %v", err)
	}
	return n, err
}

// lineReader reads what has come over the rule's line for bodies.
type lineReader struct {
	io.Reader
	rule *activeRule
}

func (r lineReader) Read(p []byte) (int, error) {
	// In pieces of a twentieth of a second: a stream, not gulps, that many can share.
	n, err := r.Reader.Read(p[:min(len(p), int(r.rule.Fault.KilobytesPerSecond)*1000/20)])
	if n > 0 && !r.rule.bodies.carry(p[:n]) {
		return 0, errors.New("the line was closed")
	}
	return n, err
}

// Large, as bodies are: each read and write of a socket has its price.
var bufferPool = sync.Pool{New: func() any { return make([]byte, 256<<10) }}

// buffers is a httputil.BufferPool.
type buffers struct{}

func (buffers) Get() []byte  { return bufferPool.Get().([]byte) }
func (buffers) Put(b []byte) { bufferPool.Put(b) } //nolint:staticcheck // SA6002: 24 bytes are cheaper than a second type
