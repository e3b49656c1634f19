package claim

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/volsync"
)

// podSecurity is the namespace's label by which Kubernetes itself refuses pods.
const podSecurity = "pod-security.kubernetes.io/enforce"

// RestrictedPods lets the namespace take no pod that asks for more than the Pod Security standard restricted, as movers do, until
// the returned function is called.
func (c *Claims) RestrictedPods(ctx context.Context) (back func(context.Context)) {
	set := func(ctx context.Context, value string) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.env.Namespace}}
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, podSecurity, value)
		c.env.Do(ctx, func(ctx context.Context) error {
			return c.env.API.Patch(ctx, namespace, client.RawPatch(types.MergePatchType, patch))
		})
	}
	set(ctx, `"restricted"`)
	c.env.Step("namespace %s takes restricted pods only", c.env.Namespace)
	return func(ctx context.Context) {
		set(ctx, "null")
		c.env.Step("namespace %s takes any pod again", c.env.Namespace)
	}
}

// NoPods gives the namespace a quota of no pod, until the returned function is called.
func (c *Claims) NoPods(ctx context.Context) (back func(context.Context)) {
	quota := c.quota(ctx, "no-pods", corev1.ResourcePods)
	c.env.Step("namespace %s has a quota of no pod", c.env.Namespace)
	return func(ctx context.Context) {
		c.env.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(c.env.API.Delete(ctx, quota)) })
		c.env.Step("namespace %s has no quota any more", c.env.Namespace)
	}
}

// OnlyLimitedPods gives the namespace a LimitRange that takes pods with a memory limit only, which movers do not have, until the returned
// function is called.
func (c *Claims) OnlyLimitedPods(ctx context.Context) (back func(context.Context)) {
	limits := &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.env.Namespace, Name: "limited"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{ // of a pod's containers together there is no default
			Type: corev1.LimitTypePod, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")},
		}}},
	}
	c.env.Do(ctx, func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(c.env.API.Create(ctx, limits.DeepCopy()))
	})
	c.env.Step("namespace %s takes pods with a memory limit only", c.env.Namespace)
	return func(ctx context.Context) {
		c.env.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(c.env.API.Delete(ctx, limits)) })
		c.env.Step("namespace %s has no LimitRange any more", c.env.Namespace)
	}
}

// quota makes a quota of none of these, and waits until it is in force.
func (c *Claims) quota(ctx context.Context, name string, of corev1.ResourceName) *corev1.ResourceQuota {
	e := c.env
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: name},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{of: resource.MustParse("0")}},
	}
	e.Do(ctx, func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(e.API.Create(ctx, quota.DeepCopy()))
	})
	e.Arrange(ctx, "the quota "+name+" in force", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		err := e.API.Get(ctx, client.ObjectKeyFromObject(quota), quota)
		return await.ReachedIf(len(quota.Status.Hard) > 0, "it has no status"), err
	})
	return quota
}

// SaysThatSomethingIsWrong waits until whoever looks at the claim is told: by what is written on it, in other words than on a PVC that
// nothing is wrong with, or by a warning about it. A policy may say so no sooner than a mover could be done, and then at the next scan.
func (c *Claim) SaysThatSomethingIsWrong(ctx context.Context, other *Claim) {
	e := c.env()
	var told string
	e.Eventually(ctx, "PVC "+c.Name+" says that something is wrong", e.Times.Mover+2*e.Times.Scan, func(ctx context.Context) (_ await.State, err error) {
		told, err = c.complains(ctx, other)
		return await.ReachedIf(told != "", "it says %s, as PVC %s does, and there is no warning", other.said, other.Name), err
	})
	e.Evidence("decision", fmt.Sprintf("of PVC %s, whoever looks is told: %s", c.Name, told), nil)
}

