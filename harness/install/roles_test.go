package install

import (
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestAListIsTakenApart(t *testing.T) {
	all, err := listed([]byte(`apiVersion: v1
kind: List
items:
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: view}, rules: null}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: edit}}
`))
	if err != nil || len(all) != 2 || all[0].GetName() != "view" || all[1].GetName() != "edit" || all[0].GetKind() != "ClusterRole" {
		t.Errorf("%v %v", all, err)
	}
	for name, wrong := range map[string]string{"nothing": "", "no YAML": ":\n- }", "an empty list": "apiVersion: v1\nkind: List\nitems: []"} {
		if all, err := listed([]byte(wrong)); err == nil {
			t.Errorf("%s: got %v", name, all)
		}
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects.jsonl")
	var objects []*unstructured.Unstructured
	for _, name := range []string{"one", "two"} {
		objects = append(objects, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name}}})
	}
	if err := writeObjects(file, objects); err != nil {
		t.Fatal(err)
	}
	read, err := readObjects(file)
	if err != nil || len(read) != 2 || read[0].GetName() != "one" || read[1].GetName() != "two" {
		t.Errorf("%v %v", read, err)
	}
	if err := writeObjects(filepath.Join(file, "below"), nil); err == nil || !strings.Contains(err.Error(), "objects.jsonl") {
		t.Errorf("a file below a file is written: %v", err)
	}
}
