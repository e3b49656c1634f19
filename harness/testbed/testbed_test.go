package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
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

	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/endpoint"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/subject"
	"github.com/smart-restore/conformance/harness/timing"
)

const (
	runID            = "abcdefgh"
	volsyncNamespace = "volsync-system"
	csiNamespace     = "csi-driver"
)

var (
	generatingPolicy = schema.GroupVersionKind{Group: "policies.kyverno.io", Version: "v1", Kind: "GeneratingPolicy"}
	clusterRole      = schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}
	crd              = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
)

func TestMain(m *testing.M) {
	timing.Setup.Poll = 5 * time.Second // of fake time: each look costs real time
	m.Run()
}

// world is a fake cluster, with what is around it.
type world struct {
	client.WithWatch
	gateway  []string // rules in force
	firewall []string // chains of faults
	noRoute  bool     // the node has no way to S3
	folders  []string // of the CSI driver
	blind    error    // what the API server answers; nil: as it should

	idle    bool         // policies do nothing
	hiccups atomic.Int32 // lists that are not answered

	mu     sync.Mutex
	before func(verb string, object client.Object) error // is told of each write, and can refuse it
}

func (w *world) Rules(context.Context) ([]gateway.RuleStatus, error) {
	var rules []gateway.RuleStatus
	for _, id := range w.gateway {
		rules = append(rules, gateway.RuleStatus{Rule: gateway.Rule{ID: id}})
	}
	return rules, w.blind
}

func (w *world) HealAll(context.Context) error { w.gateway = nil; return nil }

// node is the node's shell.
func (w *world) node(_ context.Context, args ...string) (string, error) {
	if args[len(args)-1] == driverFolders {
		return strings.Join(w.folders, "\n"), w.blind
	}
	if args[0] != "bash" {
		w.noRoute = false
		return "", w.blind
	}
	routes := "10.96.0.0/16 dev lo scope link\n-A POSTROUTING -d 192.168.10.133/32 -j ACCEPT\n"
	if !w.noRoute {
		routes += "192.168.10.133 via 172.18.0.2 dev eth0\n"
	}
	return routes, w.blind
}

type worldsFirewall struct{ *world }

func (w worldsFirewall) InForce(context.Context) ([]string, error) { return w.firewall, w.blind }
func (w worldsFirewall) HealAll(context.Context) error             { w.firewall = nil; return nil }

// typed are the kinds with a Go type. They are few: the fake spends most of its time on them.
var typed = sync.OnceValue(func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, storagev1.AddToScheme, rbacv1.AddToScheme, admissionv1.AddToScheme, coordinationv1.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
	return scheme
})

// kinds are those that the fake cluster has.
var kinds = sync.OnceValue(func() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind := range typed().AllKnownTypes() {
		scope := meta.RESTScopeNamespace
		if kind.Kind == "Namespace" || kind.Kind == "Node" || strings.HasPrefix(kind.Kind, "CSI") || strings.HasPrefix(kind.Kind, "ClusterRole") || strings.HasSuffix(kind.Kind, "WebhookConfiguration") {
			scope = meta.RESTScopeRoot
		}
		mapper.Add(kind, scope)
	}
	mapper.Add(install.ReplicationSource, meta.RESTScopeNamespace)
	mapper.Add(install.ReplicationDestination, meta.RESTScopeNamespace)
	mapper.Add(generatingPolicy, meta.RESTScopeRoot)
	mapper.Add(crd, meta.RESTScopeRoot)
	mapper.Add(snapshotContent, meta.RESTScopeRoot)
	return mapper
})

