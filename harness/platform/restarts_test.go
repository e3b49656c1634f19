package platform

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

// A container that restarted during a storm is seen, whatever else changed, and one of which that cannot be seen is not called the same.
func TestSameRestarts(t *testing.T) {
	is := func(name, uid string, change ...func(*corev1.Pod)) *corev1.Pod {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: env.KyvernoNamespace, Name: name, UID: types.UID(uid)},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "kyverno"}}, RestartPolicy: corev1.RestartPolicyAlways},
			Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "kyverno", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
		}
		for _, c := range change {
			c(pod)
		}
		return pod
	}
	restarted := func(times int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount = times }
	}
	ended := func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled"}}
	}
	stateless := func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }
	leaving := func(p *corev1.Pod) {
		p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"example.com/x"}
	}
	ofJob := func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }
	for name, c := range map[string]struct {
		before, after []*corev1.Pod
		want, says    string
	}{
		"the same":                           {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("a", "1")}, "pass", ""},
		"restarted before the storm":         {[]*corev1.Pod{is("a", "1", restarted(3))}, []*corev1.Pod{is("a", "1", restarted(3))}, "pass", ""},
		"restarted":                          {[]*corev1.Pod{is("a", "1", restarted(3))}, []*corev1.Pod{is("a", "1", restarted(4))}, "fail", "a/kyverno restarted 1 times"},
		"ended, and not started again":       {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("a", "1", ended)}, "fail", "a/kyverno has ended"},
		"was down before":                    {[]*corev1.Pod{is("a", "1", ended)}, []*corev1.Pod{is("a", "1", ended)}, "pass", ""},
		"replaced":                           {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("b", "2")}, "unknown", "a/kyverno is gone"},
		"replaced, by one of the same name":  {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("a", "2")}, "unknown", "another pod"},
		"replaced, and restarted":            {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("b", "2", restarted(1))}, "fail", "b/kyverno, of a pod that came since"},
		"replaced, and another restarted":    {[]*corev1.Pod{is("a", "1"), is("c", "3")}, []*corev1.Pod{is("b", "2"), is("c", "3", restarted(1))}, "fail", "c/kyverno restarted"},
		"being replaced":                     {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("a", "1", leaving, ended), is("b", "2")}, "unknown", "being deleted"},
		"being replaced, after a restart":    {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("a", "1", leaving, restarted(1)), is("b", "2")}, "fail", "a/kyverno restarted"},
		"one more":                           {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("a", "1"), is("b", "2")}, "pass", ""},
		"no state now":                       {[]*corev1.Pod{is("a", "1")}, []*corev1.Pod{is("a", "1", stateless)}, "unknown", "a/kyverno has no state"},
		"no state before":                    {[]*corev1.Pod{is("a", "1", stateless)}, []*corev1.Pod{is("a", "1")}, "pass", ""},
		"no state before, and restarted":     {[]*corev1.Pod{is("a", "1", stateless)}, []*corev1.Pod{is("a", "1", restarted(2))}, "unknown", "had no state before"},
		"a Job that is done":                 {[]*corev1.Pod{is("a", "1"), is("j", "9", ofJob)}, []*corev1.Pod{is("a", "1"), is("j", "9", ofJob, ended)}, "pass", ""},
		"a Job that is gone":                 {[]*corev1.Pod{is("a", "1"), is("j", "9", ofJob)}, []*corev1.Pod{is("a", "1")}, "pass", ""},
		"nothing there":                      {nil, nil, "unknown", "there was no container of theirs"},
		"nothing there, and one that starts": {nil, []*corev1.Pod{is("a", "1")}, "unknown", "there was no container of theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			p := platformWith(t, &log{}, env.Parts{}, objects(c.before)...)
			before := p.Restarts(t.Context())
			p = platformWith(t, &log{}, env.Parts{}, objects(c.after)...)
			if got := recorded.Outcome(func() { p.SameRestarts(t.Context(), before) }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
			}
		})
	}
}

func objects(pods []*corev1.Pod) (objects []client.Object) {
	for _, pod := range pods {
		objects = append(objects, pod)
	}
	return objects
}

// A look that fails is repeated, and no count follows from one that fails for good.
func TestRestartsThatCannotBeSeen(t *testing.T) {
	for name, c := range map[string]struct {
		fails int
		want  string
	}{"for a moment": {2, "pass"}, "for good": {1 << 20, "unknown"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks := 0
				api := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
					List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
						if looks++; looks <= c.fails {
							return errors.New("connection reset by peer")
						}
						return api.List(ctx, list, opts...)
					},
				})
				p := Of(env.Offline(t.TempDir(), env.Parts{API: api, Times: timing.Default(), Testbed: &testbed.Testbed{}}).In("ns", "core/x", &recorded.Reporter{}))
				if got := recorded.Outcome(func() { p.Restarts(t.Context()) }); got.How != c.want {
					t.Errorf("%+v, wanted %s", got, c.want)
				}
			})
		})
	}
}
