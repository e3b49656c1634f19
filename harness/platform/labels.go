package platform

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
)

// LabelledByWebhook has a ClusterPolicy add the label to PVCs of this name in the namespace, until the spec ends. Its webhook is called
// after those of MutatingPolicies, and after it those are not called again.
func (p *Platform) LabelledByWebhook(ctx context.Context, name string) {
	p.needsKyverno()
	e := p.env
	if e.Testbed.Contract.PVC.Label == "" {
		e.Unknownf("the contract names no label that a webhook could add")
	}
	labels := map[string]any{}
	for key, value := range e.Testbed.Contract.PVC.Labels() {
		labels[key] = value
	}
	policy := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": map[string]any{"name": "label-" + e.Namespace},
		"spec": map[string]any{
			"background":           false,
			"webhookConfiguration": map[string]any{"failurePolicy": "Ignore"},
			"rules": []any{map[string]any{
				"name": "label",
				"match": map[string]any{"any": []any{map[string]any{"resources": map[string]any{
					"kinds": []any{"PersistentVolumeClaim"}, "namespaces": []any{e.Namespace}, "names": []any{e.PVC(name)}, "operations": []any{"CREATE"},
				}}}},
				"mutate": map[string]any{"patchStrategicMerge": map[string]any{"metadata": map[string]any{"labels": labels}}},
			}},
		},
	}}
	e.Undo("no policy that labels PVCs", func(ctx context.Context) error {
		return client.IgnoreNotFound(e.API.Delete(ctx, policy.DeepCopy()))
	})
	e.Do(ctx, func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(e.API.Create(ctx, policy.DeepCopy()))
	})
	e.Arrange(ctx, "another webhook that adds the label to PVC "+name, e.Times.Generate, func(ctx context.Context) (await.State, error) {
		pvc := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.PVC(name)},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
			},
		}
		err := e.API.Create(ctx, pvc, client.DryRunAll)
		labelled := len(labels) > 0
		for key, value := range labels {
			labelled = labelled && pvc.Labels[key] == value
		}
		return await.ReachedIf(labelled, "it is not labelled"), err
	})
}
