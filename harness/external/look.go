package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
)

// Request is what a run wants of a cluster.
type Request struct {
	RunID          string
	Chosen         *Chosen
	BaseSecretFrom string // namespace/name; empty: where the policy's contract has it
	Policy         *policy.Policy
}

// Facts are what was found in the cluster, and what follows for the run. They hold credentials.
type Facts struct {
	Found       []Line // what is there, for the plan
	Warnings    []string
	Refusals    []Refusal
	MoverImage  string // of VolSync's movers: it has restic, a shell and coreutils
	Platform    []string
	MakePolicy  bool // the policy is not there: it would be made, and deleted at the end
	Credentials objectstore.Credentials
}

// Line is one fact.
type Line struct{ Name, Text string }

// Look looks at a cluster and decides whether the run may begin. It only reads. Its error is about what could not be read.
func Look(ctx context.Context, api client.Client, r Request) (*Facts, error) {
	l := &looker{ctx: ctx, api: api, Request: r, Facts: &Facts{}}
	for _, look := range []func() error{l.nodes, l.endpoint, l.controllers, l.kinds, l.storage, l.baseSecret, l.policy, l.rights, l.leftOvers} {
		if err := look(); err != nil {
			return nil, fmt.Errorf("look at the cluster %s: %w", r.Chosen.Cluster, err)
		}
	}
	return l.Facts, nil
}

type looker struct {
	ctx context.Context
	api client.Client
	Request
	*Facts
}

func (l *looker) found(name, format string, args ...any) {
	l.Found = append(l.Found, Line{name, fmt.Sprintf(format, args...)})
}

func (l *looker) refuse(wanted, found, do string) {
	l.Refusals = append(l.Refusals, Refusal{wanted, found, do})
}

func (l *looker) nodes() error {
	nodes := &corev1.NodeList{}
	if err := l.api.List(l.ctx, nodes); err != nil {
		return err
	}
	var versions, others []string
	for _, node := range nodes.Items {
		versions = append(versions, node.Status.NodeInfo.KubeletVersion)
		if arch := node.Status.NodeInfo.Architecture; arch != runtime.GOARCH {
			others = append(others, node.Name+" ("+arch+")")
		}
	}
	slices.Sort(versions)
	l.found("Kubernetes", "%s, nodes: %d", strings.Join(slices.Compact(versions), ", "), len(nodes.Items))
	if len(others) > 0 {
		l.refuse("nodes of "+runtime.GOARCH+", for which this run's agent is compiled", strings.Join(others, ", "),
			"start the run on a machine of the nodes' architecture; a mixed cluster cannot be used so far")
	}
	return nil
}

// endpoint refuses S3 that this run could not look at itself: the CA of its certificate is known to the cluster's pods, and not here.
func (l *looker) endpoint() error {
	if l.Policy.Endpoint.HTTPS() {
		l.refuse("S3 by http, at an IPv4 address or a name", l.Policy.Endpoint.URL+": https is served in the suite's own clusters only",
			"test on a stack of the suite's, without KUBE_CONTEXT")
	}
	return nil
}

// resticVariable is how VolSync is told of the image of its restic movers.
const resticVariable = "RELATED_IMAGE_RESTIC_CONTAINER"

func (l *looker) controllers() error {
	deployments := &appsv1.DeploymentList{}
	if err := l.api.List(l.ctx, deployments); err != nil {
		return err
	}
	ready := map[string][]string{}
	for _, d := range deployments.Items {
		for _, container := range d.Spec.Template.Spec.Containers {
			var product string
			switch {
			case strings.Contains(container.Image, "/volsync") || hasVariable(container, resticVariable):
				product = "VolSync"
				l.MoverImage = container.Image
				for _, variable := range container.Env {
					if variable.Name == resticVariable && variable.Value != "" {
						l.MoverImage = variable.Value
					}
				}
			case strings.Contains(container.Image, "kyverno"):
				product = "Kyverno"
			default:
				continue
			}
			if !slices.Contains(l.Platform, d.Namespace) {
				l.Platform = append(l.Platform, d.Namespace)
			}
			if wanted := d.Spec.Replicas; wanted != nil && d.Status.ReadyReplicas < *wanted {
				l.refuse(product+" ready", fmt.Sprintf("deployment %s/%s has %d of %d replicas ready", d.Namespace, d.Name, d.Status.ReadyReplicas, *wanted), "see why it does not start")
			}
			ready[product] = append(ready[product], fmt.Sprintf("%s/%s (%s)", d.Namespace, d.Name, container.Image))
		}
	}
	for _, product := range []string{"Kyverno", "VolSync"} {
		if len(ready[product]) == 0 {
			l.refuse(product, "no deployment of it in the cluster", "install "+product+": a run installs nothing in an external cluster")
			continue
		}
		l.found(product, "%s", strings.Join(ready[product], ", "))
	}
	return nil
}

