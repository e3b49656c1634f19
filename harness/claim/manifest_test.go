package claim

import (
	"maps"
	"testing"
)

func TestAYearAhead(t *testing.T) {
	got := AYearAhead(Annotations{"at": "2026-11-26T17:00:00Z", "restored": "2026-11-26T17:00:00.123Z 3f1c2026-1111", "decision": "fresh"})
	want := Annotations{"at": "2027-11-26T17:00:00Z", "restored": "2027-11-26T17:00:00.123Z 3f1c2026-1111", "decision": "fresh"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, wanted %v", got, want)
	}
}
