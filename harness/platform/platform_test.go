package platform

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

var errAPI = errors.New("connection refused")

// log is what was done, in order. It is a Reporter, too, and the controllers.
type log struct {
	recorded.Reporter
	api  client.Client
	did  []string
	fail string // what is not done

	names bool // of objects are said
}

func (l *log) do(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if l.fail == what {
		return errAPI
	}
	l.did = append(l.did, what)
	return nil
}

func (l *log) CleanUp(what string, within time.Duration, do func(context.Context) error) {
	l.did = append(l.did, "register: "+what)
	l.Reporter.CleanUp(what, within, do)
}

func (l *log) apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	return l.do(ctx, fmt.Sprintf("apply %d%s", len(objects), l.of(objects)))
}

func (l *log) remove(ctx context.Context, objects []*unstructured.Unstructured) error {
	return l.do(ctx, fmt.Sprintf("remove %d%s", len(objects), l.of(objects)))
}

func (l *log) of(objects []*unstructured.Unstructured) (names string) {
	for _, object := range objects {
		names += " " + object.GetName()
	}
	if !l.names {
		return ""
	}
	return ":" + names
}
func (l *log) ready(ctx context.Context, namespace string) error {
	return l.do(ctx, "ready "+namespace)
}
func (l *log) policyActs(ctx context.Context) error       { return l.do(ctx, "acts") }
func (l *log) earlierActs(ctx context.Context) error      { return l.do(ctx, "the earlier acts") }
func (l *log) driverRegistered(ctx context.Context) error { return l.do(ctx, "registered") }
func (l *log) volSyncAnswers(ctx context.Context) error   { return l.do(ctx, "answers") }

func object(apiVersion, kind, name string) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}}
}

func platformWith(t *testing.T, l *log, parts env.Parts, objects ...client.Object) *Platform {
	t.Helper()
	l.api = interceptor.NewClient(fake.NewClientBuilder().WithObjects(objects...).Build(), interceptor.Funcs{
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			raw, err := patch.Data(o)
			if err == nil {
				err = l.do(ctx, "patch "+o.GetName()+" "+string(raw))
			}
			if err != nil {
				return err
			}
			return api.Patch(ctx, o, patch, opts...)
		},
	})
	parts.API, parts.Times = l.api, timing.Default()
	if parts.Testbed == nil {
		parts.Testbed = &testbed.Testbed{Policy: []map[string]any{
			object("policies.kyverno.io/v1", "GeneratingPolicy", "p"),
			object("rbac.authorization.k8s.io/v1", "ClusterRole", "r"),
			object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "b"),
		}}
	}
	return &Platform{env.Offline(t.TempDir(), parts).In("ns", "core/x", l), l}
}

func deployment(namespace, name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
	}
}

func classOf(driver string) *unstructured.Unstructured {
	class := &unstructured.Unstructured{Object: map[string]any{"driver": driver, "deletionPolicy": "Delete"}}
	class.SetGroupVersionKind(snapshotClass)
	class.SetName("of-" + driver)
	return class
}

