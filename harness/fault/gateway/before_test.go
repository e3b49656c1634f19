package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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

// secured is a gateway that is https at 127.0.0.1, and a client that trusts its CA.
func secured(t *testing.T, upstream http.HandlerFunc) (*running, *http.Client) {
	t.Helper()
	certificates, err := authority.New("127.0.0.1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(upstream)
	t.Cleanup(s.Close)
	g := startWith(t, Config{Upstream: &url.URL{Scheme: "http", Host: s.Listener.Addr().String()}, Certificates: certificates})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(certificates.CA))
	client := freshClient()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	return g, client
}

func text(client *http.Client, url string) (string, error) {
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return string(raw), err
}

func TestHandshakes(t *testing.T) {
	tried := map[string]bool{"handshake-hang": true} // by TestAHandshakeThatHangs
	for kind, want := range map[string]func(error) bool{
		"cert-expired": func(err error) bool {
			invalid := x509.CertificateInvalidError{}
			return errors.As(err, &invalid) && invalid.Reason == x509.Expired
		},
		"cert-other-name": func(err error) bool { return errors.As(err, &x509.HostnameError{}) },
		"cert-unknown-ca": func(err error) bool { return errors.As(err, &x509.UnknownAuthorityError{}) },
		"handshake-http":  func(err error) bool { return errors.Is(err, http.ErrSchemeMismatch) },
	} {
		t.Run(kind, func(t *testing.T) {
			g, client := secured(t, serveObject)
			at := "https://" + g.data + "/b/k"
			g.put(api.Rule{ID: "elsewhere", Clients: []string{"10.0.0.1"}, Fault: api.Fault{Kind: kind}})
			if got, err := text(client, at); got != object {
				t.Fatalf("another client's: want the object, found %q %v", got, err)
			}
			g.put(api.Rule{ID: "f", Clients: []string{"127.0.0.1"}, Fault: api.Fault{Kind: kind}})
			if got, err := text(client, at); !want(err) {
				t.Errorf("found %q %v", got, err)
			}
			records := g.page("").Records
			r := records[len(records)-1]
			if r.Method != api.MethodTLS || r.Rule != "f" || r.Error != kind || !strings.HasPrefix(r.Client, "127.0.0.1:") {
				t.Errorf("recorded %+v", r)
			}
			g.heal("f")
			if got, err := text(client, at); got != object {
				t.Errorf("healed: want the object, found %q %v", got, err)
			}
		})
		tried[kind] = true
	}
	for name, kind := range kinds {
		if kind.handshake != nil && !tried[name] {
			t.Errorf("the kind %q has no case here: add one", name)
		}
	}
}

func TestAHandshakeThatHangs(t *testing.T) {
	g, client := secured(t, serveObject)
	g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "handshake-hang"}})
	answered := make(chan string, 1)
	go func() {
		body, err := text(client, "https://"+g.data+"/b/k")
		answered <- fmt.Sprint(body, err)
	}()
	g.arrived("")
	select {
	case got := <-answered:
		t.Fatalf("want it held, found %s", got)
	default:
	}
	g.heal("f")
	if got := <-answered; got != object+"<nil>" {
		t.Errorf("want a late answer when the rule ends, found %s", got)
	}
	if r := g.done(""); r.Method != api.MethodTLS || r.Rule != "f" || r.Ended != "" {
		t.Errorf("recorded %+v", r)
	}
}

// A client that gives up is not waited for.
func TestAHandshakeThatHangsUntilTheClientGoes(t *testing.T) {
	g, _ := secured(t, serveObject)
	g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "handshake-hang"}})
	conn, err := net.Dial("tcp", g.data)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- tls.Client(conn, &tls.Config{ServerName: "127.0.0.1"}).HandshakeContext(t.Context()) }()
	g.arrived("")
	_ = conn.Close()
	<-gone
	if r := g.done(""); r.Ended != api.EndedReset {
		t.Errorf("recorded %+v", r)
	}
}

