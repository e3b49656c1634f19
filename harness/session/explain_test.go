package session

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/verdict"
)

// checkExplain explains requirements of the specs.
func checkExplain(t *testing.T, s *Session) {
	var out bytes.Buffer
	before := s.Out
	s.Out = &out
	defer func() { s.Out = before }()
	for _, wanted := range []string{"safety/late-restore", "late-restore"} {
		out.Reset()
		if err := s.Explain(t.Context(), wanted); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"safety/late-restore\n", "\nWhat it proves\n  A PVC is created while S3 is down", "\nHow\n  ", "\nWhat it costs\n  About ", "Labels: safety, ",
			"\nWhat a failure usually means\n  ", "\nWhat to look at then\n  ", "\nRun it alone\n  make e2e FOCUS=safety/late-restore\n",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", wanted, want, out.String())
			}
		}
	}
	if err := s.Explain(t.Context(), "safety/late-restoer"); err == nil || !strings.Contains(err.Error(), `no requirement is called "safety/late-restoer": do you mean safety/late-restore or `) {
		t.Error(err)
	}
}

func TestCost(t *testing.T) {
	none, own := t.TempDir(), t.TempDir()
	for i, seconds := range []float64{10, 40, 20} {
		at := time.Date(2026, 11, 1+i, 0, 0, 0, 0, time.UTC)
		report := &verdict.Report{Run: verdict.Run{ID: strings.Repeat("r", i+1), Started: at}, Requirements: []verdict.Result{{
			Requirement: verdict.Requirement{ID: "core/x"}, Verdict: verdict.Pass, Started: at, DurationSeconds: seconds}}}
		if err := report.Write(own + "/" + report.Run.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, artifacts string
		sp              spec
		want            string
	}{
		{"never recorded", none, spec{ID: "core/x", Labels: []string{"core"}}, "It was not recorded how long it takes. Labels: core."},
		{"in one's own runs", own, spec{ID: "core/x", Labels: []string{"core"}}, "It was not recorded how long it takes. In your own runs that passed: 20 s, as the median. Labels: core."},
		{"alone, of a feature", none, spec{ID: "core/x", Labels: []string{"core", "Serial", "relabel"}},
			"It was not recorded how long it takes. It runs alone, after the others, because it changes what all share. It runs only where the policy promises relabel. Labels: core, Serial, relabel."},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Session{Settings: &settings.Settings{Artifacts: c.artifacts}}
			if got := s.cost(c.sp); got != c.want {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestHistory(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	report := &verdict.Report{Run: verdict.Run{ID: "r", Started: at}, Requirements: []verdict.Result{{
		Requirement: verdict.Requirement{ID: "core/x"}, Verdict: verdict.Pass, Started: at, DurationSeconds: 12}}}
	seconds, elsewhere := filepath.Join(dir, "seconds.yaml"), filepath.Join(dir, "elsewhere.html")
	if err := errors.Join(report.Write(filepath.Join(dir, "r")), os.WriteFile(seconds, []byte("seconds:\n  core/x: 7\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"", elsewhere} {
		var out bytes.Buffer
		if err := History(&out, dir, file, seconds); err != nil {
			t.Fatal(err)
		}
		want := cmp.Or(file, filepath.Join(dir, "history.html"))
		if page, err := os.ReadFile(want); err != nil || !bytes.Contains(page, []byte("core/x")) || !strings.Contains(out.String(), "to be looked at: "+want+"\n") {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
	if got, err := os.ReadFile(seconds); err != nil || string(got) != "seconds:\n  core/x: 12\n" {
		t.Errorf("%s, %v", got, err)
	}
	if err := History(io.Discard, t.TempDir(), "", ""); err == nil || !strings.Contains(err.Error(), "found no report.yaml") {
		t.Error(err)
	}
}

func TestWrapped(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"one two three":            "  one two\n  three\n",
		"  a\n b":                  "  a b\n",
		"averylongword that waits": "  averylongword\n  that\n  waits\n",
		"ééééé ééé":                "  ééééé ééé\n",
	} {
		if got := wrapped(text, 9, "  "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
