package claim

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
		want, says                string
	}{
		"no restore":                           {never, never, never, never, "pass", ""},
		"a restore that harms nothing":         {0, 20 * time.Second, never, never, "pass", ""},
		"written over":                         {0, 20 * time.Second, 10 * time.Second, never, "fail", "has written over it"},
		"written over by one that comes later": {2 * time.Second, 20 * time.Second, 15 * time.Second, never, "fail", "has written over it"},
		"written over at its very end":         {0, 20 * time.Second, 21 * time.Second, never, "fail", "has written over it"},
		"a restore that does not end":          {0, never, never, never, "fail", "is not done"},
		"the volume cannot be read":            {never, never, never, 0, "unknown", "connection reset"},
		"the volume cannot be read at last":    {0, 20 * time.Second, never, 10 * time.Second, "unknown", "connection reset"},
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
				late := claims.claim("data").AppBeforeRestore(t.Context())
				start = time.Now()
				late.LosesNothing(t.Context())
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
