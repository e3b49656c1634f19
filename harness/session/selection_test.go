package session

import (
	"strings"
	"testing"
)

// What Ginkgo says of a dry run is taken whole or refused with a reason, never with "<nil>".
func TestSpecsInADryRun(t *testing.T) {
	for raw, want := range map[string]string{
		``:    "cannot be read",
		`[]`:  "of 0 suites, want 1",
		`{}`:  "cannot be read",
		`[{`:  "cannot be read",
		`nul`: "cannot be read",
	} {
		if _, err := specsIn([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "nil") {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
	}
}
