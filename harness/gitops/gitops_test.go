package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/platform"
	"github.com/smart-restore/conformance/harness/podexec"
	policies "github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

func object(kind, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": "ns"}}}
}

// git runs git in a folder and returns what it says.
func git(t *testing.T, dir string, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A commit that is made again is the same, so that its answer may be lost; the next one is behind it, and has no file of it.
func TestACommitIsWhatIsInTheStream(t *testing.T) {
	dir := t.TempDir()
	git(t, dir, nil, "init", "--quiet", "--bare")
	commit := func(before string, count int, objects ...*unstructured.Unstructured) string {
		stream, err := fastImport("ns-apps", before, count, objects)
		if err != nil {
			t.Fatal(err)
		}
		git(t, dir, stream, "fast-import", "--quiet", "--done", "--force")
		return git(t, dir, nil, "rev-parse", "refs/heads/ns-apps")
	}
	first := commit("", 1, object("Secret", "a"), object("ConfigMap", "data\n3"))
	if again := commit("", 1, object("Secret", "a"), object("ConfigMap", "data\n3")); again != first {
		t.Errorf("made again, %s is %s", first, again)
	}
	if files := git(t, dir, nil, "ls-tree", "--name-only", first); files != "000-secret.json\n001-configmap.json" {
		t.Errorf("it has %s", files)
	}
	second := commit(first, 2, object("Secret", "b"))
	if again := commit(first, 2, object("Secret", "b")); again != second {
		t.Errorf("made again, %s is %s", second, again)
	}
	if files := git(t, dir, nil, "ls-tree", "--name-only", second); files != "000-secret.json" {
		t.Errorf("the second has %s", files)
	}
	if parent := git(t, dir, nil, "rev-parse", second+"^"); parent != first {
		t.Errorf("the second is behind %s, wanted %s", parent, first)
	}
	if empty := commit(second, 3); git(t, dir, nil, "ls-tree", "--name-only", empty) != "" {
		t.Error("a commit of nothing has files")
	}
}

// here runs the commands in a folder of this machine, in place of the git server.
type here struct {
	dir string
	ran int
	// lose is how many replies are lost, of what was done.
	lose int
}

func (h *here) Stream(ctx context.Context, _ podexec.Container, command []string, stdin io.Reader, stdout, stderr io.Writer) error {
	h.ran++
	command = slices.Clone(command)
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], repository, h.dir)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	if h.ran <= h.lose {
		cmd.Stdout = io.Discard
	}
	return cmd.Run()
}

func TestACommitIsMadeOnce(t *testing.T) {
	for name, c := range map[string]struct {
		pods      []client.Object
		lose      int
		dir, want string
	}{
		"made":                     {pods: []client.Object{argoCD(corev1.PodRunning)}, want: "pass"},
		"made, its answer lost":    {pods: []client.Object{argoCD(corev1.PodRunning)}, lose: 2, want: "pass"},
		"no git server":            {want: "unknown"},
		"a git server that starts": {pods: []client.Object{argoCD(corev1.PodPending)}, want: "unknown"},
		"no repository":            {pods: []client.Object{argoCD(corev1.PodRunning)}, dir: "nowhere", want: "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			git(t, dir, nil, "init", "--quiet", "--bare")
			server := &here{dir: filepath.Join(dir, c.dir), lose: c.lose}
			times := timing.Default()
			times.Gone, times.Poll, times.PollMax = time.Second, time.Millisecond, time.Millisecond
			e := env.Offline(t.TempDir(), env.Parts{API: fake.NewClientBuilder().WithObjects(c.pods...).Build(), Pods: server, Times: times}).In("ns", "gitops/x", &recorded.Reporter{})
			var revision string
			got := recorded.Outcome(func() {
				revision = commit(t.Context(), e, "branch", "", 1, []*unstructured.Unstructured{object("Secret", "a")})
			})
			if got.How != c.want {
				t.Fatalf("%s: %s, wanted %s", got.How, got.Reason, c.want)
			}
			if c.want == "pass" && (git(t, dir, nil, "rev-parse", "branch") != revision || git(t, dir, nil, "rev-list", "--count", "--all") != "1") {
				t.Errorf("commit %s is not the one of the branch", revision)
			}
		})
	}
}

func argoCD(phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: testbed.ArgoCDNamespace, Name: "argo-cd-1", Labels: map[string]string{"app": "argo-cd"}},
		Status:     corev1.PodStatus{Phase: phase},
	}
}

