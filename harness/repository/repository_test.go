package repository

import (
	"testing"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/testbed"
)

func TestRequestsAreAboutAPVC(t *testing.T) {
	s := &env.Suite{Testbed: &testbed.Testbed{Store: &objectstore.Handle{Bucket: "b"}, Contract: policy.Contract{S3: policy.S3{Path: "prod/{namespace}/{pvc}"}}}}
	r := Of(s.In("ns", "core/x", &recorded.Reporter{}))
	for _, c := range []struct {
		record gateway.Record
		want   bool
	}{
		{gateway.Record{Path: "/b/prod/ns/data/config"}, true},
		{gateway.Record{Path: "/b/", Query: "list-type=2&prefix=prod%2Fns%2Fdata%2F"}, true},
		{gateway.Record{Path: "/b/", Query: "list-type=2&prefix=prod/ns/data/snapshots/"}, true},
		{gateway.Record{Path: "/b/prod/ns/data2/config"}, false},
		{gateway.Record{Path: "/b/ns/data/config"}, false},
		{gateway.Record{Path: "/b/", Query: "list-type=2&prefix=prod/ns/"}, false},
	} {
		if got := IsAbout(c.record, r, "data"); got != c.want {
			t.Errorf("%s?%s: %v", c.record.Path, c.record.Query, got)
		}
	}
	if got := r.NamespacePath(); got != "/b/prod/ns/" {
		t.Errorf("the namespace's path is %s", got)
	}
}

// Kyverno's question is one to S3 or, by the contract, to the oracle, and never what a mover, the oracle or a probe asks.
func TestQuestionsAboutAPVC(t *testing.T) {
	const agent = "Go-http-client/1.1"
	oracle := policy.Oracle{URL: "http://o.kyverno.svc/exists?n={namespace}&p={pvc}"}
	config := gateway.Record{Path: "/b/ns/data/config", Auth: gateway.AuthNone, UserAgent: agent}
	question := gateway.Record{To: gateway.ToOracle, Path: "/exists", Query: "n=ns&p=data", Auth: gateway.AuthNone, UserAgent: agent}
	of := func(r gateway.Record, change func(*gateway.Record)) gateway.Record {
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		record         gateway.Record
		toS3, toOracle bool
	}{
		"of S3":                    {config, true, false},
		"of S3, about another":     {of(config, func(r *gateway.Record) { r.Path = "/b/ns/data-2/config" }), false, false},
		"of S3, a mover's":         {of(config, func(r *gateway.Record) { r.Auth = gateway.AuthAWS4 }), false, false},
		"of S3, the oracle's":      {of(config, func(r *gateway.Record) { r.UserAgent = gateway.OracleAgent }), false, false},
		"of S3, a probe's":         {of(config, func(r *gateway.Record) { r.UserAgent = probe.UserAgent }), false, false},
		"of the oracle":            {question, false, true},
		"with a token":             {of(question, func(r *gateway.Record) { r.Auth = gateway.AuthBearer }), false, true},
		"of the oracle, another's": {of(question, func(r *gateway.Record) { r.Query = "n=ns&p=data-2" }), false, false},
		"of the oracle, a probe's": {of(question, func(r *gateway.Record) { r.UserAgent = probe.UserAgent }), false, false},
	} {
		for _, oracle := range []policy.Oracle{{}, oracle} {
			s := &env.Suite{Testbed: &testbed.Testbed{Store: &objectstore.Handle{Bucket: "b"}, Contract: policy.Contract{S3: policy.S3{Path: "{namespace}/{pvc}"}, Oracle: oracle}}}
			r, want := Of(s.In("ns", "core/x", &recorded.Reporter{})), c.toS3
			if oracle.Named() {
				want = c.toOracle
			}
			if got := IsQuestion(c.record, r, "data"); got != want {
				t.Errorf("%s, with an oracle %v: %v", name, oracle.Named(), got)
			}
		}
	}
}
