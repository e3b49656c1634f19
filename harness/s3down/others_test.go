package s3down

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/runs"
)

// After an outage that holds for all, the movers of other specs that wait for a pod are tried again, and nothing else is touched.
func TestOthersTryAgain(t *testing.T) {
	namespace := func(name, run string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{runs.Label: run}}}
	}
	job := func(namespace, name string, change func(*batchv1.Job)) *batchv1.Job {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if change != nil {
			change(job)
		}
		return job
	}
	none := int32(0)
	objects := []client.Object{
		namespace("ns", "run"), namespace("ns-full", "run"), namespace("nsother", "run"), namespace("somebody", "else"),
		job("nsother", "volsync-src-waits", nil),
		job("nsother", "volsync-src-failed", func(j *batchv1.Job) { j.Status.Failed = 1 }),
		job("nsother", "volsync-src-runs", func(j *batchv1.Job) { j.Status.Active = 1 }),
		job("nsother", "volsync-dst-done", func(j *batchv1.Job) { j.Status.Succeeded = 1 }),
		job("nsother", "volsync-dst-over", func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}
		}),
		job("nsother", "volsync-src-paused", func(j *batchv1.Job) { j.Spec.Parallelism = &none }),
		job("nsother", "of-an-app", nil),
		job("ns", "volsync-src-own", nil),
		job("ns-full", "volsync-src-own", nil),
		job("somebody", "volsync-src-theirs", nil),
	}
	for name, c := range map[string]struct {
		blind bool
		stays bool // they are refused again
		want  string
		tried []string
	}{
		"they run":         {want: "pass", tried: []string{"nsother/volsync-src-failed", "nsother/volsync-src-waits"}},
		"they are refused": {stays: true, want: "pass", tried: []string{"nsother/volsync-src-failed", "nsother/volsync-src-waits"}},
		"nothing is seen":  {blind: true, want: "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := s3In(t.TempDir(), &node{}, nil)
				s.env.Testbed.RunID = "run"
				var tried []string
				s.env.API = interceptor.NewClient(fake.NewClientBuilder().WithObjects(objects...).WithStatusSubresource(&batchv1.Job{}).Build(), interceptor.Funcs{
					List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
						if c.blind {
							return errors.New("connection reset")
						}
						return api.List(ctx, list, opts...)
					},
					Patch: func(ctx context.Context, api client.WithWatch, object client.Object, patch client.Patch, _ ...client.PatchOption) error {
						tried = append(tried, object.GetNamespace()+"/"+object.GetName())
						data, err := patch.Data(object)
						if err != nil || !strings.Contains(string(data), triedAgain) {
							t.Errorf("%s, %v", data, err)
						}
						if c.stays {
							return nil
						}
						started := object.(*batchv1.Job)
						started.Status.Active = 1
						return api.Status().Update(ctx, started)
					},
				})
				got := recorded.Outcome(func() { s.othersTryAgain(t.Context()) })
				slices.Sort(tried)
				if got.How != c.want || !slices.Equal(tried, c.tried) {
					t.Errorf("%+v, tried %v; wanted %s, %v", got, tried, c.want, c.tried)
				}
			})
		})
	}
}
