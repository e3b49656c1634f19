package replay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

// agent is what the agent says of a volume that holds this, after so many of its replies were lost. It can write if the volume is not full.
type agent struct {
	content string
	lost    int
	full    bool
}

func (a *agent) Stream(_ context.Context, _ podexec.Container, command []string, _ io.Reader, stdout, stderr io.Writer) error {
	if a.lost--; a.lost >= 0 {
		return errors.New("connection reset by peer")
	}
	var reply bytes.Buffer
	code := 0
	switch {
	case slices.Contains(command, "put") && a.full:
		code = 1
		_, _ = io.WriteString(stderr, "no space left on device")
	case slices.Contains(command, "get") && a.content == "":
		code = 1
	}
	if err := frame.Write(&reply, code, []byte(a.content)); err != nil {
		return err
	}
	_, err := stdout.Write(reply.Bytes())
	return err
}

// What a volume holds is seen at last, or nothing is said of it.
func TestRead(t *testing.T) {
	const ours, forever = "shop/data, written by its app", 1 << 30
	waits := func(reason string) *corev1.PodStatus {
		return &corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: reason}}}
	}
	for name, c := range map[string]struct {
		pod        *corev1.PodStatus // nil: there is none
		agent      agent
		wrote      string // by the app before
		want, says string
	}{
		"read":                        {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{content: ours}, "", "pass", ""},
		"empty":                       {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{}, "", "pass", ""},
		"empty, and full":             {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{full: true}, "", "unknown", "no space left"},
		"empty, and was not":          {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{}, ours, "fail", "invariant a"},
		"another's":                   {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{content: "office/data, its"}, "", "fail", "invariant c"},
		"not read at once":            {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{content: ours, lost: 7}, "", "pass", ""},
		"another's, not read at once": {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{content: "office/data, its", lost: 7}, "", "fail", "invariant c"},
		"never read":                  {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{lost: forever}, "", "unknown", "the volume of PVC shop/data"},
		"never read any more":         {&corev1.PodStatus{Phase: corev1.PodRunning}, agent{lost: forever}, ours, "unknown", "the volume of PVC shop/data"},
		"no pod":                      {nil, agent{}, "", "pass", ""}, // that it does not start is invariant e's
		"it waits for its volume":     {waits("waiting for first consumer"), agent{}, "", "pass", ""},
		"the node is full":            {waits("0/1 nodes are available: 1 Insufficient memory."), agent{}, "", "unknown", "the node does not take the pod"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				builder := fake.NewClientBuilder().WithObjects(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: "1"}})
				if c.pod != nil {
					builder.WithObjects(&corev1.Pod{
						ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app-data-1", UID: "2", Labels: map[string]string{"conformance.smart-restore.io/app": "app-data"}}, Status: *c.pod,
					})
				}
				e := env.Offline(t.TempDir(), env.Parts{
					API: builder.Build(), Pods: &c.agent, Times: timing.Default(), Testbed: &testbed.Testbed{Contract: policy.Default()},
				}).In("ns", "core/x", &recorded.Reporter{})
				s := &subject{Place: Place{Env: e}, key: "shop/data", name: "data", uid: "1", wrote: c.wrote, app: app.RestingOf(e, "data"), pods: map[types.UID]bool{}}
				p := &player{env: e, subjects: map[string]*subject{s.key: s}, parents: map[string]string{}, names: map[string]string{}}
				if got := recorded.Outcome(func() { p.read(t.Context()) }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
					t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
				}
			})
		})
	}
}