// What is taken away is put back by the clean-up, whatever becomes of the spec, and that is registered before it is taken away.
func TestTakersRegisterTheirUndoFirst(t *testing.T) {
	scale := func(name string, n int) string { return fmt.Sprintf(`patch %s {"spec":{"replicas":%d}}`, name, n) }
	const (
		away = `patch csi-driver {"spec":{"template":{"spec":{"nodeSelector":{"conformance.smart-restore.io/no-node":"true"}}}}}`
		here = `patch csi-driver {"spec":{"template":{"spec":{"nodeSelector":null}}}}`
		full = `node bash -c echo 0 > "$0" ` + capacityFile
		room = "node rm -f -- " + capacityFile
	)
	for name, c := range map[string]struct {
		take func(context.Context, *Platform) Back
		fail string // what cannot be done
		want string // of the spec
		did  []string
	}{
		"off": {
			func(ctx context.Context, p *Platform) Back { return p.Off(ctx, VolSync) }, "", "pass",
			[]string{"register: put back volsync-system/a", scale("a", 0), scale("a", 3), "ready volsync-system"},
		},
		"off, which is not done": {
			func(ctx context.Context, p *Platform) Back { return p.Off(ctx, VolSync) }, scale("a", 0), "unknown",
			[]string{"register: put back volsync-system/a", scale("a", 3), "ready volsync-system"},
		},
		"the policy": {
			func(ctx context.Context, p *Platform) Back { return p.RemovePolicy(ctx) }, "", "pass",
			[]string{"register: put back the policy", "remove 3", "apply 3", "acts"},
		},
		"the policy, which is not done": {
			func(ctx context.Context, p *Platform) Back { return p.RemovePolicy(ctx) }, "remove 3", "unknown",
			[]string{"register: put back the policy", "apply 3", "acts"},
		},
		"its rights": {
			func(ctx context.Context, p *Platform) Back { return p.WithoutRights(ctx) }, "", "pass",
			[]string{"register: put back the policy's roles and bindings", "remove 2", "apply 2"},
		},
		"its rights, which is not done": {
			func(ctx context.Context, p *Platform) Back { return p.WithoutRights(ctx) }, "remove 2", "unknown",
			[]string{"register: put back the policy's roles and bindings", "apply 2"},
		},
		"the snapshot classes": {
			func(ctx context.Context, p *Platform) Back { return p.WithoutSnapshotClasses(ctx) }, "", "pass",
			[]string{"register: put back the VolumeSnapshotClasses", "remove 1", "apply 1"},
		},
		"the snapshot classes, which is not done": {
			func(ctx context.Context, p *Platform) Back { return p.WithoutSnapshotClasses(ctx) }, "remove 1", "unknown",
			[]string{"register: put back the VolumeSnapshotClasses", "apply 1"},
		},
		"snapshots that get ready": {
			func(ctx context.Context, p *Platform) Back { return p.SnapshotsNeverReady(ctx) }, "", "pass",
			[]string{"register: put back the VolumeSnapshotClasses", "remove 1", "apply 1", "remove 1", "apply 1"},
		},
		"the driver": {
			func(ctx context.Context, p *Platform) Back { return p.DriverAway(ctx) }, "", "pass",
			[]string{"register: put back the CSI driver", away, here, "ready csi-driver", "registered"},
		},
		"the driver, which is not done": {
			func(ctx context.Context, p *Platform) Back { return p.DriverAway(ctx) }, away, "unknown",
			[]string{"register: put back the CSI driver", here, "ready csi-driver", "registered"},
		},
		"room": {
			func(ctx context.Context, p *Platform) Back { return p.NoSpace(ctx) }, "", "pass",
			[]string{"register: put back room for volumes", full, room},
		},
		"room, which is not done": {
			func(ctx context.Context, p *Platform) Back { return p.NoSpace(ctx) }, full, "unknown",
			[]string{"register: put back room for volumes", room},
		},
	} {
		for who, bySpec := range map[string]bool{"the spec": true, "the clean-up": false} {
			if bySpec && c.want != "pass" {
				continue // it does not get to it
			}
			t.Run(name+", put back by "+who, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := &log{fail: c.fail}
					node := func(ctx context.Context, args ...string) (string, error) {
						return "", l.do(ctx, "node "+strings.Join(args, " "))
					}
					p := platformWith(t, l, env.Parts{Node: node}, deployment("volsync-system", "a", 3), deployment("volsync-system", "off", 0),
						classOf(Driver), classOf("another.example.com"), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "csi-driver", Name: "csi-driver"}})
					got := recorded.Outcome(func() {
						back := c.take(t.Context(), p)
						if bySpec {
							back(t.Context())
						}
					})
					if got.How != c.want {
						t.Errorf("%+v, wanted %s", got, c.want)
					}
					for _, cleanUp := range l.CleanUps {
						if err := cleanUp(t.Context()); err != nil {
							t.Error(err)
						}
					}
					if !slices.Equal(l.did, c.did) {
						t.Errorf("did %q, wanted %q", l.did, c.did)
					}
				})
			})
		}
	}
}

