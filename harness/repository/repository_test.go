package repository

import (
	"testing"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
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
