package testbed

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
)

const (
	kyvernoNamespace = "kyverno"
	// ToolsNamespace holds the pod that looks into repositories. It is the only namespace with the run's label that stays
	// from spec to spec.
	ToolsNamespace = "smart-restore-tools"
)

// nodesNamespaces are those of what the node's image brings.
var nodesNamespaces = []string{"kube-system", "local-path-storage"}

// controllersOf are the namespaces of the controllers among installed objects.
func controllersOf(objects []*unstructured.Unstructured) (namespaces []string) {
	for _, object := range objects {
		if kind := object.GetKind(); (kind == "Deployment" || kind == "DaemonSet") && !slices.Contains(namespaces, object.GetNamespace()) {
			namespaces = append(namespaces, object.GetNamespace())
		}
	}
	slices.Sort(namespaces)
	return namespaces
}

// driversOf are the CSI drivers among installed objects.
func driversOf(objects []*unstructured.Unstructured) (names []string) {
	for _, object := range objects {
		if object.GetKind() == csiDriver {
			names = append(names, object.GetName())
		}
	}
	return names
}

// drivers are the CSI drivers that were installed.
func (p *Platform) drivers() (names []string) {
	for _, object := range p.Objects {
		if object.Kind == csiDriver {
			names = append(names, object.Name)
		}
	}
	return names
}

const csiDriver = "CSIDriver"

// HasKyverno says whether Kyverno is part of the stack. An external cluster was examined for it, and has no record of controllers.
func (s *Testbed) HasKyverno() bool {
	return len(s.Controllers) == 0 || slices.Contains(s.Controllers, kyvernoNamespace)
}

// SystemNamespaces are those of Kubernetes, and of each controller that was installed.
func (s *Testbed) SystemNamespaces() []string { return slices.Concat(nodesNamespaces, s.Controllers) }

// HasSnapshots says whether the stack has volumes that can be snapshotted: those of a CSI driver.
func (s *Testbed) HasSnapshots() bool { return s.Platform != nil && len(s.Platform.drivers()) > 0 }

// ArgoCDNamespace is where Argo CD is, and its Applications.
const ArgoCDNamespace = "argocd"

// HasArgoCD says whether Argo CD is part of the stack.
func (s *Testbed) HasArgoCD() bool { return slices.Contains(s.Controllers, ArgoCDNamespace) }

// Platform is what was seen when the installation came to its end, and, of the policy, when it was seen to act. Examine
// compares the cluster with it.
type Platform struct {
	Installed   string                    `json:"installed"`  // path of the objects that were installed, one a line
	Namespaces  []string                  `json:"namespaces"` // those whose deployments and daemon sets specs need as they were installed
	Deployments map[string]Deployment     `json:"deployments"`
	Objects     []Object                  `json:"objects"`
	PolicyKinds []metav1.GroupVersionKind `json:"policyKinds"` // of Kyverno's, all that a policy can be made of
	Webhooks    []string                  `json:"webhooks"`    // configurations that are not of Kyverno's making

	PolicyObjects  []Object `json:"policyObjects,omitempty"`
	PolicyWebhooks []string `json:"policyWebhooks,omitempty"`
}

// Deployment is what a deployment or a daemon set runs.
type Deployment struct {
	Object       Object            `json:"object"`
	Replicas     int32             `json:"replicas"` // of a daemon set none is said
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	Images       []string          `json:"images"`
	Ready        bool              `json:"ready"` // it was seen ready, so it can be
}

// Object is an object that has to be there. Content is the hash of its content, where that has to be as it was.
type Object struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Content   string `json:"content,omitempty"`
}

// identity is what tells an object from others, in whatever version it is asked for.
func (o Object) identity() Object {
	o.Version, o.Content = "", ""
	return o
}

func (o Object) String() string {
	return strings.TrimSpace(o.Kind + " " + strings.TrimPrefix(o.Namespace+"/"+o.Name, "/"))
}

func (o Object) kind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: o.Group, Version: o.Version, Kind: o.Kind}
}

