// Package gateway is the fault gateway: an HTTP server that stands at the
// configured S3 endpoint in front of the real S3 server. It passes every
// request through unchanged, records it, and on demand injects faults into the
// requests that a rule selects. Package api has what its control API takes and
// gives, package fault a client of that.
//
// Two things do not survive net/http and are not restored: the order and the
// letter case of header names, and a Content-Length: 0 on GET and HEAD. No S3
// signature depends on either.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// Config makes a Server.
type Config struct {
	// Upstream is the real S3 server, http://host:port.
	Upstream *url.URL
	// Token is the bearer token that the control API wants.
	Token string
	// Log takes each record as a line of JSON when its request is done.
	Log io.Writer
	// Name is the endpoint's, where it has one: a host right below it is a
	// bucket's.
	Name string
	// Certificates are those of an endpoint that is https; nil: it is http.
	Certificates *authority.Certificates
	// Keep is how many records are kept in memory; 0: 200 000 (about 100 MB).
	Keep int
	// Endpoint is where S3 is to clients, scheme://host:port. DialEndpoint is
	// how the oracle connects to it, or to where its name leads elsewhere, and
	// OracleAddress, ip:port, from where. Without them there is no oracle.
	Endpoint      string
	DialEndpoint  func(ctx context.Context, elsewhere bool) (net.Conn, error)
	OracleAddress string
	// Dial connects to the real server; nil: by TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Server is the gateway.
type Server struct {
	upstream  *url.URL
	transport *http.Transport
	rules     ruleSet
	book      *book
	data      *http.Server
	control   *http.Server
	portal    *http.Server // where the endpoint's name may lead
	oracle    *oracle

	name         string
	certificates *authority.Certificates
	tls          *tls.Config // nil: the endpoint is http
	idle         sync.Map    // the connections, each a net.Conn, on which there is no request
}

// New checks the configuration.
func New(c Config) (*Server, error) {
	switch u := c.Upstream; {
	case u == nil || u.Scheme != "http" || u.Host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "":
		return nil, fmt.Errorf("upstream: want http://host:port, found %q", u)
	case c.Token == "":
		return nil, errors.New("token: want one, found none")
	case c.Log == nil:
		return nil, errors.New("log: want a writer, found none")
	}
	if c.Keep == 0 {
		c.Keep = 200_000
	}
	if c.Dial == nil {
		c.Dial = dialUpstream
	}
	s := &Server{upstream: c.Upstream, book: newBook(c.Keep, c.Log), name: c.Name, certificates: c.Certificates}
	if c.Certificates != nil {
		config, err := configuration(c.Certificates.Good)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		config.GetConfigForClient = s.hello
		s.tls = config
	}
	// No timeouts: how long a request may take is between client and server.
	s.transport = &http.Transport{
		DialContext:           c.Dial,
		DisableCompression:    true, // it would add Accept-Encoding
		MaxIdleConnsPerHost:   1024,
		IdleConnTimeout:       5 * time.Second, // before the real server tires of it
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
	}
	withConn := func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, beneath(c))
	}
	s.data = &http.Server{ //nolint:gosec // no timeout: a slow client of a slow S3 is what is tested
		Handler:                      http.HandlerFunc(s.serveData),
		DisableGeneralOptionsHandler: true, // OPTIONS * is the real server's to answer
		ConnContext:                  withConn,
		ConnState:                    s.connState,
		ErrorLog:                     silent(),
	}
	s.portal = portal()
	s.oracle = newOracle(s, c)
	s.oracle.server.ConnContext = withConn
	s.control = &http.Server{Handler: s.controlHandler(c.Token), ReadHeaderTimeout: 10 * time.Second}
	return s, nil
}

func dialUpstream(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &upstreamConn{Conn: c}, nil
}

// upstreamConn is deaf to failing writes. A server that refuses a request may
// reply and close before it has read the body; a failing write would make
// net/http throw the reply away. If there is none, reading fails too.
type upstreamConn struct {
	net.Conn
	broken bool // of writes, which net/http makes one at a time
}

func (c *upstreamConn) Write(p []byte) (int, error) {
	if c.broken {
		return len(p), nil
	}
	if _, err := c.Conn.Write(p); err != nil {
		c.broken = true
	}
	return len(p), nil
}

// ReadFrom is how net/http writes a request's body.
func (c *upstreamConn) ReadFrom(body io.Reader) (int64, error) {
	buffer := buffers{}.Get()
	defer buffers{}.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{c}, body, buffer)
}

type connKey struct{}

// Serve serves both listeners and closes them. It returns nil after Close, else
// what ended it.
func (s *Server) Serve(data, control net.Listener) error {
	if s.tls != nil {
		data = tls.NewListener(data, s.tls)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.data.Serve(data) }()
	go func() { ended <- s.control.Serve(control) }()
	err := <-ended
	closeErr := s.Close()
	if other := <-ended; !errors.Is(other, http.ErrServerClosed) {
		closeErr = errors.Join(closeErr, other)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return closeErr
	}
	return err
}

// Put puts a rule into force, as the control API does.
func (s *Server) Put(r api.Rule) (api.RuleStatus, error) {
	if kinds[r.Fault.Kind].handshake != nil && s.tls == nil {
		return api.RuleStatus{}, fmt.Errorf("fault of kind %s: the endpoint is http, which has no handshake", r.Fault.Kind)
	}
	status, err := s.rules.put(r)
	if err == nil && kinds[r.Fault.Kind].beforeRequests() {
		s.endIdle()
	}
	return status, err
}

// HealAll ends every rule.
func (s *Server) HealAll() { s.rules.remove(func(*activeRule) bool { return true }) }

// Close ends everything at once, requests in flight too.
func (s *Server) Close() error {
	s.HealAll()
	err := errors.Join(s.data.Close(), s.control.Close(), s.portal.Close(), s.oracle.server.Close())
	s.transport.CloseIdleConnections()
	return err
}

// pathStyle puts the bucket into the path of a request that has it in its host,
// bucket.name. The real server, rules and records know buckets by paths only.
// Who signed the request signed another: the real server refuses it.
func (s *Server) pathStyle(r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	bucket, ok := strings.CutSuffix(strings.ToLower(host), "."+s.name)
	if s.name == "" || !ok || bucket == "" || strings.Contains(bucket, ".") || !strings.HasPrefix(r.RequestURI, "/") {
		return
	}
	u := *r.URL
	u.Path = "/" + bucket + u.Path
	if u.RawPath != "" {
		u.RawPath = "/" + bucket + u.RawPath
	}
	r.URL, r.RequestURI = &u, "/"+bucket+r.RequestURI
}

func (s *Server) serveData(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(r.Context()) // a copy: net/http looks at the sort of its own Body
	s.pathStyle(r)
	s.exchange(w, r, "", resource(r), nil)
}

// exchange serves a request that is about this resource, and records it.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, to, about string, asked *question) {
	x := &exchange{server: s, r: r, rule: s.rules.match(r, to, about), question: asked}
	x.conn, _ = r.Context().Value(connKey{}).(net.Conn)
	var ruleID string
	if x.rule != nil {
		ruleID = x.rule.ID
	}
	x.entry = s.book.start(r, to, about, ruleID)
	defer x.entry.finish()
	r.Body = countingReader{r.Body, x.entry}
	x.w = &replyWriter{ResponseWriter: w, entry: x.entry}
	x.serve()
}
