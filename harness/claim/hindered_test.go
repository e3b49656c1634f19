package claim

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

// jobAged is the Job of the ReplicationSource that source returns, so old.
func jobAged(age time.Duration, change func(*batchv1.Job)) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "volsync-src-data-backup", UID: "this", CreationTimestamp: metav1.NewTime(time.Now().Add(-age))}}
	if change != nil {
		change(job)
	}
	return job
}

func podOfJob(uid string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mover", Labels: map[string]string{batchv1.ControllerUidLabel: uid}}}
}

func eventOfJob(uid string) *corev1.Event {
	return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "refused"}, Type: corev1.EventTypeWarning, Message: "refused", InvolvedObject: corev1.ObjectReference{Kind: "Job", UID: types.UID(uid)}}
}

func TestNotBegun(t *testing.T) {
	yes, none, other := true, int32(0), "another"
	for name, c := range map[string]struct {
		age     time.Duration // of the Job; zero: there is none
		change  func(*batchv1.Job)
		there   client.Object
		blind   bool
		hinders bool
	}{
		"there is no Job":               {},
		"nothing is made of it":         {age: time.Minute, hinders: true},
		"it has just been made":         {age: usualSync - time.Second},
		"it has a pod":                  {age: time.Minute, there: podOfJob("this")},
		"an earlier one has a pod":      {age: time.Minute, there: podOfJob("earlier"), hinders: true},
		"its pod was refused":           {age: time.Minute, there: eventOfJob("this")},
		"an earlier one's was":          {age: time.Minute, there: eventOfJob("earlier"), hinders: true},
		"its pod has failed":            {age: time.Minute, change: func(j *batchv1.Job) { j.Status.Failed = 1 }},
		"it is suspended":               {age: time.Minute, change: func(j *batchv1.Job) { j.Spec.Suspend = &yes }},
		"VolSync has paused it":         {age: time.Minute, change: func(j *batchv1.Job) { j.Spec.Parallelism = &none }},
		"another controller manages":    {age: time.Minute, change: func(j *batchv1.Job) { j.Spec.ManagedBy = &other }},
		"the API server cannot be seen": {age: time.Minute, blind: true, hinders: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				builder := fake.NewClientBuilder()
				if c.age > 0 {
					builder = builder.WithObjects(jobAged(c.age, c.change))
				}
				if c.there != nil {
					builder = builder.WithObjects(c.there)
				}
				claims, _ := claimsOf(t, env.Parts{API: interceptor.NewClient(builder.Build(), interceptor.Funcs{
					List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
						if c.blind {
							return errTransport
						}
						return api.List(ctx, list, opts...)
					},
				})})
				if err := claims.hindered(t.Context(), source()); (err != nil) != c.hinders {
					t.Errorf("%v, wanted an error: %t", err, c.hinders)
				}
			})
		})
	}
}

// A Job with which Kubernetes has not begun is waited for until it has, and is nobody's failure. One whose pod is refused is.
func TestAJobThatIsNotBegun(t *testing.T) {
	const never = time.Hour
	for name, c := range map[string]struct {
		begins     time.Duration // when Kubernetes makes its pod; it is done at once then
		refused    bool
		want, says string
	}{
		"begins in time":           {10 * time.Second, false, "pass", ""},
		"begins after 5 minutes":   {5 * time.Minute, false, "pass", ""},
		"never begins":             {never, false, "unknown", "of Job volsync-src-data-backup, which is"},
		"is refused all the while": {never, true, "fail", "Job volsync-src-data-backup has no pod"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			begun := time.Now()
			objects := []client.Object{source(), jobAged(0, nil)}
			if c.refused {
				objects = append(objects, eventOfJob("this"))
			}
			claims, _ := claims(t, interceptor.Funcs{Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
				err := api.Get(ctx, key, into, opts...)
				if o, ok := into.(*unstructured.Unstructured); ok {
					o.Object["status"] = map[string]any{"lastSyncStartTime": begun.UTC().Format(time.RFC3339)}
					if time.Since(begun) >= c.begins {
						o.Object["status"] = map[string]any{"lastSyncTime": begun.UTC().Format(time.RFC3339)}
					}
				}
				return err
			}}, objects...)
			return func() { claims.claim("data").awaitFirstSync(t.Context(), source()) }
		})
	}
}

// While an outage of another spec keeps Kyverno from S3, that no mover comes says nothing; and Kubernetes may ask for its pod a minute after.
func TestPatienceInAnOutageOfAnothers(t *testing.T) {
	folder := t.TempDir()
	e := env.Offline(folder, env.Parts{API: fake.NewClientBuilder().Build(), Testbed: &testbed.Testbed{}, Times: timing.Default()})
	lock := flock.New(filepath.Join(folder, "outage.lock"))
	if taken, err := lock.TryLock(); err != nil || !taken {
		t.Fatal(taken, err)
	}
	claims, _ := claimsIn(e)
	wait := claims.claim("data").patiently()
	if _, err := wait.look(t.Context(), source()); !errors.Is(err, errOutage) {
		t.Errorf("in the outage: %v", err)
	}
	if left := time.Until(wait.until); left < jobRetry {
		t.Errorf("%s are left", left)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := wait.look(t.Context(), source()); err != nil {
		t.Errorf("after it: %v", err)
	}
}
