// Package network is the network that the simulator gives Kyverno: pipes in memory, with S3 behind the fault gateway at one
// address, the oracle at another where there is one, and nothing else. Nothing that a policy asks for leaves the process. The simulator, which is compiled among
// Kyverno's modules, imports it, so it may import the standard library, the gateway, certificates and play only.
package network

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// Source is this package's source, for the simulator's module.
//
//go:embed *.go
var Source embed.FS

// dialTimeout is that of Kyverno's dialer. resolveTimeout is after what Go's resolver has asked twice and got nothing.
const (
	dialTimeout    = 30 * time.Second
	resolveTimeout = 10 * time.Second
)

// Config makes a Network.
type Config struct {
	// Endpoint is where S3 is, such as http://host:port. The port defaults to the scheme's.
	Endpoint string
	// Address is where its name leads.
	Address netip.Addr
	// Certificates are those of an endpoint that is https.
	Certificates *authority.Certificates
	// S3 answers there.
	S3 http.Handler
	// Oracle is a service in the cluster that asks S3 for whoever asks it; nil: there is none.
	Oracle *play.Oracle
	// Blocked are address ranges that Kyverno refuses to ask.
	Blocked []netip.Prefix
	// Asked is told of each request when it is done, Strayed of each connection to another address.
	Asked   func(api.Record)
	Strayed func(address string)
}

// Network has S3 and the oracle in it, and nothing else.
type Network struct {
	endpoint string // host:port
	blocked  []netip.Prefix
	strayed  func(address string)
	gateway  *gateway.Server
	data     *listener
	portal   *listener // where the name leads under a fault
	name     string    // of the endpoint; empty: it has an address only
	address  netip.Addr
	close    func()

	oracle   *play.Oracle // nil: there is none
	question *listener    // where it is asked

	mu           sync.Mutex
	outage       string        // of connections: play.Refused, …
	oracleOutage string        // of those to the oracle
	healed       chan struct{} // closed when that ends
}

// New puts S3 behind the fault gateway.
func New(c Config) (*Network, error) {
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, err
	}
	address := endpoint.Host
	switch {
	case endpoint.Port() != "":
	case endpoint.Scheme == "https":
		address += ":443"
	default:
		address += ":80"
	}
	name := endpoint.Hostname()
	if _, err := netip.ParseAddr(name); err == nil {
		name = ""
	}
	store, data, control, portal, question := newListener(), newListener(), newListener(), newListener(), newListener()
	n := &Network{
		endpoint: address, name: name, address: c.Address, blocked: c.Blocked, strayed: c.Strayed, data: data, portal: portal,
		oracle: c.Oracle, question: question,
	}
	server, err := gateway.New(gateway.Config{
		Upstream: &url.URL{Scheme: "http", Host: address}, Token: "none", Log: records(c.Asked), Keep: 1000, Name: name, Certificates: c.Certificates,
		Dial:         func(ctx context.Context, _, _ string) (net.Conn, error) { return store.connect(ctx) },
		Endpoint:     c.Endpoint,
		DialEndpoint: n.dialS3,
	})
	if err == nil && c.Oracle != nil {
		err = server.SetOracle(&c.Oracle.Oracle)
	}
	if err != nil {
		return nil, err
	}
	n.gateway = server
	s3 := &http.Server{Handler: c.S3, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s3.Serve(store) })
	serving.Go(func() { _ = server.Serve(data, control) })
	serving.Go(func() { _ = server.ServePortal(portal) })
	serving.Go(func() { _ = server.ServeOracle(question) })
	n.close = func() {
		_, _ = server.Close(), s3.Close()
		serving.Wait()
	}
	return n, nil
}

// Close ends all outages and connections, and returns when nothing of the network runs any more.
func (n *Network) Close() {
	n.Heal()
	n.close()
}

