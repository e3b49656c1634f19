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
func (c *Claim) TakenBack(ctx context.Context) *Claim { return c.takenBack(ctx, true) }

// GivenBack is TakenBack of a PVC that does not name the volume: only the volume's claimRef says that the two belong together.
func (c *Claim) GivenBack(ctx context.Context) *Claim { return c.takenBack(ctx, false) }

func (c *Claim) takenBack(ctx context.Context, names bool) *Claim {
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
	phase := func(want corev1.PersistentVolumePhase) {
		e.Arrange(ctx, "volume "+volume.Name+" "+string(want), e.Times.Bind, func(ctx context.Context) (await.State, error) {
			err := e.API.Get(ctx, client.ObjectKeyFromObject(volume), volume)
			return await.ReachedIf(volume.Status.Phase == want, "phase %s", volume.Status.Phase), err
		})
	}
	phase(corev1.VolumeReleased)
	// Kept for the PVC of this name: one that is free for all is given to whoever waits for a volume.
	patch("kept for the next PVC "+c.Name, `{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}`)
	phase(corev1.VolumeAvailable) // a PVC that comes sooner waits for the controller's next round, 15 s
	var next *Claim
	c.claims.s3.WhileS3IsUp(ctx, func() {
		next = c.claims.create(ctx, c.Name, c.claims.labels(), func(pvc *corev1.PersistentVolumeClaim) {
			pvc.Spec.StorageClassName = &class
			if names {
				pvc.Spec.VolumeName = volume.Name
			}
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
