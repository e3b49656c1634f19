package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/timing"
)

var (
	generatingPolicy = schema.GroupVersionKind{Group: "policies.kyverno.io", Version: "v1", Kind: "GeneratingPolicy"}
	pods             = schema.GroupResource{Resource: "pods"}
	errTransport     = fmt.Errorf("get \"https://127.0.0.1:6443\": %w", io.ErrUnexpectedEOF)
	errServer        = apierrors.NewInternalError(errors.New("etcdserver: leader changed"))
	errWebhook       = apierrors.NewInternalError(errors.New(`failed calling webhook "mutate.kyverno.svc-fail": connection refused`))
	errDenied        = &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusBadRequest,
		Message: `admission webhook "validate.kyverno.svc-fail" denied the request: no`}}
)

func TestMain(m *testing.M) {
	timing.Setup.Poll = time.Second // of fake time: each look costs real time
	m.Run()
}

// typed are the kinds with a Go type. They are few: the fake spends most of its time on them.
var typed = sync.OnceValue(func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, admissionv1.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	return scheme
})

func ready(name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditionStatus": map[string]any{"ready": true}}}}
	o.SetGroupVersionKind(generatingPolicy)
	o.SetName(name)
	return o
}

var kinds = sync.OnceValue(func() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind := range typed().AllKnownTypes() {
		if kind.Kind == "Namespace" || strings.HasSuffix(kind.Kind, "WebhookConfiguration") {
			mapper.Add(kind, meta.RESTScopeRoot)
			continue
		}
		mapper.Add(kind, meta.RESTScopeNamespace)
	}
	mapper.Add(ReplicationSource, meta.RESTScopeNamespace)
	mapper.Add(ReplicationDestination, meta.RESTScopeNamespace)
	mapper.Add(generatingPolicy, meta.RESTScopeRoot)
	return mapper
})

// anAPI is a fake API server that knows VolSync's and Kyverno's kinds.
func anAPI(funcs interceptor.Funcs, objects ...client.Object) client.WithWatch {
	return fake.NewClientBuilder().WithScheme(typed()).WithRESTMapper(kinds()).WithObjects(objects...).WithInterceptorFuncs(funcs).Build()
}

func TestAnErrorOfTheAPIServerIsAnAnswerOrIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		err             error
		unseen, refused bool
	}{
		"none":                   {nil, false, false},
		"transport":              {errTransport, true, false},
		"context":                {context.DeadlineExceeded, true, false},
		"500":                    {errServer, true, false},
		"503":                    {apierrors.NewServiceUnavailable("no"), true, false},
		"504":                    {apierrors.NewTimeoutError("no", 1), true, false},
		"429":                    {apierrors.NewTooManyRequests("no", 1), true, false},
		"webhook not reached":    {errWebhook, true, false},
		"no such kind":           {&meta.NoKindMatchError{GroupKind: generatingPolicy.GroupKind()}, false, false},
		"not found":              {apierrors.NewNotFound(pods, "a"), false, false},
		"denied, without reason": {errDenied, false, true},
		"denied with 500": {&apierrors.StatusError{ErrStatus: metav1.Status{Code: 500,
			Message: `admission webhook "x" denied the request: failed calling webhook`}}, false, true},
		"a field that the kind does not have": {&apierrors.StatusError{ErrStatus: metav1.Status{Code: 500,
			Message: `failed to create typed patch object (/a; policies.kyverno.io/v1, Kind=GeneratingPolicy): .spec.evaluation.skipBackgroundRequests: field not declared in schema`}}, false, true},
		"invalid":        {apierrors.NewInvalid(generatingPolicy.GroupKind(), "a", nil), false, true},
		"forbidden":      {apierrors.NewForbidden(pods, "a", errors.New("no")), false, true},
		"bad request":    {apierrors.NewBadRequest("no"), false, true},
		"wrapped denial": {fmt.Errorf("create: %w", errDenied), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unseen(c.err); got != c.unseen {
				t.Errorf("unseen: found %v, wanted %v", got, c.unseen)
			}
			if got := Refused(c.err); got != c.refused {
				t.Errorf("refused: found %v, wanted %v", got, c.refused)
			}
		})
	}
}

