package claim

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/policy"
)

// pvcSaying is a PVC of the spec's with this decision and this value of the label; empty: none.
func pvcSaying(decision, label string) *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: "u1"}}
	if decision != "" {
		pvc.Annotations = map[string]string{"smart-restore/decision": decision}
	}
	if label != "" {
		pvc.Labels = map[string]string{"backup": label}
	}
	return pvc
}

func TestWhatAClaimFromGitSays(t *testing.T) {
	deleted := pvcSaying("fresh", "hourly")
	deleted.DeletionTimestamp, deleted.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"kubernetes.io/pvc-protection"}
	for name, c := range map[string]struct {
		pvc        *corev1.PersistentVolumeClaim
		silent     bool // the policy promises nothing of it
		do         func(context.Context, *Claim)
		want, says string
	}{
		"the decision stays":         {pvcSaying("fresh", ""), false, func(ctx context.Context, c *Claim) { c.StillDecided(ctx, "fresh", "a sync") }, "pass", ""},
		"the decision is lost":       {pvcSaying("", ""), false, func(ctx context.Context, c *Claim) { c.StillDecided(ctx, "fresh", "a sync") }, "fail", "the decision is lost"},
		"nothing was decided":        {pvcSaying("", ""), false, func(ctx context.Context, c *Claim) { c.StillDecided(ctx, "", "a sync") }, "pass", ""},
		"it says unknown":            {pvcSaying("unknown: a pod was waiting", ""), false, func(ctx context.Context, c *Claim) { c.SaysUnknown(ctx, "it is empty") }, "pass", ""},
		"it says fresh":              {pvcSaying("fresh", ""), false, func(ctx context.Context, c *Claim) { c.SaysUnknown(ctx, "it is empty") }, "fail", `"fresh"`},
		"nobody promises to say":     {pvcSaying("fresh", ""), true, func(ctx context.Context, c *Claim) { c.SaysUnknown(ctx, "it is empty") }, "pass", ""},
		"labelled":                   {pvcSaying("", "hourly"), false, func(ctx context.Context, c *Claim) { c.LabelledAgain(ctx) }, "pass", ""},
		"nobody labels it again":     {pvcSaying("", ""), false, func(ctx context.Context, c *Claim) { c.LabelledAgain(ctx) }, "unknown", "its label backup is"},
		"being deleted":              {deleted, false, func(ctx context.Context, c *Claim) { c.BeingDeleted(ctx) }, "pass", ""},
		"another":                    {pvcSaying("", ""), false, func(ctx context.Context, c *Claim) { c.UID = "u0"; c.BeingDeleted(ctx) }, "pass", ""},
		"nobody deletes it":          {pvcSaying("", ""), false, func(ctx context.Context, c *Claim) { c.BeingDeleted(ctx) }, "unknown", "it is as it was"},
		"what it says, where it may": {pvcSaying("fresh", ""), false, func(ctx context.Context, c *Claim) { c.StillDecided(ctx, c.Decided(ctx), "a sync") }, "pass", ""},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(c.pvc).Build()})
			contract := &claims.env.Testbed.Contract
			contract.Decisions = policy.Decisions{Annotation: "smart-restore/decision", Restore: "restore", Fresh: "fresh", Unknown: "unknown: .+"}
			if !c.silent {
				contract.Features = []string{"visible-decision"}
			}
			claim := claims.claim("data")
			claim.UID = "u1"
			return func() { c.do(t.Context(), claim) }
		})
	}
}

// A manifest has what selects the PVC, and its kind, by which it is told from others in git.
func TestAManifestIsALabelledPVC(t *testing.T) {
	claims, _ := claimsOf(t, env.Parts{})
	pvc := Manifest(claims, "data")
	if pvc.Kind != "PersistentVolumeClaim" || pvc.APIVersion != "v1" || pvc.Labels["backup"] != "hourly" || pvc.Namespace != "ns" {
		t.Errorf("got %v", pvc)
	}
}
