package claim

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/alerts"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/volsync"
)

func TestAlerts(t *testing.T) {
	const (
		both     = `- {alert: A, expr: "max by (obj_namespace, obj_name) (volsync_volume_out_of_sync) == 1", for: 1h}`
		bySource = `- {alert: A, expr: 'volsync_volume_out_of_sync{role="source"} == 1', for: 1h}`
		late     = `- {alert: A, expr: "volsync_volume_out_of_sync == 1", for: 3d}`
		always   = `- {alert: A, expr: "volsync_volume_out_of_sync >= 0"}`
		nobody   = `- {alert: A, expr: "sum(volsync_volume_out_of_sync) > 0"}`
		absent   = `- {alert: A, expr: 'absent(reconciled{controller="x"})'}`
		byPVC    = `- {alert: A, expr: 'sum by (obj_namespace, pvc) (label_replace(volsync_volume_out_of_sync == 1, "pvc", "$1", "obj_name", "(.+)-backup"))', for: 1h}`
	)
	line := func(namespace, name, role string, value int) string {
		return fmt.Sprintf("volsync_volume_out_of_sync{method=\"restic\",obj_name=%q,obj_namespace=%q,role=%q} %d\n", name, namespace, role, value)
	}
	bad, well := line("ns", "data-backup", "source", 1), line("ns", "data-backup", "source", 0)
	stuck := line("ns", "data-backup", "destination", 1) + bad
	backedUp := func(ctx context.Context, c *Claim) { c.AlertsThatNotBackedUp(ctx) }
	restored := func(ctx context.Context, c *Claim) { c.AlertsThatNotRestored(ctx) }
	none := func(ctx context.Context, c *Claim) { c.NoAlert(ctx) }
	for name, c := range map[string]struct {
		verb        func(context.Context, *Claim)
		rules, text string
		blind       error
		want, says  string
	}{
		"told":                                 {backedUp, both, bad, nil, "pass", ""},
		"told by the PVC's name":               {backedUp, byPVC, bad, nil, "pass", ""},
		"not told":                             {backedUp, both, well, nil, "fail", "an alert of rules.yaml for PVC data"},
		"VolSync has no metrics of it":         {backedUp, both, "", nil, "fail", "an alert of rules.yaml for PVC data"},
		"told of another namespace's":          {backedUp, both, line("other", "data-backup", "source", 1) + well, nil, "fail", "true are 1 alerts of others"},
		"told of another's":                    {backedUp, both, line("ns", "data2-backup", "source", 1) + well, nil, "fail", "true are 1 alerts of others"},
		"told of nobody by name":               {backedUp, nobody, bad, nil, "fail", "of the stack as a whole [A{} for 0s]"},
		"told too late":                        {backedUp, late, bad, nil, "fail", "nobody hears of it"},
		"told too late, and in time":           {backedUp, late + "\n  " + both, bad, nil, "pass", ""},
		"metrics cannot be read":               {backedUp, both, "", errTransport, "unknown", "connection reset"},
		"no metrics at all":                    {backedUp, both, "<html>", nil, "unknown", "metrics of"},
		"of a restore":                         {restored, both, stuck, nil, "pass", ""},
		"of a restore, only by its source":     {restored, bySource, stuck, nil, "fail", "by the metrics of its ReplicationDestination"},
		"nothing to tell":                      {none, both, well, nil, "pass", ""},
		"nothing to tell, and told":            {none, always, well, nil, "fail", "no alert of rules.yaml for PVC data"},
		"nothing to tell, and nothing to tell": {none, both, line("ns", "other", "source", 0), nil, "unknown", "says nothing"},
		"told of another's, and well itself":   {none, both, line("gone", "data-backup", "source", 1) + well, nil, "pass", ""},
		"told of the stack, which is well":     {none, absent, well, nil, "fail", "of the stack as a whole [A{controller=x} for 0s]"},
		"nothing to tell, and no metrics":      {none, both, "", errTransport, "unknown", "connection reset"},
		"the rules did not arrive":             {backedUp, "lost", bad, nil, "unknown", "rules.yaml"},
		"the policy brings no rules":           {backedUp, "", "", errTransport, "pass", ""},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(source()).Build()})
			if c.rules != "" {
				claims.env.Testbed.Contract.Alerts = "rules.yaml"
			}
			if strings.HasPrefix(c.rules, "-") {
				claims.env.Testbed.Alerts = "groups:\n- name: g\n  rules:\n  " + c.rules + "\n"
			}
			claims.metrics = func(context.Context) ([]alerts.Scrape, error) {
				return []alerts.Scrape{{At: time.Now(), Target: map[string]string{"namespace": "volsync-system"}, Text: []byte(c.text)}}, c.blind
			}
			return func() { c.verb(t.Context(), claims.claim("data")) }
		})
	}
}

