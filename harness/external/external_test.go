package external

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
)

const runID = "abcdefgh"

// thePolicy has a role and a policy of Kyverno's.
func thePolicy() *policy.Policy {
	contract := policy.Default()
	contract.Name = "mine"
	role := object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "mine:kyverno")
	role.Object["rules"] = []any{map[string]any{"apiGroups": []any{"volsync.backube"}, "resources": []any{"replicationsources"}, "verbs": []any{"create"}}}
	generating := object("policies.kyverno.io/v1", "GeneratingPolicy", "", "mine")
	generating.Object["spec"] = map[string]any{"variables": []any{map[string]any{"name": "a", "expression": "1"}}, "weight": int64(2), "makes": "volsync.backube"}
	return &policy.Policy{Objects: []*unstructured.Unstructured{role, generating}, Contract: contract, Endpoint: endpoint.Endpoint{URL: contract.S3.Endpoint}}
}

// aCluster is one in which a run may begin, with the policy deployed by somebody.
func aCluster() map[string]client.Object {
	one := int32(1)
	deployment := func(namespace, name, image string) *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       appsv1.DeploymentSpec{Replicas: &one, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "manager", Image: image}}}}},
			Status:     appsv1.DeploymentStatus{ReadyReplicas: 1},
		}
	}
	volsync := deployment("volsync-system", "volsync", "quay.io/backube/volsync:0.14.0")
	volsync.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: resticVariable, Value: "example.com/restic-mover:1"}}
	p := thePolicy()
	deployed := p.Objects[1].DeepCopy()
	deployed.SetUID("policy-uid")
	deployed.Object["status"] = map[string]any{"ready": true}
	_ = unstructured.SetNestedField(deployed.Object, "a default", "spec", "evaluation")
	remove := corev1.PersistentVolumeReclaimDelete
	return map[string]client.Object{
		"node":    &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.34.4", Architecture: runtime.GOARCH}}},
		"kyverno": deployment("kyverno", "kyverno", "reg.kyverno.io/kyverno/kyverno:v1.19.1"),
		"volsync": volsync,
		"sources": object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "replicationsources.volsync.backube"),
		"destinations": object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "",
			"replicationdestinations.volsync.backube"),
		"class": &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}, ReclaimPolicy: &remove},
		"secret": &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "backup", Name: "base"}, Data: map[string][]byte{
			"AWS_ACCESS_KEY_ID": []byte("access-key"), "AWS_SECRET_ACCESS_KEY": []byte("secret-key"), "RESTIC_PASSWORD": []byte("password"),
		}},
		"role":   p.Objects[0].DeepCopy(),
		"policy": deployed,
	}
}

// clusterOf is a fake API server with these objects, on which all is allowed but what is denied ("verb resource").
func clusterOf(objects map[string]client.Object, denied ...string) client.WithWatch {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range slices.Concat(kyvernoKinds, []schema.GroupVersionKind{snapshotContent, {Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}}) {
		mapper.Add(kind, meta.RESTScopeRoot)
	}
	for kind := range scheme.Scheme.AllKnownTypes() {
		mapper.Add(kind, meta.RESTScopeRoot)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithRESTMapper(mapper)
	for _, o := range objects {
		if o != nil {
			builder = builder.WithObjects(o)
		}
	}
	return builder.WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.CreateOption) error {
			review, ok := o.(*authorizationv1.SelfSubjectAccessReview)
			if !ok {
				o.SetUID(types.UID("uid-of-" + o.GetName()))
				return api.Create(ctx, o, options...)
			}
			asked := review.Spec.ResourceAttributes
			review.Status.Allowed = !slices.Contains(denied, asked.Verb+" "+asked.Resource)
			return nil
		},
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if err := ctx.Err(); err != nil {
				return err // the fake answers whatever its context says
			}
			return api.List(ctx, list, options...)
		},
		// The fake knows nothing of UIDs.
		Delete: func(ctx context.Context, api client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			current := o.DeepCopyObject().(client.Object)
			if err := api.Get(ctx, client.ObjectKeyFromObject(o), current); err != nil {
				return err
			}
			wanted := (&client.DeleteOptions{}).ApplyOptions(options)
			if wanted.Preconditions == nil || wanted.Preconditions.UID == nil {
				return errors.New("deleted by name")
			}
			if *wanted.Preconditions.UID != current.GetUID() {
				return apierrors.NewConflict(schema.GroupResource{}, o.GetName(), errors.New("another UID"))
			}
			return api.Delete(ctx, o, options...)
		},
	}).Build()
}

