package platform

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/testbed"
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

// What a run left that was killed while the nodes had no room is taken away, where there is a driver that goes by it.
func TestRoomIsMade(t *testing.T) {
	for name, c := range map[string]struct {
		objects []testbed.Object
		want    []string
	}{
		"a driver":  {[]testbed.Object{{Group: "storage.k8s.io", Version: "v1", Kind: "CSIDriver", Name: Driver}}, []string{"rm", "-f", "--", capacityFile}},
		"no driver": {nil, nil},
	} {
		var ran []string
		s := &env.Suite{
			API: fake.NewClientBuilder().Build(), Testbed: &testbed.Testbed{Platform: &testbed.Platform{Objects: c.objects}},
			Node: func(_ context.Context, args ...string) (string, error) {
				ran = append(ran, args...)
				return "", nil
			},
		}
		if err := PruneVolumes(t.Context(), s); err != nil || !slices.Equal(ran, c.want) {
			t.Errorf("%s: ran %q, %v, wanted %q", name, ran, err, c.want)
		}
	}
}

// A volume of the CSI driver has its folder there: the provisioner removes both where the PV says so. Snapshots are the driver's, too.
func TestWhatIsKeptOfTheDriversIsRemovedByIt(t *testing.T) {
	volume := func(name, driver string, phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PersistentVolumeSpec{
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				ClaimRef:                      &corev1.ObjectReference{Namespace: "gone", Name: "data"},
				PersistentVolumeSource:        corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "h"}},
			},
			Status: corev1.PersistentVolumeStatus{Phase: phase},
		}
	}
	content := func(name, driver, policy, namespace string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": map[string]any{"name": name, "finalizers": []any{"example.com/keeps-it"}},
			"spec": map[string]any{"driver": driver, "deletionPolicy": policy, "volumeSnapshotRef": map[string]any{"namespace": namespace, "name": "s"}},
		}}
	}
	api := fake.NewClientBuilder().WithObjects(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "lives"}},
		volume("old", Driver, corev1.VolumeReleased), volume("bound", Driver, corev1.VolumeBound), volume("theirs", "csi.example.com", corev1.VolumeReleased),
		content("old", Driver, "Retain", "gone"), content("used", Driver, "Retain", "lives"), content("theirs", "csi.example.com", "Retain", "gone"),
		content("on-its-way", Driver, "Delete", "gone"),
	).Build()
	s := &env.Suite{API: api, Node: func(_ context.Context, args ...string) (string, error) {
		t.Errorf("on the node: %q", args)
		return "", nil
	}}
	for range 2 {
		if err := PruneVolumes(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	volumes := &corev1.PersistentVolumeList{}
	if err := api.List(t.Context(), volumes); err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Items {
		want := corev1.PersistentVolumeReclaimRetain
		if v.Name == "old" {
			want = corev1.PersistentVolumeReclaimDelete
		}
		if v.Spec.PersistentVolumeReclaimPolicy != want {
			t.Errorf("volume %s: found %s, wanted %s", v.Name, v.Spec.PersistentVolumeReclaimPolicy, want)
		}
	}
	contents := &unstructured.UnstructuredList{}
	contents.SetAPIVersion("snapshot.storage.k8s.io/v1")
	contents.SetKind("VolumeSnapshotContentList")
	if err := api.List(t.Context(), contents); err != nil || len(contents.Items) != 4 {
		t.Fatalf("found %d, %v", len(contents.Items), err)
	}
	for _, c := range contents.Items {
		deleted := c.GetDeletionTimestamp() != nil
		if policy, _, _ := unstructured.NestedString(c.Object, "spec", "deletionPolicy"); deleted != (c.GetName() == "old") || deleted && policy != "Delete" {
			t.Errorf("VolumeSnapshotContent %s: deleted %v, policy %s", c.GetName(), deleted, policy)
		}
	}
}
