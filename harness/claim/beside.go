package claim

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/subject"
	"github.com/smart-restore/conformance/harness/volsync"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// What a restore, and what an app, does beside the other on one volume.

// Deployment starts a Deployment whose pod uses the claim, and waits until it runs.
func (c *Claim) Deployment(ctx context.Context) *app.Workload {
	w := app.Deploy(ctx, c.env(), c.Name)
	w.Running(ctx)
	return w
}

// RecreatedUnder deletes the claim, lets the Deployment make its next pod, which waits for the volume, and then creates the claim
// again: what comes of kubectl delete pvc --wait=false and kubectl delete pod. A policy may hold that pod back.
func (c *Claim) RecreatedUnder(ctx context.Context, w *app.Workload) *Claim {
	e, pvc := c.env(), c.object()
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(e.API.Delete(ctx, pvc)) })
	there := w.Replace(ctx)
	e.Arrange(ctx, "PVC "+c.Name+" gone", e.Times.Gone, e.Gone(pvc))
	if there {
		w.Waits(ctx)
	}
	return c.claims.Claim(ctx, c.Name)
}

// StatefulSet starts a StatefulSet, which makes its labelled PVC before its pod, or, if the volume is ephemeral, has it made after the
// pod. S3 holds a good backup for the PVC.
func (c *Claims) StatefulSet(ctx context.Context, name string, ephemeral bool) (*app.Workload, *Claim) {
	defer c.s3.Up(ctx)()
	workload, pvc := app.StatefulSet(ctx, c.env, name, c.pvc(name, c.labels()), ephemeral, func(pvc string) { c.repos.GoodBackup(ctx, pvc) })
	return workload, c.made(ctx, pvc, "")
}

// LostUnder deletes the claim and the pod of a StatefulSet, which makes both again.
func (c *Claim) LostUnder(ctx context.Context, w *app.Workload) *Claim {
	defer c.claims.s3.Up(ctx)()
	e, pvc := c.env(), c.object()
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(e.API.Delete(ctx, pvc)) })
	w.Replace(ctx)
	return c.claims.made(ctx, c.Name, c.UID)
}

// made waits for a PVC that Kubernetes makes, and that is not the old one. That one may be in use by a mover.
func (c *Claims) made(ctx context.Context, name, old string) *Claim {
	e, claim := c.env, c.claim(name)
	e.Arrange(ctx, "PVC "+name+" made by its controller", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		pvc, err := claim.get(ctx)
		switch {
		case apierrors.IsNotFound(err):
			return await.NotYet("there is none"), nil
		case err != nil || string(pvc.UID) == old:
			return await.NotYet("the old one is there"), err
		}
		claim.UID, claim.CreatedAt = string(pvc.UID), pvc.CreationTimestamp.Time
		claim.said = c.written(pvc)
		claim.populatedBy, _ = subject.Populates(pvc)
		return await.Reached(), nil
	})
	return claim
}

// NothingRestoredUnder waits until the pod of each workload runs, and watches, for as long as a mover would take, that nothing that
// they wrote, and nothing else on their volumes, changes.
func (c *Claims) NothingRestoredUnder(ctx context.Context, workloads ...*app.Workload) {
	written := make([]dataset.Manifest, len(workloads))
	keep := make([]await.Watch, len(workloads))
	for i, w := range workloads {
		w.Running(ctx)
		w.SawAllOrNothing(ctx)
		written[i], keep[i] = w.App.Reads(ctx), app.KeepsOwnWrite(w)
	}
	c.env.ThroughoutLasting(ctx, fmt.Sprintf("what the app wrote at its start is on the volume of %v", workloads), c.env.Times.Backup, func(ctx context.Context) (string, error) {
		for _, keeps := range keep {
			if lost, err := keeps(ctx); lost != "" || err != nil {
				return lost, err
			}
		}
		return "", nil
	})
	for i, w := range workloads {
		w.App.SeesExactly(ctx, written[i])
	}
}

// CanOverride says whether the contract says how a person lets an app start on its volume as it is, without its restore.
func (c *Claims) CanOverride() bool {
	can := c.env.Testbed.Contract.Override.OfRestore()
	if !can {
		c.env.Step("the contract has no override of restores: what comes of overriding one is not tried")
	}
	return can
}

// CanAccept says whether the contract says how a person takes a volume as it is, so that backups of it begin.
func (c *Claims) CanAccept() bool { return c.env.Testbed.Contract.Override.Annotation != "" }

// Override says on the claim, as a person would, that its volume is taken as it is.
func (c *Claim) Override(ctx context.Context) {
	e, override := c.env(), c.env().Testbed.Contract.Override
	value := override.Value.Expand(e.Namespace, c.Name, c.UID)
	if !c.Patch(ctx, fmt.Sprintf("annotated %s: %s", override.Annotation, value), fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, override.Annotation, value)) {
		e.Failf("PVC %s does not take the annotation by which, as the contract says, a person takes its volume as it is", c.Name)
	}
}