// well is what Argo CD 3.2.11 says of an Application that is as it should be.
func well() map[string]any {
	return map[string]any{
		"reconciledAt":   "2026-11-27T03:38:57Z",
		"sync":           map[string]any{"status": "Synced", "revision": "4eccceab"},
		"health":         map[string]any{"status": "Healthy"},
		"operationState": map[string]any{"phase": "Succeeded", "message": "successfully synced (all tasks run)", "syncResult": map[string]any{"revision": "4eccceab"}},
		"resources": []any{
			map[string]any{"kind": "PersistentVolumeClaim", "name": "data", "status": "Synced", "health": map[string]any{"status": "Healthy"}},
			map[string]any{"kind": "MutatingPolicy", "name": "p", "status": "Synced"},
		},
	}
}

// with is well with other values: path, joined by dots, and value in turns.
func with(changes ...any) map[string]any {
	content := well()
	for i := 0; i < len(changes); i += 2 {
		if err := unstructured.SetNestedField(content, changes[i+1], strings.Split(changes[i].(string), ".")...); err != nil {
			panic(err)
		}
	}
	return content
}

func condition(kind, message string) []any {
	return []any{map[string]any{"type": kind, "message": message}}
}

func TestWhatIsNotWellIsSaid(t *testing.T) {
	resource := func(content map[string]any) []any { return []any{content} }
	for name, c := range map[string]struct {
		status map[string]any
		want   string // empty: all is well
		blind  bool
	}{
		"well":                 {status: well()},
		"not looked at":        {status: map[string]any{}, want: "Argo CD has not looked at it yet"},
		"nothing to be synced": {status: with("operationState", map[string]any{})},
		"an earlier commit":    {status: with("sync.revision", "0123456789"), want: "Argo CD has not seen commit 4eccceab yet, and is at 01234567"},
		"out of sync":          {status: with("sync.status", "OutOfSync"), want: "it is OutOfSync"},
		"not healthy":          {status: with("health.status", "Progressing", "health.message", "waits"), want: "it is Progressing: waits"},
		"a warning":            {status: with("conditions", condition("ExcludedResourceWarning", "Resource /Endpoints s3 is excluded in the settings")), want: "ExcludedResourceWarning: Resource /Endpoints s3 is excluded in the settings"},
		"not compared":         {status: with("conditions", condition("ComparisonError", "connection refused")), blind: true},
		"a sync that fails": {status: with("operationState.phase", "Running", "operationState.message", "Retrying attempt #2",
			"operationState.syncResult.resources", resource(map[string]any{"kind": "PersistentVolumeClaim", "name": "data", "status": "SyncFailed", "message": "spec is immutable"})),
			want: "its sync is Running: Retrying attempt #2; PersistentVolumeClaim data: SyncFailed: spec is immutable"},
		"an object out of sync": {status: with("resources", resource(map[string]any{"kind": "Secret", "name": "s", "status": "OutOfSync"})), want: "Secret s is OutOfSync"},
		"an object to be pruned": {status: with("resources", resource(map[string]any{"kind": "ReplicationSource", "name": "s", "status": "OutOfSync", "requiresPruning": true})),
			want: "ReplicationSource s is not in git and is to be deleted"},
		"an object that waits": {status: with("resources", resource(map[string]any{"kind": "PersistentVolumeClaim", "name": "data", "status": "Synced", "health": map[string]any{"status": "Progressing"}})),
			want: "PersistentVolumeClaim data is Progressing"},
	} {
		s, err := statusOf(&unstructured.Unstructured{Object: map[string]any{"status": c.status}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.wrong("4eccceab"); got != c.want || (err != nil) != c.blind {
			t.Errorf("%s: got %q, %v, wanted %q", name, got, err, c.want)
		}
	}
}

// argo is an API server with one Application, whose status is the next of these at each look, the last one again and again.
func argo(t *testing.T, statuses ...map[string]any) (*Application, *recorded.Reporter) {
	t.Helper()
	looks := 0
	api := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
			if key != (client.ObjectKey{Namespace: "argocd", Name: "ns-apps"}) {
				return fmt.Errorf("asked for %s", key)
			}
			status := statuses[min(looks, len(statuses)-1)]
			looks++
			if status == nil {
				return errors.New("connection refused")
			}
			status = (&unstructured.Unstructured{Object: status}).DeepCopy().Object
			if status["reconciledAt"] == "always" { // it reconciles at each look
				status["reconciledAt"] = fmt.Sprint(looks)
			}
			o.(*unstructured.Unstructured).Object["status"] = status
			return nil
		},
	})
	r := &recorded.Reporter{}
	e := env.Offline(t.TempDir(), env.Parts{API: api, Times: timing.Default()}).In("ns", "gitops/x", r)
	a := Of(e, nil, nil).application("apps")
	a.revision = "4eccceab"
	return a, r
}

