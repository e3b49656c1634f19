package platform

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/testbed"
)

// stored is a platform whose contract names a store.
func stored(t *testing.T, l *log, entries ...policy.StoreEntry) *Platform {
	t.Helper()
	bed := &testbed.Testbed{}
	bed.Credentials.ResticPassword = "the-right-one"
	bed.Contract.SecretStore = policy.SecretStore{Kind: policy.ClusterSecretStore, Name: "s", Entries: entries}
	return platformWith(t, l, env.Parts{Testbed: bed})
}

func external(name, ready string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	if ready != "" {
		o.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}
	}
	o.SetGroupVersionKind(externalSecret)
	o.SetNamespace("ns")
	o.SetName(name)
	return o
}

func TestTheStoreIsAwayAndComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		there []*unstructured.Unstructured
		want  string
	}{
		"all are read":    {[]*unstructured.Unstructured{external("a", "True"), external("b", "True")}, "pass"},
		"one is not read": {[]*unstructured.Unstructured{external("a", "True"), external("b", "False")}, "unknown"},
		"there are none":  {nil, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &log{}
				p := stored(t, l, policy.StoreEntry{Key: "k", Value: "{resticPassword}"})
				for _, o := range c.there {
					if err := l.api.Create(t.Context(), o); err != nil {
						t.Fatal(err)
					}
				}
				got := recorded.Outcome(func() { p.WithoutSecretStore(t.Context())(t.Context()) })
				if got.How != c.want {
					t.Errorf("%+v, wanted %s", got, c.want)
				}
				if want := []string{"register: put back the ClusterSecretStore s", "remove 1", "apply 1"}; !slices.Equal(l.did, want) {
					t.Errorf("did %q, wanted %q", l.did, want)
				}
			})
		})
	}
}

func TestThatAStoreIsMissedIsSeen(t *testing.T) {
	for ready, want := range map[string]string{"True": "unknown", "False": "pass", "": "pass"} {
		synctest.Test(t, func(t *testing.T) {
			l := &log{}
			p := stored(t, l)
			if err := l.api.Create(t.Context(), external("a", ready)); err != nil {
				t.Fatal(err)
			}
			if got := recorded.Outcome(func() { p.SecretStoreMissed(t.Context()) }); got.How != want {
				t.Errorf("Ready %q: %+v, wanted %s", ready, got, want)
			}
		})
	}
}

// The operator may answer with what the store held before: the spec goes on when it does not.
func TestAWrongPasswordIsSeenToBeAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		entry   policy.StoreEntry
		answers []string // of the operator, one after the other; the last one again and again
		want    string
		ref     map[string]any
	}{
		"at once":            {policy.StoreEntry{Key: "k", Value: "{resticPassword}"}, []string{wrongPassword}, "pass", map[string]any{"key": "k"}},
		"after a while":      {policy.StoreEntry{Key: "k", Version: "2", Properties: map[string]string{"P": "{resticPassword}"}}, []string{"the-right-one", "the-right-one", wrongPassword}, "pass", map[string]any{"key": "k", "version": "2", "property": "P"}},
		"never":              {policy.StoreEntry{Key: "k", Value: "{resticPassword}"}, []string{"the-right-one"}, "unknown", map[string]any{"key": "k"}},
		"there is none":      {policy.StoreEntry{Key: "k", Value: "{bucket}"}, nil, "unknown", nil},
		"the operator rests": {policy.StoreEntry{Key: "k", Value: "{resticPassword}"}, nil, "unknown", map[string]any{"key": "k"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &log{}
				p := stored(t, l, c.entry)
				var asked []any
				answers := c.answers
				p.env.API = interceptor.NewClient(l.api.(client.WithWatch), interceptor.Funcs{Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					if err := api.Create(ctx, o, opts...); err != nil {
						return err
					}
					data, _, _ := unstructured.NestedSlice(o.(*unstructured.Unstructured).Object, "spec", "data")
					asked = append(asked, data[0].(map[string]any)["remoteRef"])
					if len(answers) == 0 {
						return nil
					}
					secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}, Data: map[string][]byte{"value": []byte(answers[0])}}
					if len(answers) > 1 {
						answers = answers[1:]
					}
					return api.Create(ctx, secret)
				}})
				got := recorded.Outcome(func() { p.WrongPasswordInSecretStore(t.Context()) })
				if got.How != c.want || strings.Contains(got.Reason, "the-right-one") {
					t.Errorf("%+v, wanted %s", got, c.want)
				}
				if len(asked) > 0 {
					if found := asked[0].(map[string]any); len(found) != len(c.ref) || found["key"] != c.ref["key"] || found["property"] != c.ref["property"] || found["version"] != c.ref["version"] {
						t.Errorf("asked for %v, wanted %v", found, c.ref)
					}
				}
				if c.ref == nil && len(l.did) > 0 {
					t.Errorf("did %q", l.did)
				}
				if c.want == "pass" {
					left := &unstructured.UnstructuredList{}
					left.SetGroupVersionKind(externalSecret)
					if err := l.api.List(t.Context(), left); err != nil || len(left.Items) > 0 {
						t.Errorf("left are %d, %v", len(left.Items), err)
					}
				}
			})
		})
	}
}

// The spec goes on when all Secrets of ExternalSecrets have the new password: those are read anew only when they are told to.
func TestAStoreIsRotated(t *testing.T) {
	const old, renewed = "the-right-one", "the-new-one"
	for name, c := range map[string]struct {
		refreshed map[string]bool // the ExternalSecrets that the operator refreshes
		want      string
	}{
		"all":  {map[string]bool{"a": true, "b": true}, "pass"},
		"one":  {map[string]bool{"a": true}, "unknown"},
		"none": {nil, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &log{}
				p := stored(t, l, policy.StoreEntry{Key: "k", Value: "{resticPassword}"})
				b := external("b", "True")
				if err := unstructured.SetNestedField(b.Object, "target-of-b", "spec", "target", "name"); err != nil {
					t.Fatal(err)
				}
				targets := map[string]string{"a": "a", "b": "target-of-b"}
				for _, o := range []client.Object{external("a", "True"), b, secretOf("a", old), secretOf("target-of-b", old)} {
					if err := l.api.Create(t.Context(), o); err != nil {
						t.Fatal(err)
					}
				}
				p.env.API = interceptor.NewClient(l.api.(client.WithWatch), interceptor.Funcs{
					Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
						if err := api.Create(ctx, o, opts...); err != nil {
							return err
						}
						return api.Create(ctx, secretOf(o.GetName(), renewed)) // of the probe
					},
					Patch: func(ctx context.Context, api client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
						if err := api.Patch(ctx, o, patch, opts...); err != nil || !c.refreshed[o.GetName()] || o.GetAnnotations()["force-sync"] == "" {
							return err
						}
						return api.Update(ctx, secretOf(targets[o.GetName()], renewed))
					},
				})
				if got := recorded.Outcome(func() { p.RotatedInSecretStore(t.Context(), renewed) }); got.How != c.want || strings.Contains(got.Reason, renewed) {
					t.Errorf("%+v, wanted %s", got, c.want)
				}
				if len(l.did) == 0 || l.did[0] != "register: put back what the ClusterSecretStore s holds" {
					t.Errorf("did %q", l.did)
				}
			})
		})
	}
}

func secretOf(name, password string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string][]byte{"value": []byte(password)}}
}
