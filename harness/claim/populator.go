package claim

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/volsync"
)

// A restore before the PVC is bound, and volumes that are made from others.

// AppBeforeClaim starts the app of a PVC that is not there yet: before anything else, it lists what is on the volume. A pod that is
// refused fails the spec: where the volume is filled before it is bound, no pod has to be held back.
func (c *Claims) AppBeforeClaim(ctx context.Context, name string) *app.App {
	return app.CreateAtOnce(ctx, c.env, app.ThatLooks(c.env, c.env.PVC(name)))
}

// StaysPending watches, for as long as a mover would take, that the claim is not bound, and others beside it.
func (c *Claim) StaysPending(ctx context.Context, while string, others ...*Claim) {
	all := append([]*Claim{c}, others...)
	c.env().Throughout(ctx, "PVC "+c.Name+" not bound "+while, c.env().Times.Backup, func(ctx context.Context) (string, error) {
		for _, claim := range all {
			pvc, err := claim.get(ctx)
			if err != nil {
				return "", err
			}
			if pvc.Status.Phase == corev1.ClaimBound {
				return fmt.Sprintf("%s, PVC %s/%s is bound: its app starts on what is empty", while, pvc.Namespace, pvc.Name), nil
			}
		}
		return "", nil
	})
}

// BoundToItsData waits until the claim is bound, and fails the spec where it is bound while nothing has been restored for it. It needs
// a consumer.
func (c *Claim) BoundToItsData(ctx context.Context) {
	e, filled := c.env(), ""
	e.Eventually(ctx, fmt.Sprintf("PVC %s bound, after its data was restored", c.Name), e.Times.Mover, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx) // before the look at what was restored: what is there then may have come after it was bound, not the other way round
		if err != nil {
			return await.State{}, err
		}
		if filled == "" { // what has restored it may go when it is bound
			if filled, err = c.filled(ctx); err != nil {
				return await.State{}, err
			}
		}
		return boundToData(pvc.Status.Phase, filled), nil
	})
	e.Evidence("seen", fmt.Sprintf("PVC %s was bound no sooner than its data was there: %s", c.Name, filled), nil)
}

// boundToData judges a look at a PVC that is to be filled before it is bound. filled says what has restored it; empty: nothing has.
func boundToData(phase corev1.PersistentVolumeClaimPhase, filled string) await.State {
	switch {
	case phase == corev1.ClaimBound && filled == "":
		return await.RuledOut("it is bound, and nothing was restored for it: its app starts on what is empty")
	case phase == corev1.ClaimLost:
		return await.RuledOut("it is Lost")
	case filled == "":
		return await.NotYet("phase %s, and nothing was restored so far", phase)
	}
	return await.ReachedIf(phase == corev1.ClaimBound, "phase %s, though %s", phase, filled)
}

// Origin is what a volume can be made from.
type Origin struct {
	from corev1.TypedObjectReference
	what string
}

var volumeSnapshot = schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshot"}

// Itself is the claim, to be cloned.
func (c *Claim) Itself() Origin {
	return Origin{corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: c.Name}, "a clone of PVC " + c.Name}
}

// Snapshotted takes a VolumeSnapshot of the claim's volume, of the default class, and waits until it is ready.
func (c *Claim) Snapshotted(ctx context.Context) Origin {
	e := c.env()
	snapshot := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"source": map[string]any{"persistentVolumeClaimName": c.Name}}}}
	snapshot.SetGroupVersionKind(volumeSnapshot)
	snapshot.SetNamespace(e.Namespace)
	snapshot.SetName("of-" + c.Name)
	e.Do(ctx, func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(e.API.Create(ctx, snapshot.DeepCopy()))
	})
	e.Arrange(ctx, "VolumeSnapshot "+snapshot.GetName()+" ready", e.Times.Bind, func(ctx context.Context) (await.State, error) {
		err := e.API.Get(ctx, client.ObjectKeyFromObject(snapshot), snapshot)
		return await.ReachedIf(readyToUse(snapshot), "its status is %v", snapshot.Object["status"]), err
	})
	group := volumeSnapshot.Group
	return Origin{corev1.TypedObjectReference{APIGroup: &group, Kind: volumeSnapshot.Kind, Name: snapshot.GetName()}, "made from VolumeSnapshot " + snapshot.GetName()}
}

