package fault

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

const token = "control-token"

// startGateway returns the addresses of a gateway's endpoint and control API.
func startGateway(t *testing.T) (endpoint, control string) {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "from the real server")
	}))
	t.Cleanup(upstream.Close)
	u, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	server, err := gateway.New(gateway.Config{Upstream: u, Token: token, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listeners[0], listeners[1]) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listeners[0].Addr().String(), "http://" + listeners[1].Addr().String()
}

func status(t *testing.T, url string) int {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

func TestGatewayRulesAndRecords(t *testing.T) {
	ctx := t.Context()
	endpoint, control := startGateway(t)
	g := New(control+"/", token)
	want := func(when, path string, code int) {
		t.Helper()
		if got := status(t, endpoint+path); got != code {
			t.Errorf("%s: GET %s: want %d, found %d", when, path, code, got)
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	want("no rule", "/b/ns/pvc/config", 200)
	before, err := g.Records(ctx, 0, "")
	ok(err)
	if before.LastSeq != 1 || len(before.Records) != 1 {
		t.Errorf("want the one request, found %+v", before)
	}

	const id = "run-1/core/s3-down/403" // slashes too
	ok(g.Put(ctx, api.Rule{ID: id, PathPrefix: "/b/ns/pvc/", Fault: api.Fault{Kind: "status", Status: 403}}))
	ok(g.Put(ctx, api.Rule{ID: "other", PathPrefix: "/b/ns2/", Fault: api.Fault{Kind: "status", Status: 500}}))
	want("armed", "/b/ns/pvc/config", 403)
	want("armed elsewhere", "/b/ns/other/config", 200)
	rules, err := g.Rules(ctx)
	ok(err)
	if len(rules) != 2 || rules[0].ID != "other" || rules[1].ID != id || rules[1].TTLSeconds != api.DefaultTTLSeconds {
		t.Errorf("rules %+v", rules)
	}

	page, err := g.Records(ctx, before.LastSeq, "/b/ns/pvc/")
	ok(err)
	if len(page.Records) != 1 || page.Records[0].Rule != id || page.LastSeq != 3 || page.Dropped != 0 {
		t.Errorf("want the one request by rule %s of 3, found %+v", id, page)
	}

	ok(g.Heal(ctx, id))
	ok(g.Heal(ctx, id))
	want("healed", "/b/ns/pvc/config", 200)
	want("the other is not healed", "/b/ns2/k", 500)
	ok(g.HealAll(ctx))
	want("all healed", "/b/ns2/k", 200)
	ok(g.SetOracle(ctx, nil))
}

func TestGatewayErrors(t *testing.T) {
	_, control := startGateway(t)
	good := api.Rule{ID: "x", Fault: api.Fault{Kind: "reset"}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	notOurs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer notOurs.Close()
	for name, c := range map[string]struct {
		call func() error
		want string
	}{
		"wrong token": {func() error { return New(control, "wrong").Put(t.Context(), good) },
			"fault gateway: PUT /rules/x: want status 200, found 401: want Authorization: Bearer"},
		"bad rule": {func() error {
			return New(control, token).Put(t.Context(), api.Rule{ID: "x", Fault: api.Fault{Kind: "status"}})
		}, "want status 200, found 400: fault of kind status: status: want 200 to 599, found 0"},
		"an oracle without an endpoint": {func() error { return New(control, token).SetOracle(t.Context(), &api.Oracle{}) },
			"fault gateway: PUT /oracle: want status 204, found 400: oracle: the gateway was not told where S3 is to clients"},
		"cancelled": {func() error { return New(control, token).HealAll(cancelled) }, "context canceled"},
		"nobody there": {func() error {
			_, err := New("http://127.0.0.1:1", token).Rules(t.Context())
			return err
		}, "connection refused"},
		"not a gateway": {func() error {
			_, err := New(notOurs.URL, token).Records(t.Context(), 0, "")
			return err
		}, "reading the answer: invalid character '<'"},
	} {
		if err := c.call(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: want %q, found %v", name, c.want, err)
		}
	}
}
