package policy

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/subject"
)

// templateSources are the manifests, folders, kustomizations and components that a contract lists as templates.
func templateSources(file string, contract Contract) (sources []string) {
	for _, part := range contract.Templates {
		sources = append(sources, filepath.Join(filepath.Dir(file), filepath.FromSlash(part)))
	}
	return sources
}

// templatesOf reads what a contract in this file lists as templates, and refuses what cannot be applied for each PVC; nil: it lists
// none.
func templatesOf(file string, contract Contract) (*subject.Set, error) {
	if len(contract.Templates) == 0 {
		return nil, nil
	}
	set, all := &subject.Set{Variables: contract.Variables}, []*unstructured.Unstructured{}
	files := walk{seen: map[string]bool{}}
	for i, source := range templateSources(file, contract) {
		objects, err := readAll(source)
		if err != nil {
			return nil, contract.doc.At(fmt.Sprintf("%s: %v", contract.Templates[i], err), "templates", i)
		}
		if kyverno := Kyverno(objects); len(kyverno) > 0 {
			return nil, contract.doc.At(fmt.Sprintf("%s has the policy %s %s, which is applied once: list its file under policy", contract.Templates[i], kyverno[0].GetKind(), kyverno[0].GetName()), "templates", i)
		}
		all = append(all, objects...)
		files.below(source)
	}
	if err := once(all); err != nil {
		return nil, contract.doc.At(err.Error(), "templates")
	}
	for _, o := range all {
		set.Objects = append(set.Objects, o.Object)
	}
	return set, set.Check(files.files(), contract.BaseSecret.Variables(), len(contract.Policy) > 0 && !contract.Companion)
}

// restoresAs sets which PVCs have a ReplicationDestination, where templates hold one and the contract does not say, and refuses a contract
// that says otherwise.
func (c *Contract) restoresAs(templates *subject.Set) error {
	if !templates.Has(subject.Destination) {
		return nil
	}
	if c.doc.Has("restores") && c.Restores != Always {
		return c.doc.At(fmt.Sprintf("it is %s, and a %s is among the templates, which are applied for each PVC: leave it out, or say %s", c.Restores, subject.Destination, Always), "restores")
	}
	c.Restores = Always
	return nil
}

// Variables are the names of the variables that the base Secret gives to templates, as Flux's substituteFrom does: its keys.
func (b BaseSecret) Variables() []string {
	keys := []string{b.Keys.AccessKey, b.Keys.SecretKey, b.Keys.ResticPassword}
	return append(keys, slices.Sorted(maps.Keys(b.Data))...)
}

// files are those that documents were found in.
func (w *walk) files() (names []string) {
	for _, d := range w.documents {
		if !slices.Contains(names, d.File) {
			names = append(names, d.File)
		}
	}
	return names
}

// isComponent says whether a kustomization's file is that of a component, which is built as part of a kustomization only.
func isComponent(file string) bool {
	raw, err := os.ReadFile(file)
	var k struct{ Kind string }
	return err == nil && yaml.Unmarshal(raw, &k) == nil && k.Kind == kustomize.ComponentKind
}

// component builds a kustomize component as the only part of a kustomization.
func component(folder string) (objects []*unstructured.Unstructured, err error) {
	work, err := os.MkdirTemp("", "component-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	// Kustomize takes paths that are relative, and follows links before it goes up.
	from, err := filepath.EvalSymlinks(work)
	if err != nil {
		return nil, err
	}
	to, err := filepath.Abs(folder)
	if err == nil {
		to, err = filepath.EvalSymlinks(to)
	}
	if err == nil {
		to, err = filepath.Rel(from, to)
	}
	if err != nil {
		return nil, err
	}
	raw, err := yaml.Marshal(map[string]any{"apiVersion": kustomize.KustomizationVersion, "kind": kustomize.KustomizationKind, "components": []string{filepath.ToSlash(to)}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(work, "kustomization.yaml"), raw, 0o600); err != nil {
		return nil, err
	}
	return install.Kustomize(work)
}
