package claim

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/volsync"
)

// volume streams what the agent says of a volume that holds content now; lost: its reply does not arrive.
type volume func() (content string, lost bool)

func (v volume) Stream(_ context.Context, _ podexec.Container, command []string, _ io.Reader, stdout, _ io.Writer) error {
	content, lost := v()
	if lost {
		return errTransport
	}
	if !slices.Contains(command, "get") {
		content = "{}"
	}
	var reply bytes.Buffer
	if err := frame.Write(&reply, 0, []byte(content)); err != nil {
		return err
	}
	_, err := stdout.Write(reply.Bytes())
	return err
}

// destinationDone is a ReplicationDestination into the PVC data, done or not.
func destinationDone(done bool) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"destinationPVC": "data"}},
	}}
	if done {
		o.Object["status"] = map[string]any{"lastManualSync": "once"}
	}
	o.SetGroupVersionKind(volsync.Destination)
	o.SetNamespace("ns")
	o.SetName("data-restore")
	return o
}

func TestLosesNothing(t *testing.T) {
	const never = time.Hour
	for name, c := range map[string]struct {
		made, done, written, lost time.Duration // after the controller is back
		gone                      bool          // its pod is there before its PVC, and no more by then
		want, says                string
	}{
		"no restore":                           {never, never, never, never, false, "pass", ""},
		"a restore that harms nothing":         {0, 20 * time.Second, never, never, false, "pass", ""},
		"written over":                         {0, 20 * time.Second, 10 * time.Second, never, false, "fail", "has written over it"},
		"written over by one that comes later": {2 * time.Second, 20 * time.Second, 15 * time.Second, never, false, "fail", "has written over it"},
		"written over at its very end":         {0, 20 * time.Second, 21 * time.Second, never, false, "fail", "has written over it"},
		"a restore that does not end":          {0, never, never, never, false, "fail", "is not done"},
		"the volume cannot be read":            {never, never, never, 0, false, "unknown", "connection reset"},
		"the volume cannot be read at last":    {0, 20 * time.Second, never, 10 * time.Second, false, "unknown", "connection reset"},
		"gone, and no restore":                 {never, never, never, never, true, "pass", ""},
		"gone, and written over":               {0, 20 * time.Second, 10 * time.Second, never, true, "fail", "the app wrote it before its pod went"},
		"gone, and a restore that goes on":     {0, never, never, never, true, "fail", "is not done"},
		"gone, and the volume cannot be read":  {never, never, never, 0, true, "unknown", "connection reset"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			start := time.Now().Add(time.Hour)
			since := func() time.Duration { return time.Since(start) }
			api := interceptor.NewClient(fake.NewClientBuilder().WithObjects(source()).Build(), interceptor.Funcs{
				Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
					err := api.Get(ctx, key, into, opts...)
					if pod, ok := into.(*corev1.Pod); ok {
						pod.Status.Phase = corev1.PodRunning
					}
					return err
				},
				List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if list.GetObjectKind().GroupVersionKind().Kind != volsync.Destination.Kind {
						return api.List(ctx, list, opts...)
					}
					if since() >= c.made {
						list.(*unstructured.UnstructuredList).Items = []unstructured.Unstructured{*destinationDone(since() >= c.done)}
					}
					return nil
				},
			})
			claims, _ := claimsOf(t, env.Parts{API: api, Pods: volume(func() (string, bool) {
				if since() >= c.written {
					return "from the backup", since() >= c.lost
				}
				return writtenEarly, since() >= c.lost
			})})
			return func() {
				var late *LateApp
				if c.gone {
					late = claims.AppThatComesAndGoes(t.Context(), "data")
				} else {
					late = claims.claim("data").AppBeforeRestore(t.Context())
				}
				start = time.Now()
				late.LosesNothing(t.Context())
			}
		})
	}
}

func TestTriesToRestore(t *testing.T) {
	event := func(job, message string) client.Object {
		return &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "event"}, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: message,
			InvolvedObject: corev1.ObjectReference{Kind: "Job", Namespace: "ns", Name: job},
		}
	}
	mover := func(phase corev1.PodPhase) client.Object {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mover", Labels: map[string]string{batchv1.JobNameLabel: "volsync-dst-data-restore"}},
			Status:     corev1.PodStatus{Phase: phase},
		}
	}
	for name, c := range map[string]struct {
		destination *unstructured.Unstructured
		there       client.Object
		waits       bool // for as long as a mover would take
		seen        string
	}{
		"refused":                {destinationDone(false), event("volsync-dst-data-restore", "denied: it is gone"), false, "denied: it is gone"},
		"another's refused":      {destinationDone(false), event("volsync-src-data", "denied: it is gone"), true, "no"},
		"refused by the quota":   {destinationDone(false), event("volsync-dst-data-restore", "exceeded quota: no-pods"), true, "no"},
		"a mover that has ended": {destinationDone(false), mover(corev1.PodFailed), false, "mover mover ended, Failed"},
		"done":                   {destinationDone(true), nil, false, "VolSync calls it done"},
		"nothing is made":        {nil, nil, true, "no"},
	} {
		inBubble(t, name, "pass", "", func(t *testing.T) func() {
			builder := fake.NewClientBuilder()
			if c.there != nil {
				builder = builder.WithObjects(c.there)
			}
			api := interceptor.NewClient(builder.Build(), interceptor.Funcs{
				List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					destinations, ok := list.(*unstructured.UnstructuredList)
					if !ok {
						return api.List(ctx, list, opts...)
					}
					if c.destination != nil && list.GetObjectKind().GroupVersionKind().Kind == volsync.Destination.Kind {
						destinations.Items = []unstructured.Unstructured{*c.destination.DeepCopy()}
					}
					return nil
				},
			})
			claims, reporter := claimsOf(t, env.Parts{API: api})
			return func() {
				start := time.Now()
				claims.claim("data").TriesToRestore(t.Context())
				if waited := time.Since(start) >= claims.env.Times.Backup; waited != c.waits {
					t.Errorf("it took %s", time.Since(start))
				}
				if want := "seen: a restore into PVC data was tried: " + c.seen; !slices.Contains(reporter.Evidences, want) {
					t.Errorf("wanted %q: %q", want, reporter.Evidences)
				}
			}
		})
	}
}

func TestAnAppIsHeldBackOnlyByAClearNo(t *testing.T) {
	for name, c := range map[string]struct {
		answer     error
		want, says string
	}{
		"let in":                  {nil, "pass", ""},
		"denied":                  {denial("validate.kyverno.svc-fail"), "pass", ""},
		"a webhook was not asked": {unasked("validate.kyverno.svc-fail"), "unknown", "failed calling"},
		"denied by another":       {denial("pods.example.com"), "unknown", "pods.example.com"},
		"transport":               {errTransport, "unknown", "connection reset"},
	} {
		inBubble(t, name, c.want, c.says, func(t *testing.T) func() {
			api := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					if c.answer != nil {
						return c.answer
					}
					pod := o.(*corev1.Pod)
					pod.Status.Phase = corev1.PodRunning
					return api.Create(ctx, pod, opts...)
				},
			})
			claims, _ := claimsOf(t, env.Parts{API: api, Pods: volume(func() (string, bool) { return "", false })})
			return func() {
				if late := claims.claim("data").AppBeforeRestore(t.Context()); (late.app == nil) != (c.answer != nil) {
					t.Errorf("held back: %v", late.app == nil)
				}
			}
		})
	}
}
