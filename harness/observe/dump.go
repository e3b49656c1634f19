package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/smart-restore/conformance/harness/redact"
)

// kyvernoNamespace is where Kyverno keeps its UpdateRequests.
const kyvernoNamespace = "kyverno"

// dumped is one file of a namespace's dump.
type dumped struct {
	resource schema.GroupVersionResource
	// namespace is where to look: the dumped one unless set; "" with
	// clusterWide is the whole cluster.
	namespace   string
	clusterWide bool
	// optional is a resource that not every stack has.
	optional bool
	// keep selects objects; nil is all.
	keep func(o map[string]any, namespace string) bool
	// show is what is written of an object; nil is all of it.
	show func(o map[string]any) map[string]any
}

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

func volsync(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "volsync.backube", Version: "v1alpha1", Resource: resource}
}

func snapshot(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: resource}
}

var dumps = []dumped{
	{resource: core("persistentvolumeclaims")},
	{resource: core("pods")},
	{resource: core("events")},
	{resource: schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}},
	{resource: volsync("replicationsources")},
	{resource: volsync("replicationdestinations")},
	{resource: snapshot("volumesnapshots")},
	{resource: snapshot("volumesnapshotcontents"), clusterWide: true, keep: snapshottedIn},
	// What it takes, and whether the operator could read it; never a value. The stores, which have the values, are not written down.
	{resource: schema.GroupVersionResource{Group: "external-secrets.io", Version: "v1", Resource: "externalsecrets"}, optional: true},
	{resource: core("configmaps"), show: namesOnly},
	{resource: core("secrets"), show: namesOnly},
	{resource: core("persistentvolumes"), clusterWide: true, keep: boundIn},
	{
		resource:  schema.GroupVersionResource{Group: "kyverno.io", Version: "v2", Resource: "updaterequests"},
		namespace: kyvernoNamespace,
		keep:      func(o map[string]any, namespace string) bool { return mentions(o["spec"], namespace) },
	},
}

// DumpNamespace writes what is in a namespace into dir, a YAML list a file:
// PVCs and the volumes bound to them, snapshots, pods, events, jobs, ReplicationSources
// and -Destinations, ExternalSecrets, and the Kyverno UpdateRequests about that namespace; of
// Secrets and ConfigMaps only names and keys. What cannot be read is left out
// and recorded in dump-errors.txt. The error is about writing to dir.
func DumpNamespace(ctx context.Context, config *rest.Config, namespace, dir string, redactor *redact.Redactor) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("dump namespace %s: %w", namespace, err)
	}
	var problems, writing []error
	k, err := newKube(config)
	if err != nil {
		problems = append(problems, err)
	} else {
		for _, d := range dumps {
			text, err := d.text(ctx, k, namespace)
			if d.optional && apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", d.resource.GroupResource(), err))
				continue
			}
			file := filepath.Join(dir, d.resource.Resource+".yaml")
			writing = append(writing, os.WriteFile(file, redactor.Bytes(text), 0o644))
		}
	}
	if len(problems) > 0 {
		var b bytes.Buffer
		for _, p := range problems {
			fmt.Fprintln(&b, p)
		}
		writing = append(writing, os.WriteFile(filepath.Join(dir, "dump-errors.txt"), redactor.Bytes(b.Bytes()), 0o644))
	}
	if err := errors.Join(writing...); err != nil {
		return fmt.Errorf("dump namespace %s: %w", namespace, err)
	}
	return nil
}

// text lists the objects and returns them as YAML.
func (d dumped) text(ctx context.Context, k *kube, namespace string) ([]byte, error) {
	in := namespace
	if d.namespace != "" {
		in = d.namespace
	}
	if d.clusterWide {
		in = metav1.NamespaceAll
	}
	list, err := k.dynamic.Resource(d.resource).Namespace(in).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	items := []any{}
	slices.SortStableFunc(list.Items, func(a, b unstructured.Unstructured) int {
		if c := a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time); c != 0 {
			return c
		}
		return strings.Compare(a.GetName(), b.GetName())
	})
	for _, item := range list.Items {
		o := item.Object
		if d.keep != nil && !d.keep(o, namespace) {
			continue
		}
		unstructured.RemoveNestedField(o, "metadata", "managedFields")
		withoutSecretData(o)
		if d.show != nil {
			o = d.show(o)
		}
		items = append(items, o)
	}
	// Not by way of JSON: that has characters that YAML has to escape.
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	err = errors.Join(encoder.Encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}), encoder.Close())
	return text.Bytes(), err
}

// namesOnly shows of a Secret or a ConfigMap what it is called and which keys
// it has.
func namesOnly(o map[string]any) map[string]any {
	meta, _ := o["metadata"].(map[string]any)
	keys := []string{}
	for _, field := range []string{"data", "stringData", "binaryData"} {
		data, _ := o[field].(map[string]any)
		for key := range data {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	out := map[string]any{"name": meta["name"], "keys": keys}
	if t, ok := o["type"]; ok {
		out["type"] = t
	}
	if owners, ok := meta["ownerReferences"]; ok {
		out["ownerReferences"] = owners
	}
	return out
}

// withoutSecretData removes the values of any Secret found within v: an
// UpdateRequest may carry whole objects.
func withoutSecretData(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["kind"] == "Secret" {
			for _, field := range []string{"data", "stringData"} {
				if data, ok := v[field].(map[string]any); ok {
					for key := range data {
						data[key] = redact.Redacted
					}
				}
			}
			if meta, ok := v["metadata"].(map[string]any); ok {
				if annotations, ok := meta["annotations"].(map[string]any); ok {
					delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
				}
			}
		}
		for _, inner := range v {
			withoutSecretData(inner)
		}
	case []any:
		for _, inner := range v {
			withoutSecretData(inner)
		}
	}
}

// boundIn reports whether a volume is claimed from the namespace.
func boundIn(o map[string]any, namespace string) bool {
	of, _, _ := unstructured.NestedString(o, "spec", "claimRef", "namespace")
	return of == namespace
}

// snapshottedIn reports whether a snapshot's content is of a VolumeSnapshot of the namespace.
func snapshottedIn(o map[string]any, namespace string) bool {
	of, _, _ := unstructured.NestedString(o, "spec", "volumeSnapshotRef", "namespace")
	return of == namespace
}

// mentions reports whether v names the namespace: a field called namespace, or
// the name of an object of kind Namespace, however deep, also within JSON text.
func mentions(v any, namespace string) bool {
	switch v := v.(type) {
	case map[string]any:
		if v["namespace"] == namespace || (v["kind"] == "Namespace" && v["name"] == namespace) {
			return true
		}
		for _, inner := range v {
			if mentions(inner, namespace) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(inner any) bool { return mentions(inner, namespace) })
	case string:
		return strings.Contains(v, `"namespace":"`+namespace+`"`)
	}
	return false
}
