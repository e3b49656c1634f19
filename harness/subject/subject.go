// Package subject is what is applied for each PVC where the subject under test is no policy, or more than one: manifests with
// placeholders, as people have them in Git. The placeholders are {namespace} and {pvc}, and Flux's ${NAME} with declared variables.
package subject

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/envsubst"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"
)

// VolSync's kinds, and its group.
const (
	Group       = "volsync.backube"
	Source      = "ReplicationSource"
	Destination = "ReplicationDestination"
)

// Set are the manifests that are applied for each PVC. As JSON it goes to the specs' processes.
type Set struct {
	Objects   []map[string]any  `json:"objects"`             // with their placeholders
	Variables map[string]string `json:"variables,omitempty"` // by name; a value may have {namespace} and {pvc}
}

// Instance is what is applied for one PVC.
type Instance struct {
	Claim *corev1.PersistentVolumeClaim // nil: the templates have none
	// Before and After are the others, in kustomize's order: what belongs before a PVC, and what belongs after it.
	Before, After []*unstructured.Unstructured
}

// Rest are all objects but the PVC.
func (i *Instance) Rest() []*unstructured.Unstructured { return slices.Concat(i.Before, i.After) }

// substitute is Flux's annotation or label by which an object is left as it is.
const substitute = "kustomize.toolkit.fluxcd.io/substitute"

// For is what is applied for a PVC. given are further variables: what Flux would take from a Secret. A declared variable of the same
// name counts, as with Flux.
func (s *Set) For(namespace, pvc string, given map[string]string) (*Instance, error) {
	if s == nil {
		return &Instance{}, nil
	}
	objects, err := s.All(namespace, pvc, given)
	if err != nil {
		return nil, err
	}
	instance := &Instance{}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		switch ka, kb := gvkOf(a), gvkOf(b); {
		case ka.IsLessThan(kb):
			return -1
		case kb.IsLessThan(ka):
			return 1
		}
		return 0
	})
	for _, object := range objects {
		switch {
		case isClaim(object):
			instance.Claim = &corev1.PersistentVolumeClaim{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, instance.Claim); err != nil {
				return nil, fmt.Errorf("PersistentVolumeClaim %s: %w", object.GetName(), err)
			}
		case instance.Claim == nil && gvkOf(object).IsLessThan(claimKind):
			instance.Before = append(instance.Before, object)
		default:
			instance.After = append(instance.After, object)
		}
	}
	return instance, nil
}

var claimKind = resid.Gvk{Version: "v1", Kind: "PersistentVolumeClaim"}

func gvkOf(o *unstructured.Unstructured) resid.Gvk {
	kind := o.GroupVersionKind()
	return resid.Gvk{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}
}

func isClaim(o *unstructured.Unstructured) bool { return gvkOf(o) == claimKind }

func isVolSync(o *unstructured.Unstructured, kind string) bool {
	return o.GroupVersionKind().Group == Group && o.GetKind() == kind
}

// All is what is applied for a PVC, the PVC too, in the order of the templates, with every placeholder filled in.
func (s *Set) All(namespace, pvc string, given map[string]string) ([]*unstructured.Unstructured, error) {
	braces := strings.NewReplacer("{namespace}", namespace, "{pvc}", pvc)
	variables := maps.Clone(given)
	if variables == nil {
		variables = map[string]string{}
	}
	for name, value := range s.Variables {
		variables[name] = braces.Replace(value)
	}
	var objects []*unstructured.Unstructured
	for _, template := range s.Objects {
		object, err := fill(template, variables, braces)
		if err != nil {
			return nil, err
		}
		if object.GetNamespace() == "" {
			object.SetNamespace(namespace)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// fill is an object with its placeholders filled in: Flux's in its text, as Flux does it, so that ${UID:=568} is a number; braces in
// its texts only.
func fill(template map[string]any, variables map[string]string, braces *strings.Replacer) (*unstructured.Unstructured, error) {
	object := (&unstructured.Unstructured{Object: template}).DeepCopy()
	name := object.GetKind() + " " + object.GetName()
	if object.GetLabels()[substitute] != "disabled" && object.GetAnnotations()[substitute] != "disabled" {
		text, err := yaml.Marshal(template)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		filled, err := envsubst.Eval(string(text), func(variable string) (string, bool) {
			value, there := variables[variable]
			return value, there
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		raw, err := yaml.YAMLToJSON([]byte(filled))
		if err == nil {
			object = &unstructured.Unstructured{}
			err = object.UnmarshalJSON(raw)
		}
		if err != nil {
			return nil, fmt.Errorf("%s is no Kubernetes object once its variables are filled in: %w", name, err)
		}
	}
	object.Object, _ = eachText(object.Object, braces.Replace).(map[string]any)
	return object, nil
}

// eachText is a value whose texts are replaced.
func eachText(value any, replace func(string) string) any {
	switch value := value.(type) {
	case string:
		return replace(value)
	case []any:
		for i := range value {
			value[i] = eachText(value[i], replace)
		}
	case map[string]any:
		for _, key := range slices.Collect(maps.Keys(value)) {
			below := eachText(value[key], replace)
			delete(value, key)
			value[replace(key)] = below
		}
	}
	return value
}

// brace is a placeholder in braces. Those of other templates, as {{ .key }} and ${NAME}, are none.
var brace = regexp.MustCompile(`(?:^|[^{$])(\{[A-Za-z_][A-Za-z0-9_-]*\})(?:[^}]|$)`)

// Populates says whether a PVC is filled by VolSync's volume populator, and by which ReplicationDestination.
func Populates(pvc *corev1.PersistentVolumeClaim) (destination string, populated bool) {
	from := pvc.Spec.DataSourceRef
	if from == nil || from.APIGroup == nil || *from.APIGroup != Group || from.Kind != Destination {
		return "", false
	}
	return from.Name, true
}

// Has says whether one of the templates is of this kind of VolSync's.
func (s *Set) Has(kind string) bool {
	return s != nil && slices.ContainsFunc(s.Objects, func(object map[string]any) bool {
		return isVolSync(&unstructured.Unstructured{Object: object}, kind)
	})
}