// newWorld is a cluster in which VolSync answers, deployments are ready at once, and a Kyverno policy acts on each PVC.
func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{}
	write := func(verb string, object client.Object) error {
		if w.blind != nil {
			return w.blind
		}
		return w.tell(verb, object)
	}
	w.WithWatch = fake.NewClientBuilder().WithScheme(typed()).WithRESTMapper(kinds()).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.CreateOption) error {
			if err := write("create", object); err != nil {
				return err
			}
			if u, ok := object.(*unstructured.Unstructured); ok && u.GetLabels()[install.ProbeLabel] != "" {
				u.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Synchronizing"}}}
			}
			if err := api.Create(ctx, object, options...); err != nil || object.GetName() != "canary" {
				return err
			}
			policies := &unstructured.UnstructuredList{}
			policies.SetGroupVersionKind(generatingPolicy)
			if err := api.List(ctx, policies); err != nil || len(policies.Items) == 0 || w.idle {
				return err
			}
			made := &unstructured.Unstructured{Object: map[string]any{}}
			made.SetGroupVersionKind(install.ReplicationSource)
			made.SetNamespace(object.GetNamespace())
			made.SetName("canary")
			return api.Create(ctx, made)
		},
		Patch: func(ctx context.Context, api client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			if err := write("patch", object); err != nil {
				return err
			}
			if err := api.Patch(ctx, object, patch, options...); err != nil {
				return err
			}
			return w.rollOut(ctx, api, object)
		},
		Delete: func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			if err := write("delete", object); err != nil {
				return err
			}
			return api.Delete(ctx, object, options...)
		},
		DeleteAllOf: func(ctx context.Context, api client.WithWatch, object client.Object, options ...client.DeleteAllOfOption) error {
			if err := write("delete all", object); err != nil {
				return err
			}
			return api.DeleteAllOf(ctx, object, options...)
		},
		Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			if w.blind != nil {
				return w.blind
			}
			if err := api.Get(ctx, key, object, options...); err != nil {
				return err
			}
			if u, ok := object.(*unstructured.Unstructured); ok && u.GroupVersionKind() == generatingPolicy {
				u.Object["status"] = map[string]any{"conditionStatus": map[string]any{"ready": true}}
			}
			return nil
		},
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if w.blind != nil {
				return w.blind
			}
			if w.hiccups.Add(-1) >= 0 {
				return apierrors.NewTooManyRequests("later", 1)
			}
			metadata, ok := list.(*metav1.PartialObjectMetadataList)
			if !ok {
				return api.List(ctx, list, options...)
			}
			// The fake lists only kinds of the scheme so.
			whole := &unstructured.UnstructuredList{}
			whole.SetGroupVersionKind(metadata.GroupVersionKind())
			if err := api.List(ctx, whole, options...); err != nil {
				return err
			}
			for _, item := range whole.Items {
				metadata.Items = append(metadata.Items, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
					Namespace: item.GetNamespace(), Name: item.GetName(), Labels: item.GetLabels(), DeletionTimestamp: item.GetDeletionTimestamp(),
				}})
			}
			return nil
		},
	}).Build()
	return w
}

// tell tells of a write, one at a time: objects are applied side by side.
func (w *world) tell(verb string, object client.Object) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.before == nil {
		return nil
	}
	return w.before(verb, object)
}

// rollOut makes a deployment or a daemon set ready, as its controllers would.
func (w *world) rollOut(ctx context.Context, api client.Client, object client.Object) error {
	switch object.GetObjectKind().GroupVersionKind() {
	case install.Deployment:
		d := &appsv1.Deployment{}
		if err := api.Get(ctx, client.ObjectKeyFromObject(object), d); err != nil {
			return err
		}
		d.Status = readyStatus(*d.Spec.Replicas)
		return api.Status().Update(ctx, d)
	case install.DaemonSet:
		d := &appsv1.DaemonSet{}
		if err := api.Get(ctx, client.ObjectKeyFromObject(object), d); err != nil {
			return err
		}
		d.Status = aDriver().Status
		return api.Status().Update(ctx, d)
	}
	return nil
}

func readyStatus(n int32) appsv1.DeploymentStatus {
	return appsv1.DeploymentStatus{Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
		Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}}
}

func object(kind schema.GroupVersionKind, name string, content map[string]any) *unstructured.Unstructured {
	if content == nil {
		content = map[string]any{}
	}
	o := &unstructured.Unstructured{Object: content}
	o.SetGroupVersionKind(kind)
	o.SetName(name)
	return o
}

func aRole(name, verb string) *unstructured.Unstructured {
	return object(clusterRole, name, map[string]any{"rules": []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"secrets"}, "verbs": []any{verb}}}})
}

// aService is of a kind that nobody looks for by label.
func aService(name string) *unstructured.Unstructured {
	o := object(schema.GroupVersionKind{Version: "v1", Kind: "Service"}, name, nil)
	o.SetNamespace("default")
	return o
}

// aPolicy has a role, a service and two policies of Kyverno's, one of which all have.
func aPolicy(name string) *policy.Policy {
	contract := policy.Default()
	contract.Name = name
	return &policy.Policy{SHA256: "sha of " + name, Contract: contract, Alerts: []byte("alerts of " + name), Objects: []*unstructured.Unstructured{
		aRole(name+":rights", "create"),
		object(generatingPolicy, name, map[string]any{"spec": map[string]any{"made": name}}),
		object(generatingPolicy, "common", map[string]any{"spec": map[string]any{"by": name}}),
		aService(name),
	}}
}

const driverName = "csi.example.com"

// aDriver is the daemon set of a CSI driver that runs on one node.
func aDriver() *appsv1.DaemonSet {
	labels := map[string]string{"app": "csi"}
	return &appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: csiNamespace, Name: "csi"},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "driver", Image: "example.com/csi:1"}}}}},
		Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, CurrentNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberAvailable: 1, NumberReady: 1},
	}
}

func deployed(namespace, name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "manager", Image: "example.com/" + name + ":1"}}}}},
		Status: readyStatus(replicas),
	}
}

// aTestbed is a kept one, as its file has it; saves counts how often it was written.
type aTestbed struct {
	*Testbed
	world *world
	file  *[]byte
	saves int
}

func (a *aTestbed) load(t *testing.T) *Testbed {
	t.Helper()
	up := &Testbed{}
	if err := json.Unmarshal(*a.file, up); err != nil {
		t.Fatal(err)
	}
	up.fakes = &fakes{api: a.world, rules: a.world, firewall: worldsFirewall{a.world}, nodes: []cluster.Exec{a.world.node}}
	up.Save = func() error {
		if err := a.world.tell("save", nil); err != nil {
			return err
		}
		a.saves++
		raw, err := json.Marshal(up)
		if err == nil {
			*a.file = raw
		}
		return err
	}
	a.Testbed = up
	return up
}

