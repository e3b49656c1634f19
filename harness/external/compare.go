package external

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// compare says in which fields an object of the cluster is not as in the files, and which it has beyond them: an API
// server fills in defaults, which cannot be told from what somebody has set. Status and bookkeeping do not count.
func compare(files, cluster *unstructured.Unstructured) (different, beyond []string) {
	c := comparison{}
	want, have := content(files), content(cluster)
	c.maps("", want, have)
	for _, field := range []string{"labels", "annotations"} { // others add theirs: a GitOps controller, a release's name
		w, _, _ := unstructured.NestedStringMap(files.Object, "metadata", field)
		h, _, _ := unstructured.NestedStringMap(cluster.Object, "metadata", field)
		for _, key := range slices.Sorted(maps.Keys(w)) {
			if h[key] != w[key] {
				c.different = append(c.different, fmt.Sprintf("metadata.%s[%s]", field, key))
			}
		}
	}
	return c.different, c.beyond
}

// content is what of an object a person writes, its metadata excepted.
func content(object *unstructured.Unstructured) map[string]any {
	// Through JSON: numbers of a file and those of an API server have other types.
	raw, err := json.Marshal(object.Object)
	if err != nil {
		return nil
	}
	var plain map[string]any
	if json.Unmarshal(raw, &plain) != nil {
		return nil
	}
	delete(plain, "metadata")
	delete(plain, "status")
	return plain
}

type comparison struct{ different, beyond []string }

func (c *comparison) maps(path string, want, have map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		at := key
		if path != "" {
			at = path + "." + key
		}
		value, there := have[key]
		if !there && want[key] != nil {
			c.different = append(c.different, at+" (not there)")
			continue
		}
		c.values(at, want[key], value)
	}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if _, wanted := want[key]; !wanted {
			at := key
			if path != "" {
				at = path + "." + key
			}
			c.beyond = append(c.beyond, at)
		}
	}
}

func (c *comparison) values(path string, want, have any) {
	switch w := want.(type) {
	case map[string]any:
		if h, ok := have.(map[string]any); ok {
			c.maps(path, w, h)
			return
		}
	case []any:
		h, ok := have.([]any)
		if ok && len(h) == len(w) {
			for i := range w {
				c.values(fmt.Sprintf("%s[%d]", path, i), w[i], h[i])
			}
			return
		}
	default:
		if fmt.Sprint(want) == fmt.Sprint(have) {
			return
		}
	}
	c.different = append(c.different, path)
}