// VolSync finds a schedule missed only of a source that has one, and that a backup of was done.
func TestLastBackupWasLongAgo(t *testing.T) {
	for name, c := range map[string]struct {
		status map[string]any
		want   string
	}{
		"backed up":       {map[string]any{"lastSyncTime": "2026-11-26T12:00:00Z", "nextSyncTime": "2026-11-26T13:00:00Z"}, "pass"},
		"never backed up": {map[string]any{}, "unknown"},
		"at work":         {map[string]any{"lastSyncTime": "2026-11-26T12:00:00Z", "lastSyncStartTime": "2026-11-26T13:00:00Z"}, "unknown"},
	} {
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			of := source(func(o *unstructured.Unstructured) {
				o.Object["status"] = c.status
				_ = unstructured.SetNestedField(o.Object, map[string]any{"manual": "by-hand", "schedule": "0 * * * *"}, "spec", "trigger")
			})
			api := fake.NewClientBuilder().WithObjects(of).WithStatusSubresource(of).Build()
			claims, _ := claimsOf(t, env.Parts{API: api})
			return func() {
				claims.claim("data").LastBackupWasLongAgo(t.Context())
				now := of.DeepCopy()
				if err := api.Get(t.Context(), client.ObjectKeyFromObject(of), now); err != nil {
					t.Fatal(err)
				}
				last, err := time.Parse(time.RFC3339, volsync.Nested(now, "status", "lastSyncTime"))
				if err != nil || time.Since(last) < longAgo-time.Hour || volsync.Nested(now, "status", "nextSyncTime") != volsync.Nested(now, "status", "lastSyncTime") ||
					volsync.Nested(now, "spec", "trigger", "manual") != "" || volsync.Nested(now, "spec", "trigger", "schedule") == "" {
					t.Errorf("%v %v, %v", now.Object["spec"], now.Object["status"], err)
				}
			}
		})
	}
}

// What is compared with is what is written once nothing more is: a later word differs, another time does not.
func TestAsItSays(t *testing.T) {
	inBubble(t, "a word that comes a moment later", "pass", "", func(t *testing.T) func() {
		pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data"}}
		api := fake.NewClientBuilder().WithObjects(pvc).Build()
		claims, _ := claimsOf(t, env.Parts{API: api})
		write := func(key, value string) {
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value)
			if err := api.Patch(t.Context(), pvc.DeepCopy(), client.RawPatch(types.MergePatchType, patch)); err != nil {
				t.Error(err)
			}
		}
		return func() {
			claim := claims.claim("data")
			go func() {
				time.Sleep(time.Second)
				write("example.com/backed-up", "at 10:00")
			}()
			as := claim.AsItSays(t.Context())
			for _, now := range []struct {
				key, value string
				differs    bool
			}{{"example.com/backed-up", "at 11:00", false}, {"example.com/warning", "no backup", true}} {
				write(now.key, now.value)
				if said, differs, err := claim.says(t.Context(), as); err != nil || differs != now.differs {
					t.Errorf("%s differs: %v, %v", said, differs, err)
				}
			}
		}
	})
}