// Whoever is to meet a rule in a handshake or by a name does not go on with a connection of before.
func TestConnectionsOfBeforeEnd(t *testing.T) {
	for _, kind := range []string{"cert-expired", api.NameNotFound} {
		t.Run(kind, func(t *testing.T) {
			g, client := secured(t, serveObject)
			client.Transport.(*http.Transport).DisableKeepAlives = false
			defer client.CloseIdleConnections()
			dialled := 0
			client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				dialled++
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			at := "https://" + g.data + "/b/k"
			for range 2 {
				if got, err := text(client, at); got != object {
					t.Fatalf("want the object, found %q %v", got, err)
				}
			}
			if dialled != 1 {
				t.Fatalf("want one connection kept, found %d", dialled)
			}
			g.put(api.Rule{ID: "other", Clients: []string{"10.0.0.1"}, Fault: api.Fault{Kind: kind}})
			if _, err := text(client, at); err != nil || dialled != 1 {
				t.Fatalf("a rule for another client: want the connection kept, found %d, %v", dialled, err)
			}
			g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: kind}})
			_, err := text(client, at)
			if dialled < 2 {
				t.Errorf("want another connection, found the old one, %v", err)
			}
		})
	}
}

// A request under way when the rule comes is answered, and the connection is then not kept.
func TestAConnectionInUseEndsWithItsRequest(t *testing.T) {
	begun, goOn := make(chan bool), make(chan bool)
	g, client := secured(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-goOn
		serveObject(w, r)
	})
	client.Transport.(*http.Transport).DisableKeepAlives = false
	defer client.CloseIdleConnections()
	got := make(chan string, 1)
	go func() {
		body, _ := text(client, "https://"+g.data+"/b/k")
		got <- body
	}()
	<-begun
	g.put(api.Rule{ID: "f", Fault: api.Fault{Kind: "cert-expired"}})
	close(goOn)
	if body := <-got; body != object {
		t.Fatalf("want the object, found %q", body)
	}
	if _, err := text(client, "https://"+g.data+"/b/k"); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("want the next one to meet the certificate, found %v", err)
	}
}

func TestQuestionsForTheName(t *testing.T) {
	g := start(t, serveObject)
	for _, kind := range []string{api.NameNotFound, api.NameFails, api.NameUnheard, api.NameElsewhere} {
		g.put(api.Rule{ID: "f", Clients: []string{"10.244.0.7"}, Fault: api.Fault{Kind: kind}})
		if got := g.server.NameFault("10.244.0.8:53", "s3.home.example.org"); got != "" {
			t.Errorf("another client meets %q", got)
		}
		if got := g.server.NameFault("10.244.0.7:53", "s3.home.example.org"); got != kind {
			t.Errorf("want %q, found %q", kind, got)
		}
	}
	records := g.page("").Records
	if len(records) != 4 || records[3].Method != api.MethodDNS || records[3].Rule != "f" || records[3].Query != "s3.home.example.org" || records[3].Error != api.NameElsewhere {
		t.Errorf("recorded %+v", records)
	}
	if got := do(t, "GET", "http://"+g.data+"/b/k", ""); got.body != object {
		t.Errorf("a request meets a rule for names: %+v", got)
	}
}

func TestRulesOfBeforeRequestsAreRefused(t *testing.T) {
	plain := start(t, serveObject)
	secure, _ := secured(t, serveObject)
	for _, c := range []struct {
		g    *running
		rule string
		want string
	}{
		{plain, `{"fault": {"kind": "cert-expired"}}`, "the endpoint is http"},
		{secure, `{"pathPrefix": "/b/", "fault": {"kind": "cert-expired"}}`, "no selector but clients"},
		{secure, `{"auth": ["none"], "fault": {"kind": "name-not-found"}}`, "no selector but clients"},
		{secure, `{"clients": ["nas"], "fault": {"kind": "name-not-found"}}`, `clients[0]: want an IP address, found \"nas\"`},
		{secure, `{"clients": ["10.0.0.1:80"], "fault": {"kind": "status", "status": 503}}`, "clients[0]"},
	} {
		if status, text := c.g.call("PUT", "/rules/f", "Bearer "+token, c.rule); status != 400 || !strings.Contains(text, c.want) {
			t.Errorf("%s: want 400 with %q, found %d %s", c.rule, c.want, status, text)
		}
	}
}

