package claim

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
)

// TakenBack deletes the claim, whose volume is kept, and creates a labelled one of the same name for that volume, as people do to
// whom a volume with the reclaim policy Retain was left. No app may use it.
func (c *Claim) TakenBack(ctx context.Context) *Claim {
	e := c.env()
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: c.now(ctx).Spec.VolumeName}}
	if volume.Name == "" {
		e.Unknownf("PVC %s has no volume to be taken back", c.Name)
	}
	e.Do(ctx, func(ctx context.Context) error { return e.API.Get(ctx, client.ObjectKeyFromObject(volume), volume) })
	was, class := volume.Spec.PersistentVolumeReclaimPolicy, volume.Spec.StorageClassName
	patch := func(what, patch string) {
		e.Arrange(ctx, "volume "+volume.Name+" "+what, e.Times.Gone, func(ctx context.Context) (await.State, error) {
			return await.Reached(), e.API.Patch(ctx, volume, client.RawPatch(types.MergePatchType, []byte(patch)))
		})
	}
	reclaim := func(policy corev1.PersistentVolumeReclaimPolicy) {
		patch("with the reclaim policy "+string(policy), fmt.Sprintf(`{"spec":{"persistentVolumeReclaimPolicy":%q}}`, policy))
	}
	reclaim(corev1.PersistentVolumeReclaimRetain)
	c.delete(ctx)
	e.Arrange(ctx, "volume "+volume.Name+" released", e.Times.Bind, func(ctx context.Context) (await.State, error) {
		err := e.API.Get(ctx, client.ObjectKeyFromObject(volume), volume)
		return await.ReachedIf(volume.Status.Phase == corev1.VolumeReleased, "phase %s", volume.Status.Phase), err
	})
	patch("free to be bound again", `{"spec":{"claimRef":null}}`)
	var next *Claim
	c.claims.s3.WhileS3IsUp(ctx, func() {
		next = c.claims.create(ctx, c.Name, c.claims.labels(), func(pvc *corev1.PersistentVolumeClaim) {
			pvc.Spec.VolumeName, pvc.Spec.StorageClassName = volume.Name, &class
		})
	})
	next.Bound(ctx)
	reclaim(was) // so that it goes with the spec's namespace
	if bound := next.now(ctx).Spec.VolumeName; bound != volume.Name {
		e.Unknownf("PVC %s did not get the volume %s back, but %s", c.Name, volume.Name, bound)
	}
	e.Evidence("seen", fmt.Sprintf("PVC %s was made for the volume %s, with what was on it", c.Name, volume.Name), nil)
	return next
}
