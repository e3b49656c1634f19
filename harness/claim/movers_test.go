package claim

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// mover is a pod of the Job of what is called data-dst.
func mover(uid string, phase corev1.PodPhase, told bool) corev1.Pod {
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "volsync-dst-data-dst-" + uid, UID: types.UID(uid), Labels: map[string]string{batchv1.JobNameLabel: "volsync-dst-data-dst"}},
		Status:     corev1.PodStatus{Phase: phase},
	}
	if told {
		pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)}
	}
	return pod
}

func TestMoversAtWork(t *testing.T) {
	// What is there when the movers are looked for, a second later, and after a minute.
	type pods = []corev1.Pod
	const running, ended, pending = corev1.PodRunning, corev1.PodFailed, corev1.PodPending
	for name, c := range map[string]struct {
		first, then, late pods
		blind             bool
		want, says, seen  string
		atLeast, atMost   time.Duration
	}{
		"told to end, and gone":     {pods{mover("a", running, false)}, pods{mover("a", running, true), mover("b", pending, false)}, pods{mover("b", running, false)}, false, "pass", "", "all 1 movers that were at work are over", time.Minute, 2 * time.Minute},
		"ended":                     {pods{mover("a", running, false)}, pods{mover("a", ended, false)}, nil, false, "pass", "", "all 1 movers that were at work are over", 0, 20 * time.Second},
		"left to its work":          {pods{mover("a", running, false)}, pods{mover("a", running, false)}, pods{mover("a", running, false)}, false, "pass", "", "1 are left to it: volsync-dst-data-dst-a", 30 * time.Second, time.Minute},
		"it takes for ever to end":  {pods{mover("a", running, false)}, pods{mover("a", running, true)}, pods{mover("a", running, true)}, false, "unknown", "1 are left to it", "", 0, time.Hour},
		"none is at work":           {pods{mover("a", pending, false), mover("b", ended, false), mover("c", running, true)}, nil, nil, false, "unknown", "", "", 0, time.Hour},
		"they cannot be looked for": {nil, nil, nil, true, "unknown", "connection reset", "", 0, time.Hour},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun, looked := time.Now(), false
			claims, r := claims(t, interceptor.Funcs{List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
				into, ok := list.(*corev1.PodList)
				if !ok || c.blind {
					return errTransport
				}
				switch {
				case !looked:
					into.Items = c.first
					looked = true
				case time.Since(begun) < time.Minute:
					into.Items = c.then
				default:
					into.Items = c.late
				}
				if len(c.first) > 1 { // it stays so
					into.Items = c.first
				}
				return nil
			}})
			return func() {
				movers := claims.MoversAtWork(t.Context(), destination())
				movers.Over(t.Context())
				if left := strings.Contains(c.seen, "left to it"); len(movers.Pods()) == 0 != left {
					t.Errorf("%v are over", movers.Pods())
				}
				if took := time.Since(begun); took < c.atLeast || took > c.atMost {
					t.Errorf("it took %s, wanted %s to %s", took, c.atLeast, c.atMost)
				}
				if said := strings.Join(r.Evidences, "\n"); !strings.Contains(said, c.seen) {
					t.Errorf("no %q in %s", c.seen, said)
				}
			}
		})
	}
}

func TestNoMoverLeft(t *testing.T) {
	job := func(name string) batchv1.Job { return batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	for name, c := range map[string]struct {
		until, again time.Duration // a mover's Job is there until then, and from then on; zero: never
		want, says   string
	}{
		"none":         {0, 0, "pass", ""},
		"one ends":     {20 * time.Second, 0, "pass", ""},
		"one stays":    {time.Hour, 0, "fail", "volsync-dst-data"},
		"one comes":    {10 * time.Second, 12 * time.Second, "fail", "nobody asked for a mover, and there is volsync-dst-data"},
		"much later":   {0, time.Hour, "pass", ""},
		"it is unseen": {-1, 0, "unknown", "connection reset"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun := time.Now()
			claims, _ := claims(t, interceptor.Funcs{List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
				if c.until < 0 {
					return errTransport
				}
				jobs, _ := list.(*batchv1.JobList)
				jobs.Items = []batchv1.Job{job("somebody-elses")}
				if now := time.Since(begun); now < c.until || c.again > 0 && now >= c.again {
					jobs.Items = append(jobs.Items, job("volsync-dst-data"))
				}
				return nil
			}})
			return func() { claims.NoMoverLeft(t.Context()) }
		})
	}
}