func objectOf(u *unstructured.Unstructured) Object {
	kind := u.GroupVersionKind()
	return Object{Group: kind.Group, Version: kind.Version, Kind: kind.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
}

func identity(u *unstructured.Unstructured) Object { return objectOf(u).identity() }

// record writes down what was installed, and what became of it in the cluster.
func record(ctx context.Context, api client.Client, path string, installed []*unstructured.Unstructured) (*Platform, error) {
	p := &Platform{Installed: path}
	if err := writeObjects(path, installed); err != nil {
		return nil, err
	}
	for _, object := range installed {
		if transient(object) {
			continue
		}
		p.Objects = append(p.Objects, objectOf(object))
		if kind, ok := policyKind(object); ok {
			p.PolicyKinds = append(p.PolicyKinds, metav1.GroupVersionKind(kind))
		}
	}
	live, err := liveObjects(ctx, api, p.Objects)
	if err != nil {
		return nil, err
	}
	p.Objects = withContent(p.Objects, live)
	p.Namespaces = append(controllersOf(installed), nodesNamespaces...)
	if p.Deployments, err = p.liveDeployments(ctx, api); err != nil {
		return nil, err
	}
	p.Webhooks, err = foreignWebhooks(ctx, api)
	return p, err
}

// withPolicy is the platform with what the applied policy is in the cluster, now that it was seen to act.
func (s *Testbed) withPolicy(ctx context.Context, api client.Client) (*Platform, error) {
	if s.Platform == nil {
		return nil, nil
	}
	p := *s.Platform
	var objects []Object
	for _, object := range s.PolicyObjects() {
		objects = append(objects, objectOf(object))
	}
	live, err := liveObjects(ctx, api, objects)
	if err != nil {
		return s.Platform, err
	}
	p.PolicyObjects = withContent(objects, live)
	if p.PolicyWebhooks, err = install.PolicyWebhooks(ctx, api); err != nil {
		return s.Platform, err
	}
	// What was slow to become ready at the installation counts from now on.
	now, err := p.liveDeployments(ctx, api)
	if err != nil {
		return s.Platform, err
	}
	p.Deployments = maps.Clone(p.Deployments)
	for name, d := range p.Deployments {
		d.Ready = d.Ready || now[name].Ready
		p.Deployments[name] = d
	}
	return &p, nil
}

// withContent are those of the objects that stayed, with their content.
func withContent(objects []Object, live map[Object]Object) []Object {
	var all []Object
	for _, object := range objects {
		if now, there := live[object.identity()]; there {
			object.Content = now.Content
			all = append(all, object)
		}
	}
	return all
}

// transient says of an installed object that it may end by itself, or that it is examined as a deployment.
func transient(object *unstructured.Unstructured) bool {
	switch object.GetKind() {
	case "Job", "Pod", "Deployment", "DaemonSet":
		return true
	}
	return false
}

// policyKind is the kind that an installed CRD defines, where it is one of Kyverno's that a policy can be made of.
func policyKind(crd *unstructured.Unstructured) (schema.GroupVersionKind, bool) {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	name, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	if crd.GetKind() != "CustomResourceDefinition" || group != "kyverno.io" && group != "policies.kyverno.io" {
		return schema.GroupVersionKind{}, false
	}
	if !strings.HasSuffix(name, "Policy") && !strings.HasSuffix(name, "PolicyException") && name != "GlobalContextEntry" {
		return schema.GroupVersionKind{}, false // made by Kyverno itself
	}
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, version := range versions {
		if v, ok := version.(map[string]any); ok && v["served"] == true && v["storage"] == true {
			return schema.GroupVersionKind{Group: group, Version: fmt.Sprint(v["name"]), Kind: name}, true
		}
	}
	return schema.GroupVersionKind{}, false
}

// compared says of a group that the content of its objects has to be as it was. Of the others, what the API server or a
// controller adds differs each time an object is made.
func compared(group string) bool {
	return group == "rbac.authorization.k8s.io" || group == "kyverno.io" || group == "policies.kyverno.io"
}

// liveObjects are those of the objects that are in the cluster and stay there, by identity.
func liveObjects(ctx context.Context, api client.Client, objects []Object) (map[Object]Object, error) {
	kinds := map[schema.GroupVersionKind]bool{}
	for _, object := range objects {
		kinds[object.kind()] = true
	}
	found := make(chan map[Object]Object, len(kinds))
	group, groupCtx := newGroup(ctx)
	for kind := range kinds {
		group.Go(func() error {
			of, err := liveOfKind(groupCtx, api, kind)
			found <- of
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	close(found)
	all := map[Object]Object{}
	for of := range found {
		maps.Copy(all, of)
	}
	return all, nil
}

func liveOfKind(ctx context.Context, api client.Client, kind schema.GroupVersionKind) (map[Object]Object, error) {
	var items []*unstructured.Unstructured
	if compared(kind.Group) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		err := api.List(ctx, list)
		if err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
			return nil, err
		}
		for i := range list.Items {
			items = append(items, &list.Items[i])
		}
	} else {
		var err error
		if items, err = metadataOf(ctx, api, kind); err != nil {
			return nil, err
		}
	}
	live := map[Object]Object{}
	for _, item := range items {
		if item.GetDeletionTimestamp() != nil {
			continue
		}
		object := identity(item)
		if compared(kind.Group) {
			object.Content = contentOf(item)
		}
		live[object.identity()] = object
	}
	return live, nil
}

// contentOf is a hash of what an object says, without what the API server and controllers keep in it.
func contentOf(object *unstructured.Unstructured) string {
	content := maps.Clone(object.Object)
	delete(content, "metadata")
	delete(content, "status")
	if _, aggregated := content["aggregationRule"]; aggregated {
		delete(content, "rules") // those of other roles
	}
	raw, err := json.Marshal(content) // keys are sorted
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// liveDeployments are the deployments and daemon sets of the platform's namespaces, by what a person calls them.
func (p *Platform) liveDeployments(ctx context.Context, api client.Client) (map[string]Deployment, error) {
	found := map[string]Deployment{}
	for _, kind := range []schema.GroupVersionKind{install.Deployment, install.DaemonSet} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := api.List(ctx, list); err != nil {
			return nil, err
		}
		for i := range list.Items {
			item := &list.Items[i]
			if !slices.Contains(p.Namespaces, item.GetNamespace()) || item.GetDeletionTimestamp() != nil {
				continue
			}
			// Of a daemon set, what is wanted here is called the same.
			var deployment appsv1.Deployment
			raw, err := json.Marshal(map[string]any{"spec": item.Object["spec"]})
			if err == nil {
				err = json.Unmarshal(raw, &deployment)
			}
			if err != nil {
				return nil, err
			}
			pod := deployment.Spec.Template.Spec
			d := Deployment{Object: objectOf(item), NodeSelector: pod.NodeSelector}
			d.Object.Kind, d.Object.Version, d.Object.Group = kind.Kind, kind.Version, kind.Group // an item of a list need not say it
			if kind == install.Deployment {
				d.Replicas = 1 // the API server's default
			}
			if deployment.Spec.Replicas != nil {
				d.Replicas = *deployment.Spec.Replicas
			}
			for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
				d.Images = append(d.Images, container.Image)
			}
			d.Ready, _ = install.RolledOut(item)
			name := "deployment "
			if kind == install.DaemonSet {
				name = "daemon set "
			}
			found[name+item.GetNamespace()+"/"+item.GetName()] = d
		}
	}
	return found, nil
}

// foreignWebhooks are the configurations of webhooks that Kyverno has not made.
func foreignWebhooks(ctx context.Context, api client.Client) ([]string, error) {
	var found []string
	for _, kind := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		objects, err := metadataOf(ctx, api, admissionv1.SchemeGroupVersion.WithKind(kind))
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			if object.GetLabels()[install.ManagedWebhooks] == "" && !strings.HasPrefix(object.GetName(), "kyverno-") {
				found = append(found, kind+" "+object.GetName())
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

func writeObjects(path string, objects []*unstructured.Unstructured) error {
	var lines bytes.Buffer
	for _, object := range objects {
		raw, err := json.Marshal(object.Object)
		if err != nil {
			return err
		}
		lines.Write(append(raw, '\n'))
	}
	return os.WriteFile(path, lines.Bytes(), 0o600)
}

// EarlierKyvernoObjects are those of the other version of Kyverno.
func (s *Testbed) EarlierKyvernoObjects() ([]*unstructured.Unstructured, error) {
	return readObjects(s.EarlierKyverno, func(*unstructured.Unstructured) bool { return true })
}

// KyvernoObjects are those of the version of Kyverno that was installed: by what the other version has, in its namespace, or of its kinds.
func (s *Testbed) KyvernoObjects() ([]*unstructured.Unstructured, error) {
	return s.Platform.InstalledObjects(isKyvernos)
}

// isKyvernos says whether an installed object is Kyverno's.
func isKyvernos(o *unstructured.Unstructured) bool {
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	return o.GetNamespace() == kyvernoNamespace || strings.HasPrefix(o.GetName(), "kyverno") || group == "kyverno.io" || strings.HasSuffix(group, ".kyverno.io") || group == "wgpolicyk8s.io" || group == "openreports.io"
}

// InstalledObjects reads those of the installed objects that are wanted.
func (p *Platform) InstalledObjects(wanted func(*unstructured.Unstructured) bool) ([]*unstructured.Unstructured, error) {
	return readObjects(p.Installed, wanted)
}

func readObjects(path string, wanted func(*unstructured.Unstructured) bool) ([]*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	reader := bufio.NewReader(bytes.NewReader(raw))
	for {
		line, err := reader.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			return objects, nil
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(line); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if wanted(object) {
			objects = append(objects, object)
		}
	}
}

func byWhat(a, b Damage) int { return cmp.Compare(a.What, b.What) }
