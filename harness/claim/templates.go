package claim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/s3down"
	"github.com/smart-restore/conformance/harness/subject"
	"github.com/smart-restore/conformance/harness/volsync"
)

// A subject may be templates: what is applied for each PVC that is backed up, as a tool does that keeps a cluster as it is in Git.
// Then what a spec does with a labelled PVC is done with all of that.

// templated says whether something is applied for each PVC.
func (c *Claims) templated() bool { return c.env.Testbed.Templates != nil }

// alwaysRestores says that a ReplicationDestination comes with each PVC, whatever S3 holds: that it is there says nothing.
func (c *Claims) alwaysRestores() bool { return c.env.Testbed.Contract.Restores == policy.Always }

// template is what is applied for a PVC of this name, with nothing in it that is secret. It is filled in once: every look at a PVC asks.
func (c *Claims) template(name string) *subject.Instance {
	if !c.templated() {
		return &subject.Instance{}
	}
	if known, filled := c.templates.Load(name); filled {
		return known.(*subject.Instance)
	}
	given := map[string]string{}
	for _, variable := range c.env.Testbed.Contract.BaseSecret.Variables() {
		given[variable] = variable
	}
	instance, err := c.env.Testbed.Templates.For(c.env.Namespace, name, given)
	c.env.Must(err)
	c.templates.Store(name, instance)
	return instance
}

// instance is what is applied for a PVC of this name, with what the base Secret says now.
func (c *Claims) instance(ctx context.Context, name string) *subject.Instance {
	e, base := c.env, c.env.Testbed.Contract.BaseSecret
	given := map[string]string{}
	e.Arrange(ctx, "the base Secret, which has the templates' variables", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		secret := &corev1.Secret{}
		err := e.API.Get(ctx, client.ObjectKey{Namespace: e.BaseSecretNamespace(e.Namespace), Name: base.Name}, secret)
		if apierrors.IsNotFound(err) {
			return await.RuledOut("it is not there, so nothing can be applied"), nil
		}
		for key, value := range secret.Data {
			given[key] = string(value)
		}
		return await.Reached(), err
	})
	instance, err := e.Testbed.Templates.For(e.Namespace, e.PVC(name), given)
	e.Must(err)
	return instance
}

// pvcOf is the PVC of the templates with what a spec's PVC has. One that is not backed up has its size, its class and its modes only.
func (c *Claims) pvcOf(pvc *corev1.PersistentVolumeClaim, labels map[string]string) *corev1.PersistentVolumeClaim {
	from := c.template(pvc.Name).Claim
	switch {
	case from == nil:
		return pvc
	case labels == nil:
		pvc.Spec = corev1.PersistentVolumeClaimSpec{
			AccessModes: from.Spec.AccessModes, Resources: from.Spec.Resources, StorageClassName: from.Spec.StorageClassName, VolumeMode: from.Spec.VolumeMode,
		}
		return pvc
	}
	whole := from.DeepCopy()
	if whole.Labels == nil && len(labels) > 0 {
		whole.Labels = map[string]string{}
	}
	maps.Copy(whole.Labels, labels)
	if whole.Spec.StorageClassName == nil {
		whole.Spec.StorageClassName = pvc.Spec.StorageClassName
	}
	return whole
}

// written are the annotations and labels of a PVC that are neither the contract's nor the templates': what a policy may have written.
func (c *Claims) written(pvc *corev1.PersistentVolumeClaim) string {
	annotations, labels := c.beside(pvc)
	return decisionText(annotations, labels, c.labels())
}

// beside are the annotations and labels of a PVC without those that the templates bring.
func (c *Claims) beside(pvc *corev1.PersistentVolumeClaim) (annotations, labels map[string]string) {
	annotations, labels = maps.Clone(pvc.Annotations), maps.Clone(pvc.Labels)
	without(annotations, c.env.Testbed.Contract.PVC.Annotations)
	without(annotations, c.env.Testbed.Contract.PVC.OptOut)
	if from := c.template(pvc.Name).Claim; from != nil {
		without(annotations, from.Annotations)
		without(labels, from.Labels)
	}
	return annotations, labels
}

func without(all, these map[string]string) {
	maps.DeleteFunc(all, func(key, value string) bool { was, there := these[key]; return there && was == value })
}