func hasVariable(container corev1.Container, name string) bool {
	return slices.ContainsFunc(container.Env, func(v corev1.EnvVar) bool { return v.Name == name })
}

// kinds refuses a cluster that does not serve what the policy is, or makes.
func (l *looker) kinds() error {
	for _, name := range []string{"replicationsources.volsync.backube", "replicationdestinations.volsync.backube"} {
		crd := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)
		switch err := l.api.Get(l.ctx, client.ObjectKeyFromObject(crd), crd); {
		case apierrors.IsNotFound(err):
			l.refuse("VolSync's CRD "+name, "the cluster does not have it", "install VolSync")
		case err != nil:
			return err
		}
	}
	return nil
}

func object(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

func (l *looker) storage() error {
	classes := &storagev1.StorageClassList{}
	if err := l.api.List(l.ctx, classes); err != nil {
		return err
	}
	name := l.Policy.Contract.PVC.StorageClass
	for _, class := range classes.Items {
		if class.Name != name && (name != "" || class.Annotations["storageclass.kubernetes.io/is-default-class"] != "true") {
			continue
		}
		reclaim := corev1.PersistentVolumeReclaimDelete
		if class.ReclaimPolicy != nil {
			reclaim = *class.ReclaimPolicy
		}
		l.found("storage", "class %s of %s, reclaim policy %s", class.Name, class.Provisioner, reclaim)
		if reclaim != corev1.PersistentVolumeReclaimDelete {
			l.refuse("a storage class that deletes its volumes with their PVCs", fmt.Sprintf("%s has the reclaim policy %s: every PVC of this run would leave a volume", class.Name, reclaim),
				"name another class in the policy's contract (pvc.storageClass)")
		}
		return nil
	}
	if name == "" {
		l.refuse("a default storage class, as the policy's contract names none", "no class is marked as the default", "mark one, or name one in the contract (pvc.storageClass)")
		return nil
	}
	l.refuse("the storage class "+name+", which the policy's contract names (pvc.storageClass)", "the cluster does not have it", "name one that it has")
	return nil
}

// minSecret is the length below which a value cannot be kept out of logs and reports: see redact.Redactor.
const minSecret = 6

func (l *looker) baseSecret() error {
	if store := l.Policy.Contract.SecretStore; store.Named() {
		l.refuse("credentials that the policy takes from the base Secret", "its contract names the "+store.Kind+" "+store.Name+": in an external cluster that is somebody else's, and this run makes none",
			"test it on a cluster of the suite's own: leave KUBE_CONTEXT out")
		return nil
	}
	base := l.Policy.Contract.BaseSecret
	from := l.BaseSecretFrom
	if from == "" && base.Namespace != "" {
		from = base.Namespace + "/" + base.Name
	}
	namespace, name, ok := strings.Cut(from, "/")
	if !ok || namespace == "" || name == "" {
		l.refuse("BASE_SECRET_FROM=namespace/name, the Secret with the credentials of S3 and restic that this run may use", fmt.Sprintf("%q", from),
			"name one in the cluster; its values are copied into the run's namespaces, and are in no output")
		return nil
	}
	secret := &corev1.Secret{}
	switch err := l.api.Get(l.ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret); {
	case apierrors.IsNotFound(err):
		l.refuse("the Secret "+from, "it is not there", "name one that is there: BASE_SECRET_FROM=namespace/name")
		return nil
	case apierrors.IsForbidden(err):
		l.refuse("the Secret "+from, "you may not read it", "use a context that may, or name another one")
		return nil
	case err != nil:
		return err
	}
	for _, key := range []struct {
		name string
		to   *string
	}{{base.Keys.AccessKey, &l.Credentials.AccessKey}, {base.Keys.SecretKey, &l.Credentials.SecretKey}, {base.Keys.ResticPassword, &l.Credentials.ResticPassword}} {
		value, there := secret.Data[key.name]
		switch {
		case !there:
			l.refuse("the key "+key.name+" in the Secret "+from, "it is not there", "name another Secret, or say in the policy's contract what its keys are called (baseSecret.keys)")
		case len(value) < minSecret:
			l.refuse(fmt.Sprintf("a value of at least %d characters for %s in the Secret %s", minSecret, key.name, from), fmt.Sprintf("%d characters: it could not be kept out of logs and reports", len(value)), "use longer credentials")
		}
		*key.to = string(value)
	}
	into := fmt.Sprintf("copied as %s into the run's namespaces", base.Name)
	if base.Namespace != "" {
		into = "the policy itself takes them from namespace " + base.Namespace + ", which is not touched"
	}
	l.found("credentials", "of the Secret %s, %s", from, into)
	return nil
}

// policy sees whether the policy is there as in the files, and what it would act on were it applied.
func (l *looker) policy() error {
	if l.Policy.Templates != nil {
		l.found("templates", "%d objects, which are applied for each PVC of the run's own namespaces, and go with it", len(l.Policy.Templates.Objects))
		if len(l.Policy.Objects) == 0 {
			return nil
		}
	}
	var absent, same, differing, beyond []string
	for _, wanted := range l.Policy.Objects {
		name := wanted.GetKind() + "/" + wanted.GetName()
		current := object(wanted.GetAPIVersion(), wanted.GetKind(), wanted.GetNamespace(), wanted.GetName())
		switch err := l.api.Get(l.ctx, client.ObjectKeyFromObject(current), current); {
		case meta.IsNoMatchError(err):
			l.refuse("a cluster that serves "+wanted.GetAPIVersion()+" "+wanted.GetKind()+", of which the policy has an object", "it does not", "install the version of Kyverno that the policy is made for")
			return nil
		case apierrors.IsNotFound(err):
			absent = append(absent, name)
			continue
		case err != nil:
			return err
		}
		different, more := compare(wanted, current)
		if len(different) > 0 {
			differing = append(differing, name+" in "+strings.Join(different, ", "))
			continue
		}
		same = append(same, name)
		for _, field := range more {
			beyond = append(beyond, name+" "+field)
		}
		if run := current.GetLabels()[runs.Label]; run != "" {
			l.refuse("the policy "+l.Policy.Contract.Name+" as somebody deployed it, or none of it", fmt.Sprintf("%s was made by run %s, which deletes it at its end", name, run),
				fmt.Sprintf("wait for that run; if it is over, delete what has the label %s=%s", runs.Label, run))
		}
	}
	name := l.Policy.Contract.Name
	switch {
	case len(differing) > 0:
		l.refuse("the policy "+name+" as in the files, or none of it", "it is there and different: "+strings.Join(differing, "; "), "test what is deployed (POLICY), or deploy what is to be tested: this run changes no policy that it did not make")
		return nil
	case len(absent) > 0 && len(same) > 0:
		l.refuse("the policy "+name+" as a whole, or none of it", fmt.Sprintf("there are %s; there are no %s", strings.Join(same, ", "), strings.Join(absent, ", ")), "deploy all of it, or none")
		return nil
	}
	others, err := l.otherPolicies()
	if err != nil {
		return err
	}
	if len(absent) == 0 {
		l.found("policy", "%s: its %d objects are there, and as in the files; they are used, and not touched", name, len(same))
		if len(beyond) > 0 {
			l.found("", "beyond the files they have: %s", strings.Join(beyond, ", "))
		}
		for _, other := range others {
			l.Warnings = append(l.Warnings, other+" has to do with VolSync, too: what is seen may be its work")
		}
		return nil
	}
	l.MakePolicy = true
	l.found("policy", "%s: none of its %d objects is there; they would be made, labelled, and deleted at the end", name, len(absent))
	if len(others) > 0 {
		l.refuse("no other policy that has to do with VolSync, as this one would be applied beside it", strings.Join(others, ", "), "test that one (POLICY), or use another cluster")
	}
	return l.foreignClaims()
}

// StillNobodys looks once more, just before the policy is made, for PVCs that it would act on.
func StillNobodys(ctx context.Context, api client.Client, r Request) error {
	l := &looker{ctx: ctx, api: api, Request: r, Facts: &Facts{}}
	return errors.Join(l.foreignClaims(), l.Refused())
}

// foreignClaims refuses to apply a policy that would act on somebody's volumes.
func (l *looker) foreignClaims() error {
	pvcs := &corev1.PersistentVolumeClaimList{}
	want := l.Policy.Contract.PVC
	if err := l.api.List(l.ctx, pvcs, client.MatchingLabels(want.Labels())); err != nil {
		return err
	}
	pvcs.Items = slices.DeleteFunc(pvcs.Items, func(pvc corev1.PersistentVolumeClaim) bool { return !selectedBy(pvc.Annotations, want) })
	var foreign []string
	for _, pvc := range pvcs.Items {
		if !strings.HasPrefix(pvc.Namespace, testbed.NamespacePrefix(l.RunID)) {
			foreign = append(foreign, pvc.Namespace+"/"+pvc.Name)
		}
	}
	if len(foreign) > 0 {
		l.refuse("no PVC "+want.String()+" in the cluster, as the policy would be applied and would act on it", fmt.Sprintf("%d: %s", len(foreign), some(foreign)),
			"use a cluster without, or one in which the policy is already deployed: then it is used as it is")
	}
	return nil
}

// selectedBy says whether a PVC with these annotations, and with the label, is one that the policy would act on.
func selectedBy(annotations map[string]string, by policy.PVC) bool {
	for key, value := range by.Annotations {
		if annotations[key] != value {
			return false
		}
	}
	for key, value := range by.OptOut {
		if annotations[key] == value {
			return false
		}
	}
	return true
}

func some(names []string) string {
	slices.Sort(names)
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// kyvernoKinds are those of Kyverno's policies that make or change objects.
var kyvernoKinds = []schema.GroupVersionKind{
	{Group: "kyverno.io", Version: "v1", Kind: "ClusterPolicy"},
	{Group: "policies.kyverno.io", Version: "v1", Kind: "GeneratingPolicy"},
	{Group: "policies.kyverno.io", Version: "v1", Kind: "MutatingPolicy"},
	{Group: "policies.kyverno.io", Version: "v1alpha1", Kind: "GeneratingPolicy"},
	{Group: "policies.kyverno.io", Version: "v1alpha1", Kind: "MutatingPolicy"},
}

// otherPolicies are Kyverno's policies that name VolSync's objects and are not of the policy under test.
func (l *looker) otherPolicies() ([]string, error) {
	ours := l.Policy.Describe()
	var others []string
	for _, kind := range kyvernoKinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := l.api.List(l.ctx, list); meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			name := item.GetKind() + "/" + item.GetName()
			raw, err := json.Marshal(item.Object)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(ours, name) && !slices.Contains(others, name) && strings.Contains(string(raw), "volsync.backube") {
				others = append(others, name)
			}
		}
	}
	return others, nil
}

