package claim

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
)

// A time in which nothing can be seen is no time in which something did not come.

// unseen is a wait on an API server that answers for a moment, and then for longer than a mover would take does not. What is waited for is
// there a moment after it answers again, which it is asked by turn.
type unseen struct{ begun time.Time }

func (u unseen) blind() bool {
	since := time.Since(u.begun)
	return since > 5*time.Second && since < 5*time.Second+unseenFor
}

func (u unseen) there() bool { return time.Since(u.begun) > 5*time.Second+unseenFor+10*time.Second }

const unseenFor = 40 * time.Second

func (u unseen) api(change func(*unstructured.Unstructured), objects ...client.Object) client.Client {
	as := func(o *unstructured.Unstructured) {
		if u.there() {
			change(o)
		}
	}
	return interceptor.NewClient(fake.NewClientBuilder().WithObjects(objects...).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
			if u.blind() {
				return errTransport
			}
			err := api.Get(ctx, key, into, opts...)
			if o, ok := into.(*unstructured.Unstructured); ok && err == nil {
				as(o)
			}
			return err
		},
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if u.blind() {
				return errTransport
			}
			err := api.List(ctx, list, opts...)
			if all, ok := list.(*unstructured.UnstructuredList); ok && err == nil {
				for i := range all.Items {
					as(&all.Items[i])
				}
			}
			return err
		},
	})
}

func status(fields map[string]any) func(*unstructured.Unstructured) {
	return func(o *unstructured.Unstructured) { o.Object["status"] = fields }
}

// restoredNow has a ReplicationDestination say that its restore was a success, and a ReplicationSource that its first backup is made.
var restoredNow = status(map[string]any{"lastManualSync": "once", "lastSyncTime": "2026-11-26T12:00:00Z", "latestMoverStatus": map[string]any{"result": "Successful"}})

func TestWhatMayNeverComeIsWaitedForAnewAfterBlindness(t *testing.T) {
	for name, wait := range map[string]func(context.Context, *Claim) bool{
		"a restore":      func(ctx context.Context, c *Claim) bool { return c.IsCalledRestored(ctx) },
		"a backup":       func(ctx context.Context, c *Claim) bool { return c.BackupsRun(ctx) },
		"a restore that": func(ctx context.Context, c *Claim) bool { c.TriesToRestore(ctx); return true },
	} {
		inBubble(t, name, "pass", "", func(t *testing.T) func() {
			u := unseen{time.Now()}
			claims, r := claimsOf(t, env.Parts{API: u.api(restoredNow, source(), destinationDone(false))})
			if claims.env.Times.Backup >= 5*time.Second+unseenFor {
				t.Fatalf("a mover may take %s: the API server is away for too short a time", claims.env.Times.Backup)
			}
			return func() {
				if !wait(t.Context(), claims.claim("data")) || strings.Contains(strings.Join(r.Evidences, "\n"), "was tried: no") {
					t.Errorf("it was given up: %q", r.Evidences)
				}
			}
		})
	}
}

func TestARestoreThatIsBegunInBlindnessIsSeen(t *testing.T) {
	inBubble(t, "restored over", "fail", "a volume in use is restored over", func(t *testing.T) func() {
		u := unseen{time.Now()}
		found := func(o *unstructured.Unstructured) {
			if o.GetKind() == "ReplicationDestination" {
				status(map[string]any{"lastManualSync": "once", "lastSyncTime": "2026-11-26T12:00:00Z",
					"latestMoverStatus": map[string]any{"result": "Successful", "logs": "restoring snapshot 0123 of [/data]\nSummary: Restored 1 files/dirs (15 B) in 0:00"}})(o)
			}
		}
		claims, _ := claimsOf(t, env.Parts{API: u.api(found, destinationDone(false))})
		claims.env.Testbed.Contract.Restores = policy.Always
		return func() { claims.claim("data").StaysUnrestored(t.Context(), "a change") }
	})
}

// What is written on a PVC has settled when it was seen not to change, and not when nobody could write.
func TestWordsSettleWhileTheyAreSeen(t *testing.T) {
	pvc := func(name, uid, says string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), Annotations: map[string]string{"example.com/says": says}}}
	}
	inBubble(t, "told late", "pass", "", func(t *testing.T) func() {
		begun := time.Now()
		back := begun.Add(time.Minute)
		claims, _ := claims(t, interceptor.Funcs{Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
			if since := time.Since(begun); since > time.Second && time.Now().Before(back) {
				return errTransport
			}
			err := api.Get(ctx, key, into, opts...)
			if key.Name == "data" && time.Now().After(back.Add(2*time.Second)) {
				into.SetAnnotations(map[string]string{"example.com/says": "nothing was found"})
			}
			return err
		}}, pvc("data", "1", "restore"), pvc("whole", "2", "restore"))
		claims.env.Times.Reaction = 15 * time.Second
		return func() { claims.claim("data").LooksUnlike(t.Context(), claims.claim("whole"), "nobody can see it") }
	})
}

// Words that differ in names only say the same.
func TestNamesAreNoWords(t *testing.T) {
	inBubble(t, "names", "pass", "", func(t *testing.T) func() {
		c, _ := claims(t, interceptor.Funcs{})
		other, _ := claims(t, interceptor.Funcs{})
		other.env.Namespace = "ns-plain"
		for _, w := range []struct {
			mine, others string
			differs      bool
		}{
			{"restore s3://bucket/ns/data", "restore s3://bucket/ns-plain/twin", false},
			{"restore of 1 at 10:00, ns/data", "restore of 2 at 11:30, ns-plain/twin", false},
			{"restore data of ns/data", "restore data of ns-plain/twin", false},
			{"restore ns/data", "nothing to restore in ns-plain/twin", true},
			{"", "restore ns-plain/twin", true},
		} {
			a, b := c.claim("data"), other.claim("twin")
			a.said, b.said = w.mine, w.others
			if got := a.SaysOther(b); got != w.differs {
				t.Errorf("%q and %q differ: %v", w.mine, w.others, got)
			}
		}
		return func() {}
	})
}

