// Package probe looks at an HTTP endpoint once and says in one word how that went: the proof, from inside the
// cluster, that a fault is really on or really over.
package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"
)

// Class is the outcome of a probe in one word.
type Class string

// The classes. A reply that began and broke off has the class of the break, and its Status.
const (
	OK      Class = "ok"       // status 200 and the whole body
	HTTP    Class = "http"     // a whole reply with another status, such as 301, 403 or 503
	Refused Class = "refused"  // connection refused
	Timeout Class = "timeout"  // no whole reply in time
	Reset   Class = "reset"    // connection reset by peer, or broken pipe
	NoRoute Class = "no-route" // host or network unreachable
	DNS     Class = "dns"      // the name was not resolved, for whatever reason, in the time there was
	TLS     Class = "tls"      // TLS where HTTP was meant, HTTP where TLS was meant, or the handshake failed
	EOF     Class = "eof"      // connection closed before the whole reply
	Other   Class = "other"    // see Error
)

// UserAgent tells probes from other requests in a server's log.
const UserAgent = "smart-restore-conformance-probe"

// Request is what to probe.
type Request struct {
	// URL is absolute, http or https.
	URL string
	// Method is GET if empty.
	Method string
	// Timeout bounds the whole exchange, from resolving the name to the body's last byte. It must be positive. The
	// kernel takes about 3 s to call a silent neighbour unreachable: until then that is a timeout.
	Timeout time.Duration
	// Follow follows redirects, up to as many as net/http does, as Kyverno's client does. The result is that of the last
	// hop. Without it a redirect is the result.
	Follow bool
}

// Result is what one probe saw.
type Result struct {
	URL string `json:"url"`
	// Status is 0 if there was none.
	Status int   `json:"status"`
	Class  Class `json:"class"`
	// Error is empty for the classes ok and http.
	Error string `json:"error"`
	// Bytes is how much of the body came, as transferred.
	Bytes int64 `json:"bytes"`
	// Lists says that the body is a listing of a bucket, and Keys how many objects it names.
	Lists bool `json:"lists,omitempty"`
	Keys  int  `json:"keys,omitempty"`
	// Received is how much came over the connection at all, heads included, but no handshake that went well.
	Received int64 `json:"received"`
	// Redirects are the statuses of the redirects that were followed.
	Redirects []int `json:"redirects,omitempty"`
	// Headers has Content-Type, Location and Server, those that the reply had.
	Headers map[string]string `json:"headers"`
	// Millis is how long it all took, in milliseconds.
	Millis float64 `json:"millis"`
}

// Do probes once, on a connection of its own for every hop, using no proxy and, for https, trusting the system's
// certificates. Whatever the endpoint does is a Result; an error means that the request could not be made.
func Do(ctx context.Context, r Request) (Result, error) {
	target, err := url.Parse(r.URL)
	switch {
	case err != nil:
		return Result{}, fmt.Errorf("probe: %w", err)
	case target.Scheme != "http" && target.Scheme != "https" || target.Host == "":
		return Result{}, fmt.Errorf("probe: %q is not an absolute http or https URL", r.URL)
	case r.Timeout <= 0:
		return Result{}, fmt.Errorf("probe: timeout is %s", r.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()

	seen := &observation{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:         func(httptrace.DNSStartInfo) { seen.resolves(true) },
		DNSDone:          func(httptrace.DNSDoneInfo) { seen.resolves(false) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { seen.handshake(err) },
	})
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.Method, http.MethodGet), r.URL, nil)
	if err != nil {
		return Result{}, fmt.Errorf("probe: %w", err)
	}
	req.Header.Set("User-Agent", UserAgent)

	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &watchedConn{Conn: conn, seen: seen}, nil
		},
	}
	defer transport.CloseIdleConnections()

	result := Result{URL: r.URL, Headers: map[string]string{}}
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if !r.Follow {
			return http.ErrUseLastResponse
		}
		if len(via) > maxRedirects {
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		}
		result.Redirects = append(result.Redirects, next.Response.StatusCode)
		seen.hop(next.URL)
		return nil
	}}
	seen.hop(req.URL)
	start := time.Now()
	err = exchange(client, req, &result)
	result.Millis = math.Round(float64(time.Since(start).Microseconds())) / 1000
	result.Received = seen.received()
	switch {
	case err != nil:
		result.Class, result.Error = seen.classify(err), err.Error()
	case result.Status == http.StatusOK:
		result.Class = OK
	default:
		result.Class = HTTP
	}
	return result, nil
}

// maxRedirects is net/http's own limit.
const maxRedirects = 10

