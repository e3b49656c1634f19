package s3down

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/volsync"
)

// triedAgain is when the suite had Kubernetes try again to make a Job's pod.
const triedAgain = "conformance.smart-restore.io/tried-again"

// tryingAgain is how long the pods may take to be made that are tried again: Kubernetes waits a second for more changes of a Job.
const tryingAgain = 5 * time.Second

// othersTryAgain has Kubernetes make the movers' pods of other specs now that were refused while an outage held for them, too: where a policy
// asks S3 before it lets a mover run. Kubernetes waits twice as long after each try, for up to a minute, and would meet the next outage.
// The spec's own movers are left to themselves: how long they take is the policy's.
func (s *S3) othersTryAgain(ctx context.Context) {
	e, until, tried := s.env, time.Now().Add(tryingAgain), false
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, triedAgain, e.Now().UTC().Format(time.RFC3339)))
	e.Arrange(ctx, "other specs' movers' pods made that were refused in the outage, or tried", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		waiting, err := s.othersWaiting(ctx)
		if err != nil {
			return await.State{}, err
		}
		if !tried {
			for i := range waiting { // one that cannot be changed is tried again by Kubernetes itself
				_ = e.API.Patch(ctx, &waiting[i], patch)
			}
			tried = true
		}
		return await.ReachedIf(len(waiting) == 0 || time.Now().After(until), "%d have none", len(waiting)), nil
	})
}

// othersWaiting are the movers' Jobs of other specs of the run that are to run, and have no pod.
func (s *S3) othersWaiting(ctx context.Context) (waiting []batchv1.Job, err error) {
	e, namespaces, jobs := s.env, &corev1.NamespaceList{}, &batchv1.JobList{}
	if err := e.API.List(ctx, namespaces, client.MatchingLabels{runs.Label: e.Testbed.RunID}); err != nil {
		return nil, err
	}
	others := map[string]bool{}
	for _, namespace := range namespaces.Items {
		own := namespace.Name == e.Namespace || strings.HasPrefix(namespace.Name, e.Namespace+"-")
		others[namespace.Name] = !own && namespace.DeletionTimestamp == nil
	}
	err = e.API.List(ctx, jobs)
	return slices.DeleteFunc(jobs.Items, func(job batchv1.Job) bool { return !others[job.Namespace] || !waitsForPod(&job) }), err
}

// waitsForPod says whether a mover's Job is to run, and has no pod.
func waitsForPod(job *batchv1.Job) bool {
	return strings.HasPrefix(job.Name, "volsync-") && volsync.WantsPods(job) &&
		job.Status.Active == 0 && job.Status.Succeeded == 0 && len(job.Status.Conditions) == 0
}
