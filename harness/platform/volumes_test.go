package platform

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/env"
)

func TestOnlyReleasedVolumesOfTheProvisionersAreRemoved(t *testing.T) {
	volume := func(name string, phase corev1.PersistentVolumePhase, reclaim corev1.PersistentVolumeReclaimPolicy, path string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PersistentVolumeSpec{
				PersistentVolumeReclaimPolicy: reclaim,
				ClaimRef:                      &corev1.ObjectReference{Namespace: "ns", Name: "data"},
				PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}},
			},
			Status: corev1.PersistentVolumeStatus{Phase: phase},
		}
	}
	nowhere := volume("nowhere", corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain, "")
	nowhere.Spec.HostPath = nil
	unclaimed := volume("unclaimed", corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain, "/var/unclaimed")
	unclaimed.Spec.ClaimRef = nil
	api := fake.NewClientBuilder().WithObjects(nowhere, unclaimed,
		volume("old", corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain, "/var/old_ns_data"),
		volume("older", corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain, "/var/older_ns_data"),
		volume("bound", corev1.VolumeBound, corev1.PersistentVolumeReclaimRetain, "/var/bound_ns_data"),
		volume("deleted", corev1.VolumeReleased, corev1.PersistentVolumeReclaimDelete, "/var/deleted_ns_data"),
		volume("elsewhere", corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain, "/home"),
	).Build()
	var ran []string
	s := &env.Suite{API: api, Node: func(_ context.Context, args ...string) (string, error) {
		ran = append(ran, args...)
		return "", nil
	}}
	for range 2 { // the second time there is nothing to do
		if err := PruneVolumes(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"rm", "-rf", "--", "/var/old_ns_data", "/var/older_ns_data"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, wanted %q", ran, want)
	}
	left := &corev1.PersistentVolumeList{}
	if err := api.List(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range left.Items {
		names = append(names, v.Name)
	}
	if want := []string{"bound", "deleted", "elsewhere", "nowhere", "unclaimed"}; !slices.Equal(names, want) {
		t.Errorf("left %q, wanted %q", names, want)
	}
}