// exchange sends req and reads the whole reply into result.
func exchange(client *http.Client, req *http.Request, result *Result) error {
	resp, err := client.Do(req)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			return wrapped.Err // without the URL, which may be signed
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	result.Status = resp.StatusCode
	for _, name := range []string{"Content-Type", "Location", "Server"} {
		if value := resp.Header.Get(name); value != "" {
			result.Headers[name] = value
		}
	}
	body := &listing{}
	result.Bytes, err = io.Copy(body, resp.Body)
	result.Lists, result.Keys = body.read()
	return err
}

// listing keeps as much of a body as it takes to tell a listing of a bucket, which has a thousand keys at most.
type listing struct{ kept bytes.Buffer }

const listingBytes = 1 << 20

func (l *listing) Write(p []byte) (int, error) {
	if l.kept.Len() < listingBytes {
		_, _ = l.kept.Write(p)
	}
	return len(p), nil
}

// read says whether it is a listing, and how many objects it names.
func (l *listing) read() (lists bool, keys int) {
	if !bytes.Contains(l.kept.Bytes(), []byte("<ListBucketResult")) {
		return false, 0
	}
	return true, bytes.Count(l.kept.Bytes(), []byte("<Contents>"))
}

// observation is what the connection itself showed, which net/http's errors do not always tell.
type observation struct {
	mu           sync.Mutex // net/http reads, writes and dials on goroutines of its own
	total        int64      // bytes read, over all hops
	earlier      int64      // of total, of hops before this one
	resolving    bool       // a name is being resolved
	https        bool       // of the last hop, as all below
	head         []byte     // the reply's first bytes
	connErr      error      // the first that a read or a write gave
	handshakeErr error
}

// hop begins the observation of another connection.
func (o *observation) hop(to *url.URL) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.https, o.head, o.connErr, o.handshakeErr, o.earlier = to.Scheme == "https", nil, nil, nil, o.total
}

func (o *observation) received() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total
}

func (o *observation) handshake(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handshakeErr = err
	if err == nil {
		o.total = o.earlier
	}
}

func (o *observation) resolves(now bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resolving = now
}

func (o *observation) io(read []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total += int64(len(read))
	if want := 2 - len(o.head); want > 0 {
		o.head = append(o.head, read[:min(want, len(read))]...)
	}
	// net.ErrClosed is our own side giving up.
	if o.connErr == nil && !errors.Is(err, net.ErrClosed) {
		o.connErr = err
	}
}

func (o *observation) classify(err error) Class {
	o.mu.Lock()
	defer o.mu.Unlock()
	if dnsErr := (*net.DNSError)(nil); errors.As(err, &dnsErr) || o.resolving {
		return DNS
	}
	// An HTTP client calls a TLS record a malformed reply, or an early end, or a reset.
	if !o.https && len(o.head) == 2 && isTLSRecord(o.head) {
		return TLS
	}
	if class := fromCause(err); class != Other {
		return class
	}
	if o.handshakeErr != nil || errors.Is(err, http.ErrSchemeMismatch) {
		if class := fromCause(o.handshakeErr); class != Other {
			return class
		}
		return TLS
	}
	// net/http has errors without a cause for a connection that the server closed before the request was sent.
	return fromCause(o.connErr)
}

// isTLSRecord is whether the first two bytes are of an alert or a handshake record, of SSL 3.0 or any TLS.
func isTLSRecord(head []byte) bool {
	return (head[0] == 0x15 || head[0] == 0x16) && head[1] == 0x03
}

// fromCause is the class of an error that has a cause we know in its chain; otherwise, and for nil, Other.
func fromCause(err error) Class {
	is := func(causes ...error) bool {
		for _, cause := range causes {
			if errors.Is(err, cause) {
				return true
			}
		}
		return false
	}
	var timeout net.Error
	switch {
	case is(syscall.ECONNREFUSED):
		return Refused
	case is(syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED):
		return Reset
	case is(syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN):
		return NoRoute
	case isDial(err) && is(syscall.EACCES, syscall.EINVAL):
		return NoRoute // what connect says to a route of type prohibit, and of type blackhole
	case is(context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	case is(io.EOF, io.ErrUnexpectedEOF):
		return EOF
	}
	return Other
}

func isDial(err error) bool {
	opErr := (*net.OpError)(nil)
	return errors.As(err, &opErr) && opErr.Op == "dial"
}

// watchedConn shows what goes over a connection to an observation.
type watchedConn struct {
	net.Conn
	seen *observation
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.seen.io(p[:n], err)
	return n, err
}

func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.seen.io(nil, err)
	return n, err
}
