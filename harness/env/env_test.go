package env

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/redact"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

func newEnv(t *testing.T) (*Env, *recorded.Reporter) {
	t.Helper()
	r := &recorded.Reporter{}
	times := timing.Default()
	times.Undo = 3 * time.Second
	s := &Suite{Artifacts: artifacts.Dir(t.TempDir()), Redactor: redact.NewRedactor(), times: times}
	return s.In("ns", "core/x", r), r
}

func TestANamespaceBesideASpecs(t *testing.T) {
	for name, c := range map[string]struct {
		external *testbed.External
		in, want string
	}{
		"managed":  {nil, "isolation-x", "b-isolation-x-c"},
		"external": {&testbed.External{}, "sr-run-isolation-x", "sr-run-b-isolation-x-c"},
	} {
		s := &Suite{Testbed: &testbed.Testbed{RunID: "run", External: c.external}}
		if got := s.In(c.in, "safety/isolation", nil).beside("b-", "-c"); got != c.want {
			t.Errorf("%s: want %s, found %s", name, c.want, got)
		}
	}
}

func TestProgressOfManyProcessesDoesNotMix(t *testing.T) {
	s, _ := newEnv(t)
	for i := range 50 {
		s.Step("step %d", i)
	}
	raw, err := os.ReadFile(s.Artifacts.Progress())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	for i, line := range lines {
		var p ProgressLine
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Text != fmt.Sprintf("step %d", i) || p.Spec != "core/x" {
			t.Errorf("line %d: %s, %v", i, line, err)
		}
	}
}

func TestNoSecretGetsIntoProgress(t *testing.T) {
	s, _ := newEnv(t)
	s.Redactor.Add("very-secret-value")
	s.Step("found very-secret-value")
	raw, err := os.ReadFile(s.Artifacts.Progress())
	if err != nil || strings.Contains(string(raw), "very-secret") {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestUndo(t *testing.T) {
	errAPI := errors.New("connection refused")
	for name, c := range map[string]struct {
		failures int  // how often the undo fails before it works
		called   bool // the spec itself calls it
		want     string
		cleanUp  error
		undone   int
	}{
		"the spec does it":                      {0, true, "pass", nil, 1},
		"the spec does it, after some tries":    {2, true, "pass", nil, 1},
		"the spec does not get to it":           {0, false, "pass", nil, 1},
		"it works at last":                      {3, false, "pass", nil, 1},
		"it never works":                        {1000, false, "pass", errAPI, 0},
		"the spec calls it, and it never works": {1000, true, "unknown", errAPI, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, r := newEnv(t)
				tries, undone := 0, 0
				back := e.Undo("the policy", func(context.Context) error {
					if tries++; tries <= c.failures {
						return errAPI
					}
					undone++
					return nil
				})
				got := recorded.Outcome(func() {
					if c.called {
						back(t.Context())
						back(t.Context()) // again: it is done
					}
				})
				if got.How != c.want {
					t.Errorf("%+v, wanted %s", got, c.want)
				}
				if err := r.CleanUps[0](t.Context()); !errors.Is(err, c.cleanUp) {
					t.Errorf("clean-up: %v, wanted %v", err, c.cleanUp)
				}
				if undone != c.undone {
					t.Errorf("undone %d times, wanted %d", undone, c.undone)
				}
			})
		})
	}
}

// A store that is not the cluster's is in each namespace, and may be there already.
func TestTheStoreOfSecretsOfANamespace(t *testing.T) {
	for kind, want := range map[string]int{policy.NamespaceSecretStore: 1, policy.ClusterSecretStore: 0, "": 0} {
		s, _ := newEnv(t)
		s.Testbed, s.API = &testbed.Testbed{}, fake.NewClientBuilder().Build()
		if kind != "" {
			s.Testbed.Contract.SecretStore = policy.SecretStore{Kind: kind, Name: "vault", Entries: []policy.StoreEntry{{Key: "k", Value: "v"}}}
		}
		for range 2 {
			if err := s.ApplySecretStore(t.Context(), "ns"); err != nil {
				t.Error(err)
			}
		}
		stores := &unstructured.UnstructuredList{}
		stores.SetGroupVersionKind(schema.GroupVersionKind{Group: "external-secrets.io", Version: "v1", Kind: policy.NamespaceSecretStore})
		if err := s.API.List(t.Context(), stores, client.InNamespace("ns")); want > 0 && err != nil || len(stores.Items) != want {
			t.Errorf("%q: %d stores, %v", kind, len(stores.Items), err)
		}
	}
}

