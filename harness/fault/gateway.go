// Package fault makes the S3 endpoint fail, provably and only for as long as
// asked: Gateway injects faults of HTTP and within connections, by the control
// API of the fault gateway; Firewall injects faults of packets, by iptables on
// the cluster's node. Each also tells who ran into the fault.
package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// Gateway is a client of a fault gateway's control API. It is safe for
// concurrent use. How long a call may take is the context's to say.
type Gateway struct {
	baseURL string
	token   string
	client  *http.Client
}

// New returns a client for the control API at baseURL (http://host:port). It
// does not look whether there is one.
func New(baseURL, token string) *Gateway {
	return &Gateway{
		baseURL: strings.TrimSuffix(baseURL, "/"),
		token:   token,
		// Not the default transport: a proxy in the environment is not for
		// traffic within the test's own network.
		client: &http.Client{Transport: &http.Transport{}},
	}
}

// Wrap has every call go through what wrap makes of the transport.
func (g *Gateway) Wrap(wrap func(http.RoundTripper) http.RoundTripper) {
	g.client.Transport = wrap(g.client.Transport)
}

// Put puts a rule in force before all others; one of the same ID is healed
// first. The rule heals by itself after its TTLSeconds.
func (g *Gateway) Put(ctx context.Context, rule gateway.Rule) error {
	return g.call(ctx, http.MethodPut, rulePath(rule.ID), rule, http.StatusOK, nil)
}

// Heal ends a rule. That there is none is no error.
func (g *Gateway) Heal(ctx context.Context, id string) error {
	return g.call(ctx, http.MethodDelete, rulePath(id), nil, http.StatusNoContent, nil)
}

// HealAll ends every rule, those of other users of the gateway too.
func (g *Gateway) HealAll(ctx context.Context) error {
	return g.call(ctx, http.MethodDelete, "/rules", nil, http.StatusNoContent, nil)
}

// Rules returns the rules in force, newest first.
func (g *Gateway) Rules(ctx context.Context) ([]gateway.RuleStatus, error) {
	var list gateway.RuleList
	err := g.call(ctx, http.MethodGet, "/rules", nil, http.StatusOK, &list)
	return list.Rules, err
}

// Records returns the requests with a Seq above since that are about
// pathPrefix (as gateway.Rule.PathPrefix; empty: all), those in flight too.
func (g *Gateway) Records(ctx context.Context, since int64, pathPrefix string) (gateway.RecordsPage, error) {
	var page gateway.RecordsPage
	query := url.Values{"since": {strconv.FormatInt(since, 10)}, "pathPrefix": {pathPrefix}}
	err := g.call(ctx, http.MethodGet, "/records?"+query.Encode(), nil, http.StatusOK, &page)
	return page, err
}

// SetOracle has the gateway's oracle answer as it says. nil: it answers nothing any more.
func (g *Gateway) SetOracle(ctx context.Context, oracle *gateway.Oracle) error {
	if oracle == nil {
		return g.call(ctx, http.MethodDelete, "/oracle", nil, http.StatusNoContent, nil)
	}
	return g.call(ctx, http.MethodPut, "/oracle", oracle, http.StatusNoContent, nil)
}

func rulePath(id string) string { return "/rules/" + url.PathEscape(id) }

// call sends in (nil: no body) and reads the answer into out (nil: none).
func (g *Gateway) call(ctx context.Context, method, path string, in any, want int, out any) error {
	fail := func(err error) error { return fmt.Errorf("fault gateway: %s %s: %w", method, path, err) }
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fail(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, g.baseURL+path, body)
	if err != nil {
		return fail(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	res, err := g.client.Do(req)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		var refusal gateway.ErrorBody
		if json.Unmarshal(text, &refusal) == nil && refusal.Error != "" {
			text = []byte(refusal.Error)
		}
		return fail(fmt.Errorf("want status %d, found %d: %s", want, res.StatusCode, bytes.TrimSpace(text)))
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fail(fmt.Errorf("reading the answer: %w", err))
	}
	return nil
}
