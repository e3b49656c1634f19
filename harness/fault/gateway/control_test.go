package gateway

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

func TestControlWantsItsToken(t *testing.T) {
	g := start(t, serveObject)
	for _, c := range []struct{ method, path string }{
		{"PUT", "/rules/x"}, {"DELETE", "/rules/x"}, {"DELETE", "/rules"}, {"GET", "/rules"}, {"GET", "/records"}, {"GET", "/nothing"},
	} {
		for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic " + token, token, "Bearer " + token + "x"} {
			if status, text := g.call(c.method, c.path, auth, `{"fault":{"kind":"reset"}}`); status != 401 {
				t.Errorf("%s %s with %q: want 401, found %d %s", c.method, c.path, auth, status, text)
			}
		}
	}
	if rules := g.server.rules.list().Rules; len(rules) > 0 {
		t.Errorf("want no rule, found %+v", rules)
	}
	if status, _ := g.call("GET", "/healthz", "", ""); status != 200 {
		t.Errorf("healthz: want 200 without a token, found %d", status)
	}
}

func TestControlRefusesBadRules(t *testing.T) {
	g := start(t, serveObject)
	for _, c := range []struct{ id, body, want string }{
		{"x", ``, "byte 0: EOF"},
		{"x", `{"fault":}`, "byte 10: invalid character"},
		{"x", `{"fault":{"kind":"reset"}} {}`, "more after it"},
		{"x", `{"fault":{"kind":"reset"},"pathprefix2":"/"}`, `unknown field "pathprefix2"`},
		{"x", `{"fault":{"kind":"status","status":"403"}}`, "byte 40: json: cannot unmarshal string"},
		{"x", `{"id":"y","fault":{"kind":"reset"}}`, `id: want "x" as in the URL, found "y"`},
		{"..x", `{"fault":{"kind":"reset"}}`, "id: want"},
		{"x", `{}`, `fault.kind: want one of absent, cert-expired,`},
		{"x", `{"fault":{"kind":"nonsense"}}`, `found "nonsense"`},
		{"x", `{"pathPrefix":"b","fault":{"kind":"reset"}}`, "pathPrefix: want a path beginning with /"},
		{"x", `{"pathPrefix":"/b?x","fault":{"kind":"reset"}}`, "pathPrefix: want an escaped path without query"},
		{"x", `{"methods":["get"],"fault":{"kind":"reset"}}`, `methods[0]: want a method in capitals`},
		{"x", `{"auth":["aws4","signed"],"fault":{"kind":"reset"}}`, `auth[1]: want one of none, aws4, bearer, basic, other, found "signed"`},
		{"x", `{"clients":["10.0.0.1:9"],"fault":{"kind":"reset"}}`, `clients[0]: want an IP address, found "10.0.0.1:9"`},
		{"x", `{"about":"buckets","fault":{"kind":"reset"}}`, `about: want objects or listings, found "buckets"`},
		{"x", `{"ttlSeconds":-1,"fault":{"kind":"reset"}}`, "ttlSeconds: want 0 to 3600, found -1"},
		{"x", `{"ttlSeconds":3601,"fault":{"kind":"reset"}}`, "found 3601"},
		{"x", `{"fault":{"kind":"reset","status":403}}`, "fault.status: kind reset does not take it"},
		{"x", `{"fault":{"kind":"status"}}`, "status: want 200 to 599, found 0"},
		{"x", `{"fault":{"kind":"status","status":100}}`, "found 100"},
		{"x", `{"fault":{"kind":"status","status":403,"code":"A","body":"b"}}`, "want one of the two"},
		{"x", `{"fault":{"kind":"status","status":403,"contentType":"a/b"}}`, "want a body with it"},
		{"x", `{"fault":{"kind":"redirect","status":200,"location":"/"}}`, "want 301, 302"},
		{"x", `{"fault":{"kind":"redirect","status":301}}`, "location: want a URL"},
		{"x", `{"fault":{"kind":"hang","onHeal":"later"}}`, `onHeal: want "reset" or "answer"`},
		{"x", `{"fault":{"kind":"slow"}}`, "delayMillis: want 1 or more"},
		{"x", `{"fault":{"kind":"throttle"}}`, "kilobytesPerSecond: want 1 to 1000000"},
	} {
		status, text := g.call("PUT", "/rules/"+url.PathEscape(c.id), "Bearer "+token, c.body)
		var refusal api.ErrorBody
		if err := json.Unmarshal([]byte(text), &refusal); err != nil || status != 400 || !strings.Contains(refusal.Error, c.want) {
			t.Errorf("%s: want 400 with %q, found %d %s", c.body, c.want, status, text)
		}
	}
	for _, since := range []string{"x", "-1", "1.5"} {
		if status, text := g.call("GET", "/records?since="+since, "Bearer "+token, ""); status != 400 || !strings.Contains(text, "since: want a number") {
			t.Errorf("since=%s: want 400, found %d %s", since, status, text)
		}
	}
	if rules := g.server.rules.list().Rules; len(rules) > 0 {
		t.Errorf("want no rule, found %+v", rules)
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	good := Config{Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Token: "t", Log: &lockedBuffer{}}
	for want, change := range map[string]func(*Config){
		"upstream": func(c *Config) { c.Upstream = nil },
		"https":    func(c *Config) { c.Upstream = &url.URL{Scheme: "https", Host: "h"} },
		"/path":    func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: "h", Path: "/path"} },
		"token":    func(c *Config) { c.Token = "" },
		"log":      func(c *Config) { c.Log = nil },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %s, found %v", want, err)
		}
	}
}
