package series

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/verdict"
)

// A program in the place of this one: a policy's file says how its run ends, and its report is beside it.
const compareProgram = `#!/bin/sh
echo "$(basename "$POLICY") with KEEP=$KEEP" >> "$RAN"
[ -e "$POLICY.reports" ] && mkdir -p "$ARTIFACTS" && cp -r "$POLICY.reports" "$ARTIFACTS/latest"
exit "$(cat "$POLICY")"
`

func TestCompareComparesOnlyItsOwnRuns(t *testing.T) {
	for _, c := range []struct {
		name            string
		base, candidate string // exit codes; empty: there is no such policy
		noBase          bool   // its run leaves no report
		setupFailed     bool   // its report says that nothing could run
		want            error
		says, error     string
		ran             string
	}{
		{name: "both proven", base: "0", candidate: "0", says: "candidate: unnamed", ran: "base candidate"},
		{name: "the base fails", base: "1", candidate: "0", says: "candidate: unnamed", ran: "base candidate"},
		{name: "the candidate fails", base: "0", candidate: "1", want: session.ErrNotProven, says: "candidate: unnamed", ran: "base candidate"},
		{name: "the base dies", base: "2", noBase: true, candidate: "0", says: "nothing to compare with", ran: "base candidate"},
		{name: "the base dies, and the candidate fails", base: "2", noBase: true, candidate: "1", want: session.ErrNotProven, says: "nothing to compare with", ran: "base candidate"},
		{name: "the base's set-up fails", base: "2", setupFailed: true, candidate: "0", says: "nothing to compare with", ran: "base candidate"},
		{name: "the candidate dies", base: "0", candidate: "2", error: "the candidate came to no verdict: exit status 2", ran: "base candidate"},
		{name: "there is no base", candidate: "0", error: "BASE_POLICY=", ran: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			self, ran := filepath.Join(dir, "self"), filepath.Join(dir, "ran")
			t.Setenv("RAN", ran)
			t.Setenv("GITHUB_STEP_SUMMARY", filepath.Join(dir, "summary"))
			put := func(path, text string, mode os.FileMode) {
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
					t.Fatal(err)
				}
			}
			put(self, compareProgram, 0o700)
			report := func(v verdict.Verdict) *verdict.Report {
				return &verdict.Report{Requirements: []verdict.Result{{Requirement: verdict.Requirement{ID: "core/fresh", Level: verdict.Core}, Verdict: v, Message: "why"}}}
			}
			for name, code := range map[string]string{"base": c.base, "candidate": c.candidate} {
				if code == "" {
					continue
				}
				put(filepath.Join(dir, name), code, 0o600)
				r := report(map[string]verdict.Verdict{"0": verdict.Pass}[code])
				if code != "0" {
					r = report(verdict.Fail)
				}
				if name == "base" && c.setupFailed {
					r = &verdict.Report{SetupError: "no engine"}
				}
				if code == "2" && (name != "base" || !c.setupFailed) {
					continue
				}
				if err := r.Write(filepath.Join(dir, name+".reports")); err != nil {
					t.Fatal(err)
				}
			}
			// What an earlier day has left where reports used to be.
			artifacts := filepath.Join(dir, "artifacts")
			for _, old := range []string{"base/latest", "candidate/latest", "compare/20200101T000000Z/base/latest"} {
				if err := report(verdict.Fail).Write(filepath.Join(artifacts, old)); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			s := &Series{
				Settings: &settings.Settings{Policy: filepath.Join(dir, "candidate"), Artifacts: artifacts, Keep: settings.KeepAlways}, Log: progress.New(&bytes.Buffer{}), Out: &out,
			}
			err := s.compare(t.Context(), self, filepath.Join(dir, "base"))
			switch {
			case c.error == "" && !errors.Is(err, c.want):
				t.Errorf("got %v, want %v", err, c.want)
			case c.error != "" && (err == nil || errors.Is(err, session.ErrNotProven) || !strings.Contains(err.Error(), c.error)):
				t.Errorf("got %v, want %s", err, c.error)
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("%q is not in what it says:\n%s", c.says, out.String())
			}
			raw, _ := os.ReadFile(ran)
			if got := strings.Join(strings.Fields(strings.ReplaceAll(string(raw), "with KEEP=always", "")), " "); got != c.ran {
				t.Errorf("it ran %q, want %q", got, c.ran)
			}
			summary, _ := os.ReadFile(filepath.Join(dir, "summary"))
			if compared := len(summary) > 0; compared != (c.says == "candidate: unnamed") {
				t.Errorf("the step's summary is %q", summary)
			}
		})
	}
}

func TestCompareIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	s := &Series{Settings: &settings.Settings{Policy: dir, Artifacts: dir}, Log: progress.New(&bytes.Buffer{}), Out: &bytes.Buffer{}}
	if err := s.compare(ctx, "no-program", dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := s.compare(t.Context(), "no-program", ""); err == nil || !strings.Contains(err.Error(), "BASE_POLICY is not set") {
		t.Errorf("with no base: %v", err)
	}
}
