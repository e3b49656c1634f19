package series

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/verdict"
)

// A cell whose policy is not made for its stack would never come to a verdict.
func TestEveryPolicyOfTheMatrixIsMadeForItsStack(t *testing.T) {
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	m, err := matrix.Load(fixtures.Files, lock.StackNames())
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range m.Cells {
		p, err := policy.Load(filepath.Join("..", "..", filepath.FromSlash(cell.Policy)), endpoint.Endpoint{})
		if err == nil {
			err = p.Contract.CheckStack(cell.Stack, lock.Stacks)
		}
		if err != nil {
			t.Errorf("cell %s: %v", cell.Name(), err)
		}
	}
}

// A program in the place of this one, which comes to another end for each stack: proven, not proven, no verdict.
const cellProgram = `#!/bin/sh
echo "$1 of $POLICY on $STACK, LABELS=$LABELS KEEP=$KEEP context=$KUBE_CONTEXT of=$KUBECONFIG allow=$ALLOW_CLUSTER secret=$BASE_SECRET_FROM"
mkdir -p "$ARTIFACTS" && cp -r "$REPORTS/$STACK" "$ARTIFACTS/latest" 2>/dev/null
case $STACK in good) exit 0;; bad) exit 1;; *) exit 2;; esac
`

// cellSelf writes cellProgram to a file, and has it find its reports in a folder.
func cellSelf(t *testing.T) (self, reports string) {
	t.Helper()
	reports = t.TempDir()
	t.Setenv("REPORTS", reports)
	self = filepath.Join(t.TempDir(), "self")
	if err := os.WriteFile(self, []byte(cellProgram), 0o700); err != nil {
		t.Fatal(err)
	}
	return self, reports
}

func TestTheMatrixRunsEveryCellToItsEnd(t *testing.T) {
	t.Setenv("KEEP", "always")
	self, reports := cellSelf(t)
	result := func(v verdict.Verdict) []verdict.Result {
		return []verdict.Result{{Requirement: verdict.Requirement{ID: "core/fresh", Level: verdict.Core}, Verdict: v}}
	}
	for name, v := range map[string]verdict.Verdict{"good": verdict.Pass, "bad": verdict.Fail} {
		report := &verdict.Report{Requirements: result(v), Implementation: verdict.Implementation{Policy: "policies/p"},
			Stack: verdict.Stack{Name: name, Requested: map[string]string{"kyverno": name}}}
		if err := report.Write(filepath.Join(reports, name)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	artifacts := t.TempDir()
	s := &Series{Settings: &settings.Settings{Artifacts: artifacts, Labels: "core", Procs: 1}, Log: progress.New(&bytes.Buffer{}), Out: &out}
	cells := []matrix.Cell{
		{Stack: "broken", Policy: "policies/p", Target: matrix.E2E},
		{Stack: "bad", Policy: "policies/p", Target: matrix.E2E},
		{Stack: "good", Policy: "policies/p", Target: matrix.E2E},
	}
	if err := s.matrix(t.Context(), self, cells); !errors.Is(err, session.ErrNotProven) {
		t.Errorf("got %v, wanted that not all is proven", err)
	}
	for _, want := range []string{
		"e2e of policies/p on good, LABELS=core KEEP=never context= ",
		"did not come to a verdict: exit status 2\n", "not proven\n", "proven\n",
		"|  | Kyverno bad<br>Kubernetes <br>p | Kyverno good<br>Kubernetes <br>p |\n", "| `core/fresh` | ✗ | ✓ |\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in what it says:\n%s", want, out.String())
		}
	}
	if tables, err := filepath.Glob(filepath.Join(artifacts, "matrix", "*", "table.md")); err != nil || len(tables) != 1 {
		t.Errorf("the tables are %v, %v", tables, err)
	}
	if err := s.matrix(t.Context(), self, cells[2:]); err != nil {
		t.Errorf("a matrix of which all is proven: %v", err)
	}
	for asked, want := range map[string]string{"": "LABELS=safety KEEP", "core": "LABELS=(safety) && (core) KEEP"} {
		out.Reset()
		s.Settings.Labels = asked
		if err := s.matrix(t.Context(), self, []matrix.Cell{{Stack: "good", Policy: "policies/p", Target: matrix.E2E, Labels: "safety"}}); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("a cell with labels, LABELS=%s: %v, %q is not in what it says:\n%s", asked, err, want, out.String())
		}
	}
}

