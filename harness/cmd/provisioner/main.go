// Command provisioner makes the volumes of a test's node: folders, as rancher's local-path-provisioner makes them for kind, but by
// itself. That one has a pod make each folder, which was two fifths of all pods of a run.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	// provisionerName is the StorageClass's provisioner in fixtures/node/default-storage.yaml.
	provisionerName = "smart-restore.io/folders"
	// root is the same folder in the provisioner's pod as on the node.
	root = "/var/local-path-provisioner"
	// atOnce is how many volumes are made at a time: each takes milliseconds.
	atOnce = 4
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	controller.NewProvisionController(ctx, client, provisionerName, folders{root},
		controller.LeaderElection(false), controller.Threadiness(atOnce)).Run(ctx)
}

// folders are volumes that are folders of the node.
type folders struct{ root string }

// Provision makes the folder of a PVC's volume.
func (f folders) Provision(_ context.Context, options controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	pvc := options.PVC
	if mode := pvc.Spec.VolumeMode; mode != nil && *mode != corev1.PersistentVolumeFilesystem {
		return nil, controller.ProvisioningFinished, fmt.Errorf("a folder is no volume with volumeMode %s: want Filesystem", *mode)
	}
	for _, mode := range pvc.Spec.AccessModes {
		if !slices.Contains([]corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadWriteOncePod}, mode) {
			return nil, controller.ProvisioningFinished, fmt.Errorf("a folder of one node cannot be %s: want ReadWriteOnce or ReadWriteOncePod", mode)
		}
	}
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, errors.New("no node was selected: the StorageClass must have volumeBindingMode WaitForFirstConsumer")
	}
	folder := filepath.Join(f.root, options.PVName+"_"+pvc.Namespace+"_"+pvc.Name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.Chmod(folder, 0o777); err != nil { // whoever the app's user is; the umask is not asked
		return nil, controller.ProvisioningFinished, err
	}
	mode, kind := corev1.PersistentVolumeFilesystem, corev1.HostPathDirectory
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   pvc.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: pvc.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: folder, Type: &kind}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{options.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the folder of a volume that was released.
func (f folders) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	if volume.Spec.HostPath == nil || filepath.Dir(volume.Spec.HostPath.Path) != f.root {
		return fmt.Errorf("volume %s is no folder in %s", volume.Name, f.root)
	}
	return os.RemoveAll(volume.Spec.HostPath.Path)
}