// A restore that nobody has triggered is not done before VolSync says so.
func TestARestoreWithoutATriggerIsNotDoneAtOnce(t *testing.T) {
	untriggered := func(done bool) *unstructured.Unstructured {
		o := destinationDone(false)
		unstructured.RemoveNestedField(o.Object, "spec", "trigger")
		if done {
			o.Object["status"] = map[string]any{"lastSyncTime": "2026-11-26T12:00:00Z"}
		}
		return o
	}
	for name, c := range map[string]struct {
		done       bool
		ends, over string // of a wait for its end, of a look for what is to be seen before that
	}{
		"at work": {false, "fail", "pass"},
		"done":    {true, "pass", "unknown"},
	} {
		inBubble(t, name+", ended", c.ends, "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(untriggered(c.done)).Build()})
			return func() { claims.claim("data").RestoreEnded(t.Context()) }
		})
		inBubble(t, name+", seen before that", c.over, "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(untriggered(c.done)).Build()})
			return func() { claims.claim("data").notDone(t.Context(), untriggered(false)) }
		})
	}
}

// Only a mover of the claim's own restore says how that ended.
func TestARestoreEndsByItsOwnMover(t *testing.T) {
	failed := func(job string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: job + "-x", Labels: map[string]string{batchv1.JobNameLabel: job}}, Status: corev1.PodStatus{Phase: corev1.PodFailed}}
	}
	for name, c := range map[string]struct{ job, want string }{
		"its own":   {"volsync-dst-data-restore", "pass"},
		"another's": {"volsync-dst-whole-restore", "fail"},
		"a backup":  {"volsync-src-data-restore", "fail"},
	} {
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(failed(c.job), destinationDone(false)).Build()})
			return func() { claims.claim("data").RestoreEnded(t.Context()) }
		})
	}
}

// A backup that has begun is no backup that is not made.
func TestAFirstBackupWhoseEndIsNotSeen(t *testing.T) {
	for name, c := range map[string]struct {
		config, mover bool
		want, says    string
	}{
		"none is tried":                       {false, false, "fail", "yet none is made"},
		"a repository, and nobody's mover":    {true, false, "fail", "yet none is made"},
		"a mover, and no repository":          {false, true, "fail", "yet none is made"},
		"a mover that has made a repository,": {true, true, "unknown", "it was not seen that it failed"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				key := ""
				if c.config {
					key = fmt.Sprintf("<Contents><Key>%sconfig</Key><Size>1</Size><ETag>x</ETag></Contents>", r.URL.Query().Get("prefix"))
				}
				_, _ = fmt.Fprintf(w, "<ListBucketResult>%s</ListBucketResult>", key)
			}))
			defer server.Close()
			objects := []client.Object{source()}
			if c.mover {
				objects = append(objects, moverPod("volsync-src-data-backup", "data", "one", corev1.PodSucceeded))
			}
			claims, _ := claims(t, interceptor.Funcs{}, objects...)
			e := claims.env
			e.Testbed.Store = &objectstore.Handle{Bucket: "bucket", Server: strings.TrimPrefix(server.URL, "http://")}
			e.Times.Backup, e.Times.Scan, e.Times.Mover, e.Times.Poll, e.Times.PollMax = 50*time.Millisecond, 50*time.Millisecond, time.Second, 5*time.Millisecond, 5*time.Millisecond
			if got := recorded.Outcome(func() { claims.claim("data").HalfBackedUp(t.Context()) }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
			}
		})
	}
}

// Where a ReplicationDestination comes with each PVC, a storm of fresh PVCs has them, too.
func TestNoneOfAStormIsRestored(t *testing.T) {
	for name, c := range map[string]struct {
		restores string
		done     bool
		want     string
	}{
		"one that has restored nothing":              {policy.Always, false, "pass"},
		"one that has restored a snapshot":           {policy.Always, true, "fail"},
		"one, where there is to be one for a backup": {policy.Default().Restores, false, "fail"},
	} {
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			destination := destinationDone(false)
			if c.done {
				destination.Object["status"] = map[string]any{"lastManualSync": "once", "lastSyncTime": "2026-11-26T12:00:00Z",
					"latestMoverStatus": map[string]any{"result": "Successful", "logs": "restoring snapshot 0123 of [/data]\nSummary: Restored 1 files/dirs (15 B) in 0:00"}}
			}
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(destination).Build(), Created: aDestination{}})
			claims.env.Testbed.Contract.Restores = c.restores
			return func() { (&Storm{of: claims, claims: []*Claim{claims.claim("data")}}).NoneRestored(t.Context()) }
		})
	}
}

// aDestination knows of one ReplicationDestination into the PVC data.
type aDestination struct{ nothingMade }

func (aDestination) Created(_ context.Context, resource, _ string, since time.Time) ([]creations.CreatedObject, error) {
	if resource != absence.ReplicationDestinations {
		return nil, nil
	}
	return []creations.CreatedObject{{Name: "data-restore", User: "kyverno", Time: since.Add(time.Second), Raw: destinationDone(false).Object}}, nil
}