func TestWhatIsNotThereCannotBeTakenAway(t *testing.T) {
	for name, take := range map[string]func(context.Context, *Platform){
		"a controller": func(ctx context.Context, p *Platform) { p.Off(ctx, KyvernoBackground) },
		"rights":       func(ctx context.Context, p *Platform) { p.WithoutRights(ctx) },
		"classes":      func(ctx context.Context, p *Platform) { p.WithoutSnapshotClasses(ctx) },
	} {
		l := &log{}
		p := platformWith(t, l, env.Parts{Testbed: &testbed.Testbed{}})
		if got := recorded.Outcome(func() { take(t.Context(), p) }); got.How != "unknown" || len(l.did) > 0 {
			t.Errorf("%s: %+v, did %q", name, got, l.did)
		}
	}
}

// An upgrade changes something of each Kyverno policy that has rules or constraints. Where it could change nothing, it says so.
func TestAnUpgradeChangesSomethingOrIsUnknown(t *testing.T) {
	with := func(o map[string]any, spec map[string]any) map[string]any { o["spec"] = spec; return o }
	constraints := map[string]any{"matchConstraints": map[string]any{}}
	for name, c := range map[string]struct {
		policy []map[string]any
		want   string
		did    []string
	}{
		"CEL":    {[]map[string]any{with(object("policies.kyverno.io/v1", "GeneratingPolicy", "p"), constraints)}, "pass", []string{"apply 1", "acts", "register: put back the policy as it was", "apply 1", "acts", "apply 1", "acts"}},
		"rules":  {[]map[string]any{with(object("kyverno.io/v1", "ClusterPolicy", "p"), map[string]any{"rules": []any{map[string]any{"name": "r"}}})}, "pass", []string{"apply 1", "acts", "register: put back the policy as it was", "apply 1", "acts", "apply 1", "acts"}},
		"native": {[]map[string]any{with(object("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "p"), constraints)}, "unknown", nil},
		"others": {[]map[string]any{with(object("kyverno.io/v2", "PolicyException", "p"), map[string]any{"exceptions": []any{}}), with(object("policies.kyverno.io/v1", "PolicyException", "p"), map[string]any{"policyRefs": []any{}})}, "unknown", nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := &log{}
			p := platformWith(t, l, env.Parts{Testbed: &testbed.Testbed{Policy: c.policy}})
			if got := recorded.Outcome(func() { p.UpgradePolicy(t.Context()) }); got.How != c.want || !slices.Equal(l.did, c.did) {
				t.Errorf("%+v, did %q, wanted %s and %q", got, l.did, c.want, c.did)
			}
		})
	}
}

func pod(name string, state corev1.ContainerState) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: env.KyvernoNamespace, Name: name},
		Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: state}}},
	}
}

// What is about Kyverno is unknown where the stack has none, and nothing is left to be put back.
func TestWithoutKyvernoNothingIsSaidOfIt(t *testing.T) {
	for name, do := range map[string]func(context.Context, *Platform){
		"restart":         func(ctx context.Context, p *Platform) { p.RestartKyverno(ctx) },
		"back-off":        func(ctx context.Context, p *Platform) { p.SkipBackOff(ctx) },
		"few requests":    func(ctx context.Context, p *Platform) { p.FewUpdateRequests(ctx, 1) },
		"dropped":         func(ctx context.Context, p *Platform) { p.SomeDropped(ctx, "data") },
		"webhooks":        func(ctx context.Context, p *Platform) { p.NoKyvernoWebhooks(ctx) },
		"kill":            func(ctx context.Context, p *Platform) { p.KillAgainAndAgain(ctx, "kyverno") },
		"is down":         func(ctx context.Context, p *Platform) { p.KyvernoIsDown(ctx) },
		"stays down":      func(ctx context.Context, p *Platform) { p.KyvernoStaysDown(ctx) },
		"is back":         func(ctx context.Context, p *Platform) { p.KyvernoBack(ctx) },
		"another webhook": func(ctx context.Context, p *Platform) { p.LabelledByWebhook(ctx, "data") },
		"two replicas":    func(ctx context.Context, p *Platform) { p.TwoReplicas(ctx) },
		"the earlier":     func(ctx context.Context, p *Platform) { p.EarlierKyverno(ctx) },
		"earlier policy":  func(ctx context.Context, p *Platform) { p.EarlierPolicy(ctx) },
		"kill its leader": func(ctx context.Context, p *Platform) { p.KillLeaderAsked(ctx, nil) },
		"credentials":     func(ctx context.Context, p *Platform) { p.CredentialsWatched(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			l := &log{}
			p := platformWith(t, l, env.Parts{Testbed: &testbed.Testbed{Stack: "volsync-csi", Controllers: []string{"volsync-system"}},
				Node: func(_ context.Context, args ...string) (string, error) {
					return "", l.do(t.Context(), strings.Join(args, " "))
				}})
			got := recorded.Outcome(func() { do(t.Context(), p) })
			if want := (recorded.End{How: "unknown", Reason: "the stack volsync-csi has no Kyverno, which this is about"}); got != want || len(l.did) > 0 {
				t.Errorf("found %+v, did %q", got, l.did)
			}
		})
	}
}