func TestASoakRunsAllAndSaysWhatDidNotAlwaysHold(t *testing.T) {
	self, reports := cellSelf(t)
	failed := verdict.Result{Requirement: verdict.Requirement{ID: "core/fresh"}, Verdict: verdict.Fail, Message: "why"}
	if err := (&verdict.Report{Requirements: []verdict.Result{failed}}).Write(filepath.Join(reports, "bad")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stack string
		err   error
		want  string
	}{
		{"good", nil, "\n2 of 2 runs proven\n"},
		{"bad", session.ErrNotProven, "core/fresh did not hold in 2 of 2 runs\n    run 1, fail: why\n    run 2, fail: why\n0 of 2 runs proven\n"},
		{"broken", session.ErrNotProven, "\n0 of 2 runs proven\n"},
	} {
		var out bytes.Buffer
		artifacts := t.TempDir()
		s := &Series{Settings: &settings.Settings{Stack: c.stack, Policy: "policies/p", Artifacts: artifacts, Procs: 1}, Log: progress.New(&bytes.Buffer{}), Out: &out}
		if err := s.soak(t.Context(), self, 2, ""); !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, wanted %v", c.stack, err, c.err)
		}
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %q is not in what it says:\n%s", c.stack, c.want, out.String())
		}
		if runs, err := filepath.Glob(filepath.Join(artifacts, "soak", "*", "?")); err != nil || c.stack != "broken" && len(runs) != 2 {
			t.Errorf("%s: the folders are %v, %v", c.stack, runs, err)
		}
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	s := &Series{Settings: &settings.Settings{Stack: "good", Artifacts: t.TempDir()}, Log: progress.New(&bytes.Buffer{}), Out: &out}
	if err := s.soak(interrupted, self, 2, ""); !errors.Is(err, context.Canceled) || !strings.Contains(out.String(), "0 of 0 runs proven") {
		t.Errorf("interrupted: %v, and it says %q", err, out.String())
	}
	if err := (&Series{}).Soak(t.Context(), 0, ""); err == nil {
		t.Error("no run at all is taken for a soak")
	}
}

// A series goes on where an earlier one was broken off, if it is one of the same.
func TestASoakGoesOn(t *testing.T) {
	self, reports := cellSelf(t)
	report := &verdict.Report{Implementation: verdict.Implementation{Policy: "policies/p", SHA256: "one"}, Stack: verdict.Stack{Name: "good"},
		Requirements: []verdict.Result{{Requirement: verdict.Requirement{ID: "core/fresh"}, Verdict: verdict.Pass}}}
	written := func() {
		if err := report.Write(filepath.Join(reports, "good")); err != nil {
			t.Fatal(err)
		}
	}
	written()
	artifacts := t.TempDir()
	here, err := os.Getwd() // settings have an absolute path, reports one from here
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	soak := func(stack string, runs int, series string) error {
		out.Reset()
		s := &Series{Settings: &settings.Settings{Stack: stack, Policy: filepath.Join(here, "policies", "p"), Artifacts: artifacts, Procs: 1}, Log: progress.New(&out), Out: &out}
		return s.soak(t.Context(), self, runs, series)
	}
	if err := soak("good", 2, ""); err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(artifacts, "soak", "*"))
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	if err := soak("good", 3, folders[0]); err != nil || strings.Contains(out.String(), "run 2 of 3") || !strings.Contains(out.String(), "run 3 of 3: proven") || !strings.Contains(out.String(), "\n3 of 3 runs proven\n") {
		t.Errorf("going on: %v\n%s", err, out.String())
	}
	if err := soak("good", 3, folders[0]); err != nil || strings.Contains(out.String(), "run 3 of 3") || !strings.Contains(out.String(), "\n3 of 3 runs proven\n") {
		t.Errorf("with nothing left to do: %v\n%s", err, out.String())
	}
	if err := soak("bad", 4, folders[0]); err == nil || !strings.Contains(err.Error(), "the stack was good, and is bad") {
		t.Errorf("on another stack: %v", err)
	}
	report.Implementation.SHA256 = "two"
	written()
	if err := soak("good", 4, folders[0]); err == nil || !strings.Contains(err.Error(), "the policy's content was one, and is two") {
		t.Errorf("of a policy that has changed: %v", err)
	}
	if err := soak("good", 3, folders[0]); err != nil || !strings.Contains(out.String(), "\n3 of 3 runs proven\n") {
		t.Errorf("a run of something else was counted: %v\n%s", err, out.String())
	}
	if err := soak("good", 4, artifacts); err == nil || !strings.Contains(err.Error(), "SERIES: want the folder of an earlier soak") {
		t.Errorf("with no series: %v", err)
	}
}

// The runs of a soak are on the cluster that the soak was told to use.
func TestASoakPassesTheExternalClusterOn(t *testing.T) {
	self, _ := cellSelf(t)
	t.Setenv("KUBE_CONTEXT", "of the parent")
	var out bytes.Buffer
	s := &Series{
		Settings: &settings.Settings{Policy: "policies/p", Artifacts: t.TempDir(), External: settings.ExternalCluster{
			Context: "home", Kubeconfig: "/k", Allow: "theirs", BaseSecretFrom: "a/b",
		}},
		Log: progress.New(&bytes.Buffer{}), Out: &out,
	}
	if err := s.soak(t.Context(), self, 1, ""); !errors.Is(err, session.ErrNotProven) { // no stack is named, and the program knows none
		t.Error(err)
	}
	if want := "context=home of=/k allow=theirs secret=a/b\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in what its run was told:\n%s", want, out.String())
	}
}
