package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/settings"
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

// A whole run leaves out what runs on request, and is no part of something.
func TestAWholeRun(t *testing.T) {
	for name, c := range map[string]struct {
		focus, labels string
		args, partial []string
	}{
		"whole":      {"", "", []string{"--label-filter=!on-request"}, nil},
		"by labels":  {"", "on-request", []string{"--label-filter=on-request"}, []string{"labels on-request"}},
		"by a focus": {"resilience/volsync-upgrade", "", []string{"--focus=resilience/volsync-upgrade"}, []string{"focus resilience/volsync-upgrade"}},
	} {
		t.Run(name, func(t *testing.T) {
			sel := (&Session{Settings: &settings.Settings{Focus: c.focus, Labels: c.labels}}).selected()
			if got := sel.args(); !slices.Equal(got, c.args) {
				t.Errorf("Ginkgo gets %q, want %q", got, c.args)
			}
			said := append([]string{"labels !on-request"}, c.partial...)
			if !sel.whole {
				said = c.partial
			}
			if got := sel.inWords(said); !slices.Equal(got, c.partial) {
				t.Errorf("it is said to be partial: %q, want %q", got, c.partial)
			}
		})
	}
}
