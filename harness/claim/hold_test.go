package claim

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/volsync"
)

// snapshots is an S3 server whose every listing is of n snapshots. It does not answer while n is below 0. There is no network, so that a test
// can have its own time.
func snapshots(n *atomic.Int64) *objectstore.Handle {
	return &objectstore.Handle{Bucket: "bucket", Server: "s3.invalid:9000", Wrap: func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			reply := httptest.NewRecorder()
			count := n.Load()
			if count < 0 {
				reply.WriteHeader(http.StatusForbidden)
				return reply.Result(), nil
			}
			reply.Header().Set("Content-Type", "application/xml")
			_, _ = fmt.Fprint(reply, "<ListBucketResult>")
			for i := range count {
				_, _ = fmt.Fprintf(reply, "<Contents><Key>%ssnapshots/%d</Key><Size>1</Size><ETag>x</ETag></Contents>", r.URL.Query().Get("prefix"), i)
			}
			_, _ = fmt.Fprint(reply, "</ListBucketResult>")
			return reply.Result(), nil
		})
	}}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// That nobody was there to be asked for a backup is said: that none was made then shows nothing.
func TestABackupThatNobodyIsAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		objects []client.Object
		asked   bool
	}{
		"asked": {[]client.Object{source()}, true}, "nobody": {nil, false},
	} {
		claims, r := claims(t, interceptor.Funcs{}, c.objects...)
		if got := recorded.Outcome(func() { claims.claim("data").AskForBackup(t.Context()) }); got.How != "pass" {
			t.Errorf("%s: %+v", name, got)
		}
		if said := strings.Contains(strings.Join(r.Evidences, "\n"), "no ReplicationSource that could be asked"); said == c.asked {
			t.Errorf("%s: %q", name, r.Evidences)
		}
	}
}

func TestBackUpOrHold(t *testing.T) {
	synced := func(o *unstructured.Unstructured) {
		o.Object["status"] = map[string]any{"lastSyncTime": "2026-11-26T12:00:00Z"}
	}
	done := func(o *unstructured.Unstructured, manual any) {
		_ = unstructured.SetNestedField(o.Object, manual, "status", "lastManualSync")
	}
	const snapshotsAtFirst = 1
	for name, c := range map[string]struct {
		source *unstructured.Unstructured
		patch  error
		after  time.Duration // when a backup that was asked for is done; 0: never
		blind  time.Duration // after it was asked
		want   string
		made   bool
	}{
		"made":                                   {source(synced), nil, 50 * time.Millisecond, 0, "pass", true},
		"made while nothing was seen":            {source(synced), nil, 50 * time.Millisecond, 600 * time.Millisecond, "pass", true},
		"held":                                   {source(synced), nil, 0, 0, "pass", false},
		"held before its first sync":             {source(), nil, 0, 0, "pass", false},
		"it could not be asked for":              {source(synced), errTransport, 0, 0, "unknown", false},
		"asked for, and nothing seen ever after": {source(synced), nil, 0, time.Hour, "unknown", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				n.Store(snapshotsAtFirst)
				var asked time.Time
				claims, _ := claims(t, interceptor.Funcs{
					Patch: func(ctx context.Context, api client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
						if c.patch != nil {
							return c.patch
						}
						if asked.IsZero() {
							asked = time.Now()
						}
						return api.Patch(ctx, o, patch, opts...)
					},
					Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
						err := api.Get(ctx, key, into, opts...)
						since := time.Since(asked)
						isDone := !asked.IsZero() && c.after > 0 && since >= c.after
						switch {
						case !asked.IsZero() && since < c.blind:
							n.Store(-1)
						case isDone:
							n.Store(snapshotsAtFirst + 1)
						default:
							n.Store(snapshotsAtFirst)
						}
						if o, ok := into.(*unstructured.Unstructured); ok && isDone {
							manual, _, _ := unstructured.NestedString(o.Object, "spec", "trigger", "manual")
							done(o, manual)
						}
						return err
					},
				}, c.source)
				e := claims.env
				e.Testbed.Store = snapshots(&n)
				e.Times.Backup, e.Times.Mover, e.Times.Poll, e.Times.PollMax = 200*time.Millisecond, 500*time.Millisecond, 5*time.Millisecond, 10*time.Millisecond
				var made bool
				got := recorded.Outcome(func() { made = claims.claim("data").BackUpOrHold(t.Context()) })
				if got.How != c.want || made != c.made {
					t.Errorf("%+v, made: %v, wanted %s, %v", got, made, c.want, c.made)
				}
			})
		})
	}
}

