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

// TakenBack deletes the claim, whose volume is kept, and creates a labelled one of the same name that names that volume, as people do to
// whom a volume with the reclaim policy Retain was left. No app may use it.
func (c *Claim) TakenBack(ctx context.Context) *Claim {
	return c.takenBack(ctx, keptForIt, func(pvc *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) {
		pvc.Spec.VolumeName = volume.Name
	})
}

// GivenBack is TakenBack of a PVC that does not name the volume: only the volume's claimRef says that the two belong together.
func (c *Claim) GivenBack(ctx context.Context) *Claim {
	return c.takenBack(ctx, keptForIt, func(*corev1.PersistentVolumeClaim, *corev1.PersistentVolume) {})
}

// Selected is TakenBack of a PVC that asks for a volume that no class makes, by the volume's labels, as people do who make volumes by hand.
func (c *Claim) Selected(ctx context.Context) *Claim {
	labels := map[string]string{"conformance.smart-restore.io/volume-of": c.UID}
	free := fmt.Sprintf(`{"metadata":{"labels":{"conformance.smart-restore.io/volume-of":%q}},"spec":{"storageClassName":"","claimRef":null}}`, c.UID)
	return c.takenBack(ctx, free, func(pvc *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
		pvc.Spec.StorageClassName, pvc.Spec.Selector = new(""), &metav1.LabelSelector{MatchLabels: labels}
	})
}

// Freed is TakenBack of a PVC that says nothing of the volume, which nobody has any more: Kubernetes gives it to the PVC, as the volume is of
// its class. No other PVC is of that class, so none of them gets it.
func (c *Claim) Freed(ctx context.Context) *Claim {
	class := "freed-" + c.UID
	return c.takenBack(ctx, fmt.Sprintf(`{"spec":{"storageClassName":%q,"claimRef":null}}`, class), func(pvc *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
		pvc.Spec.StorageClassName = &class
	})
}

// keptForIt lets a released volume wait for the next PVC of that name: one that is free for all is given to whoever waits for a volume.
const keptForIt = `{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}`

// takenBack is TakenBack. released is the patch of the volume by which the next PVC, which asks for it, gets it.
func (c *Claim) takenBack(ctx context.Context, released string, asks func(*corev1.PersistentVolumeClaim, *corev1.PersistentVolume)) *Claim {
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
		patch("with the reclaim policy "+string(policy), fmt.Sprintf(`{"spec":{"persistentVolumeReclaimPolicy":%q,"storageClassName":%q}}`, policy, class))
	}
	reclaim(corev1.PersistentVolumeReclaimRetain)
	c.delete(ctx)
	phase := func(want corev1.PersistentVolumePhase) {
		e.Arrange(ctx, "volume "+volume.Name+" "+string(want), e.Times.Bind, func(ctx context.Context) (await.State, error) {
			err := e.API.Get(ctx, client.ObjectKeyFromObject(volume), volume)
			return await.ReachedIf(volume.Status.Phase == want, "phase %s", volume.Status.Phase), err
		})
	}
	phase(corev1.VolumeReleased)
	patch("kept for the next PVC "+c.Name, released)
	phase(corev1.VolumeAvailable) // a PVC that comes sooner waits for the controller's next round, 15 s
	var next *Claim
	c.claims.s3.WhileS3IsUp(ctx, func() {
		next = c.claims.create(ctx, c.Name, c.claims.labels(), func(pvc *corev1.PersistentVolumeClaim) {
			pvc.Spec.StorageClassName = &class
			asks(pvc, volume)
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
