package claim

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/redact"
	"github.com/smart-restore/conformance/harness/testbed"
)

func TestAReplicationSourceIsHeldAgainstTheContract(t *testing.T) {
	source := func(schedule, copyMethod string, retain map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
			"trigger": map[string]any{"schedule": schedule},
			"restic":  map[string]any{"copyMethod": copyMethod, "retain": retain},
		}}}
	}
	once := source("0 * * * *", "Direct", nil)
	once.Object["spec"].(map[string]any)["trigger"].(map[string]any)["manual"] = "first"
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
		"once":                   {policy.Default(), once, `has the manual trigger "first"`},
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

// A policy may make several ReplicationSources of a PVC: each is held against the contract.
func TestEveryReplicationSourceIsHeldAgainstTheContract(t *testing.T) {
	promised := func(o *unstructured.Unstructured) {
		spec := o.Object["spec"].(map[string]any)
		spec["trigger"] = map[string]any{"schedule": "0 * * * *"}
		spec["restic"].(map[string]any)["retain"] = map[string]any{"hourly": int64(24), "daily": int64(7)}
	}
	second := func(of string, change ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
		o := source(append([]func(*unstructured.Unstructured){promised}, change...)...)
		o.SetName("data-r2")
		o.Object["spec"].(map[string]any)["sourcePVC"] = of
		return o
	}
	weekly := func(o *unstructured.Unstructured) {
		o.Object["spec"].(map[string]any)["trigger"] = map[string]any{"schedule": "0 0 * * 0"}
	}
	for name, c := range map[string]struct {
		second     *unstructured.Unstructured
		err        error
		want, says string
	}{
		"as promised":        {second("data"), nil, "pass", ""},
		"another schedule":   {second("data", weekly), nil, "fail", `ReplicationSource data-r2, one of 2 of PVC data, has the schedule "0 0 * * 0", promised is @hourly`},
		"another PVC's":      {second("other", weekly), nil, "pass", ""},
		"of an earlier PVC":  {second("data", weekly, ownedBy("earlier")), nil, "pass", ""},
		"nobody can see any": {second("data"), errTransport, "unknown", ""},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			claims, _ := claims(t, interceptor.Funcs{List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if c.err != nil {
					return c.err
				}
				return api.List(ctx, list, opts...)
			}}, source(promised), c.second)
			claim := claims.claim("data")
			claim.UID = "u-1"
			return func() { claim.EveryBackupIsAsPromised(t.Context()) }
		})
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
		s := &env.Suite{Artifacts: artifacts.Dir(t.TempDir()), Redactor: redact.NewRedactor(), Testbed: &testbed.Testbed{Contract: policy.Contract{Names: c.names}}}
		claims := &Claims{env: s.In("ns", "core/x", &recorded.Reporter{})}
		claim := &Claim{scope: &scope{claims}, Name: "data", UID: "u-1"}
		if got := recorded.Outcome(func() { claim.HasPromisedName(c.found) }); got.How != c.want {
			t.Errorf("%v, %s: %v", c.names, c.found.GetName(), got)
		}
	}
}

func TestADestinationRestoresOnce(t *testing.T) {
	for name, c := range map[string]struct {
		trigger map[string]any
		want    string
	}{
		"by hand":                {map[string]any{"manual": "restore-1"}, ""},
		"on a schedule":          {map[string]any{"schedule": "0 3 * * *"}, `has the schedule "0 3 * * *"`},
		"on a schedule, as well": {map[string]any{"manual": "restore-1", "schedule": "0 3 * * *"}, ""},
		"without end":            {nil, "has no manual trigger"},
	} {
		destination := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"trigger": c.trigger}}}
		if got := restoresAgain(destination); got != c.want {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
}
