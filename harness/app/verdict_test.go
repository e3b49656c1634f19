package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/timing"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var errTransport = errors.New("read tcp: connection reset by peer")

// reply is what the agent comes to; lost: it does not arrive.
type reply struct {
	code           int
	stdout, stderr string
	lost           bool
}

// agent streams these replies, one a call, the last one again and again.
type agent struct {
	replies []reply
	calls   int
}

func (a *agent) Stream(_ context.Context, _ podexec.Container, _ []string, _ io.Reader, stdout, stderr io.Writer) error {
	r := a.replies[min(a.calls, len(a.replies)-1)]
	a.calls++
	if r.lost {
		return errTransport
	}
	_, _ = io.WriteString(stderr, r.stderr)
	var framed bytes.Buffer
	if err := frame.Write(&framed, r.code, []byte(r.stdout)); err != nil {
		return err
	}
	_, err := stdout.Write(framed.Bytes())
	return err
}

func in(t *testing.T, parts env.Parts) *env.Env {
	t.Helper()
	parts.Times = timing.Default()
	return env.Offline(t.TempDir(), parts).In("ns", "core/x", &recorded.Reporter{})
}

func check(t *testing.T, got recorded.End, want, says string) {
	t.Helper()
	if got.How != want || !strings.Contains(got.Reason, says) {
		t.Errorf("%s, wanted %s with %q: %s", got.How, want, says, got.Reason)
	}
}

func TestWhatTheVolumeHolds(t *testing.T) {
	lost := reply{lost: true}
	for name, c := range map[string]struct {
		replies    []reply
		want, says string
	}{
		"the same":           {[]reply{{stdout: "mine"}}, "pass", ""},
		"another":            {[]reply{{stdout: "its"}}, "fail", `"its"`},
		"empty":              {[]reply{{}}, "fail", `""`},
		"cannot be read":     {[]reply{{code: 1, stderr: "no such file"}}, "fail", "no such file"},
		"lost":               {[]reply{lost}, "unknown", "connection reset"},
		"lost, and then not": {[]reply{lost, {stdout: "mine"}}, "pass", ""},
		"lost, then another": {[]reply{lost, {stdout: "its"}}, "fail", `"its"`},
		"no agent":           {[]reply{{code: 127, stderr: "not found"}}, "unknown", "no such command"},
		"killed":             {[]reply{{code: 137}}, "unknown", "signal 9"},
		"called wrongly":     {[]reply{{code: 2, stderr: "--file is required"}}, "unknown", "--file"},
	} {
		for verb, do := range map[string]func(context.Context, *App){
			"holds": func(ctx context.Context, a *App) { a.Holds(ctx, "mine", "why") },
			"keeps": func(ctx context.Context, a *App) { a.env.Throughout(ctx, "kept", 10*time.Second, Keeps(a, "mine")) },
		} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := &App{env: in(t, env.Parts{Pods: &agent{replies: c.replies}}), pod: "app-data"}
					check(t, recorded.Outcome(func() { do(t.Context(), a) }), c.want, c.says)
				})
			})
		}
	}
}

func TestWrite(t *testing.T) {
	for name, c := range map[string]struct {
		reply      reply
		want, says string
	}{
		"written":        {reply{stdout: "{}"}, "pass", ""},
		"read-only":      {reply{code: 1, stderr: "read-only file system"}, "fail", "read-only"},
		"a full disk":    {reply{code: 1, stderr: "write /data/x: no space left on device"}, "unknown", "no space left"},
		"called wrongly": {reply{code: 2, stderr: "--seed is required"}, "unknown", "--seed"},
		"lost":           {reply{lost: true}, "unknown", "connection reset"},
		"not a manifest": {reply{stdout: "?"}, "unknown", "the suite could not continue"},
	} {
		pods := &agent{replies: []reply{c.reply}}
		a := &App{env: in(t, env.Parts{Pods: pods}), pod: "app-data"}
		t.Run(name, func(t *testing.T) {
			check(t, recorded.Outcome(func() { a.Write(t.Context(), dataset.Spec{Seed: "x"}) }), c.want, c.says)
			if pods.calls != 1 {
				t.Errorf("written %d times", pods.calls)
			}
		})
	}
}

func TestPods(t *testing.T) {
	denial := func(webhook string) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "app", fmt.Errorf("admission webhook %q denied the request: no", webhook))
	}
	waiting := func(reason string) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}}
	}
	initWaiting := func(reason string) corev1.PodStatus {
		status := waiting(reason)
		status.InitContainerStatuses, status.ContainerStatuses = status.ContainerStatuses, nil
		return status
	}
	running := corev1.PodStatus{Phase: corev1.PodRunning}
	const kyverno = "validate.kyverno.svc-fail"
	for name, c := range map[string]struct {
		refusals int // of the first requests; the others are answered
		refusal  error
		status   corev1.PodStatus
		want     string // of an app
		tool     string // of a pod of the suite's own
	}{
		"runs":                         {0, nil, running, "pass", "pass"},
		"held back for a while":        {10, denial(kyverno), running, "pass", "pass"},
		"held back for ever":           {1 << 30, denial(kyverno), running, "fail", "unknown"},
		"refused by another":           {1 << 30, denial("pods.example.com"), running, "unknown", "unknown"},
		"cannot be asked for":          {1 << 30, errTransport, running, "unknown", "unknown"},
		"its answer was lost":          {1, errTransport, running, "pass", "pass"},
		"its volume is not there":      {0, nil, corev1.PodStatus{Phase: corev1.PodPending}, "fail", "unknown"},
		"its image is not there":       {0, nil, waiting("ErrImagePull"), "unknown", "unknown"},
		"its image is waited for":      {0, nil, waiting("ImagePullBackOff"), "unknown", "unknown"},
		"its first image is not there": {0, nil, initWaiting("ImagePullBackOff"), "unknown", "unknown"},
		"it was evicted":               {0, nil, corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}, "unknown", "unknown"},
	} {
		for verb, start := range map[string]func(context.Context, *env.Env, *corev1.Pod) *App{"app": Start, "tool": StartTool} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					asked := 0
					api := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
						Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
							if asked++; asked <= c.refusals {
								return c.refusal
							}
							o.(*corev1.Pod).Status = c.status
							return api.Create(ctx, o, opts...)
						},
					})
					e := in(t, env.Parts{API: api})
					got := recorded.Outcome(func() { start(t.Context(), e, Of(e, "data")) })
					check(t, got, map[string]string{"app": c.want, "tool": c.tool}[verb], "")
				})
			})
		}
	}
}