// Dial connects to an address, which must be S3's or the oracle's.
func (n *Network) Dial(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if n.oracle != nil && slices.Contains(n.oracle.Hosts, host) && port == strconv.Itoa(int(n.oracle.Port)) {
		n.mu.Lock()
		outage := n.oracleOutage
		n.mu.Unlock()
		if outage != "" {
			return nil, opError(address, syscall.ECONNREFUSED)
		}
		return n.question.connect(ctx)
	}
	ip, fault, err := n.resolve(ctx, host)
	if err != nil {
		if !n.named(host) {
			n.strayed(address)
		}
		return nil, fmt.Errorf("failed to resolve %s: %w", host, err)
	}
	if fault == api.NameElsewhere {
		return n.portal.connect(ctx)
	}
	for _, prefix := range n.blocked {
		if prefix.Contains(ip) {
			n.strayed(address)
			return nil, fmt.Errorf("connection to %s blocked: IP %s falls in blocked range %s", address, ip, prefix)
		}
	}
	if _, wanted, _ := net.SplitHostPort(n.endpoint); port != wanted || !n.named(host) && net.JoinHostPort(host, port) != n.endpoint {
		n.strayed(address)
		return nil, opError(address, syscall.EHOSTUNREACH)
	}
	return n.dialS3(ctx, false)
}

// dialS3 connects to S3, or to where its name leads elsewhere, as anybody does who knows the address.
func (n *Network) dialS3(ctx context.Context, elsewhere bool) (net.Conn, error) {
	if elsewhere {
		return n.portal.connect(ctx)
	}
	n.mu.Lock()
	outage, healed := n.outage, n.healed
	n.mu.Unlock()
	switch outage {
	case play.Refused:
		return nil, opError(n.endpoint, syscall.ECONNREFUSED)
	case play.BlackHole, play.NoRoute:
		// Kyverno may have a connection from before, on which "no route" is no more than a hint: both may be answered late.
		timer := time.NewTimer(dialTimeout)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, opError(n.endpoint, os.ErrDeadlineExceeded)
		case <-healed:
		}
	}
	return n.data.connect(ctx)
}

// named says whether a host is the endpoint's name, or a bucket's below it.
func (n *Network) named(host string) bool {
	return n.name != "" && (host == n.name || strings.HasSuffix(host, "."+n.name))
}

// resolve is where a host leads, and the fault that its name has.
func (n *Network) resolve(ctx context.Context, host string) (ip netip.Addr, fault string, err error) {
	notFound := &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, "", nil
	}
	if !n.named(host) {
		return netip.Addr{}, "", notFound
	}
	switch fault := n.gateway.NameFault("", host); fault {
	case api.NameNotFound:
		return netip.Addr{}, "", notFound
	case api.NameFails:
		return netip.Addr{}, "", &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	case api.NameUnheard:
		timer := time.NewTimer(resolveTimeout)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		return netip.Addr{}, "", &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true, IsTemporary: true}
	default:
		return n.address, fault, nil
	}
}

func opError(address string, err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: pipeAddr(address), Err: err}
}

// Begin begins an outage.
func (n *Network) Begin(o *play.Outage) error {
	n.mu.Lock()
	n.outage, n.oracleOutage, n.healed = o.Dial, o.DialOracle, make(chan struct{})
	n.mu.Unlock()
	for _, rule := range o.Rules {
		if rule.TTLSeconds == 0 { // a rule that ends by itself is healed while somebody asks
			rule.TTLSeconds = api.MaxTTLSeconds
		}
		if _, err := n.gateway.Put(rule); err != nil {
			return err
		}
	}
	return nil
}

// Heal ends all outages.
func (n *Network) Heal() {
	n.mu.Lock()
	if n.healed != nil {
		close(n.healed)
	}
	n.outage, n.oracleOutage, n.healed = "", "", nil
	n.mu.Unlock()
	n.gateway.HealAll()
}

// records reads the gateway's log.
type records func(api.Record)

func (r records) Write(line []byte) (int, error) {
	var record api.Record
	if err := json.Unmarshal(bytes.TrimSpace(line), &record); err == nil {
		r(record)
	}
	return len(line), nil
}

// listener hands out pipes.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) connect(ctx context.Context) (net.Conn, error) {
	client, server := pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return pipeAddr("pipe") }

type pipeAddr string

func (pipeAddr) Network() string  { return "tcp" }
func (a pipeAddr) String() string { return string(a) }