// installedTestbed is one whose platform is two controllers, a role, a CRD and a webhook.
func installedTestbed(t *testing.T, more ...client.Object) *aTestbed {
	t.Helper()
	all := []client.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}},
		deployed(kyvernoNamespace, "admission", 1), deployed(volsyncNamespace, "volsync", 2), deployed("kube-system", "coredns", 2), deployed("default", "theirs", 1), aDriver(),
		&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driverName}},
		&storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: driverName}}}},
		aRole("kyverno:core", "get"),
		object(crd, "replicationsources.volsync.backube", nil),
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "kyverno-resource-mutating-webhook-cfg", Labels: map[string]string{install.ManagedWebhooks: "kyverno"}},
			Webhooks: []admissionv1.MutatingWebhook{}},
	}
	w := newWorld(t, append(all, more...)...)
	a := &aTestbed{world: w, file: &[]byte{}}
	up := &Testbed{RunID: runID, Ready: true, Contract: policy.Default(), Store: &objectstore.Handle{Bucket: policy.Default().S3.Bucket, GatewayIP: "172.18.0.2"},
		Endpoint: endpoint.Endpoint{URL: "http://192.168.10.133:9000", Addr: netip.MustParseAddrPort("192.168.10.133:9000")},
		fakes:    &fakes{api: w, rules: w, firewall: worldsFirewall{w}, nodes: []cluster.Exec{w.node}}, Nodes: []string{"node"}, Controllers: []string{csiNamespace, kyvernoNamespace, volsyncNamespace}}
	volsync, err := toUnstructured(deployed(volsyncNamespace, "volsync", 2))
	if err != nil {
		t.Fatal(err)
	}
	driver, err := toUnstructured(aDriver())
	if err != nil {
		t.Fatal(err)
	}
	kyverno, err := toUnstructured(deployed(kyvernoNamespace, "admission", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*unstructured.Unstructured{volsync, driver, kyverno} {
		unstructured.RemoveNestedField(o.Object, "status")
	}
	installed := []*unstructured.Unstructured{driver, kyverno, object(storagev1.SchemeGroupVersion.WithKind("CSIDriver"), driverName, nil), aRole("kyverno:core", "get"),
		object(crd, "replicationsources.volsync.backube", map[string]any{"status": map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": "True"}}}}), volsync}
	if got := controllersOf(installed); !slices.Equal(got, up.Controllers) {
		t.Fatalf("controllers run in %q, wanted %q", got, up.Controllers)
	}
	if up.Platform, err = record(t.Context(), w, filepath.Join(t.TempDir(), "installed.jsonl"), installed); err != nil {
		t.Fatal(err)
	}
	up.Platform.PolicyKinds = []metav1.GroupVersionKind{metav1.GroupVersionKind(generatingPolicy)}
	raw, err := json.Marshal(up)
	if err != nil {
		t.Fatal(err)
	}
	*a.file = raw
	return a
}

func toUnstructured(o any) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	return u, u.UnmarshalJSON(raw)
}

// policiesIn are the policies of Kyverno's and the roles of policies that are in the cluster, with what they say.
func policiesIn(t *testing.T, w *world) []string {
	t.Helper()
	var found []string
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(generatingPolicy)
	if err := w.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		found = append(found, fmt.Sprintf("%s %v", item.GetName(), item.Object["spec"]))
	}
	roles := &rbacv1.ClusterRoleList{}
	if err := w.List(t.Context(), roles); err != nil {
		t.Fatal(err)
	}
	for _, role := range roles.Items {
		if strings.HasSuffix(role.Name, ":rights") {
			found = append(found, role.Name)
		}
	}
	services := &corev1.ServiceList{}
	if err := w.List(t.Context(), services); err != nil {
		t.Fatal(err)
	}
	for _, service := range services.Items {
		found = append(found, "service "+service.Name)
	}
	slices.Sort(found)
	return found
}

func only(name string) []string {
	return []string{name + " map[made:" + name + "]", name + ":rights", "common map[by:" + name + "]", "service " + name}
}

func sorted(names []string) []string { slices.Sort(names); return names }

func TestWhateverMomentARunIsKilledAtTheNextOneTestsItsPolicyAlone(t *testing.T) {
	stranger := object(generatingPolicy, "stranger", map[string]any{"spec": map[string]any{"made": "stranger"}})
	for _, next := range []string{"a", "b", "c"} {
		for kill := 1; ; kill++ {
			killed := false
			synctest.Test(t, func(t *testing.T) {
				a := installedTestbed(t, stranger.DeepCopy())
				if err := a.load(t).ApplyPolicy(t.Context(), aPolicy("a")); err != nil {
					t.Fatal(err)
				}
				if got, want := policiesIn(t, a.world), sorted(only("a")); !slices.Equal(got, want) {
					t.Fatalf("found %q, wanted %q", got, want)
				}
				// b replaces a, until the process is killed before its write number so-and-so.
				ctx, end := context.WithCancel(t.Context())
				writes := 0
				a.world.before = func(string, client.Object) error {
					if writes++; writes >= kill {
						killed = true
						end()
						return context.Canceled
					}
					return nil
				}
				err := a.load(t).ApplyPolicy(ctx, aPolicy("b"))
				end()
				if (err != nil) != killed {
					t.Fatalf("killed before write %d: %v", kill, err)
				}
				a.world.before = nil
				up := a.load(t) // another process
				if err := up.MakeWhole(t.Context()); err != nil {
					t.Fatalf("killed before write %d: %v", kill, err)
				}
				if err := up.ApplyPolicy(t.Context(), aPolicy(next)); err != nil {
					t.Fatalf("killed before write %d: %v", kill, err)
				}
				if got, want := policiesIn(t, a.world), sorted(only(next)); !slices.Equal(got, want) {
					t.Errorf("killed before write %d, then %s: found %q, wanted %q", kill, next, got, want)
				}
				if up := a.load(t); up.PolicyState != PolicyActing || up.PolicySHA != "sha of "+next || up.Alerts != "alerts of "+next || len(up.Remains) != 0 {
					t.Errorf("killed before write %d, then %s: the file says %s %s, %s, remains %v", kill, next, up.PolicyState, up.PolicySHA, up.Alerts, up.Remains)
				}
			})
			if !killed {
				if kill < 10 {
					t.Errorf("only %d writes: the test does not see them", kill)
				}
				break
			}
			if t.Failed() {
				return
			}
		}
	}
}

func TestWhatIsAppliedIsWrittenDownBeforeAndCarriesTheRunsLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := installedTestbed(t)
		up := a.load(t)
		a.world.before = func(verb string, object client.Object) error {
			if verb != "patch" {
				return nil
			}
			var file Testbed
			if err := json.Unmarshal(*a.file, &file); err != nil {
				return err
			}
			if file.PolicyState != PolicyApplying || !slices.ContainsFunc(file.PolicyObjects(), func(o *unstructured.Unstructured) bool { return o.GetName() == object.GetName() }) {
				t.Errorf("%s is applied, and the file says %s %v", object.GetName(), file.PolicyState, file.Policy)
			}
			if object.GetLabels()[runs.Label] != runID || object.GetLabels()[PolicyLabel] == "" {
				t.Errorf("%s has labels %v", object.GetName(), object.GetLabels())
			}
			return nil
		}
		p := aPolicy("a")
		if err := up.ApplyPolicy(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		for _, object := range p.Objects {
			if len(object.GetLabels()) != 0 {
				t.Errorf("the policy itself was changed: %v", object)
			}
		}
		// The same policy is not taken away to be applied again.
		a.world.before = func(verb string, object client.Object) error {
			if verb == "delete" && object.GetObjectKind().GroupVersionKind() == generatingPolicy {
				t.Errorf("%s is deleted", object.GetName())
			}
			return nil
		}
		if err := a.load(t).ApplyPolicy(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		// One that cannot be written down is not applied.
		a.world.before = func(verb string, object client.Object) error {
			switch verb {
			case "save":
				return errors.New("disk full")
			case "patch":
				t.Errorf("%s is applied, though nothing was written down", object.GetName())
			}
			return nil
		}
		if err := a.load(t).ApplyPolicy(t.Context(), aPolicy("b")); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("found %v", err)
		}
		a.world.before = nil
		marked := aPolicy("c")
		marked.Objects[1].SetLabels(map[string]string{runs.Label: "theirs"})
		if err := a.load(t).ApplyPolicy(t.Context(), marked); err == nil || !strings.Contains(err.Error(), "GeneratingPolicy c has the label "+runs.Label) {
			t.Errorf("found %v", err)
		}
	})
}