func TestAWaitTellsWhatItSawFromWhatItCouldNotSee(t *testing.T) {
	type look func(after time.Duration) (bool, error)
	for name, c := range map[string]struct {
		look   look
		unseen bool
		state  bool
		done   bool
	}{
		"comes":                 {look: func(after time.Duration) (bool, error) { return after > 5*time.Second, nil }, done: true},
		"does not come":         {look: func(time.Duration) (bool, error) { return false, nil }, state: true},
		"never seen":            {look: func(time.Duration) (bool, error) { return false, errTransport }, unseen: true},
		"a hiccup":              {look: func(after time.Duration) (bool, error) { return false, during(after, 3, 3.5) }, state: true},
		"blind at the end":      {look: func(after time.Duration) (bool, error) { return false, during(after, 6, 60) }, unseen: true},
		"comes unseen":          {look: func(after time.Duration) (bool, error) { return after >= 9*time.Second, during(after, 8.5, 9.5) }, done: true},
		"blind in the middle":   {look: func(after time.Duration) (bool, error) { return false, during(after, 2, 6) }, unseen: true},
		"comes after blindness": {look: func(after time.Duration) (bool, error) { return after > 9*time.Second, during(after, 0, 9) }, done: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := await(t.Context(), 10*time.Second, func(context.Context) (bool, string, error) {
					done, err := c.look(time.Since(began))
					return done, "not there", err
				})
				if (err == nil) != c.done || errors.Is(err, ErrUnseen) != c.unseen || isNotYet(err) != c.state {
					t.Errorf("found %v", err)
				}
				if c.unseen && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%v does not say what kept it from seeing", err)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := await(ctx, time.Minute, func(context.Context) (bool, string, error) { return false, "", nil })
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnseen) || isNotYet(err) {
		t.Errorf("an interrupt is nothing else: found %v", err)
	}
}

// during is an error of the transport from some seconds to others.
func during(after time.Duration, from, to float64) error {
	if s := after.Seconds(); s >= from && s < to {
		return errTransport
	}
	return nil
}

func TestWhoIsToBlameWhereAPolicyIsNotSeenToAct(t *testing.T) {
	began := time.Time{}
	acting := func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.CreateOption) error {
		if err := api.Create(ctx, object, options...); err != nil || object.GetName() != "canary" {
			return err
		}
		source := &unstructured.Unstructured{Object: map[string]any{}}
		source.SetGroupVersionKind(ReplicationSource)
		source.SetName("canary")
		source.SetNamespace(object.GetNamespace())
		return api.Create(ctx, source)
	}
	refusing := func(err error, until float64, what string) func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
		return func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.CreateOption) error {
			_, isNamespace := object.(*corev1.Namespace)
			if (what == "namespace") == isNamespace && time.Since(began).Seconds() < until {
				return err
			}
			return acting(ctx, api, object, options...)
		}
	}
	blindList := func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return errServer
	}
	// lateBlind shows nothing for as long as a policy is given, but for its end, when nobody is answered; then it shows all.
	lateBlind := func(ctx context.Context, api client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
		switch since := time.Since(began); {
		case since < timing.Setup.Policy-6*time.Second:
			return nil
		case since < timing.Setup.Policy+time.Second:
			return errTransport
		}
		return api.List(ctx, list, options...)
	}
	hanging := func(ctx context.Context, _ client.WithWatch, _ client.ObjectList, _ ...client.ListOption) error {
		<-ctx.Done()
		return ctx.Err()
	}
	notReady := ready("mine")
	notReady.Object["status"] = map[string]any{}
	for name, c := range map[string]struct {
		policy *unstructured.Unstructured
		funcs  interceptor.Funcs
		want   error // nil: it acts
		not    []error
	}{
		"acts":                               {ready("mine"), interceptor.Funcs{Create: acting}, nil, nil},
		"does nothing":                       {ready("mine"), interceptor.Funcs{}, ErrIdle, []error{ErrUnseen}},
		"no answer to lists":                 {ready("mine"), interceptor.Funcs{List: blindList}, ErrUnseen, []error{ErrIdle}},
		"lists hang":                         {ready("mine"), interceptor.Funcs{List: hanging}, ErrUnseen, []error{ErrIdle}},
		"acts when nobody can see":           {ready("mine"), interceptor.Funcs{Create: acting, List: lateBlind}, nil, nil},
		"webhook not reached at first":       {ready("mine"), interceptor.Funcs{Create: refusing(errWebhook, 60, "pvc")}, nil, nil},
		"webhook never reached":              {ready("mine"), interceptor.Funcs{Create: refusing(errWebhook, 999, "pvc")}, ErrUnseen, []error{ErrIdle, ErrRefuses}},
		"transport broken at first":          {ready("mine"), interceptor.Funcs{Create: refusing(errTransport, 5, "namespace")}, nil, nil},
		"PVCs are refused for a moment":      {ready("mine"), interceptor.Funcs{Create: refusing(errDenied, 10, "pvc")}, nil, nil},
		"PVCs are refused":                   {ready("mine"), interceptor.Funcs{Create: refusing(errDenied, 999, "pvc")}, ErrRefuses, []error{ErrIdle, ErrUnseen}},
		"namespaces are not to be made here": {ready("mine"), interceptor.Funcs{Create: refusing(apierrors.NewForbidden(pods, "a", errors.New("no right")), 999, "namespace")}, errAny, []error{ErrIdle, ErrUnseen, ErrRefuses}},
		"not compiled":                       {notReady, interceptor.Funcs{}, ErrNotReady, []error{ErrUnseen}},
		"not to be seen whether it is compiled": {ready("mine"), interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errServer
		}}, ErrUnseen, []error{ErrNotReady}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began = time.Now()
				api := anAPI(c.funcs, c.policy)
				err := PolicyActs(t.Context(), api, Canary{PVCLabels: map[string]string{"backup": "true"},
					Policies: []*unstructured.Unstructured{c.policy}, Status: func(string, ...any) {}})
				if c.want == nil && err != nil || c.want != nil && !errors.Is(c.want, errAny) && !errors.Is(err, c.want) || errors.Is(c.want, errAny) && err == nil {
					t.Errorf("found %v, wanted %v", err, c.want)
				}
				for _, not := range c.not {
					if errors.Is(err, not) {
						t.Errorf("found %v, which is not to be %v", err, not)
					}
				}
				if c.funcs.List != nil {
					return
				}
				left := &corev1.NamespaceList{}
				if err := api.List(t.Context(), left); err != nil || len(left.Items) != 0 {
					t.Errorf("canaries are left: %v, %v", left.Items, err)
				}
			})
		})
	}
}

