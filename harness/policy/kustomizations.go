package policy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kustomize "sigs.k8s.io/kustomize/api/types"

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

// whyNotBuilt puts before what kustomize says what is wrong with one of the kustomizations, if that can be seen without it: kustomize
// tries each part as a file, as a folder and as an address, and tells of all three.
func whyNotBuilt(path string, built error) error {
	if why := wrongBelow(path, built, map[string]bool{}); why != nil {
		return why
	}
	if strings.Contains(built.Error(), "must specify --enable-helm") {
		return fmt.Errorf("a kustomization has helmCharts: %s", noCharts)
	}
	return built
}

// wrongBelow looks for what cannot be read in a kustomization, and in those that it is made of. A part that is elsewhere is wrong if kustomize
// names it.
func wrongBelow(folder string, built error, seen map[string]bool) error {
	file := kustomizationIn(folder)
	if file == "" || seen[folder] {
		return nil
	}
	seen[folder] = true
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var k kustomize.Kustomization
	if err := k.Unmarshal(raw); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, part := range partsOf(file) {
		local := filepath.Join(folder, filepath.FromSlash(part))
		info, err := os.Stat(local)
		switch {
		case err == nil && info.IsDir():
			if err := wrongBelow(local, built, seen); err != nil {
				return err
			}
		case err == nil:
		case isRemote(part):
			if strings.Contains(built.Error(), part) {
				return fmt.Errorf("%s: %s could not be fetched; copy it into a folder beside it, and list that: %w", file, part, built)
			}
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%s: it lists %s, and there is no such file or folder", file, part)
		}
	}
	return nil
}

// isRemote says whether kustomize takes a part that is not in its folder for an address. It takes more for one: what it takes wrongly
// is called missing here.
func isRemote(part string) bool {
	return strings.Contains(part, "://") || strings.Contains(part, "?ref=") || strings.HasPrefix(part, "git@") || strings.HasPrefix(part, "github.com/")
}
