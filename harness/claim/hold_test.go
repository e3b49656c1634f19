package claim

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/objectstore"
)

// snapshots is an S3 server whose every listing is of n snapshots. It does not answer while n is below 0.
func snapshots(t *testing.T, n *atomic.Int64) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count := n.Load()
		if count < 0 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		_, _ = fmt.Fprint(w, "<ListBucketResult>")
		for i := range count {
			_, _ = fmt.Fprintf(w, "<Contents><Key>%ssnapshots/%d</Key><Size>1</Size><ETag>x</ETag></Contents>", r.URL.Query().Get("prefix"), i)
		}
		_, _ = fmt.Fprint(w, "</ListBucketResult>")
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
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
			t.Parallel()
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
			e.Testbed.Store = &objectstore.Handle{Bucket: "bucket", Server: snapshots(t, &n)}
			e.Times.Backup, e.Times.Mover, e.Times.Poll, e.Times.PollMax = 200*time.Millisecond, 500*time.Millisecond, 5*time.Millisecond, 10*time.Millisecond
			var made bool
			got := recorded.Outcome(func() { made = claims.claim("data").BackUpOrHold(t.Context()) })
			if got.How != c.want || made != c.made {
				t.Errorf("%+v, made: %v, wanted %s, %v", got, made, c.want, c.made)
			}
		})
	}
}