// apply applies objects of a PVC's templates, as a tool does that keeps them as they are in Git. That one is not taken fails the spec.
func (c *Claims) apply(ctx context.Context, pvc string, objects []*unstructured.Unstructured) {
	e := c.env
	for _, object := range objects {
		e.Arrange(ctx, fmt.Sprintf("%s %s of PVC %s applied", object.GetKind(), object.GetName(), pvc), e.Times.Generate, func(ctx context.Context) (await.State, error) {
			err := e.API.Patch(ctx, object.DeepCopy(), client.Apply, client.FieldOwner(install.ApplyOwner), client.ForceOwnership) //nolint:staticcheck // Apply() takes typed configurations only
			if env.Refused(err) {
				e.Failf("%s %s, which is applied with PVC %s, is not taken: %v", object.GetKind(), object.GetName(), pvc, err)
			}
			return await.Reached(), err
		})
	}
}

// applied has the claim's templates be applied, and remembers what that is, so that it goes with the claim.
func (c *Claim) applied(ctx context.Context, pvc *corev1.PersistentVolumeClaim, rest *subject.Instance) {
	if pvc.Spec.VolumeName == "" { // else it is bound to that volume, and filled from nothing
		c.populatedBy, _ = subject.Populates(pvc)
	}
	c.claims.apply(ctx, c.Name, rest.After)
	c.rest = rest.Rest()
}

// appliedLater applies the claim's templates to a PVC that is there, as when a person adds the backup to an app in Git.
func (c *Claim) appliedLater(ctx context.Context) {
	instance := c.claims.instance(ctx, c.Name)
	c.claims.apply(ctx, c.Name, instance.Rest())
	c.rest = instance.Rest()
	c.env().Evidence("seen", fmt.Sprintf("the templates are applied for PVC %s, which is there", c.Name), nil)
}

// prune asks for the deletion of what was applied with the claim.
func (c *Claim) prune(ctx context.Context) error {
	var problems []error
	for _, object := range c.rest {
		err := client.IgnoreNotFound(c.env().API.Delete(ctx, object.DeepCopy()))
		if !meta.IsNoMatchError(err) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// pruned is what of the claim's templates is still there; empty: nothing.
func (c *Claim) pruned(ctx context.Context) (left string, err error) {
	for _, object := range c.rest {
		current := object.DeepCopy()
		switch err := c.env().API.Get(ctx, client.ObjectKeyFromObject(object), current); {
		case err == nil:
			return fmt.Sprintf("%s %s is there, finalizers %v", object.GetKind(), object.GetName(), current.GetFinalizers()), nil
		case !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err):
			return "", err
		}
	}
	return "", nil
}

// filled says what has filled the claim's volume from a repository; empty: nothing has so far. A ReplicationDestination that VolSync
// calls done and that found no snapshot has filled nothing, nor has one that restored into another volume, for a PVC that comes with content
// of its own.
func (c *Claim) filled(ctx context.Context) (string, error) {
	destinations, err := c.claims.list(ctx, volsync.Destination)
	if err != nil {
		return "", err
	}
	for i := range destinations {
		d := &destinations[i]
		if !c.isDestination(d) || volsync.OwnedByAnother(d, c.UID) || !volsync.RestoredASnapshot(d) {
			continue
		}
		if c.populatedBy == "" {
			if volsync.Nested(d, "spec", "restic", "destinationPVC") != c.Name {
				continue
			}
			return fmt.Sprintf("ReplicationDestination %s has restored a snapshot into PVC %s", d.GetName(), c.Name), nil
		}
		if another, err := c.hasAnotherVolume(ctx); another || err != nil {
			return "", err
		}
		return fmt.Sprintf("PVC %s is filled from the snapshot that ReplicationDestination %s has restored", c.Name, d.GetName()), nil
	}
	return "", nil
}

// populatedFrom is the annotation that VolSync's volume populator gives to a PersistentVolume that it has filled.
const populatedFrom = "volsync.backube/populated-from"

// hasAnotherVolume says whether the claim is bound to a volume that VolSync has not filled: Kubernetes gives a PVC a volume whose claimRef names
// it, or that nobody has, whatever its dataSourceRef says.
func (c *Claim) hasAnotherVolume(ctx context.Context) (bool, error) {
	var pvc corev1.PersistentVolumeClaim
	if err := c.env().API.Get(ctx, client.ObjectKey{Namespace: c.env().Namespace, Name: c.Name}, &pvc); err != nil || pvc.Status.Phase != corev1.ClaimBound {
		return false, client.IgnoreNotFound(err)
	}
	var volume corev1.PersistentVolume
	if err := c.env().API.Get(ctx, client.ObjectKey{Name: pvc.Spec.VolumeName}, &volume); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return volume.Annotations[populatedFrom] == "", nil
}

// neverFilled fails the spec where the claim's volume was filled from a repository. Where a ReplicationDestination is there in any
// case, that is what there must not be, and not the object.
func (c *Claim) neverFilled(ctx context.Context) {
	e, seen := c.env(), ""
	e.Arrange(ctx, "a look at what restores into PVC "+c.Name, e.Times.Look, func(ctx context.Context) (_ await.State, err error) {
		seen, err = c.filled(ctx)
		return await.Reached(), err
	})
	if seen != "" {
		e.Failf("%s, and nothing must be restored", seen)
	}
	e.Evidence("seen", fmt.Sprintf("no ReplicationDestination has restored a snapshot into PVC %s", c.Name), nil)
}

// HasTriedToRestore waits, where a ReplicationDestination is there in any case, until its restore has ended: before that, nothing can be
// said of what it has restored.
func (c *Claim) HasTriedToRestore(ctx context.Context) {
	if c.claims.alwaysRestores() {
		c.RestoreEnded(ctx)
	}
}

// FilledBeforeItIsBound says whether the claim's volume is filled before it is bound, so that nothing is backed up meanwhile.
func (c *Claim) FilledBeforeItIsBound() bool { return c.populatedBy != "" }

// BackupsRun says whether VolSync's first sync of the claim ends, of a volume that is empty: its mover asks S3 for nothing. Where a
// restore into the claim is not done, backups may have to wait for it: then there is no mover of one for as long as it would take.
func (c *Claim) BackupsRun(ctx context.Context) (run bool) {
	e, source, wait := c.env(), c.HasReplicationSource(ctx), c.patiently()
	e.Eventually(ctx, fmt.Sprintf("first sync of ReplicationSource %s ended, or held back", source.GetName()), 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		if gone, err := c.refresh(ctx, source); err != nil || gone {
			return await.RuledOut("ReplicationSource %s is gone", source.GetName()), err
		}
		if volsync.Nested(source, "status", "lastSyncTime") != "" {
			run = true
			return await.Reached(), nil
		}
		destination, err := c.destination(ctx)
		if err == nil && (destination == nil || volsync.Synced(destination)) {
			wait.renew() // nothing to wait for
		}
		if err == nil {
			_, err = wait.look(ctx, source)
		}
		return await.ReachedIf(wait.over(), "%s", volsync.Progress(source)), err
	}))
	return run
}