func TestBackupsGoOn(t *testing.T) {
	for name, c := range map[string]struct {
		paused     time.Duration // how long
		gone       bool
		want, says string
	}{
		"they do":      {0, false, "pass", ""},
		"after a time": {20 * time.Second, false, "pass", ""},
		"paused":       {time.Hour, false, "fail", "it is paused, and no backup of PVC data is made"},
		"gone":         {time.Hour, true, "fail", "ReplicationSource data-backup is gone"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun := time.Now()
			of := source()
			claims, _ := claims(t, interceptor.Funcs{Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
				if c.gone {
					_ = api.Delete(ctx, of.DeepCopy())
				}
				err := api.Get(ctx, key, into, opts...)
				if o, ok := into.(*unstructured.Unstructured); ok && err == nil {
					_ = unstructured.SetNestedField(o.Object, time.Since(begun) < c.paused, "spec", "paused")
				}
				return err
			}}, of)
			return func() { claims.claim("data").BackupsGoOn(t.Context()) }
		})
	}
}

func TestNotSynced(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	warning := func(message string, at time.Duration) corev1.Event {
		return corev1.Event{Type: corev1.EventTypeWarning, Message: message, LastTimestamp: metav1.NewTime(began.Add(at)), InvolvedObject: corev1.ObjectReference{Kind: "Job", Name: "volsync-dst-data-dst"}}
	}
	of := func(kind, name string, event corev1.Event) corev1.Event {
		event.InvolvedObject = corev1.ObjectReference{Kind: kind, Name: name}
		return event
	}
	waiting := mover("a", corev1.PodPending, false)
	waiting.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: "no network"}}}}
	for name, c := range map[string]struct {
		age    time.Duration // of the sync; zero: none has begun
		pods   []corev1.Pod
		events []corev1.Event
		blind  bool
		want   string // "": an error
	}{
		"none has begun":         {0, nil, nil, true, "ReplicationDestination data-dst has no status yet"},
		"it has just begun":      {usualSync - time.Second, nil, nil, true, "ReplicationDestination data-dst has no status yet"},
		"no pod, nothing said":   {time.Minute, nil, nil, false, "ReplicationDestination data-dst has no status yet; Job volsync-dst-data-dst has no pod: nothing says why"},
		"no pod, it was refused": {time.Minute, nil, []corev1.Event{warning("refused", 2), warning("an older one", 1), of("Job", "another", warning("x", 3)), of("Pod", "volsync-dst-data-dst", warning("x", 3))}, false, "ReplicationDestination data-dst has no status yet; Job volsync-dst-data-dst has no pod: refused"},
		"its pod waits":          {time.Minute, []corev1.Pod{waiting, mover("b", corev1.PodFailed, false)}, nil, false, "ReplicationDestination data-dst has no status yet; mover volsync-dst-data-dst-a: phase Pending, ContainerCreating no network; mover volsync-dst-data-dst-b: phase Failed"},
		"it is paused":           {time.Minute, nil, nil, true, "ReplicationDestination data-dst has no status yet; it is paused"},
		"pods cannot be seen":    {time.Minute, nil, nil, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				claims, _ := claims(t, interceptor.Funcs{List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
					if c.blind {
						return errTransport
					}
					switch into := list.(type) {
					case *corev1.PodList:
						into.Items = c.pods
					case *corev1.EventList:
						into.Items = c.events
					}
					return nil
				}})
				object := destination()
				if name == "it is paused" {
					object.Object["spec"].(map[string]any)["paused"] = true
				}
				if c.age > 0 {
					object.Object["status"] = map[string]any{"lastSyncStartTime": time.Now().Add(-c.age).UTC().Format(time.RFC3339)}
				}
				state, err := claims.notSynced(t.Context(), object)
				if got := state.String(); err == nil && got != c.want || err != nil && c.want != "" {
					t.Errorf("%q, %v; wanted %q", got, err, c.want)
				}
			})
		})
	}
}