// That nobody could look whether Kyverno runs does not say that it is down.
func TestKyvernoIsDown(t *testing.T) {
	for name, c := range map[string]struct {
		ps         string // what ps does on the node
		want, says string
	}{
		"it is down":        {"exit 1", "pass", ""},
		"it starts":         {"echo 1", "pass", ""},
		"it runs":           {"echo 1; echo 90", "unknown", "running for 90 s"},
		"ps is not there":   {"exit 127", "unknown", "could not continue"},
		"ps does not do it": {"exit 2", "unknown", "could not continue"},
	} {
		t.Run(name, func(t *testing.T) {
			p := platformWith(t, &log{}, env.Parts{
				Testbed: &testbed.Testbed{Controllers: []string{env.KyvernoNamespace}},
				Node: func(ctx context.Context, args ...string) (string, error) {
					args[len(args)-1] = fmt.Sprintf("ps() { ( %s ); }; %s", c.ps, args[len(args)-1])
					out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
					return string(out), err
				},
			})
			got := recorded.Outcome(func() { p.KyvernoIsDown(t.Context()) })
			if got.How != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
			}
		})
	}
}

func TestKillAgainAndAgain(t *testing.T) {
	exit := func(code int) error { return fmt.Errorf("docker exec node bash: exit status %d: ", code) }
	type answer struct {
		out string
		err error
	}
	killed, none := answer{out: "killed\n"}, answer{}
	for name, c := range map[string]struct {
		answers    []answer // one kill after the other, the last one for all that follow
		want, says string
	}{
		"killed, and again":          {[]answer{killed, none, killed}, "pass", ""},
		"none just now":              {[]answer{killed, none}, "pass", ""},
		"none at all":                {[]answer{none}, "unknown", "no process kyverno could be killed"},
		"the node is not there":      {[]answer{{err: exit(1)}}, "unknown", "no process kyverno could be killed"},
		"the node is gone meanwhile": {[]answer{killed, {err: exit(1)}}, "unknown", "could not be kept down"},
		"docker fails meanwhile":     {[]answer{killed, {err: exit(125)}, killed}, "unknown", "could not be kept down"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				kills := 0
				l := &log{}
				p := platformWith(t, l, env.Parts{Node: func(context.Context, ...string) (string, error) {
					mu.Lock()
					defer mu.Unlock()
					a := c.answers[min(kills, len(c.answers)-1)]
					kills++
					return a.out, a.err
				}}, pod("well", corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}),
					pod("waits", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}))
				got := recorded.Outcome(func() {
					kyverno := p.KillAgainAndAgain(t.Context(), "kyverno")
					time.Sleep(time.Second)
					kyverno.Stop()
				})
				if got.How != c.want || !strings.Contains(got.Reason, c.says) {
					t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
				}
				if c.want == "pass" && kills < 5 {
					t.Errorf("%d kills in a second", kills)
				}
				for _, cleanUp := range l.CleanUps { // also where the spec did not stop it
					if err := cleanUp(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if want := []string{"register: put back process kyverno", "ready kyverno"}; !slices.Equal(l.did, want) {
					t.Errorf("did %q, wanted %q", l.did, want)
				}
				left := &corev1.PodList{}
				if err := l.api.List(t.Context(), left); err != nil || len(left.Items) != 1 || left.Items[0].Name != "well" {
					t.Errorf("left %v, %v", left.Items, err)
				}
			})
		})
	}
}
