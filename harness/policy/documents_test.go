package policy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Whatever a policy is read from, its documents say where its objects stand, and where its contract does.
func TestDocumentsOfWhatAPolicyIsReadFrom(t *testing.T) {
	object := func(name string) string {
		return "# a comment\n---\n" + strings.Replace(good, "name: one", "name: "+name, 1)
	}
	lists := strings.Replace(contract, "stacks: [kyverno-1.19]", "policy: [../k, ../b/one.yaml, ../gone]", 1)
	root := t.TempDir()
	writeAll(t, root, map[string]string{
		"k/kustomization.yaml": "resources: [p.yaml, ../base, https://example.invalid/r]\ncomponents: [part]\n",
		"k/p.yaml":             object("k"), "k/aside.yaml": object("aside"),
		"base/Kustomization": "bases: [../older]\nresources: [../k/p.yaml, more/p.yaml, ../base]\n", "base/more/p.yaml": object("base"),
		"older/kustomization.yml":   "resources: [p.yaml]\n",
		"older/p.yaml":              object("older"),
		"k/part/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [p.yaml]\n", "k/part/p.yaml": object("part"),
		"b/one.yaml": object("b"), "b/two.yaml": object("two"),
		"tests/conformance.yaml":       lists,
		"f/conformance.yaml":           contract,
		"f/b.yaml":                     "a: [",
		"f/c.yml":                      object("c"),
		"f/d.yaml":                     "- no object\n---\n" + object("d"),
		"f/e.txt":                      object("e"),
		"f/below/p.yaml":               object("below"),
		"s/p.yaml":                     object("s"),
		"s/p.conformance.yaml":         contract,
		"wrong/conformance.yaml":       "kind: PolicyContract\nfeatures: [none]\n",
		"wrong/p.yaml":                 object("wrong"),
		"unread/kustomization.yaml":    "resources: {}\n",
		"unread/p.yaml":                object("unread"),
		"listsnothing/x.yaml":          "",
		"brokenlist/conformance.yaml":  "policy: [",
		"brokenlist/kustomization.yml": "resources: [../s/p.yaml]\n",
	})
	inK := "k/p.yaml:3 GeneratingPolicy/k, base/more/p.yaml:3 GeneratingPolicy/base, older/p.yaml:3 GeneratingPolicy/older, k/part/p.yaml:3 GeneratingPolicy/part"
	for path, want := range map[string]string{
		"k":                      inK,
		"tests":                  inK + ", b/one.yaml:3 GeneratingPolicy/b, tests/conformance.yaml:1 PolicyContract/",
		"tests/conformance.yaml": inK + ", b/one.yaml:3 GeneratingPolicy/b, tests/conformance.yaml:1 PolicyContract/",
		"f":                      "f/c.yml:3 GeneratingPolicy/c, f/d.yaml:5 GeneratingPolicy/d, f/conformance.yaml:1 PolicyContract/",
		"s/p.yaml":               "s/p.yaml:3 GeneratingPolicy/s, s/p.conformance.yaml:1 PolicyContract/",
		"s/p.conformance.yaml":   "s/p.yaml:3 GeneratingPolicy/s, s/p.conformance.yaml:1 PolicyContract/",
		"wrong":                  "wrong/p.yaml:3 GeneratingPolicy/wrong, wrong/conformance.yaml:1 PolicyContract/",
		"brokenlist":             "s/p.yaml:3 GeneratingPolicy/s",
		"unread":                 "",
		"listsnothing":           "",
		"gone":                   "",
	} {
		var got []string
		for _, d := range Documents(filepath.Join(root, path)) {
			file, err := filepath.Rel(root, d.File)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s:%d %s/%s", filepath.ToSlash(file), d.Root.Line, d.Kind(), d.Name()))
		}
		got = slices.DeleteFunc(got, func(one string) bool { return strings.Contains(one, "ConfigMap/") })
		if strings.Join(got, ", ") != want {
			t.Errorf("%s:\ngot  %s\nwant %s", path, strings.Join(got, ", "), want)
		}
	}
}

// An overlay that changes nothing is a mistake, and kustomize does not say so.
func TestAKustomizationThatChangesNothingIsRefused(t *testing.T) {
	settings := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {x: y}\n"
	for name, c := range map[string]struct{ kustomization, wanted string }{
		"replacement": {"resources: [p.yaml, s.yaml]\nreplacements:\n- source: {kind: ConfigMap, name: s, fieldPath: data.x}\n  targets:\n  - select: {kind: MutatingPolicy, name: other}\n    fieldPaths: [metadata.labels.x]\n",
			"kustomization.yaml:5: replacements[0].targets[0].select is for MutatingPolicy/other, which the policy does not have"},
		"patch": {"resources: [p.yaml, s.yaml]\npatches:\n- target: {kind: MutatingPolicy, name: other.*}\n  patch: |\n    - {op: add, path: /metadata/labels, value: {x: y}}\n",
			"kustomization.yaml:3: patches[0].target is for MutatingPolicy/other.*, which the policy does not have"},
		"one that matches": {"resources: [p.yaml, s.yaml]\nnamePrefix: our-\npatches:\n- target: {name: one|two}\n  patch: |\n    - {op: add, path: /metadata/labels, value: {x: y}}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"p.yaml": good, "s.yaml": settings, "kustomization.yaml": c.kustomization})
			_, err := Load(dir, planEndpoint(t))
			if c.wanted == "" && err != nil || c.wanted != "" && (err == nil || !strings.Contains(err.Error(), c.wanted)) {
				t.Errorf("want %q, found %v", c.wanted, err)
			}
		})
	}
}
