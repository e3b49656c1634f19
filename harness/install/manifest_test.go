package install

import (
	"reflect"
	"testing"
)

func TestTheTagReplacesLatestOnly(t *testing.T) {
	pod := func(images ...string) map[string]any {
		var containers []any
		for _, image := range images {
			containers = append(containers, map[string]any{"image": image, "name": "image"})
		}
		return map[string]any{"spec": map[string]any{"containers": containers, "image": map[string]any{"type": "x:latest"}}}
	}
	got := pod("r.example/a:latest", "r.example/b:v1", "r.example:5000/c")
	setTag(got, "v2")
	if want := pod("r.example/a:v2", "r.example/b:v1", "r.example:5000/c"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, wanted %v", got, want)
	}
}