// A damage is done to a whole testbed, and is seen and repaired.
var damages = map[string]struct {
	do         func(ctx context.Context, w *world) error
	what       string
	unrepaired bool
}{
	"a rule is in force at the gateway": {do: func(_ context.Context, w *world) error { w.gateway = []string{"slow"}; return nil }, what: "fault gateway"},
	"a packet fault is in force":        {do: func(_ context.Context, w *world) error { w.firewall = []string{"SRFAULT-1"}; return nil }, what: "node's firewall"},
	"the node has no way to S3":         {do: func(_ context.Context, w *world) error { w.noRoute = true; return nil }, what: "node's network"},
	"VolSync is switched off": {do: func(ctx context.Context, w *world) error {
		return w.Patch(ctx, deployed(volsyncNamespace, "volsync", 2), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":0}}`)))
	}, what: "deployment volsync-system/volsync"},
	"VolSync is deleted": {do: func(ctx context.Context, w *world) error {
		return w.Delete(ctx, deployed(volsyncNamespace, "volsync", 2))
	},
		what: "deployment volsync-system/volsync"},
	"VolSync is of another image": {do: func(ctx context.Context, w *world) error {
		return w.Patch(ctx, deployed(volsyncNamespace, "volsync", 2), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"manager","image":"other"}]}}}}`)))
	}, what: "deployment volsync-system/volsync"},
	"the CSI driver is deleted": {do: func(ctx context.Context, w *world) error { return w.Delete(ctx, aDriver()) },
		what: "daemon set csi-driver/csi"},
	"the CSI driver is of another image": {do: func(ctx context.Context, w *world) error {
		return w.Patch(ctx, aDriver(), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"driver","image":"other"}]}}}}`)))
	}, what: "daemon set csi-driver/csi"},
	"the CSI driver is kept off the nodes": {do: func(ctx context.Context, w *world) error {
		return w.Patch(ctx, aDriver(), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"template":{"spec":{"nodeSelector":{"no":"node"}}}}}`)))
	}, what: "daemon set csi-driver/csi"},
	"a node is gone": {do: func(ctx context.Context, w *world) error {
		return w.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}})
	}, what: "cluster", unrepaired: true},
	"a deployment that nobody installed is gone": {do: func(ctx context.Context, w *world) error { return w.Delete(ctx, deployed("kube-system", "coredns", 2)) },
		what: "deployment kube-system/coredns", unrepaired: true},
	"a CRD is gone": {do: func(ctx context.Context, w *world) error {
		return w.Delete(ctx, object(crd, "replicationsources.volsync.backube", nil))
	}, what: "CustomResourceDefinition replicationsources.volsync.backube"},
	"Kyverno's rights are gone": {do: func(ctx context.Context, w *world) error { return w.Delete(ctx, aRole("kyverno:core", "get")) },
		what: "ClusterRole kyverno:core"},
	"Kyverno's rights are others": {do: func(ctx context.Context, w *world) error { return replaceRole(ctx, w, "kyverno:core") },
		what: "ClusterRole kyverno:core"},
	"somebody's webhook is there": {do: func(ctx context.Context, w *world) error {
		return w.Create(ctx, &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}})
	}, what: "ValidatingWebhookConfiguration theirs"},
	"the policy is gone": {do: func(ctx context.Context, w *world) error { return w.Delete(ctx, object(generatingPolicy, "a", nil)) },
		what: "GeneratingPolicy a"},
	"the policy's rights are gone": {do: func(ctx context.Context, w *world) error { return w.Delete(ctx, aRole("a:rights", "")) }, what: "ClusterRole a:rights"},
	"the policy is another": {do: func(ctx context.Context, w *world) error {
		return w.Patch(ctx, object(generatingPolicy, "a", nil), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"more":"x"}}`)))
	}, what: "GeneratingPolicy a"},
	"the node takes no pods": {do: func(ctx context.Context, w *world) error {
		return w.Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"unschedulable":true}}`)))
	}, what: "node node", unrepaired: true},
}

func replaceRole(ctx context.Context, w *world, name string) error {
	return w.Update(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

func TestDamageIsSeenAndRepairedOrTheTestbedIsNotUsed(t *testing.T) {
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := installedTestbed(t)
				up := a.load(t)
				if err := up.ApplyPolicy(t.Context(), aPolicy("a")); err != nil {
					t.Fatal(err)
				}
				up = a.load(t)
				if damage, err := up.Examine(t.Context()); err != nil || len(damage) != 0 {
					t.Fatalf("the testbed is whole: found %v, %v", damage, err)
				}
				if err := c.do(t.Context(), a.world); err != nil {
					t.Fatal(err)
				}
				damage, err := up.Examine(t.Context())
				if err != nil || len(damage) != 1 || damage[0].What != c.what || damage[0].Wanted == "" || damage[0].Found == "" {
					t.Fatalf("wanted damage of %s, found %v, %v", c.what, damage, err)
				}
				left, err := up.Repair(t.Context(), damage)
				if err != nil || (len(left) != 0) != c.unrepaired {
					t.Fatalf("after the repair: found %v, %v, wanted something: %v", left, err, c.unrepaired)
				}
				damage, err = up.Examine(t.Context())
				if err != nil || (len(damage) != 0) != c.unrepaired {
					t.Errorf("after the repair: found %v, %v, wanted something: %v", damage, err, c.unrepaired)
				}
				if err := up.MakeWhole(t.Context()); (err != nil) != c.unrepaired {
					t.Errorf("found %v, wanted a refusal: %v", err, c.unrepaired)
				} else if err != nil && !strings.Contains(err.Error(), c.what) {
					t.Errorf("the refusal %v does not name %s", err, c.what)
				}
			})
		})
	}
}

func TestAPlatformThatCannotBeSeenIsNeitherWholeNorDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := installedTestbed(t)
		up := a.load(t)
		if err := up.ApplyPolicy(t.Context(), aPolicy("a")); err != nil {
			t.Fatal(err)
		}
		a.world.blind = apierrors.NewInternalError(errors.New("etcdserver: leader changed"))
		if damage, err := up.Examine(t.Context()); !errors.Is(err, install.ErrUnseen) || len(damage) != 0 {
			t.Errorf("found %v, %v", damage, err)
		}
		if err := up.ApplyPolicy(t.Context(), aPolicy("b")); !errors.Is(err, install.ErrUnseen) || len(policy.FindingsIn(err)) != 0 {
			t.Errorf("nobody could see, and the policy is to blame: %v", err)
		}
		if err := up.MakeWhole(t.Context()); err == nil {
			t.Error("a testbed that cannot be examined is taken for whole")
		}
		damage := []Damage{{What: "deployment volsync-system/volsync", kind: deployment, object: Object{Group: "apps", Kind: "Deployment", Namespace: volsyncNamespace, Name: "volsync"}}}
		if left, err := up.Repair(t.Context(), damage); err == nil {
			t.Errorf("a repair whose result cannot be seen: found %v", left)
		}
	})
}

func TestAPolicyThatWasNotSeenToActIsBlamedAndTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := installedTestbed(t)
		a.world.idle = true
		err := a.load(t).ApplyPolicy(t.Context(), aPolicy("a"))
		if findings := policy.FindingsIn(err); len(findings) != 1 || findings[0].Requirement != policy.Acts {
			t.Errorf("found %v, wanted a finding of %s", err, policy.Acts)
		}
		up := a.load(t)
		if up.PolicyState != PolicyApplying || up.PolicySHA != "sha of a" {
			t.Errorf("the file says %s %s", up.PolicyState, up.PolicySHA)
		}
		if damage, err := up.Examine(t.Context()); err != nil || len(damage) != 0 {
			t.Errorf("the platform is whole, whatever the policy does: found %v, %v", damage, err)
		}
		a.world.idle = false
		if err := up.ApplyPolicy(t.Context(), aPolicy("b")); err != nil {
			t.Fatal(err)
		}
		if got, want := policiesIn(t, a.world), sorted(only("b")); !slices.Equal(got, want) {
			t.Errorf("found %q, wanted %q", got, want)
		}
	})
}

func TestAHiccupOfTheAPIServerIsNoDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := installedTestbed(t)
		up := a.load(t)
		a.world.hiccups.Store(30)
		if err := up.ApplyPolicy(t.Context(), aPolicy("a")); err != nil {
			t.Fatal(err)
		}
		a.world.hiccups.Store(30)
		if damage, err := up.Examine(t.Context()); err != nil || len(damage) != 0 {
			t.Errorf("found %v, %v", damage, err)
		}
		a.world.hiccups.Store(30)
		if err := up.MakeWhole(t.Context()); err != nil {
			t.Errorf("found %v", err)
		}
		if a.world.hiccups.Load() >= 0 {
			t.Error("the API server was not asked often enough for the hiccup to matter")
		}
	})
}

func TestATestbedWhoseInstallationDidNotEndIsRefused(t *testing.T) {
	for _, up := range []*Testbed{{Ready: false, Platform: &Platform{}}, {Ready: true}} {
		if damage, err := up.Examine(t.Context()); err != nil || len(damage) != 1 {
			t.Errorf("found %v, %v", damage, err)
		}
		if err := up.MakeWhole(t.Context()); err == nil {
			t.Error("it is taken for whole")
		}
	}
	external := &Testbed{External: &External{}}
	if damage, err := external.Examine(t.Context()); err != nil || len(damage) != 0 {
		t.Errorf("nothing of an external testbed is ours to examine: found %v, %v", damage, err)
	}
	if _, err := external.Repair(t.Context(), []Damage{{What: "a"}}); !errors.Is(err, ErrNotOurs) {
		t.Errorf("nothing of an external testbed is ours to repair: found %v", err)
	}
	if _, err := external.NodeExec(t.Context(), "true"); !errors.Is(err, ErrNotOurs) {
		t.Errorf("no node of an external testbed is ours: found %v", err)
	}
	if err := external.Firewall().HealAll(t.Context()); !errors.Is(err, ErrNotOurs) {
		t.Errorf("no firewall of an external testbed is ours: found %v", err)
	}
}

func TestWhatAKilledRunLeftIsDeletedBeforeAKeptTestbedIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		namespace := func(name, run string) *corev1.Namespace {
			labels := map[string]string{}
			if run != "" {
				labels[runs.Label] = run
			}
			return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		}
		a := installedTestbed(t, namespace("spec-1", runID), namespace(ToolsNamespace, runID), namespace("default", ""),
			namespace(install.CanaryPrefix+"x", ""), namespace("others", "otherrun"))
		if err := a.load(t).MakeWhole(t.Context()); err != nil {
			t.Fatal(err)
		}
		list := &corev1.NamespaceList{}
		if err := a.world.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, n := range list.Items {
			left = append(left, n.Name)
		}
		slices.Sort(left)
		if want := []string{"default", "others", ToolsNamespace}; !slices.Equal(left, want) {
			t.Errorf("left are %q, wanted %q", left, want)
		}
	})
}

func TestFoldersOfTheDriverThatNobodyHasAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := installedTestbed(t,
			&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driverName, VolumeHandle: "node_a"}}}},
			&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "folder"}},
			object(snapshotContent, "made", map[string]any{"status": map[string]any{"snapshotHandle": "node_s"}}),
			object(snapshotContent, "brought", map[string]any{"spec": map[string]any{"source": map[string]any{"snapshotHandle": "node_t"}}}),
			object(snapshotContent, "not-yet", nil))
		up := a.load(t)
		api, err := up.api()
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct{ folders, want []string }{
			"none":             {nil, nil},
			"all are known":    {[]string{"volumes/node_a", "snapshots/node_s", "snapshots/node_t"}, nil},
			"a volume's":       {[]string{"volumes/node_a", "volumes/node_b"}, []string{"volumes/node_b"}},
			"a snapshot's":     {[]string{"snapshots/node_a", "snapshots/node_s"}, []string{"snapshots/node_a"}},
			"named as another": {[]string{"volumes/node_s"}, []string{"volumes/node_s"}},
		} {
			a.world.folders = c.folders
			if got, err := up.leftByDriver(t.Context(), api); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s: found %q, %v, wanted %q", name, got, err, c.want)
			}
		}
		if err := up.MakeWhole(t.Context()); err != nil {
			t.Errorf("a folder that is left makes no testbed unusable: %v", err)
		}
		a.world.blind = apierrors.NewInternalError(errors.New("etcdserver: leader changed"))
		if left, err := up.leftByDriver(t.Context(), api); err == nil {
			t.Errorf("nobody could see: found %q", left)
		}
	})
}

func TestOnlyLeasesOfPodsThatAreGoneEnd(t *testing.T) {
	lease := func(name, holder string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: kyvernoNamespace, Name: name}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}}
	}
	w := newWorld(t, lease("dead", "gone-1_uuid"), lease("alive", "here-1_uuid"), lease("free", ""),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: kyvernoNamespace, Name: "here-1"}})
	if err := (&Testbed{Controllers: []string{kyvernoNamespace}}).endLeases(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	list := &coordinationv1.LeaseList{}
	if err := w.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 || list.Items[0].Name != "alive" || list.Items[1].Name != "free" {
		t.Errorf("left are %v", list.Items)
	}
}

func TestTheKindsThatAPolicyCanBeMadeOf(t *testing.T) {
	definition := func(group, kind string) *unstructured.Unstructured {
		return object(crd, strings.ToLower(kind)+"s."+group, map[string]any{"spec": map[string]any{"group": group, "names": map[string]any{"kind": kind},
			"versions": []any{map[string]any{"name": "v1beta1", "served": true, "storage": false}, map[string]any{"name": "v1", "served": true, "storage": true}}}})
	}
	for kind, c := range map[string]struct {
		group string
		want  bool
	}{
		"ClusterPolicy": {"kyverno.io", true}, "NamespacedGeneratingPolicy": {"policies.kyverno.io", true}, "PolicyException": {"kyverno.io", true},
		"UpdateRequest": {"kyverno.io", false}, "PolicyReport": {"wgpolicyk8s.io", false}, "ReplicationSource": {"volsync.backube", false},
	} {
		got, ok := policyKind(definition(c.group, kind))
		if ok != c.want || ok && got != (schema.GroupVersionKind{Group: c.group, Version: "v1", Kind: kind}) {
			t.Errorf("%s: found %v, %v, wanted %v", kind, got, ok, c.want)
		}
	}
}

// What is deployed by Argo CD is not asked for on a stack without it.
func TestGitOpsIsPromisedWhereArgoCDIs(t *testing.T) {
	for name, c := range map[string]struct {
		testbed *Testbed
		labels  []string
		want    string
	}{
		"Argo CD":             {&Testbed{Stack: "s", Controllers: []string{"argocd", "kyverno"}}, []string{"gitops", NeedsGitOps}, ""},
		"no Argo CD":          {&Testbed{Stack: "s", Controllers: []string{"kyverno"}}, []string{"gitops", NeedsGitOps}, "the stack s has no Argo CD"},
		"no Argo CD, no need": {&Testbed{Stack: "s", Controllers: []string{"kyverno"}}, []string{"safety"}, ""},
		"somebody's":          {&Testbed{External: &External{}}, []string{"gitops", NeedsGitOps}, ""},
	} {
		if got := c.testbed.NotPromised(c.labels); got != c.want {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
	if lack := (&Testbed{External: &External{}}).Lacks(NeedsGitOps); lack == "" {
		t.Error("an external testbed lacks nothing")
	}
}

// What needs snapshots, or another node, is not asked for on a stack that has none. Of a cluster that is somebody's, nobody knows.
func TestWhatAStackLacksIsNotPromised(t *testing.T) {
	driver := &Platform{Objects: []Object{{Group: "storage.k8s.io", Version: "v1", Kind: csiDriver, Name: "csi.example.com"}}}
	for name, c := range map[string]struct {
		testbed *Testbed
		labels  []string
		want    string
	}{
		"a driver":            {&Testbed{Stack: "s", Platform: driver}, []string{"safety", NeedsSnapshots}, ""},
		"no driver":           {&Testbed{Stack: "s", Platform: &Platform{}}, []string{"safety", NeedsSnapshots}, "no volume of the stack s can be snapshotted"},
		"no driver, no need":  {&Testbed{Stack: "s", Platform: &Platform{}}, []string{"safety"}, ""},
		"two nodes":           {&Testbed{Stack: "s", Nodes: []string{"a", "b"}}, []string{"resilience", NeedsTwoNodes}, ""},
		"two Kyvernos":        {&Testbed{Stack: "s", EarlierKyverno: "earlier"}, []string{"resilience", NeedsEarlierKyverno}, ""},
		"one Kyverno":         {&Testbed{Stack: "s"}, []string{"resilience", NeedsEarlierKyverno}, "the stack s has one version of Kyverno"},
		"one node":            {&Testbed{Stack: "s", Nodes: []string{"a"}}, []string{"resilience", NeedsTwoNodes}, "the stack s has one node"},
		"somebody's nodes":    {&Testbed{External: &External{}}, []string{"resilience", NeedsTwoNodes}, ""},
		"somebody's":          {&Testbed{External: &External{}}, []string{"safety", NeedsSnapshots}, ""},
		"the contract's says": {&Testbed{Stack: "s", Platform: driver}, []string{"safety", "gated-start", NeedsSnapshots}, "the policy does not promise gated-start"},
	} {
		if got := c.testbed.NotPromised(c.labels); got != c.want {
			t.Errorf("%s: got %q, wanted %q", name, got, c.want)
		}
	}
	for _, need := range []string{NeedsSnapshots, NeedsTwoNodes, NeedsEarlierKyverno} {
		if lack := (&Testbed{External: &External{}}).Lacks(need); lack == "" {
			t.Errorf("an external testbed has what a spec with the label %s needs", need)
		}
	}
}

// A spec about a moment only looks where none is promised, unless there is another reason not to run it.
func TestWhatOnlyLooks(t *testing.T) {
	direct, snapshot := policy.Default(), policy.Default()
	snapshot.CopyMethod = policy.CopySnapshot
	for name, c := range map[string]struct {
		testbed *Testbed
		labels  []string
		looks   bool
	}{
		"no moment is promised":   {&Testbed{Contract: direct}, []string{"safety", policy.JudgesMoments}, true},
		"a moment is promised":    {&Testbed{Contract: snapshot}, []string{"safety", policy.JudgesMoments}, false},
		"another spec":            {&Testbed{Contract: direct}, []string{"safety"}, false},
		"another spec, not run":   {&Testbed{Contract: direct}, []string{"safety", policy.JudgesCopies}, false},
		"a feature, not promised": {&Testbed{Contract: direct}, []string{"relabel", policy.JudgesMoments}, false},
		"somebody's cluster":      {&Testbed{Contract: direct, External: &External{}}, []string{"safety", policy.JudgesMoments}, false},
	} {
		if got := c.testbed.LooksOnly(c.labels); (got != "") != c.looks {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A stack without Kyverno has no namespace of it.
func TestSystemNamespacesAreThoseOfWhatTheStackHas(t *testing.T) {
	for want, controllers := range map[string][]string{
		"kube-system local-path-storage volsync-system":                    {volsyncNamespace},
		"kube-system local-path-storage kyverno volsync-system csi-driver": {kyvernoNamespace, volsyncNamespace, "csi-driver"},
	} {
		if got := strings.Join((&Testbed{Controllers: controllers}).SystemNamespaces(), " "); got != want {
			t.Errorf("got %s, wanted %s", got, want)
		}
	}
}

func TestWhoAsksS3(t *testing.T) {
	oracle := policy.Oracle{URL: "http://o.kyverno.svc/{namespace}/{pvc}"}
	kyvernos := []map[string]any{{"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": map[string]any{"name": "p"}}}
	native := []map[string]any{{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": map[string]any{"name": "p"}}}
	for name, c := range map[string]struct {
		testbed              *Testbed
		noPolicy, onlyMovers bool
	}{
		"a policy that decides":            {&Testbed{Policy: kyvernos, Contract: policy.Contract{Restores: policy.WhenDecided}}, false, false},
		"a policy that restores always":    {&Testbed{Policy: kyvernos, Contract: policy.Contract{Restores: policy.Always}}, false, true},
		"one that asks an oracle":          {&Testbed{Policy: kyvernos, Contract: policy.Contract{Restores: policy.Always, Oracle: oracle}}, false, false},
		"templates":                        {&Testbed{Templates: &subject.Set{}}, true, true},
		"templates beside a policy":        {&Testbed{Policy: kyvernos, Templates: &subject.Set{}}, false, false},
		"templates beside a companion":     {&Testbed{Policy: kyvernos, Templates: &subject.Set{}, Contract: policy.Contract{Companion: true}}, true, true},
		"templates beside a native policy": {&Testbed{Policy: native, Templates: &subject.Set{}}, true, true},
	} {
		if asked := c.testbed.Asked(); (asked == "the oracle") != c.testbed.Contract.Oracle.Named() {
			t.Errorf("%s: asked is %s", name, asked)
		}
		if no, only := c.testbed.NoPolicy(), c.testbed.OnlyMoversAsk(); no != c.noPolicy || only != c.onlyMovers {
			t.Errorf("%s: no policy %v, only movers %v", name, no, only)
		}
	}
}
