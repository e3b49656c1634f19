package session

import (
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/settings"
)

func TestCheckSelection(t *testing.T) {
	specs := []spec{{ID: "core/a", Labels: []string{"core"}, Selected: true}, {ID: "core/b", Labels: []string{"core", "s3-down"}}}
	for _, c := range []struct{ labels, want string }{
		{"", ""},
		{"core && !s3-down", ""},
		{"/s3-.*/", ""},
		{"cor", `no spec has the label "cor"; there are core, s3-down`},
		{"core && !s3-dwn", `"s3-dwn"`},
	} {
		s := &Session{Settings: &settings.Settings{Labels: c.labels}}
		err := s.checkSelection(specs)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("LABELS=%q: got %v, wanted %q", c.labels, err, c.want)
		}
	}
	s := &Session{Settings: &settings.Settings{Focus: "nope"}}
	if err := s.checkSelection(specs[1:]); err == nil || !strings.Contains(err.Error(), "select none of the 1 specs") {
		t.Errorf("a selection of nothing: %v", err)
	}
}