func readyToUse(snapshot *unstructured.Unstructured) bool {
	ready, _, _ := unstructured.NestedBool(snapshot.Object, "status", "readyToUse")
	return ready
}

// ClaimMadeFrom creates a labelled PVC, while S3 is up, whose volume is made from something that has content.
func (c *Claims) ClaimMadeFrom(ctx context.Context, name string, origin Origin) (claim *Claim) {
	c.s3.WhileS3IsUp(ctx, func() {
		claim = c.create(ctx, name, c.labels(), func(pvc *corev1.PersistentVolumeClaim) {
			pvc.Spec.DataSource, pvc.Spec.DataSourceRef = nil, &origin.from
		})
	})
	c.env.Evidence("seen", fmt.Sprintf("PVC %s is %s", claim.Name, origin.what), nil)
	claim.isStillFrom(ctx, origin)
	return claim
}

// isStillFrom fails the spec where the claim's volume is made from something else than was asked for.
func (c *Claim) isStillFrom(ctx context.Context, origin Origin) {
	from := c.now(ctx).Spec.DataSourceRef
	if from == nil || from.Kind != origin.from.Kind || from.Name != origin.from.Name {
		c.env().Failf("PVC %s was to be %s, and its dataSourceRef is now %v", c.Name, origin.what, from)
	}
}

// UnreadySnapshots are the namespace's VolumeSnapshots that are not ready. The returned function deletes them, as a person would who has
// found out that they never will be, and waits until they are gone: one that a PVC is made from goes after that PVC.
func (c *Claims) UnreadySnapshots(ctx context.Context) (remove func(context.Context)) {
	e, unready := c.env, map[types.UID]*unstructured.Unstructured{}
	e.Do(ctx, func(ctx context.Context) error {
		snapshots, err := c.list(ctx, volumeSnapshot)
		for i := range snapshots {
			if !readyToUse(&snapshots[i]) {
				unready[snapshots[i].GetUID()] = &snapshots[i]
			}
		}
		return err
	})
	if len(unready) == 0 {
		e.Unknownf("there is no VolumeSnapshot in the namespace that is not ready")
	}
	return func(ctx context.Context) {
		e.Step("a person deletes %d VolumeSnapshots that are not ready", len(unready))
		e.Arrange(ctx, fmt.Sprintf("%d VolumeSnapshots gone", len(unready)), e.Times.Gone, func(ctx context.Context) (await.State, error) {
			snapshots, err := c.list(ctx, volumeSnapshot)
			if err != nil {
				return await.State{}, err
			}
			left := ""
			for i := range snapshots {
				if unready[snapshots[i].GetUID()] == nil {
					continue
				}
				left = fmt.Sprintf("%s is there, finalizers %v", snapshots[i].GetName(), snapshots[i].GetFinalizers())
				if err := e.API.Delete(ctx, &snapshots[i]); client.IgnoreNotFound(err) != nil {
					return await.State{}, err
				}
			}
			return await.ReachedIf(left == "", "%s", left), nil
		})
	}
}

// SnapshotWaits ends the spec as unknown unless there is a VolumeSnapshot in the namespace that is not ready: what is to be seen meanwhile
// needs one.
func (c *Claims) SnapshotWaits(ctx context.Context) {
	e := c.env
	e.Arrange(ctx, "a VolumeSnapshot that is not ready", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		snapshots, err := c.list(ctx, volumeSnapshot)
		for i := range snapshots {
			if !readyToUse(&snapshots[i]) {
				return await.Reached(), err
			}
		}
		return await.NotYet("%d VolumeSnapshots, all ready", len(snapshots)), err
	})
}

// NoSuccessSoFar fails the spec where VolSync calls the claim's restore done.
func (c *Claim) NoSuccessSoFar(ctx context.Context, while string) {
	e, seen := c.env(), ""
	e.Arrange(ctx, "a look at the restore of PVC "+c.Name, e.Times.Look, func(ctx context.Context) (await.State, error) {
		destination, err := c.destination(ctx)
		if destination != nil && volsync.Nested(destination, "status", "latestMoverStatus", "result") == "Successful" {
			seen = destination.GetName()
		}
		return await.Reached(), err
	})
	if seen != "" {
		e.Failf("%s, ReplicationDestination %s says that the restore was successful", while, seen)
	}
}