func TestAnApplicationIsSyncedOrSaysWhyNot(t *testing.T) {
	out := with("sync.status", "OutOfSync")
	for name, c := range map[string]struct {
		statuses   []map[string]any
		want, says string
	}{
		"synced":              {[]map[string]any{{}, out, well()}, "pass", ""},
		"never":               {[]map[string]any{{}, out}, "fail", "it is OutOfSync"},
		"never looked at":     {[]map[string]any{{}}, "fail", "Argo CD has not looked at it yet"},
		"git is out of reach": {[]map[string]any{with("conditions", condition("ComparisonError", "no such host"))}, "unknown", "no such host"},
		"nobody can see":      {[]map[string]any{nil}, "unknown", "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := argo(t, c.statuses...)
				if got := recorded.Outcome(func() { a.Synced(t.Context()) }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
					t.Errorf("%s: %s, wanted %s with %q", got.How, got.Reason, c.want, c.says)
				}
			})
		})
	}
}

// The times of reconciliations are counted, and one that does not come is nobody's failure.
func TestReconciliationsAreWatched(t *testing.T) {
	always := with("reconciledAt", "always")
	out := with("reconciledAt", "always", "resources", []any{map[string]any{"kind": "ReplicationSource", "name": "s", "status": "OutOfSync", "requiresPruning": true}})
	for name, c := range map[string]struct {
		statuses   []map[string]any
		want, says string
	}{
		"as it should be":        {[]map[string]any{always}, "pass", ""},
		"out of sync once":       {[]map[string]any{always, always, out, always}, "fail", "ReplicationSource s is not in git and is to be deleted"},
		"Argo CD has stopped":    {[]map[string]any{always, well()}, "unknown", "reconciled [Application ns-apps] [1] times"},
		"blind for a long while": {append([]map[string]any{always}, slices.Repeat([]map[string]any{nil}, 300)...), "unknown", "could not see"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := argo(t, c.statuses...)
				got := recorded.Outcome(func() { a.of.reconciled(t.Context(), 3, a) })
				if got.How != c.want || !strings.Contains(got.Reason, c.says) {
					t.Errorf("%s: %s, wanted %s with %q", got.How, got.Reason, c.want, c.says)
				}
			})
		})
	}
}

func TestWritesAreCountedByObject(t *testing.T) {
	event := func(verb, resource, name, sub string, code int32, user, query string) creations.AuditEvent {
		e := creations.AuditEvent{Verb: verb, RequestURI: "/apis?" + query, ObjectRef: creations.ObjectRef{Resource: resource, Namespace: "ns", Name: name, Subresource: sub}}
		e.ResponseStatus.Code, e.User.Username = code, user
		return e
	}
	got := writesOf([]creations.AuditEvent{
		event("patch", "persistentvolumeclaims", "data", "", 200, "argo", ""),
		event("update", "persistentvolumeclaims", "data", "", 200, "kyverno", ""),
		event("patch", "persistentvolumeclaims", "data", "", 200, "argo", ""),
		event("patch", "persistentvolumeclaims", "data", "", 403, "refused", ""),
		event("patch", "persistentvolumeclaims", "data", "", 200, "dry", "dryRun=All"),
		event("update", "replicationsources", "s", "status", 200, "volsync", ""),
		event("get", "secrets", "s", "", 200, "kyverno", ""),
		event("patch", "persistentvolumeclaims", "others", "", 200, "argo", ""),
	}, func(ref creations.ObjectRef) bool { return ref.Name != "others" })
	if w := got["persistentvolumeclaims data"]; len(got) != 1 || w.count != 3 || !slices.Equal(w.users, []string{"argo", "kyverno"}) {
		t.Errorf("got %v", got)
	}
	for name, c := range map[string]struct {
		count int
		fight bool
	}{"now and then": {6, false}, "at each reconciliation": {12, true}} {
		if found := fights(map[string]written{"pvc": {count: c.count, users: []string{"argo", "kyverno"}}}, 2*time.Minute); (len(found) > 0) != c.fight {
			t.Errorf("%s: found %v", name, found)
		}
	}
}

