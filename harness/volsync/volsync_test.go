package volsync

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestWhenASyncBegan(t *testing.T) {
	for name, c := range map[string]struct {
		status  map[string]any
		began   string // empty: none is over
		working bool
	}{
		"none yet":       {nil, "", false},
		"the first one":  {map[string]any{"lastSyncStartTime": "2026-11-26T12:00:00Z"}, "", true},
		"over":           {map[string]any{"lastSyncTime": "2026-11-26T12:00:30Z", "lastSyncDuration": "20s"}, "2026-11-26T12:00:10Z", false},
		"the second one": {map[string]any{"lastSyncTime": "2026-11-26T12:00:30Z", "lastSyncDuration": "20s", "lastSyncStartTime": "2026-11-26T13:00:00Z"}, "2026-11-26T12:00:10Z", true},
	} {
		t.Run(name, func(t *testing.T) {
			o := &unstructured.Unstructured{Object: map[string]any{"status": c.status}}
			want, _ := time.Parse(time.RFC3339, c.began)
			if got := Began(o); !got.Equal(want) {
				t.Errorf("began %v, want %v", got, want)
			}
			if Working(o) != c.working {
				t.Errorf("working: %v", !c.working)
			}
		})
	}
}

func TestOfAMoment(t *testing.T) {
	for method, want := range map[string]bool{"Direct": false, "Snapshot": true, "Clone": true} {
		o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"restic": map[string]any{"copyMethod": method}}}}
		if OfAMoment(o) != want {
			t.Errorf("%s: %v", method, !want)
		}
	}
}