// InitsHeld asks each of the claim's ReplicationSources for a backup, and waits until their movers, and those of the claim's
// ReplicationDestinations that are not done, are all about to make a repository. HoldInits, in package s3down, holds them there.
func (c *Claim) InitsHeld(ctx context.Context) (held []s3down.Init) {
	e := c.env()
	e.Arrange(ctx, "the movers of PVC "+c.Name+" about to make a repository", 2*e.Times.Mover, func(ctx context.Context) (await.State, error) {
		sources, err := c.claims.list(ctx, volsync.Source)
		if err != nil {
			return await.State{}, err
		}
		destinations, err := c.claims.list(ctx, volsync.Destination)
		if err != nil {
			return await.State{}, err
		}
		var jobs []string
		for i := range sources {
			source := &sources[i]
			if !c.isSource(source) {
				continue
			}
			jobs = append(jobs, moverOf(source))
			if volsync.TriggerDone(source) {
				if err := c.ask(ctx, source); err != nil {
					return await.State{}, err
				}
			}
		}
		for i := range destinations {
			if destination := &destinations[i]; c.isDestination(destination) && !volsync.Synced(destination) {
				jobs = append(jobs, moverOf(destination))
			}
		}
		held, err = c.claims.s3.InitsHeld(ctx, c.Name)
		return await.ReachedIf(len(jobs) > 0 && len(held) >= len(jobs), "%d of %v make a repository", len(held), jobs), err
	})
	e.Evidence("seen", fmt.Sprintf("%d movers of PVC %s were told that there is no repository, and make one", len(held), c.Name), nil)
	return held
}

