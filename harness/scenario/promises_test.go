package scenario

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/testbed"
)

func TestAReplicationSourceIsHeldAgainstTheContract(t *testing.T) {
	source := func(schedule, copyMethod string, retain map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
			"trigger": map[string]any{"schedule": schedule},
			"restic":  map[string]any{"copyMethod": copyMethod, "retain": retain},
		}}}
	}
	plans := map[string]any{"hourly": int64(24), "daily": int64(7)}
	nightly := policy.Default()
	nightly.Schedule, nightly.Retain = "30 2 * * *", policy.Retain{Daily: 14, Last: "3"}
	for name, c := range map[string]struct {
		contract policy.Contract
		source   *unstructured.Unstructured
		want     string
	}{
		"the plan's":             {policy.Default(), source("17 * * * *", "Direct", plans), ""},
		"more kept":              {policy.Default(), source("0 * * * *", "Direct", map[string]any{"hourly": int64(24), "daily": int64(7), "weekly": int64(1)}), ""},
		"too rarely":             {policy.Default(), source("0 0 * * *", "Direct", plans), `has the schedule "0 0 * * *", promised is @hourly`},
		"too few kept":           {policy.Default(), source("0 * * * *", "Direct", map[string]any{"hourly": int64(2), "daily": int64(7)}), "keeps map[daily:7 hourly:2], promised is hourly: 24"},
		"one kind not kept":      {policy.Default(), source("0 * * * *", "Direct", map[string]any{"hourly": int64(24)}), "promised is daily: 7"},
		"nothing kept":           {policy.Default(), source("0 * * * *", "Direct", nil), "keeps map[], promised is hourly: 24"},
		"no copy method":         {policy.Default(), source("0 * * * *", "", plans), `has the copyMethod "", promised is Direct`},
		"another policy's":       {nightly, source("30 2 * * *", "Direct", map[string]any{"daily": int64(14), "last": "3"}), ""},
		"another one's schedule": {nightly, source("0 * * * *", "Direct", map[string]any{"daily": int64(14), "last": "3"}), "promised is 30 2 * * *"},
	} {
		if got := brokenPromise(c.contract, c.source); got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
}

func TestNamesAreHeldAgainstTheContract(t *testing.T) {
	object := func(kind, name string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{"kind": kind}}
		o.SetName(name)
		return o
	}
	for _, c := range []struct {
		names policy.Names
		found *unstructured.Unstructured
		want  string
	}{
		{policy.Names{}, object("ReplicationSource", "anything"), "pass"},
		{policy.Names{ReplicationSource: "{pvc}-backup"}, object("ReplicationSource", "data-backup"), "pass"},
		{policy.Names{ReplicationSource: "{pvc}-backup"}, object("ReplicationDestination", "anything"), "pass"},
		{policy.Names{ReplicationSource: "{pvc}-backup"}, object("ReplicationSource", "data-back"), "fail"},
		{policy.Names{ReplicationDestination: "{namespace}.{pvc}.{uid}"}, object("ReplicationDestination", "ns.data.u-1"), "pass"},
		{policy.Names{ReplicationDestination: "{namespace}.{pvc}.{uid}"}, object("ReplicationDestination", "ns.data.u-2"), "fail"},
	} {
		s, _ := newScenario(t)
		s.Namespace, s.Testbed = "ns", &testbed.Testbed{Contract: policy.Contract{Names: c.names}}
		claim := &Claim{sc: s, Name: "data", UID: "u-1"}
		if got := outcome(func() { claim.IsCalledAsPromised(c.found) }); got.how != c.want {
			t.Errorf("%v, %s: %v", c.names, c.found.GetName(), got)
		}
	}
}

// An object counts as made for a PVC by its name where that is as promised, or begins with the PVC's and is not promised to
// begin otherwise.
func TestAbsencesKnowNames(t *testing.T) {
	for _, c := range []struct {
		promised, name string
		want           bool
	}{
		{"", "data-restic", true}, {"", "other", false}, {"", "data", false},
		{"data-x", "data-x", true}, {"data-x", "data-y", true}, {"data-x", "other-x", false},
		{"restic-data", "restic-data", true}, {"restic-data", "data-of-another", false}, {"restic-data", "restic-other", false},
	} {
		a := Absence{PVC: "data", Names: map[string]string{"secrets": c.promised}}
		if got := a.looksLike("secrets", c.name); got != c.want {
			t.Errorf("%q promised, %q found: %v", c.promised, c.name, got)
		}
	}
}

func TestRequestsAreAboutAClaim(t *testing.T) {
	s, _ := newScenario(t)
	s.Namespace = "ns"
	s.Testbed = &testbed.Testbed{Store: &objectstore.Handle{Bucket: "b"}, Contract: policy.Contract{S3: policy.S3{Path: "prod/{namespace}/{pvc}"}}}
	claim := &Claim{sc: s, Name: "data"}
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
		if got := claim.isAbout(c.record); got != c.want {
			t.Errorf("%s?%s: %v", c.record.Path, c.record.Query, got)
		}
	}
	if got := s.namespacePath(); got != "/b/prod/ns/" {
		t.Errorf("the namespace's path is %s", got)
	}
}