// right is something that the run does.
type right struct{ group, resource, subresource, verbs string }

var rights = []right{
	{"", "namespaces", "", "create get list delete"},
	{"", "pods", "", "create get list watch delete"},
	{"", "pods", "exec", "create"},
	{"", "pods", "log", "get"},
	{"", "events", "", "list watch"},
	{"", "secrets", "", "create get list watch delete patch"},
	{"", "persistentvolumeclaims", "", "create get list watch delete patch"},
	{"", "persistentvolumes", "", "list"},
	{"volsync.backube", "replicationsources", "", "create get list watch patch"},
	{"volsync.backube", "replicationdestinations", "", "create get list watch"},
}

// rights refuses to begin what would stop half-way for want of rights.
func (l *looker) rights() error {
	wanted := slices.Clone(rights)
	if l.Policy.Templates != nil {
		for _, content := range l.Policy.Templates.Objects {
			gvk := (&unstructured.Unstructured{Object: content}).GroupVersionKind()
			mapping, err := l.api.RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
			if err != nil {
				return err
			}
			if r := (right{gvk.Group, mapping.Resource.Resource, "", "create get list patch delete"}); !slices.Contains(wanted, r) {
				wanted = append(wanted, r)
			}
		}
	}
	if l.MakePolicy {
		for _, o := range l.Policy.Objects {
			gvk := o.GroupVersionKind()
			mapping, err := l.api.RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
			if err != nil {
				return err
			}
			if r := (right{gvk.Group, mapping.Resource.Resource, "", "create get list delete"}); !slices.Contains(wanted, r) {
				wanted = append(wanted, r)
			}
		}
	}
	var missing []string
	for _, r := range wanted {
		for verb := range strings.FieldsSeq(r.verbs) {
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Group: r.group, Resource: r.resource, Subresource: r.subresource, Verb: verb},
			}}
			if err := l.api.Create(l.ctx, review); err != nil {
				return err
			}
			if !review.Status.Allowed {
				name := r.resource
				if r.subresource != "" {
					name += "/" + r.subresource
				}
				missing = append(missing, verb+" "+name)
			}
		}
	}
	if len(missing) > 0 {
		l.refuse("the right to "+strings.Join(missing, ", ")+", in all namespaces: the run's namespaces do not exist yet", "you may not", "use a context that may")
	}
	return nil
}

// leftOvers names what earlier runs left. It is not this run's to delete.
func (l *looker) leftOvers() error {
	namespaces := &corev1.NamespaceList{}
	if err := l.api.List(l.ctx, namespaces, client.HasLabels{runs.Label}); err != nil {
		return err
	}
	for _, namespace := range namespaces.Items {
		run := namespace.Labels[runs.Label]
		if run != l.RunID && strings.HasPrefix(namespace.Name, testbed.NamespacePrefix(run)) {
			l.Warnings = append(l.Warnings, fmt.Sprintf("namespace %s is run %s's; if that is over, kubectl delete namespace -l %s=%[2]s removes what it left", namespace.Name, run, runs.Label))
		}
	}
	return nil
}

// Refused is every reason why the run does not begin; nil: it may.
func (f *Facts) Refused() error {
	var problems []error
	for _, r := range f.Refusals {
		problems = append(problems, r)
	}
	return errors.Join(problems...)
}
