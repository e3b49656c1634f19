package claim

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/volsync"
)

func destination(change ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	o := source(append([]func(*unstructured.Unstructured){func(o *unstructured.Unstructured) {
		o.Object["spec"] = map[string]any{"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"destinationPVC": "data"}}
		o.SetGroupVersionKind(volsync.Destination)
		o.SetName("data-dst")
	}}, change...)...)
	return o
}

// jobAndPod are a mover's Job, and its pod, in which a pause of 7 s came before restic, which began 9 s after the Job.
func jobAndPod(name, uid string, made time.Time) (*batchv1.Job, *corev1.Pod) {
	at := func(seconds int) metav1.Time { return metav1.NewTime(made.Add(time.Duration(seconds) * time.Second)) }
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), CreationTimestamp: at(0)}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name + "-x", CreationTimestamp: at(1), Labels: map[string]string{batchv1.JobNameLabel: name, batchv1.ControllerUidLabel: uid}},
		Status: corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "jitter", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: at(2), FinishedAt: at(9)}}}},
			ContainerStatuses:     []corev1.ContainerStatus{{Name: "restic", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(9)}}}},
		},
	}
	return job, pod
}

func TestRestoredByFewJobs(t *testing.T) {
	const done = 20 * time.Second
	for name, c := range map[string]struct {
		every      time.Duration // a new Job is there each time that this has passed; zero: never
		blind      bool          // of Jobs
		failed     bool
		want, says string
		evidence   string
	}{
		"by one Job":           {want: "pass", evidence: "the restore of PVC data took one Job; its mover began 9 s after it, behind jitter for 7 s"},
		"by a second one":      {every: 12 * time.Second, want: "pass", evidence: "the restore of PVC data took 2 Jobs; its mover began 9 s after it"},
		"over and over":        {every: time.Second, want: "fail", says: "VolSync makes the Job volsync-dst-data-dst over and over, 4 times so far"},
		"Jobs cannot be seen":  {blind: true, want: "unknown", says: "connection reset"},
		"the mover has failed": {failed: true, want: "fail", says: `the mover's result is "Failed"`},
	} {
		var seen *recorded.Reporter
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun := time.Now()
			claims, r := claims(t, interceptor.Funcs{
				Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
					switch o := into.(type) {
					case *batchv1.Job:
						if c.blind {
							return errTransport
						}
						n := 0
						if c.every > 0 {
							n = int(time.Since(begun) / c.every)
						}
						job, _ := jobAndPod(key.Name, fmt.Sprint("job-", n), begun)
						job.DeepCopyInto(o)
						return nil
					case *unstructured.Unstructured:
						err := api.Get(ctx, key, into, opts...)
						if time.Since(begun) > done {
							result := map[bool]string{false: "Successful", true: "Failed"}[c.failed]
							o.Object["status"] = map[string]any{"lastManualSync": "once", "latestMoverStatus": map[string]any{"result": result}}
						}
						return err
					}
					return api.Get(ctx, key, into, opts...)
				},
				List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if pods, ok := list.(*corev1.PodList); ok {
						_, pod := jobAndPod("volsync-dst-data-dst", "job-0", begun)
						pods.Items = []corev1.Pod{*pod}
						return nil
					}
					return api.List(ctx, list, opts...)
				},
			}, destination())
			seen = r
			return func() { claims.claim("data").RestoredByFewJobs(t.Context()) }
		})
		if said := strings.Join(seen.Evidences, "\n"); !strings.Contains(said, c.evidence) {
			t.Errorf("%s: no %q in %s", name, c.evidence, said)
		}
	}
}

func TestBackedUpByFewJobs(t *testing.T) {
	for name, c := range map[string]struct {
		every      time.Duration
		want, says string
	}{
		"by one Job":    {0, "pass", ""},
		"over and over": {time.Second, "fail", "VolSync makes the Job volsync-src-data-backup over and over"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun := time.Now()
			claims, _ := claims(t, interceptor.Funcs{
				Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
					switch o := into.(type) {
					case *batchv1.Job:
						n := 0
						if c.every > 0 {
							n = int(time.Since(begun) / c.every)
						}
						job, _ := jobAndPod(key.Name, fmt.Sprint("job-", n), begun)
						job.DeepCopyInto(o)
						return nil
					case *unstructured.Unstructured:
						err := api.Get(ctx, key, into, opts...)
						if time.Since(begun) > 20*time.Second {
							manual, _, _ := unstructured.NestedString(o.Object, "spec", "trigger", "manual")
							o.Object["status"] = map[string]any{"lastSyncTime": "2026-11-26T12:00:00Z", "lastManualSync": manual, "latestMoverStatus": map[string]any{"result": "Successful"}}
						}
						return err
					}
					return api.Get(ctx, key, into, opts...)
				},
			}, source())
			return func() { claims.claim("data").BackedUpByFewJobs(t.Context()) }
		})
	}
}

func TestWhenAMoverBegan(t *testing.T) {
	made := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	_, pod := jobAndPod("volsync-src-data", "job-0", made)
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"behind a pause": {func(*corev1.Pod) {}, "its mover began 9 s after it, behind jitter for 7 s"},
		"at once":        {func(p *corev1.Pod) { p.Status.InitContainerStatuses = nil }, "its mover began 9 s after it"},
		"has ended": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{StartedAt: metav1.NewTime(made.Add(3 * time.Second))}}
		}, "its mover began 3 s after it, behind jitter for 7 s"},
		"has not begun yet": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
		}, ""},
		"is not even there": {func(p *corev1.Pod) { p.Status = corev1.PodStatus{} }, ""},
	} {
		changed := pod.DeepCopy()
		c.change(changed)
		if got := beganSaying(changed, made); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