func TestRequestsByClient(t *testing.T) {
	g := start(t, serveObject)
	g.put(api.Rule{ID: "f", Clients: []string{"10.0.0.1"}, Fault: api.Fault{Kind: "status", Status: 503}})
	if got := do(t, "GET", "http://"+g.data+"/b/k", ""); got.body != object {
		t.Errorf("another client meets it: %+v", got)
	}
	g.put(api.Rule{ID: "f", Clients: []string{"10.0.0.1", "127.0.0.1"}, Fault: api.Fault{Kind: "status", Status: 503}})
	if got := do(t, "GET", "http://"+g.data+"/b/k", ""); got.err != nil || got.res.StatusCode != 503 {
		t.Errorf("want 503, found %+v", got)
	}
}

// A body of any length goes through TLS as it is, both ways.
func TestBodiesOverTLS(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	g, client := secured(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	res, err := client.Post("https://"+g.data+"/b/k", "application/octet-stream", bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, want) {
		t.Errorf("want %d bytes as they were, found %d, %v", len(want), len(got), err)
	}
	if res.Proto != "HTTP/1.1" {
		t.Errorf("want HTTP/1.1, found %s", res.Proto)
	}
}

func TestThePortal(t *testing.T) {
	plain := start(t, serveObject)
	secure, trusting := secured(t, serveObject)
	for _, c := range []struct {
		g      *running
		client *http.Client
		scheme string
		want   func(string, error) bool
	}{
		{plain, freshClient(), "http", func(body string, err error) bool { return err == nil && strings.Contains(body, "Sign in") }},
		{secure, trusting, "https", func(_ string, err error) bool { return errors.As(err, &x509.HostnameError{}) }},
	} {
		l := listen(t)
		ended := make(chan error, 1)
		go func() { ended <- c.g.server.ServePortal(l) }()
		if body, err := text(c.client, fmt.Sprintf("%s://%s/b/k", c.scheme, l.Addr())); !c.want(body, err) {
			t.Errorf("%s: found %q %v", c.scheme, body, err)
		}
		_ = c.g.server.Close()
		if err := <-ended; err != nil {
			t.Errorf("%s: want a clean end, found %v", c.scheme, err)
		}
	}
}

// A bucket in the host is one in the path, for rules, for records and for the real server.
func TestBucketsAsHosts(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) }))
	defer s.Close()
	g := startWith(t, Config{Upstream: &url.URL{Scheme: "http", Host: s.Listener.Addr().String()}, Name: "s3.home.example.org"})
	ask := func(host, path string) (string, int) {
		req, err := http.NewRequest("GET", "http://"+g.data+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := freshClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return string(body), res.StatusCode
	}
	for _, c := range []struct{ host, path, want string }{
		{"s3.home.example.org", "/b/k", "/b/k"},
		{"s3.home.example.org:9000", "/b/k", "/b/k"},
		{"b.s3.home.example.org", "/k?x=y", "/b/k?x=y"},
		{"B.s3.home.example.org:9000", "/ns%2Fa/k", "/b/ns%2Fa/k"},
		{"b.s3.home.example.org", "/?list-type=2&prefix=ns/", "/b/?list-type=2&prefix=ns/"},
		{"a.b.s3.home.example.org", "/k", "/k"},
		{"other.example.org", "/k", "/k"},
	} {
		if got, _ := ask(c.host, c.path); got != c.want {
			t.Errorf("%s%s: want %s, found %s", c.host, c.path, c.want, got)
		}
	}
	g.put(api.Rule{ID: "f", PathPrefix: "/b/ns/", Fault: api.Fault{Kind: "status", Status: 503}})
	for _, path := range []string{"/ns/data/config", "/?list-type=2&prefix=ns/"} {
		if _, status := ask("b.s3.home.example.org", path); status != 503 {
			t.Errorf("%s: want the rule's 503, found %d", path, status)
		}
	}
	if records := g.page("pathPrefix=/b/ns/data/").Records; len(records) != 1 || records[0].Path != "/b/ns/data/config" {
		t.Errorf("recorded %+v", records)
	}
}