// Of a policy whose ReplicationSource comes when the PVC is bound, the Secret shows that it acts.
func TestAPolicyWhoseSourceIsLateIsSeenByItsSecret(t *testing.T) {
	makesSecret := interceptor.Funcs{Create: func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.CreateOption) error {
		if err := api.Create(ctx, object, options...); err != nil || object.GetName() != "canary" {
			return err
		}
		return api.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "volsync-canary", Namespace: object.GetNamespace()}})
	}}
	for name, c := range map[string]struct {
		funcs interceptor.Funcs
		late  bool
		want  error
	}{
		"a Secret, and the source is late":       {makesSecret, true, nil},
		"a Secret, and the source is to be here": {makesSecret, false, ErrIdle},
		"nothing but the base Secret":            {interceptor.Funcs{}, true, ErrIdle},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "base"}}
				err := PolicyActs(t.Context(), anAPI(c.funcs, ready("mine")), Canary{LateSource: c.late, BaseSecret: base,
					Policies: []*unstructured.Unstructured{ready("mine")}, Status: func(string, ...any) {}})
				if !errors.Is(err, c.want) {
					t.Errorf("found %v, wanted %v", err, c.want)
				}
			})
		})
	}
}

var errAny = errors.New("any")

func TestAnInterruptWhileAPolicyIsWaitedForBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := PolicyActs(ctx, anAPI(interceptor.Funcs{}, ready("mine")), Canary{Policies: []*unstructured.Unstructured{ready("mine")}, Status: func(string, ...any) {}})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrIdle) || errors.Is(err, ErrUnseen) {
			t.Errorf("found %v", err)
		}
	})
}

func TestVolSyncIsAskedAnewEachTime(t *testing.T) {
	answering := func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.CreateOption) error {
		if u, ok := object.(*unstructured.Unstructured); ok {
			u.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Synchronizing", "status": "False"}}}
		}
		return api.Create(ctx, object, options...)
	}
	old := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{map[string]any{"type": "Synchronizing"}}}}}
	old.SetGroupVersionKind(ReplicationSource)
	old.SetNamespace("default")
	old.SetName("smart-restore-volsync-answers")
	lost := false
	for name, c := range map[string]struct {
		funcs  interceptor.Funcs
		fails  bool
		unseen bool
	}{
		"answers":         {funcs: interceptor.Funcs{Create: answering}},
		"does not answer": {fails: true},
		"no API server": {fails: true, unseen: true, funcs: interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errTransport
		}}},
		"the reply of the creation is lost": {funcs: interceptor.Funcs{Create: func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.CreateOption) error {
			err := answering(ctx, api, object, options...)
			if err == nil && !lost {
				lost = true
				return errTransport
			}
			return err
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lost = false
				api := anAPI(c.funcs, old)
				err := VolSyncAnswers(t.Context(), api, 20*time.Second)
				if (err != nil) != c.fails || errors.Is(err, ErrUnseen) != c.unseen {
					t.Errorf("found %v", err)
				}
				left := &unstructured.UnstructuredList{}
				left.SetGroupVersionKind(ReplicationSource)
				if err := api.List(t.Context(), left, client.HasLabels{ProbeLabel}); err != nil || len(left.Items) != 0 {
					t.Errorf("probes are left: %v, %v", left.Items, err)
				}
			})
		})
	}
}