// killRestic ends what a mover's script waits for.
const killRestic = `for p in /proc/[0-9]*; do if [ "$(cat "$p/comm")" = restic ]; then kill -KILL "${p#/proc/}"; fi; done`

// MoversTold kills restic in movers that restore into the claim and are told to end, as the kubelet does after half a minute: their
// script hears no signal. Movers that nobody tells to end are left alone.
func (c *Claim) MoversTold(ctx context.Context) {
	e := c.env()
	patience := time.Now().Add(e.Times.Backup)
	e.Arrange(ctx, "no mover that restores into PVC "+c.Name+", or one that goes on", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		movers, err := c.movers(ctx, "volsync-dst-")
		if err != nil {
			return await.State{}, err
		}
		for i := range movers {
			if movers[i].DeletionTimestamp == nil {
				continue
			}
			mover := podexec.Container{Namespace: movers[i].Namespace, Pod: movers[i].Name, Name: movers[i].Spec.Containers[0].Name}
			_, _ = e.Pods.Once(ctx, mover, podexec.ByShell("/bin/bash", "-c", killRestic)) // its end is the next look's
		}
		return await.ReachedIf(len(movers) == 0 || time.Now().After(patience), "%d are there", len(movers)), nil
	})
}

// HeldBack fails the spec where an app is let in, once it is tried, while the claim's restore is not done. Of a policy that does
// not hold apps back, nothing is asked.
func (c *Claim) HeldBack(ctx context.Context, destination *unstructured.Unstructured) {
	e := c.env()
	if !e.Testbed.Contract.Promises("gated-start") {
		e.Step("the policy does not promise gated-start: no app is started beside the restore")
		return
	}
	a, held := app.TryNow(ctx, e, app.Of(e, c.Name))
	held = held || c.waitsToBeFilled(ctx)
	c.notDone(ctx, destination) // after the try: it was not done then, either
	if !held {
		e.Failf("an app was let in, in pod %s, while PVC %s was being restored", app.ContainerOf(a).Pod, c.Name)
	}
}

// waitsToBeFilled says whether VolSync fills the claim's volume before it is bound, and has not done so yet: no pod sees the volume.
func (c *Claim) waitsToBeFilled(ctx context.Context) bool {
	waits := c.populatedBy != "" && c.now(ctx).Status.Phase != corev1.ClaimBound
	if waits {
		c.env().Evidence("seen", fmt.Sprintf("PVC %s is not bound: its app's pod waits for the volume", c.Name), nil)
	}
	return waits
}

// notDone ends the spec as unknown if the restore is done: what was to be seen beside it was not.
func (c *Claim) notDone(ctx context.Context, destination *unstructured.Unstructured) {
	e := c.env()
	e.Arrange(ctx, "a look at the restore of PVC "+c.Name+" before it is done", e.Times.Look, func(ctx context.Context) (await.State, error) {
		gone, err := c.refresh(ctx, destination)
		switch {
		case err != nil:
			return await.State{}, err
		case gone || volsync.Synced(destination):
			return await.RuledOut("the restore was done before it could be looked at"), nil
		}
		return await.Reached(), nil
	})
}

// restoreIsOver watches, for the window, that no mover restores into the claim, and that the app keeps what it wrote. A look is a command in the
// app's pod, which may take seconds where the node is busy. It hides nothing: what a mover writes meanwhile is there at the next look.
func (c *Claim) restoreIsOver(ctx context.Context, a *app.App, written, when string, window time.Duration) {
	keeps := app.Keeps(a, written)
	c.env().ThroughoutLasting(ctx, fmt.Sprintf("no mover restores into PVC %s, and its app keeps what it wrote, %s", c.Name, when), window, func(ctx context.Context) (string, error) {
		movers, err := c.restoring(ctx)
		if err != nil || len(movers) > 0 {
			return strings.Join(movers, ", "), err
		}
		return keeps(ctx)
	})
}

// RestoreIsOver watches for some seconds that no mover restores into the claim beside its app, which has written this.
func (c *Claim) RestoreIsOver(ctx context.Context, a *app.App, written, when string) {
	c.restoreIsOver(ctx, a, written, when, 2*c.env().Times.Reaction)
}

// RestoreStaysOver is RestoreIsOver for as long as a mover would take.
func (c *Claim) RestoreStaysOver(ctx context.Context, a *app.App, written, when string) {
	c.restoreIsOver(ctx, a, written, when, c.env().Times.Backup)
}

// restoring are the running pods of movers that restore into the claim, each in words.
func (c *Claim) restoring(ctx context.Context) (movers []string, err error) {
	pods, err := c.movers(ctx, "volsync-dst-")
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning {
			movers = append(movers, fmt.Sprintf("mover %s restores into PVC %s beside its app", pod.Name, c.Name))
		}
	}
	return movers, err
}

