package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func options(access corev1.PersistentVolumeAccessMode, mode corev1.PersistentVolumeMode, node string) controller.ProvisionOptions {
	reclaim := corev1.PersistentVolumeReclaimRetain
	return controller.ProvisionOptions{
		PVName: "pvc-1", SelectedNodeName: node, StorageClass: &storagev1.StorageClass{ReclaimPolicy: &reclaim},
		PVC: &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{access}, VolumeMode: &mode,
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		},
	}
}

const node = "node-1"

func TestAVolumeIsAFolder(t *testing.T) {
	f := folders{t.TempDir()}
	volume, _, err := f.Provision(t.Context(), options(corev1.ReadWriteOnce, corev1.PersistentVolumeFilesystem, node))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(f.root, "pvc-1_shop_data")
	info, err := os.Stat(folder)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("%v %v: want a folder that everybody may write to", info, err)
	}
	spec := volume.Spec
	if spec.HostPath.Path != folder || spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain ||
		spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0] != node {
		t.Errorf("%+v", spec)
	}
	if err := f.Delete(t.Context(), volume); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestWhatIsNoFolder(t *testing.T) {
	f := folders{t.TempDir()}
	for name, c := range map[string]struct {
		options controller.ProvisionOptions
		want    string
	}{
		"a block device": {options(corev1.ReadWriteOnce, corev1.PersistentVolumeBlock, node), "want Filesystem"},
		"on many nodes":  {options(corev1.ReadWriteMany, corev1.PersistentVolumeFilesystem, node), "want ReadWriteOnce"},
		"no node":        {options(corev1.ReadWriteOnce, corev1.PersistentVolumeFilesystem, ""), "WaitForFirstConsumer"},
	} {
		if _, _, err := f.Provision(t.Context(), c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, volume := range []*corev1.PersistentVolume{
		{},
		{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}}}},
		{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: f.root}}}},
	} {
		if err := f.Delete(t.Context(), volume); err == nil {
			t.Errorf("%+v was deleted", volume.Spec.PersistentVolumeSource)
		}
	}
}