func TestADeploymentIsReadyOnceItsStatusIsOfItsSpec(t *testing.T) {
	two := int32(2)
	for name, c := range map[string]struct {
		generation int64
		status     appsv1.DeploymentStatus
		ready      bool
	}{
		"rolled out":             {3, appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2}, true},
		"status of an old spec":  {4, appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2}, false},
		"pods of an old spec":    {3, appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 3, UpdatedReplicas: 1, ReadyReplicas: 3, AvailableReplicas: 3}, false},
		"one pod is not ready":   {3, appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 1, AvailableReplicas: 1}, false},
		"nobody has seen it yet": {1, appsv1.DeploymentStatus{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}
				api := anAPI(interceptor.Funcs{}, &appsv1.Deployment{
					ObjectMeta: metav1.ObjectMeta{Namespace: "kyverno", Name: "controller", Generation: c.generation},
					Spec:       appsv1.DeploymentSpec{Replicas: &two}, Status: c.status,
				})
				err := DeploymentsReady(t.Context(), api, "kyverno", 5*time.Second)
				if (err == nil) != c.ready || errors.Is(err, ErrUnseen) {
					t.Errorf("found %v, wanted ready: %v", err, c.ready)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		if err := DeploymentsReady(t.Context(), anAPI(interceptor.Funcs{}), "kyverno", 5*time.Second); err == nil || errors.Is(err, ErrUnseen) {
			t.Errorf("a namespace without deployments is not ready: found %v", err)
		}
		blind := anAPI(interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errServer
		}})
		if err := DeploymentsReady(t.Context(), blind, "kyverno", 5*time.Second); !errors.Is(err, ErrUnseen) {
			t.Errorf("no API server: found %v", err)
		}
		if err := NoPolicyActs(t.Context(), blind); !errors.Is(err, ErrUnseen) {
			t.Errorf("no API server: found %v", err)
		}
	})
}

func TestAnApplyIsTriedAgainUntilItIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		answers []error // the last one stays
		want    error   // nil: applied
		tries   int     // 0: any number
	}{
		"taken":                {[]error{nil}, nil, 1},
		"answered later":       {[]error{errTransport, errServer, errWebhook, nil}, nil, 4},
		"refused":              {[]error{errDenied}, errDenied, 1},
		"refused, after a gap": {[]error{errTransport, errDenied}, errDenied, 2},
		"no rights yet":        {[]error{apierrors.NewForbidden(pods, "a", errors.New("requires permissions create")), nil}, nil, 2},
		"never answered":       {[]error{errTransport}, ErrUnseen, 0},
		"no such kind":         {[]error{&meta.NoKindMatchError{GroupKind: generatingPolicy.GroupKind()}}, errAny, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				api := anAPI(interceptor.Funcs{Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
					tries++
					return c.answers[min(tries, len(c.answers))-1]
				}})
				err := Apply(t.Context(), api, []*unstructured.Unstructured{ready("mine")}, nil)
				if c.want == nil && err != nil || errors.Is(c.want, errAny) && (err == nil || errors.Is(err, ErrUnseen)) || c.want != nil && !errors.Is(c.want, errAny) && !errors.Is(err, c.want) {
					t.Errorf("found %v, wanted %v", err, c.want)
				}
				if c.tries != 0 && tries != c.tries {
					t.Errorf("tried %d times, wanted %d", tries, c.tries)
				}
			})
		})
	}
}

func TestRemovedIsWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := ready("held")
		held.SetFinalizers([]string{"example.com/held"})
		api := anAPI(interceptor.Funcs{}, ready("free"), held)
		if err := Remove(t.Context(), api, []*unstructured.Unstructured{ready("free"), ready("never")}); err != nil {
			t.Error(err)
		}
		if err := Remove(t.Context(), api, []*unstructured.Unstructured{ready("held")}); err == nil || !strings.Contains(err.Error(), "held is still there") {
			t.Errorf("found %v", err)
		}
	})
}