func look(t *testing.T, objects map[string]client.Object, denied ...string) *Facts {
	t.Helper()
	facts, err := Look(t.Context(), clusterOf(objects, denied...), Request{RunID: runID, Chosen: &Chosen{Cluster: "theirs"}, BaseSecretFrom: "backup/base", Policy: thePolicy()})
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func TestPolicyThatIsThereIsUsed(t *testing.T) {
	facts := look(t, aCluster())
	if err := facts.Refused(); err != nil || facts.MakePolicy {
		t.Fatalf("refused: %v, make the policy: %v", err, facts.MakePolicy)
	}
	if facts.MoverImage != "example.com/restic-mover:1" || facts.Credentials.SecretKey != "secret-key" || !slices.Contains(facts.Platform, "volsync-system") {
		t.Errorf("got %+v", facts)
	}
	text := strings.Join((&Plan{Request: Request{RunID: runID, Chosen: &Chosen{Cluster: "theirs"}, Policy: thePolicy()}, Facts: facts}).Lines(), "\n")
	for _, want := range []string{"are used, and not touched", "GeneratingPolicy/mine spec.evaluation", "sr-abcdefgh-…", "smart-restore.run=abcdefgh", "_sr-abcdefgh-seed/"} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not say %q:\n%s", want, text)
		}
	}
	for _, secret := range facts.Credentials.Secrets() {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("the plan shows the credential %s", secret)
		}
	}
}

func TestPolicyThatIsNotThereIsMade(t *testing.T) {
	objects := aCluster()
	delete(objects, "policy")
	delete(objects, "role")
	facts := look(t, objects)
	if err := facts.Refused(); err != nil || !facts.MakePolicy {
		t.Errorf("refused: %v, make the policy: %v", err, facts.MakePolicy)
	}
}

func TestRefusals(t *testing.T) {
	labelled := func(namespace string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "photos", Labels: map[string]string{"backup": "hourly"}}}
	}
	absent := func(o map[string]client.Object) { delete(o, "policy"); delete(o, "role") }
	for name, c := range map[string]struct {
		change func(map[string]client.Object)
		denied []string
		want   []string // in what is said; none: nothing is refused
	}{
		"no VolSync":        {change: func(o map[string]client.Object) { delete(o, "volsync") }, want: []string{"wanted: VolSync", "install VolSync"}},
		"no Kyverno":        {change: func(o map[string]client.Object) { delete(o, "kyverno") }, want: []string{"wanted: Kyverno"}},
		"Kyverno not ready": {change: func(o map[string]client.Object) { o["kyverno"].(*appsv1.Deployment).Status.ReadyReplicas = 0 }, want: []string{"kyverno/kyverno has 0 of 1 replicas ready"}},
		"no CRD":            {change: func(o map[string]client.Object) { delete(o, "destinations") }, want: []string{"CRD replicationdestinations.volsync.backube"}},
		"another machine":   {change: func(o map[string]client.Object) { o["node"].(*corev1.Node).Status.NodeInfo.Architecture = "s390x" }, want: []string{"node (s390x)"}},
		"no storage class":  {change: func(o map[string]client.Object) { delete(o, "class") }, want: []string{"a default storage class"}},
		"volumes that stay": {change: func(o map[string]client.Object) {
			retain := corev1.PersistentVolumeReclaimRetain
			o["class"].(*storagev1.StorageClass).ReclaimPolicy = &retain
		}, want: []string{"reclaim policy Retain: every PVC of this run would leave a volume"}},
		"no base Secret":   {change: func(o map[string]client.Object) { delete(o, "secret") }, want: []string{"the Secret backup/base", "BASE_SECRET_FROM"}},
		"a key is missing": {change: func(o map[string]client.Object) { delete(o["secret"].(*corev1.Secret).Data, "RESTIC_PASSWORD") }, want: []string{"the key RESTIC_PASSWORD"}},
		"a short password": {change: func(o map[string]client.Object) {
			o["secret"].(*corev1.Secret).Data["RESTIC_PASSWORD"] = []byte("test")
		}, want: []string{"could not be kept out of logs"}},
		"no right to make": {denied: []string{"create namespaces"}, want: []string{"the right to create namespaces"}},
		"no right to the policy that is there is needed": {denied: []string{"create generatingpolicies", "delete clusterroles"}},
		"no right to make the policy":                    {change: absent, denied: []string{"create generatingpolicies"}, want: []string{"create generatingpolicies"}},
		"the policy is another": {
			change: func(o map[string]client.Object) {
				_ = unstructured.SetNestedSlice(o["policy"].(*unstructured.Unstructured).Object, []any{map[string]any{"name": "a", "expression": "2"}}, "spec", "variables")
			},
			want: []string{"GeneratingPolicy/mine in spec.variables[0].expression", "changes no policy that it did not make"},
		},
		"half of the policy": {change: func(o map[string]client.Object) { delete(o, "role") }, want: []string{"there are GeneratingPolicy/mine; there are no ClusterRole/mine:kyverno"}},
		"the policy of another run": {
			change: func(o map[string]client.Object) { o["policy"].SetLabels(map[string]string{runs.Label: "otherone"}) },
			want:   []string{"made by run otherone", "smart-restore.run=otherone"},
		},
		"somebody's volumes, the policy is there": {change: func(o map[string]client.Object) { o["theirs"] = labelled("family") }},
		"somebody's volumes, the policy would be made": {
			change: func(o map[string]client.Object) { absent(o); o["theirs"] = labelled("family") },
			want:   []string{"no PVC labelled backup=hourly", "1: family/photos"},
		},
		"another policy, this one would be made": {
			change: func(o map[string]client.Object) {
				absent(o)
				other := object("policies.kyverno.io/v1", "GeneratingPolicy", "", "other")
				other.Object["spec"] = map[string]any{"makes": "volsync.backube"}
				o["other"] = other
			},
			want: []string{"no other policy that has to do with VolSync", "GeneratingPolicy/other"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := aCluster()
			if c.change != nil {
				c.change(objects)
			}
			facts := look(t, objects, c.denied...)
			if len(c.want) == 0 {
				if err := facts.Refused(); err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if len(facts.Refusals) != 1 {
				t.Fatalf("refused %d times, wanted once: %v", len(facts.Refusals), facts.Refused())
			}
			for _, part := range append(c.want, "wanted: ", "found: ", "to do: ") {
				if !strings.Contains(facts.Refusals[0].Error(), part) {
					t.Errorf("the refusal does not say %q: %v", part, facts.Refusals[0])
				}
			}
		})
	}
}