func TestGone(t *testing.T) {
	errAPI := errors.New("connection refused")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app"}}
	for name, c := range map[string]struct {
		objects []client.Object
		err     error
		want    await.State
	}{
		"gone":      {nil, nil, await.Reached()},
		"there":     {[]client.Object{pod.DeepCopy()}, nil, await.NotYet("it is there, finalizers []")},
		"not seen":  {nil, errAPI, await.State{}},
		"forbidden": {nil, apierrors.NewForbidden(schema.GroupResource{}, "app", nil), await.State{}},
	} {
		s := &Suite{API: interceptor.NewClient(fake.NewClientBuilder().WithObjects(c.objects...).Build(), interceptor.Funcs{
			Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
				if c.err != nil {
					return c.err
				}
				return api.Get(ctx, key, into, opts...)
			},
		})}
		state, err := s.Gone(pod.DeepCopy())(t.Context())
		if state != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", name, state, err)
		}
	}
}

func TestRefused(t *testing.T) {
	denial := func(webhook string) error {
		return apierrors.NewForbidden(schema.GroupResource{}, "x", fmt.Errorf("admission webhook %q denied the request: no", webhook))
	}
	unasked := func(webhook string) error {
		return apierrors.NewInternalError(fmt.Errorf("failed calling webhook %q: connection refused", webhook))
	}
	const ours, another = "validate.kyverno.svc-fail", "pods.example.com"
	for name, c := range map[string]struct {
		err                                         error
		refused, byWebhook, denied, changeIsRefused bool
	}{
		"none":                         {},
		"a webhook's no":               {denial(ours), true, true, true, true},
		"a webhook that must be asked": {unasked(ours), true, true, false, false},
		"another's no":                 {denial(another), false, false, false, true},
		"another that must be asked":   {unasked(another), false, false, false, false},
		"an admission policy's no":     {apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("ValidatingAdmissionPolicy 'vpol-x' with binding 'vpol-x-binding' denied request: no")), true, true, true, true},
		"invalid":                      {apierrors.NewInvalid(schema.GroupKind{}, "x", nil), true, false, false, true},
		"no right":                     {apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("exceeded quota")), false, false, false, true},
		"transport":                    {errors.New("read tcp: connection reset by peer"), false, false, false, false},
		"overload":                     {apierrors.NewTooManyRequests("later", 1), false, false, false, false},
		"internal":                     {apierrors.NewInternalError(errors.New("etcdserver: leader changed")), false, false, false, false},
	} {
		for question, got := range map[string][2]bool{
			"refused": {Refused(c.err), c.refused}, "by a webhook": {RefusedByWebhook(c.err), c.byWebhook},
			"denied": {Denied(c.err), c.denied}, "not allowed": {NotAllowed(c.err), c.changeIsRefused},
		} {
			if got[0] != got[1] {
				t.Errorf("%s, %s: %v, wanted %v", name, question, got[0], got[1])
			}
		}
	}
}

func TestScaled(t *testing.T) {
	for set, want := range map[string]struct {
		bound time.Duration
		wrong bool
	}{"": {time.Minute, false}, "2.5": {150 * time.Second, false}, "0.1": {time.Minute, true}, "NaN": {time.Minute, true}, "3x": {time.Minute, true}} {
		t.Setenv(ScaleVariable, set)
		if got := Scaled(time.Minute); got != want.bound {
			t.Errorf("%q: %s", set, got)
		}
		if _, err := scale(); (err != nil) != want.wrong {
			t.Errorf("%q: %v", set, err)
		}
	}
}