// BackedUpOrSaysSo waits until the claim's app has written something and there is a backup of it, or the claim says that something is
// wrong. Without an app, which was refused, it waits for any backup.
func (c *Claim) BackedUpOrSaysSo(ctx context.Context, a *app.App, other *Claim) {
	e := c.env()
	var told string
	until := func(what string, done func(context.Context) (bool, error)) {
		e.Eventually(ctx, "PVC "+c.Name+" "+what+", or something that says that it is not", e.Times.Mover, func(ctx context.Context) (await.State, error) {
			if is, err := done(ctx); err != nil || is {
				return await.Reached(), err
			}
			wrong, err := c.complains(ctx, other)
			told = wrong
			return await.ReachedIf(told != "", "it says %s, as PVC %s does, and there is no warning", other.said, other.Name), err
		})
	}
	if a != nil {
		until("bound", func(ctx context.Context) (bool, error) {
			pvc, err := c.get(ctx)
			return err == nil && pvc.Status.Phase == corev1.ClaimBound, err
		})
		if told == "" {
			a.Running(ctx)
			a.PutSentinel(ctx, "to be backed up")
		}
	}
	if told == "" {
		until("backed up", func(ctx context.Context) (bool, error) {
			if snapshots, err := c.repos().ListSnapshotKeys(ctx, c.Name); err != nil || len(snapshots) > 0 {
				return err == nil, err
			}
			_, err := c.askForBackup(ctx) // VolSync is content with a first backup of what was empty
			return false, err
		})
	}
	e.Evidence("seen", fmt.Sprintf("PVC %s: %s", c.Name, cmp.Or(told, "it is backed up")), nil)
}

// complains is what whoever looks at the claim is told is wrong with it; empty: nothing.
func (c *Claim) complains(ctx context.Context, other *Claim) (string, error) {
	said, differs, err := c.says(ctx, other)
	if err != nil || differs {
		return "it says: " + said, err
	}
	events := &corev1.EventList{}
	if err := c.env().API.List(ctx, events, client.InNamespace(c.env().Namespace)); err != nil {
		return "", err
	}
	for _, event := range events.Items {
		if event.Type != corev1.EventTypeWarning || !c.isAbout(event) {
			continue
		}
		if usual, err := c.isUsual(ctx, event); err != nil || !usual {
			return fmt.Sprintf("a warning: %s: %s", event.Reason, event.Message), err
		}
	}
	return "", nil
}

// isAbout says whether an event is the claim's, and no earlier PVC's of its name.
func (c *Claim) isAbout(event corev1.Event) bool {
	of := event.InvolvedObject
	return of.Kind == "PersistentVolumeClaim" && of.Name == c.Name && (of.UID == "" || string(of.UID) == c.UID)
}

// Warnings of VolSync's volume populator that come with each restore, also one that goes well.
const (
	destinationMissing = "VolSyncPopulatorReplicationDestinationMissing"
	noLatestImage      = "VolSyncPopulatorReplicationDestinationNoLatestImage"
)

// isUsual says whether a warning is one that a restore which goes well has, too: it says that something is wrong only if it is still so when
// a restore would be done.
func (c *Claim) isUsual(ctx context.Context, event corev1.Event) (bool, error) {
	if event.Reason != destinationMissing && event.Reason != noLatestImage {
		return false, nil
	}
	destination, err := c.destination(ctx)
	if err != nil {
		return false, err
	}
	isSo := destination == nil
	if event.Reason == noLatestImage {
		isSo = destination != nil && volsync.Nested(destination, "status", "latestImage", "name") == ""
	}
	return !isSo || c.env().Now().Before(c.CreatedAt.Add(c.env().Times.Backup)), nil
}

// NoMoverDone ends the spec as unknown if a mover of the claim has come to a good end: nothing was wrong then.
func (c *Claim) NoMoverDone(ctx context.Context) {
	var movers []corev1.Pod
	c.env().Do(ctx, func(ctx context.Context) (err error) {
		movers, err = c.moversOfAll(ctx)
		return err
	})
	for _, mover := range movers {
		if mover.Status.Phase == corev1.PodSucceeded {
			c.env().Unknownf("the mover %s is done: nothing kept it from its work", mover.Name)
		}
	}
}
