package install

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// Whether the API server takes what is applied for each PVC is known before any spec, and nothing of it is made.
func TestTemplatesAreTriedBeforeTheyAreApplied(t *testing.T) {
	denied := apierrors.NewForbidden(schema.GroupResource{Resource: "replicationsources"}, "canary", errors.New(`admission webhook "x" denied the request: no`))
	hiccup := errors.New("read tcp: connection reset by peer")
	for name, c := range map[string]struct {
		class   string
		answers []error // to what is applied, in turn; then none
		render  error
		want    string // empty: they are taken
	}{
		"taken":                       {class: "fast"},
		"after a hiccup":              {class: "fast", answers: []error{hiccup, nil, hiccup}},
		"refused":                     {class: "fast", answers: []error{nil, denied}, want: "the policy does not let a PVC be created: ReplicationSource canary is not taken"},
		"of a kind that is not there": {class: "fast", answers: []error{&meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "ExternalSecret"}}}, want: "the cluster does not serve /v1, Kind=PersistentVolumeClaim"},
		"of a class that is not":      {class: "csi", want: "PersistentVolumeClaim canary names the StorageClass csi, which is not there"},
		"not to be filled in":         {render: errors.New("variable not set"), want: "variable not set"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers, applied := slices.Clone(c.answers), 0
				api := interceptor.NewClient(fake.NewClientBuilder().WithObjects(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}).Build(), interceptor.Funcs{
					Patch: func(_ context.Context, _ client.WithWatch, _ client.Object, _ client.Patch, options ...client.PatchOption) error {
						if o := (&client.PatchOptions{}).ApplyOptions(options); !slices.Equal(o.DryRun, []string{metav1.DryRunAll}) {
							t.Error("something is made")
						}
						applied++
						if len(answers) == 0 {
							return nil
						}
						answer := answers[0]
						answers = answers[1:]
						return answer
					},
				})
				err := templatesTaken(t.Context(), api, Canary{NamespacePrefix: "c-", NamespaceLabels: map[string]string{"a": "b"}, Templates: func(namespace string) ([]*unstructured.Unstructured, error) {
					if !strings.HasPrefix(namespace, "c-") {
						t.Errorf("tried in %s", namespace)
					}
					return []*unstructured.Unstructured{
						{Object: map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]any{"name": "canary", "namespace": namespace}, "spec": map[string]any{"storageClassName": c.class}}},
						{Object: map[string]any{"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": map[string]any{"name": "canary", "namespace": namespace}}},
					}, c.render
				}})
				switch {
				case c.want == "" && (err != nil || applied < 2):
					t.Errorf("%v, and %d objects were tried", err, applied)
				case c.want != "" && (!errors.Is(err, ErrRefuses) || !strings.Contains(err.Error(), c.want)):
					t.Errorf("got %v\nwant %s", err, c.want)
				}
				left := &corev1.NamespaceList{}
				if err := api.List(t.Context(), left); err != nil || len(left.Items) > 0 {
					t.Errorf("left are %v, %v", left.Items, err)
				}
			})
		})
	}
}