func TestClaimsThatCameSinceThePlan(t *testing.T) {
	objects := aCluster()
	request := Request{RunID: runID, Chosen: &Chosen{}, Policy: thePolicy()}
	objects["ours"] = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "sr-" + runID + "-x", Name: "data", Labels: map[string]string{"backup": "hourly"}}}
	if err := StillNobodys(t.Context(), clusterOf(objects), request); err != nil {
		t.Errorf("refused for the run's own PVC: %v", err)
	}
	objects["theirs"] = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "family", Name: "photos", Labels: map[string]string{"backup": "hourly"}}}
	if err := StillNobodys(t.Context(), clusterOf(objects), request); err == nil || !strings.Contains(err.Error(), "family/photos") {
		t.Errorf("got %v, wanted a refusal that names the PVC", err)
	}
}

func TestPolicyIsMadeLabelledAndDeletedByUID(t *testing.T) {
	objects := aCluster()
	delete(objects, "policy")
	delete(objects, "role")
	api, p := clusterOf(objects), thePolicy()
	made, err := MakePolicy(t.Context(), api, p, runID)
	if err != nil || len(made) != 2 || made[0].GetKind() != "ClusterRole" {
		t.Fatalf("made %v, %v, wanted the role first", made, err)
	}
	left, err := Leaks(t.Context(), api, runID, p, time.Nanosecond)
	if err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v, wanted both objects", left, err)
	}
	if p.Objects[0].GetLabels() != nil {
		t.Error("the policy itself was changed")
	}
	// Meanwhile somebody has deployed the policy anew.
	made[1].SetUID("another")
	if err := DeletePolicy(t.Context(), api, made); err != nil {
		t.Fatal(err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(made[0]), made[0].DeepCopy()); !apierrors.IsNotFound(err) {
		t.Errorf("the role that was made is there: %v", err)
	}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(made[1]), made[1].DeepCopy()); err != nil {
		t.Errorf("what came in the policy's place was deleted: %v", err)
	}
}

func TestPolicyThatIsThereIsNotMadeOver(t *testing.T) {
	objects := aCluster()
	delete(objects, "role")
	made, err := MakePolicy(t.Context(), clusterOf(objects), thePolicy(), runID)
	if !apierrors.IsAlreadyExists(err) || len(made) != 1 {
		t.Errorf("made %v, %v, wanted the role, and a refusal of the policy", made, err)
	}
}

