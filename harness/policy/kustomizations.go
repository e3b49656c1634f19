package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/strict"
)

// target is whom a patch or a replacement of a kustomization is for.
type target struct {
	what string // like replacements[2].targets[0].select
	node Document
	// pattern says that kind and name are regular expressions, as in patches.
	pattern bool
}

// checkKustomizations refuses a policy if one of its kustomizations changes an object that it does not have. Kustomize itself says
// nothing then, and the policy keeps the value that was to be replaced.
func checkKustomizations(path string, objects []*unstructured.Unstructured) error {
	w := walk{seen: map[string]bool{}}
	w.below(path)
	known := make([][2]string, 0, len(objects)+len(w.documents))
	for _, o := range objects {
		known = append(known, [2]string{o.GetKind(), o.GetName()})
	}
	for _, d := range w.documents { // a kustomization may give them other names
		known = append(known, [2]string{d.Kind(), d.Name()})
	}
	for _, k := range w.kustomizations {
		for _, t := range targetsOf(k.Root) {
			kind, name := t.node.Text("kind"), t.node.Text("name")
			if kind == "" && name == "" || kind == "ConfigMap" || kind == "Secret" { // those may be generated
				continue
			}
			if !slices.ContainsFunc(known, func(o [2]string) bool { return t.fits(kind, o[0]) && t.fits(name, o[1]) }) {
				return fmt.Errorf("%s:%d: %s is for %s, which the policy does not have: nothing would be changed",
					k.File, t.node.Root.Line, t.what, strings.Trim(kind+"/"+name, "/"))
			}
		}
	}
	return nil
}

func (t target) fits(wanted, found string) bool {
	if wanted == "" || wanted == found {
		return true
	}
	matches, err := regexp.MatchString("^(?:"+wanted+")$", found)
	return t.pattern && err == nil && matches
}

// targetsOf are those of a kustomization's patches and replacements.
func targetsOf(kustomization *yaml.Node) (all []target) {
	for i, patch := range itemsOf(kustomization, "patches") {
		if node, ok := strict.Find(patch, "target"); ok {
			all = append(all, target{fmt.Sprintf("patches[%d].target", i), Document{Root: node}, true})
		}
	}
	for i, replacement := range itemsOf(kustomization, "replacements") {
		for j, one := range itemsOf(replacement, "targets") {
			if node, ok := strict.Find(one, "select"); ok {
				all = append(all, target{fmt.Sprintf("replacements[%d].targets[%d].select", i, j), Document{Root: node}, false})
			}
		}
	}
	return all
}

func itemsOf(node *yaml.Node, field string) []*yaml.Node {
	list, ok := strict.Find(node, field)
	if !ok {
		return nil
	}
	return list.Content
}
