package claim

import (
	"context"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
)

// Movers' Jobs, which others change, too: policies add a pause, a volume, a failure policy. Whenever VolSync looks at a Job, it writes what
// it wants of it. If the pods' template is another one then, because what was added is gone, or added once more, Kubernetes refuses
// that. VolSync then deletes the Job, and its mover with it, and makes another, of which the same becomes.

// fewJobs is how many Jobs a mover may take: VolSync itself replaces one that failed too often, or whose app was scheduled meanwhile.
const fewJobs = 3

// RestoredByFewJobs waits until the claim's restore is reported done, and fails the spec where its Job is made over and over. It
// records when the mover began.
func (c *Claim) RestoredByFewJobs(ctx context.Context) {
	c.syncedByFewJobs(ctx, c.HasReplicationDestination(ctx), "restore")
}

// BackedUpByFewJobs is the same of a backup that is asked for.
func (c *Claim) BackedUpByFewJobs(ctx context.Context) {
	e, source := c.env(), c.HasReplicationSource(ctx)
	e.Eventually(ctx, fmt.Sprintf("first sync of ReplicationSource %s ended, by few Jobs", source.GetName()), e.Times.Mover, c.jobsOf(source).fewUntil(c.isFirstSynced))
	c.triggerBackup(ctx, source)
	c.syncedByFewJobs(ctx, source, "backup")
}

func (c *Claim) syncedByFewJobs(ctx context.Context, object *unstructured.Unstructured, what string) {
	e, jobs := c.env(), c.jobsOf(object)
	e.Eventually(ctx, fmt.Sprintf("%s of PVC %s reported done, by few Jobs", what, c.Name), e.Times.Mover, jobs.fewUntil(c.isSynced))
	e.Evidence("mover", fmt.Sprintf("the %s of PVC %s took %s", what, c.Name, jobs), nil)
}

// jobs is what was seen of the Jobs of a ReplicationSource or a ReplicationDestination, one after the other.
type jobs struct {
	claim *Claim
	of    *unstructured.Unstructured
	made  map[types.UID]time.Time
	began string // how the last mover that was seen began
}

func (c *Claim) jobsOf(object *unstructured.Unstructured) *jobs {
	return &jobs{claim: c, of: object, made: map[types.UID]time.Time{}}
}

// fewUntil rules out what is waited for once there were too many Jobs.
func (j *jobs) fewUntil(reached func(context.Context, *unstructured.Unstructured) (await.State, error)) func(context.Context) (await.State, error) {
	return func(ctx context.Context) (await.State, error) {
		switch err := j.look(ctx); {
		case err != nil:
			return await.State{}, err
		case len(j.made) > fewJobs:
			return await.RuledOut("VolSync makes the Job %s over and over, %d times so far: what somebody changed in its pods' template is not so when VolSync writes the Job again, and Kubernetes refuses to change a template", moverOf(j.of), len(j.made)), nil
		}
		return reached(ctx, j.of)
	}
}

// look looks at the Job that there is now, and at its pods.
func (j *jobs) look(ctx context.Context) error {
	e, job := j.claim.env(), &batchv1.Job{}
	err := e.API.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: moverOf(j.of)}, job)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err == nil {
		j.made[job.UID] = job.CreationTimestamp.Time
	}
	pods, err := j.claim.claims.moversOf(ctx, j.of)
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &pods[i]
		if uid := types.UID(pod.Labels[batchv1.ControllerUidLabel]); uid != "" {
			if _, seen := j.made[uid]; !seen {
				j.made[uid] = pod.CreationTimestamp.Time
			}
			if said := beganSaying(pod, j.made[uid]); said != "" {
				j.began = said
			}
		}
	}
	return nil
}

// beganSaying says how long after its Job the container of a mover began, and what ran before it; empty: it has not begun.
func beganSaying(pod *corev1.Pod, made time.Time) string {
	var before []string
	for _, status := range pod.Status.InitContainerStatuses {
		if ended := status.State.Terminated; ended != nil {
			before = append(before, fmt.Sprintf("%s for %.0f s", status.Name, ended.FinishedAt.Sub(ended.StartedAt.Time).Seconds()))
		}
	}
	for _, status := range pod.Status.ContainerStatuses {
		began := time.Time{}
		switch {
		case status.State.Running != nil:
			began = status.State.Running.StartedAt.Time
		case status.State.Terminated != nil:
			began = status.State.Terminated.StartedAt.Time
		}
		if began.IsZero() {
			continue
		}
		said := fmt.Sprintf("its mover began %.0f s after it", began.Sub(made).Seconds())
		if len(before) > 0 {
			said += ", behind " + strings.Join(before, ", ")
		}
		return said
	}
	return ""
}

// String is what was seen, in words.
func (j *jobs) String() string {
	text := fmt.Sprintf("%d Jobs", len(j.made))
	if len(j.made) == 1 {
		text = "one Job"
	}
	if j.began == "" {
		return text + "; when its mover began was not seen"
	}
	return text + "; " + j.began
}