func TestOnlyTheRunsOwnNamespacesAreDeleted(t *testing.T) {
	namespace := func(name, run string) *corev1.Namespace {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)}}
		if run != "" {
			n.Labels = map[string]string{runs.Label: run}
		}
		return n
	}
	api := clusterOf(map[string]client.Object{
		"a": namespace("sr-"+runID+"-core-fresh-1", runID), "b": namespace("sr-"+runID+"-tools", runID),
		"c": namespace("family", ""), "d": namespace("sr-otherone-x", "otherone"),
		"e": namespace("named-otherwise", runID), "f": namespace("sr-"+runID+"-unlabelled", ""),
	})
	there := func() (names []string) {
		list := &corev1.NamespaceList{}
		if err := api.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for _, n := range list.Items {
			names = append(names, n.Name)
		}
		return names
	}
	if err := DeleteNamespaces(t.Context(), api, runID, "sr-"+runID+"-tools"); err != nil {
		t.Fatal(err)
	}
	if got := there(); !slices.Contains(got, "sr-"+runID+"-tools") || slices.Contains(got, "sr-"+runID+"-core-fresh-1") {
		t.Errorf("there are %v", got)
	}
	if err := DeleteNamespaces(t.Context(), api, runID); err != nil {
		t.Fatal(err)
	}
	want := []string{"family", "named-otherwise", "sr-" + runID + "-unlabelled", "sr-otherone-x"}
	if got := there(); !slices.Equal(got, want) {
		t.Errorf("there are %v, wanted %v: what has not both label and name is not deleted", got, want)
	}
	left, err := Leaks(t.Context(), api, runID, thePolicy(), time.Nanosecond)
	if err != nil || len(left) != 2 || !strings.Contains(left[0], "named-otherwise") || !strings.Contains(left[1], "unlabelled") {
		t.Errorf("left are %v, %v, wanted what has one of them", left, err)
	}
}

func TestLeaksAreVolumesAndSnapshots(t *testing.T) {
	volume := func(name, namespace string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: namespace, Name: "data"}}}
	}
	snapshot := object("snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "", "content")
	_ = unstructured.SetNestedField(snapshot.Object, "sr-"+runID+"-x", "spec", "volumeSnapshotRef", "namespace")
	api := clusterOf(map[string]client.Object{"ours": volume("pv-1", "sr-"+runID+"-x"), "theirs": volume("pv-2", "family"), "snapshot": snapshot})
	left, err := Leaks(t.Context(), api, runID, thePolicy(), time.Nanosecond)
	if err != nil || len(left) != 2 || !strings.Contains(left[0], "pv-1") || !strings.Contains(left[1], "content") {
		t.Errorf("left are %v, %v", left, err)
	}
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: prod
clusters:
- {name: prod-cluster, cluster: {server: "https://prod.example.com"}}
- {name: test-cluster, cluster: {server: "https://test.example.com"}}
contexts:
- {name: prod, context: {cluster: prod-cluster, user: me}}
- {name: test, context: {cluster: test-cluster, user: me}}
- {name: broken, context: {cluster: no-such, user: me}}
users:
- {name: me, user: {token: secret}}
`

func TestChosenContextAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	chosen, err := Choose(file, "test")
	if err != nil || chosen.Cluster != "test-cluster" || chosen.Server != "https://test.example.com" {
		t.Fatalf("got %+v, %v", chosen, err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := chosen.Write(out); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil || strings.Contains(string(raw), "prod") || !strings.Contains(string(raw), "current-context: test") {
		t.Errorf("the kubeconfig that is used: %v\n%s", err, raw)
	}
	for context, want := range map[string]string{"nope": "there are: broken, prod, test", "broken": `the cluster "no-such"`, "": "is no context"} {
		if _, err := Choose(file, context); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("context %q: got %v, wanted %q", context, err, want)
		}
	}
}

func TestOnlyTheClusterThatIsNamedIsAllowed(t *testing.T) {
	chosen := &Chosen{Context: "test", Cluster: "test-cluster", Server: "https://test.example.com"}
	for allow, want := range map[string]string{
		"test-cluster": "", "": "set ALLOW_CLUSTER=test-cluster", "test": "the cluster test, which ALLOW_CLUSTER names", "Test-Cluster": "wanted", "*": "wanted",
	} {
		switch err := chosen.Allowed(allow); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", allow, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, wanted %q", allow, err, want)
		}
	}
}

// A store of secrets is the cluster's, or another's in its namespace: none is made where others are.
func TestAStoreIsNotMadeInAnExternalCluster(t *testing.T) {
	contract := policy.Default()
	contract.SecretStore = policy.SecretStore{Kind: policy.ClusterSecretStore, Name: "vault"}
	l := &looker{Request: Request{Policy: &policy.Policy{Contract: contract}}, Facts: &Facts{}}
	if err := l.baseSecret(); err != nil || len(l.Refusals) != 1 || !strings.Contains(l.Refused().Error(), "its contract names the ClusterSecretStore vault") {
		t.Errorf("%v, refused: %v", err, l.Refused())
	}
}

func TestHTTPSIsRefusedInAnExternalCluster(t *testing.T) {
	for url, want := range map[string]bool{"https://nas": true, "http://nas": false} {
		p := thePolicy()
		p.Endpoint = endpoint.Endpoint{URL: url}
		l := &looker{Request: Request{Policy: p}, Facts: &Facts{}}
		if err := l.endpoint(); err != nil || (len(l.Refusals) == 1) != want {
			t.Errorf("%s: refused %v, %v", url, l.Refusals, err)
		}
	}
}