// What is committed is a copy: what was committed before stays as it was.
func TestSyncOptionsAreOfPVCs(t *testing.T) {
	pvc, deployment := object("PersistentVolumeClaim", "data"), object("Deployment", "app")
	got := withOptions([]*unstructured.Unstructured{pvc, deployment}, "Replace=true", 2)
	if got[0].GetAnnotations()["argocd.argoproj.io/sync-options"] != "Replace=true" || got[0].GetLabels()["example.com/commit"] != "2" {
		t.Errorf("the PVC is %v", got[0].Object)
	}
	if len(got[1].GetAnnotations()) > 0 || len(pvc.GetAnnotations()) > 0 || len(pvc.GetLabels()) > 0 {
		t.Errorf("others are changed, too: %v, %v", got[1].Object, pvc.Object)
	}
}

func TestAManifestHasNothingThatIsNotSet(t *testing.T) {
	a, _ := argo(t, well())
	got := a.of.manifest(&corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "ns"},
	})
	if want := object("PersistentVolumeClaim", "data").GetName(); got.GetName() != want || got.Object["status"] != nil {
		t.Errorf("got %v", got.Object)
	}
	if metadata := got.Object["metadata"].(map[string]any); len(metadata) != 2 {
		t.Errorf("its metadata is %v", metadata)
	}
}

// That a policy does not act is its own, or Argo CD's, only where Kyverno could act all the time and the API server could be asked.
func TestAPolicyThatDoesNotActIsToBlameOnlyIfKyvernoCan(t *testing.T) {
	for name, c := range map[string]struct {
		acts, restarts, notReady, blind bool
		blindFrom                       time.Duration
		want, says                      string
	}{
		"it acts":               {acts: true, want: "pass"},
		"it does nothing":       {want: "fail", says: "acts when the suite applies it"},
		"Kyverno restarts":      {restarts: true, want: "unknown", says: "nor does Kyverno"},
		"Kyverno is not ready":  {notReady: true, want: "unknown", says: "nor does Kyverno"},
		"nobody can see":        {blind: true, want: "unknown", says: install.ErrUnseen.Error()},
		"nobody can see at end": {blind: true, blindFrom: 80 * time.Second, want: "unknown", says: install.ErrUnseen.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				policy := &unstructured.Unstructured{Object: map[string]any{
					"apiVersion": "policies.kyverno.io/v1", "kind": "GeneratingPolicy", "metadata": map[string]any{"name": "p"},
					"status": map[string]any{"conditionStatus": map[string]any{"ready": true}},
				}}
				replicas := int32(1)
				kyverno := &appsv1.Deployment{
					ObjectMeta: metav1.ObjectMeta{Namespace: env.KyvernoNamespace, Name: "kyverno-background-controller", Generation: 1},
					Spec:       appsv1.DeploymentSpec{Replicas: &replicas},
					Status: appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1,
						Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}},
				}
				if c.notReady {
					kyverno.Status.ReadyReplicas, kyverno.Status.AvailableReplicas = 0, 0
				}
				pod := &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Namespace: env.KyvernoNamespace, Name: "kyverno-1", UID: "1"},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "controller"}}},
					Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "controller"}}},
				}
				api := interceptor.NewClient(fake.NewClientBuilder().WithObjects(policy, kyverno, pod).Build(), interceptor.Funcs{
					Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
						if err := api.Create(ctx, o, opts...); err != nil || o.GetName() != "canary" || !c.acts {
							return err
						}
						source := &unstructured.Unstructured{Object: map[string]any{}}
						source.SetGroupVersionKind(install.ReplicationSource)
						source.SetNamespace(o.GetNamespace())
						source.SetName("canary")
						return api.Create(ctx, source)
					},
					List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
						pods, ofPods := list.(*corev1.PodList)
						if c.blind && !ofPods && time.Since(begun) >= c.blindFrom {
							return errors.New("connection reset by peer")
						}
						err := api.List(ctx, list, opts...)
						if ofPods && c.restarts && time.Since(begun) > 30*time.Second && len(pods.Items) > 0 {
							pods.Items[0].Status.ContainerStatuses[0].RestartCount = 1
						}
						return err
					},
				})
				e := env.Offline(t.TempDir(), env.Parts{API: api, Times: timing.Default(), Testbed: &testbed.Testbed{
					Contract: policies.Default(), Policy: []map[string]any{policy.Object},
				}}).In("ns", "gitops/x", &recorded.Reporter{})
				g := Of(e, nil, platform.Of(e))
				if got := recorded.Outcome(func() { g.acts(t.Context()) }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
					t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
				}
			})
		})
	}
}
