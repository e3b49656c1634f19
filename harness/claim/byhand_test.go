package claim

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/env"
)

func TestChanged(t *testing.T) {
	object := func() map[string]any {
		return map[string]any{"spec": map[string]any{
			"paused":  true,
			"trigger": map[string]any{"schedule": "0 * * * *"},
			"restic":  map[string]any{"unlock": "by-hand", "cacheCapacity": "2Gi", "moverSecurityContext": map[string]any{"runAsUser": int64(0)}, "copyMethod": "Direct"},
		}}
	}
	spec := func(o map[string]any) map[string]any { return o["spec"].(map[string]any) }
	for name, c := range map[string]struct {
		change func(spec map[string]any)
		want   string
	}{
		"as set":       {func(map[string]any) {}, ""},
		"goes on":      {func(s map[string]any) { delete(s, "paused") }, "[spec paused] is <nil>, and was set to true"},
		"made anew":    {func(s map[string]any) { s["restic"] = map[string]any{"copyMethod": "Direct"} }, "[spec restic cacheCapacity] is <nil>, and was set to 2Gi"},
		"another user": {func(s map[string]any) { s["restic"].(map[string]any)["moverSecurityContext"] = map[string]any{} }, "[spec restic moverSecurityContext runAsUser] is <nil>, and was set to 0"},
	} {
		o := object()
		c.change(spec(o))
		if got := changed(setByHand, o, "spec"); got != c.want {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
}

// scans is an audit log of what Kyverno asks of itself: by this controller, and after this time.
type scans struct {
	nothingMade
	begun time.Time
	by    string
	after time.Duration // 0: never
	blind bool
}

func (s scans) Created(_ context.Context, resource, _ string, since time.Time) ([]creations.CreatedObject, error) {
	at := s.begun.Add(s.after)
	switch {
	case s.blind:
		return nil, errTransport
	case resource != "updaterequests" || s.after == 0 || time.Now().Before(at) || at.Before(since):
		return nil, nil
	}
	return []creations.CreatedObject{{Name: "ur-1", User: "system:serviceaccount:kyverno:" + s.by, Time: at}}, nil
}

// That nothing undoes what was set by hand is said once a scan was seen to come by.
func TestWhatWasSetByHandStaysThroughAScan(t *testing.T) {
	const background, admission = "kyverno-background-controller", "kyverno-admission-controller"
	spec := func(o *unstructured.Unstructured) {
		o.Object["spec"] = map[string]any{"sourcePVC": "data", "paused": true,
			"restic": map[string]any{"unlock": "by-hand", "cacheCapacity": "2Gi", "moverSecurityContext": map[string]any{"runAsUser": int64(0)}}}
	}
	for name, c := range map[string]struct {
		once   bool // the policy makes everything once
		log    scans
		undone time.Duration // when a scan undoes it; 0: never
		want   string
		says   string
	}{
		"a scan came by":                          {log: scans{by: background, after: 20 * time.Second}, want: "pass"},
		"a scan came by late":                     {log: scans{by: background, after: 70 * time.Second}, want: "pass"},
		"none was seen":                           {want: "unknown", says: "no request of Kyverno's background scan was seen"},
		"requests of admissions":                  {log: scans{by: admission, after: 20 * time.Second}, want: "unknown", says: "no request of Kyverno's background scan"},
		"a scan before the change":                {log: scans{by: background, after: -time.Second}, want: "unknown", says: "no request of Kyverno's background scan"},
		"the log cannot be read":                  {log: scans{blind: true}, want: "unknown"},
		"no scan is for the policy":               {once: true, want: "pass"},
		"a scan undoes it":                        {log: scans{by: background, after: 20 * time.Second}, undone: 21 * time.Second, want: "fail", says: "paused"},
		"a late scan undoes it":                   {log: scans{by: background, after: 70 * time.Second}, undone: 71 * time.Second, want: "fail", says: "paused"},
		"a scan undoes it in time to be seen":     {log: scans{by: background, after: 44 * time.Second}, undone: 47 * time.Second, want: "fail", says: "paused"},
		"something undoes it, and nobody can say": {log: scans{blind: true}, undone: 5 * time.Second, want: "fail", says: "paused"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun := time.Now()
			c.log.begun = begun
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data-restic"}, Data: map[string][]byte{"RESTIC_PASSWORD": []byte("old")}}
			api := interceptor.NewClient(fake.NewClientBuilder().WithObjects(source(spec), secret).Build(), interceptor.Funcs{
				List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					err := api.List(ctx, list, opts...)
					if all, ok := list.(*unstructured.UnstructuredList); ok && c.undone > 0 && time.Since(begun) > c.undone {
						for i := range all.Items {
							unstructured.RemoveNestedField(all.Items[i].Object, "spec", "paused")
						}
					}
					return err
				},
			})
			claims, _ := claimsOf(t, env.Parts{API: api, Created: c.log})
			claims.env.Testbed.Policy = []map[string]any{{"apiVersion": "policies.kyverno.io/v1", "kind": "GeneratingPolicy", "metadata": map[string]any{"name": "p"},
				"spec": map[string]any{"evaluation": map[string]any{"generateExisting": map[string]any{"enabled": !c.once}}}}}
			return func() { (&ByHand{claims.claim("data"), secret}).StaysThroughAScan(t.Context()) }
		})
	}
}