// MoverReplaced deletes the Job of a backup of the claim that is held while it makes a repository, as VolSync does when it makes the Job anew: when
// the app was scheduled meanwhile, for one. What runs in its pod goes on for as long as its grace lasts, and the new Job makes another beside it.
// It returns the movers that are held then.
func (c *Claim) MoverReplaced(ctx context.Context, held []s3down.Init) []s3down.Init {
	e, source := c.env(), c.HasReplicationSource(ctx)
	old := map[types.UID]bool{}
	e.Do(ctx, func(ctx context.Context) error {
		pods, err := c.claims.moversOf(ctx, source)
		for i := range pods {
			old[pods[i].UID] = true
		}
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: moverOf(source)}}
		return errors.Join(err, client.IgnoreNotFound(e.API.Delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationBackground))))
	})
	const startsWithin = 25 * time.Second // the pod that was deleted has 30 s
	deleted, now := time.Now(), held
	e.Arrange(ctx, "a mover in the place of the one that ends, or none", startsWithin+e.Times.Look, func(ctx context.Context) (await.State, error) {
		pods, err := c.claims.moversOf(ctx, source)
		if err != nil {
			return await.State{}, err
		}
		replaced := slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return !old[pod.UID] })
		now, err = c.claims.s3.InitsHeld(ctx, c.Name)
		given := e.Times.Reaction
		if replaced {
			given = startsWithin
		}
		return await.ReachedIf(len(now) > len(held) || time.Since(deleted) > given, "%d movers make a repository; there is another pod: %t", len(now), replaced), err
	})
	e.Evidence("seen", fmt.Sprintf("the Job of a mover of PVC %s was deleted while it made the repository: now %d make it", c.Name, len(now)), nil)
	return now
}

// staysUnfilled watches, as long as a restore that was begun could take, that none ends that has found a snapshot.
func (c *Claim) staysUnfilled(ctx context.Context, after string) {
	e, wait := c.env(), c.patiently()
	e.Eventually(ctx, fmt.Sprintf("no restore into PVC %s at work after %s, and none that was done", c.Name, after), 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		if seen, err := c.filled(ctx); seen != "" || err != nil {
			return await.RuledOut("after %s, a volume in use is restored over: %s", after, seen), err
		}
		destination, err := c.destination(ctx)
		if err != nil {
			return await.State{}, err
		}
		if destination == nil || volsync.Synced(destination) {
			return await.Reached(), nil
		}
		if _, err := wait.look(ctx, destination); err != nil {
			return await.State{}, err
		}
		return await.ReachedIf(wait.over(), "%s", volsync.Progress(destination)), nil
	}))
	c.neverFilled(ctx)
}

// restoresAnyway waits until the ReplicationDestination, which is there in any case, has restored a snapshot.
func (c *Claim) restoresAnyway(ctx context.Context) {
	c.Restored(ctx, c.HasReplicationDestination(ctx))
	e := c.env()
	e.Eventually(ctx, "a snapshot restored into PVC "+c.Name, e.Times.Look, func(ctx context.Context) (await.State, error) {
		seen, err := c.filled(ctx)
		return await.ReachedIf(seen != "", "its ReplicationDestination is done, and says nothing of a snapshot"), err
	})
}

// IsPending watches, for as long as a mover would take, that the claim is not bound though a pod wants it, and fails
// the spec unless something that a person sees says why: an event of the PVC that is a warning, or a word of the policy's on it.
func (c *Claim) IsPending(ctx context.Context) {
	e := c.env()
	c.TryApp(ctx) // without a consumer, a PVC may be Pending for that
	e.Throughout(ctx, "PVC "+c.Name+" Pending, as its contract says (unknown: "+policy.Waits+")", e.Times.Backup, func(ctx context.Context) (string, error) {
		pvc, err := c.get(ctx)
		if err == nil && pvc.Status.Phase == corev1.ClaimBound {
			return "it is bound, while nobody can know whether there is a backup: an app starts on what is empty", nil
		}
		return "", err
	})
	e.Eventually(ctx, "a reason why PVC "+c.Name+" is Pending, for a person to see", e.Times.Generate, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx)
		if err != nil {
			return await.State{}, err
		}
		if said := c.claims.written(pvc); said != "" {
			e.Evidence("decision", fmt.Sprintf("PVC %s says: %s", c.Name, said), nil)
			return await.Reached(), nil
		}
		events := &corev1.EventList{}
		if err := e.API.List(ctx, events, client.InNamespace(e.Namespace)); err != nil {
			return await.State{}, err
		}
		for _, event := range events.Items {
			if !c.isAbout(event) || !strings.HasPrefix(event.Reason, "VolSync") {
				continue
			}
			if usual, err := c.isUsual(ctx, event); err != nil {
				return await.State{}, err
			} else if !usual {
				e.Evidence("decision", fmt.Sprintf("an event of PVC %s: %s: %s", c.Name, event.Reason, event.Message), nil)
				return await.Reached(), nil
			}
		}
		return await.NotYet("neither an event of VolSync's nor an annotation says so"), nil
	})
}