func TestNoBackupWhileRestoring(t *testing.T) {
	paused := func(o *unstructured.Unstructured) { o.Object["spec"].(map[string]any)["paused"] = true }
	const quickly, slowly = 50 * time.Millisecond, 250 * time.Millisecond
	for name, c := range map[string]struct {
		source     *unstructured.Unstructured // nil: there is none
		backup     time.Duration              // after it was first looked: a snapshot is added; 0: none
		done       time.Duration              // after it was first looked: the restore is done; 0: it is not
		blind      time.Duration              // from the second look on: S3 lists nothing
		want, says string
		atLeast    time.Duration // it is watched
		atMost     time.Duration
	}{
		"paused":                               {source(paused), 0, 0, 0, "pass", "", quickly, slowly},
		"there is no source":                   {nil, 0, 0, 0, "pass", "", quickly, slowly},
		"paused, and a backup is made":         {source(paused), quickly / 2, 0, 0, "fail", "half-restored", 0, slowly},
		"not paused, and none is made":         {source(), 0, 0, 0, "pass", "", slowly, time.Minute},
		"not paused, and a backup is made":     {source(), slowly - quickly, 0, 0, "fail", "half-restored", 0, time.Minute},
		"the restore is done":                  {source(), 0, quickly, 0, "unknown", "was done before", 0, slowly},
		"nothing seen for a while":             {source(paused), 0, 0, 2 * quickly, "pass", "", 3 * quickly, time.Minute},
		"a backup, and nothing seen meanwhile": {source(paused), quickly, 0, 2 * quickly, "fail", "half-restored", 0, time.Minute},
		"nothing seen ever after":              {source(paused), 0, 0, time.Hour, "unknown", "", 0, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				n.Store(1)
				volume := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}}
				objects := []client.Object{volume, destinationDone(false)}
				if c.source != nil {
					objects = append(objects, c.source)
				}
				var begun time.Time
				claims, _ := claims(t, interceptor.Funcs{
					Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
						err := api.Get(ctx, key, into, opts...)
						if begun.IsZero() {
							begun = time.Now()
							if c.blind > 0 {
								n.Store(-1)
								time.AfterFunc(c.blind, func() { n.Store(1) })
							}
							if c.backup > 0 {
								time.AfterFunc(max(c.backup, c.blind+time.Millisecond), func() { n.Store(2) })
							}
						}
						if o, ok := into.(*unstructured.Unstructured); ok && o.GetKind() == volsync.Destination.Kind && c.done > 0 && time.Since(begun) >= c.done {
							o.Object["status"] = destinationDone(true).Object["status"]
						}
						return err
					},
				}, objects...)
				e := claims.env
				e.Testbed.Store = snapshots(&n)
				e.Times.Reaction, e.Times.Backup, e.Times.Mover, e.Times.Poll, e.Times.PollMax = quickly, slowly, time.Second, 5*time.Millisecond, 10*time.Millisecond
				start := time.Now()
				got := recorded.Outcome(func() { claims.claim("data").NoBackupWhileRestoring(t.Context(), destinationDone(false)) })
				if took := time.Since(start); got.How != c.want || !strings.Contains(got.Reason, c.says) || took < c.atLeast || took > c.atMost {
					t.Errorf("%+v after %s, wanted %s with %q after %s to %s", got, took, c.want, c.says, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// A snapshot is of what the app wrote only if it was begun later than that by any clock: on an external cluster, the nodes' may be
// off this host's by what ReadClock takes for none.
func TestBackedUpByAnyClock(t *testing.T) {
	for name, c := range map[string]struct {
		external bool
		begun    time.Duration // after what the app wrote
		copied   time.Duration // that copyMethod Snapshot copied the volume, after what the app wrote; zero: copyMethod Direct
		another  bool          // backup is asked for
	}{
		"before":                     {false, -time.Second, 0, true},
		"after":                      {false, time.Second, 0, false},
		"after, by another's clock":  {true, time.Second, 0, true},
		"well after, by any's clock": {true, 10 * time.Second, 0, false},
		"after, of a copy of before": {false, 10 * time.Second, -20 * time.Second, true},
		"after, of a copy of after":  {false, 20 * time.Second, 10 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				n.Store(1)
				listed := fmt.Sprintf(`[{"id":"0123456789","time":%q}]`, time.Now().Add(c.begun).Format(time.RFC3339Nano))
				claims, _ := claimsOf(t, env.Parts{
					API: interceptor.NewClient(fake.NewClientBuilder().WithObjects(source(func(o *unstructured.Unstructured) {
						o.Object["status"] = map[string]any{"lastSyncTime": "2026-11-26T12:00:00Z"}
						if c.copied != 0 {
							o.Object["spec"].(map[string]any)["restic"] = map[string]any{"copyMethod": "Snapshot"}
							o.Object["status"] = map[string]any{"lastSyncTime": time.Now().Add(c.copied + time.Minute).Format(time.RFC3339), "lastSyncDuration": "1m0s"}
						}
					})).Build(), interceptor.Funcs{Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
						return errTransport
					}}),
					Pods: restic(listed),
				})
				e := claims.env
				e.Times.Gone, e.Times.Poll = 10*time.Millisecond, time.Millisecond
				e.Testbed.Store = snapshots(&n)
				if c.external {
					e.Testbed.External = &testbed.External{}
				}
				want := "pass"
				if c.another {
					want = "unknown" // it cannot be asked for here
				}
				if got := recorded.Outcome(func() { claims.claim("data").BackedUp(t.Context()) }); got.How != want {
					t.Errorf("%+v, wanted %s", got, want)
				}
			})
		})
	}
}

// restic streams this reply to whatever it is asked.
type restic string

func (r restic) Stream(_ context.Context, _ podexec.Container, _ []string, _ io.Reader, stdout, _ io.Writer) error {
	return frame.Write(stdout, 0, []byte(r))
}
