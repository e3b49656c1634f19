package scenario

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pruneVolumes removes what earlier runs on this cluster left of their volumes, where the storage class keeps them: the
// folders on the node, and the PVs.
func (s *Suite) pruneVolumes(ctx context.Context) error {
	volumes := &corev1.PersistentVolumeList{}
	if err := s.API.List(ctx, volumes); err != nil {
		return err
	}
	var released []*corev1.PersistentVolume
	remove := []string{"rm", "-rf", "--"}
	for i := range volumes.Items {
		volume := &volumes.Items[i]
		if volume.Status.Phase != corev1.VolumeReleased || volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain ||
			volume.Spec.HostPath == nil || !strings.HasSuffix(volume.Spec.HostPath.Path, "_"+claimOf(volume)) {
			continue // none of the provisioner's folders: /var/local-path-provisioner/<PV>_<namespace>_<PVC>
		}
		released = append(released, volume)
		remove = append(remove, volume.Spec.HostPath.Path)
	}
	if len(released) == 0 {
		return nil
	}
	if out, err := s.Firewall.Exec(ctx, remove...); err != nil {
		return fmt.Errorf("remove the volumes of earlier runs: %w %s", err, out)
	}
	for _, volume := range released {
		if err := s.API.Delete(ctx, volume); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("remove the volumes of earlier runs: %w", err)
		}
	}
	return nil
}

func claimOf(volume *corev1.PersistentVolume) string {
	if volume.Spec.ClaimRef == nil {
		return ""
	}
	return volume.Spec.ClaimRef.Namespace + "_" + volume.Spec.ClaimRef.Name
}