// movers are the pods that use the claim, of Jobs whose names begin so.
func (c *Claim) movers(ctx context.Context, job string) ([]corev1.Pod, error) {
	return c.claims.podsOfJobs(ctx, func(name string, pod *corev1.Pod) bool { return c.usedBy(pod) && strings.HasPrefix(name, job) })
}

// moversOfAll are the pods of all movers of the claim, also of those that use a volume of their own: a copy to be backed up, or one that is
// filled before the claim is bound.
func (c *Claim) moversOfAll(ctx context.Context) ([]corev1.Pod, error) {
	jobs := map[string]bool{}
	for kind, is := range map[schema.GroupVersionKind]func(*unstructured.Unstructured) bool{volsync.Source: c.isSource, volsync.Destination: c.isDestination} {
		objects, err := c.claims.list(ctx, kind)
		if err != nil {
			return nil, err
		}
		for i := range objects {
			if is(&objects[i]) {
				jobs[moverOf(&objects[i])] = true
			}
		}
	}
	return c.claims.podsOfJobs(ctx, func(name string, pod *corev1.Pod) bool {
		return jobs[name] || c.usedBy(pod) && strings.HasPrefix(name, "volsync-")
	})
}

// mostJobName is VolSync's JobNameMaxLength.
const mostJobName = 63

// moverOf is the name of the Job of a ReplicationSource or a ReplicationDestination: utils.GetJobName of VolSync.
func moverOf(o *unstructured.Unstructured) string {
	prefix := "volsync-src-"
	if o.GetKind() == volsync.Destination.Kind {
		prefix = "volsync-dst-"
	}
	if name := prefix + o.GetName(); len(name) <= mostJobName {
		return name
	}
	return prefix + fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(o.GetName())))
}

// moversOf are the pods of a ReplicationSource's or a ReplicationDestination's movers.
func (c *Claims) moversOf(ctx context.Context, o *unstructured.Unstructured) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := c.env.API.List(ctx, pods, client.InNamespace(c.env.Namespace), client.MatchingLabels{batchv1.JobNameLabel: moverOf(o)})
	return pods.Items, err
}

// podsOfJobs are the namespace's pods of those Jobs.
func (c *Claims) podsOfJobs(ctx context.Context, those func(name string, pod *corev1.Pod) bool) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := c.env.API.List(ctx, pods, client.InNamespace(c.env.Namespace), client.HasLabels{batchv1.JobNameLabel})
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return !those(pod.Labels[batchv1.JobNameLabel], &pod) }), err
}

// usedBy says whether a pod uses the claim.
func (c *Claim) usedBy(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == c.Name
	})
}

// FirstMover waits until a mover of the claim's has a node, or for as long as one would take. Where the claim is not bound and the mover uses
// it, its volume is made there.
func (c *Claim) FirstMover(ctx context.Context) {
	e, wait := c.env(), c.patiently()
	seen := fmt.Sprintf("no mover of PVC %s ran before its app", c.Name)
	e.Arrange(ctx, "a mover of PVC "+c.Name+", or none", 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		pods, err := c.movers(ctx, "volsync-")
		for _, pod := range pods {
			if pod.Spec.NodeName != "" {
				seen = fmt.Sprintf("mover %s uses PVC %s on node %s", pod.Name, c.Name, pod.Spec.NodeName)
				return await.Reached(), err
			}
		}
		return await.ReachedIf(wait.over(), "none has a node"), err
	}))
	e.Evidence("seen", seen, nil)
}

// MoverNode waits until a mover of a ReplicationSource or a ReplicationDestination runs, and says on which node.
func (c *Claims) MoverNode(ctx context.Context, of *unstructured.Unstructured) (node string) {
	return c.moverThatRuns(ctx, of).Spec.NodeName
}

// moverThatRuns waits for the pod of a mover that runs, and that nobody has told to end.
func (c *Claims) moverThatRuns(ctx context.Context, of *unstructured.Unstructured) (mover corev1.Pod) {
	c.env.Arrange(ctx, "a mover of "+of.GetKind()+" "+of.GetName()+" that runs", c.env.Times.Mover, func(ctx context.Context) (await.State, error) {
		pods, err := c.moversOf(ctx, of)
		for _, pod := range pods {
			if atWork(&pod) && pod.DeletionTimestamp == nil {
				mover = pod
				return await.Reached(), err
			}
		}
		if err == nil && len(pods) == 0 {
			err = c.hindered(ctx, of)
		}
		return await.NotYet("of %d none runs", len(pods)), err
	})
	return mover
}

// BackupEnds waits until VolSync has made the backup that the claim was last asked for.
func (c *Claim) BackupEnds(ctx context.Context) {
	c.synced(ctx, c.HasReplicationSource(ctx), "backup")
}
