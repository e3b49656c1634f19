package session

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/report/page"
	"github.com/smart-restore/conformance/harness/verdict"
)

func written(t *testing.T, change func(*verdict.Report)) string {
	t.Helper()
	r := &verdict.Report{
		Run: verdict.Run{ID: "r7"}, Implementation: verdict.Implementation{Policy: "policies/x", SHA256: "abc"},
		Stack: verdict.Stack{Name: "kyverno-1.19", Endpoint: "http://10.0.0.5:9000", Images: "build"},
		Requirements: []verdict.Result{
			{Requirement: verdict.Requirement{ID: "core/fresh"}, Verdict: verdict.Pass},
			{Requirement: verdict.Requirement{ID: "core/restore"}, Verdict: verdict.Pass},
		},
	}
	if change != nil {
		change(r)
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestShowReport(t *testing.T) {
	failed := func(r *verdict.Report) {
		r.Requirements[1].Verdict, r.Requirements[1].Message = verdict.Fail, "not back"
	}
	for name, c := range map[string]struct {
		change func(*verdict.Report)
		file   string
		want   error
		says   string
	}{
		"good":             {nil, "", nil, "2 passed, 0 failed\n"},
		"by its file":      {nil, "report.json", nil, "2 passed, 0 failed\n"},
		"something failed": {failed, "", ErrNotProven, "not back"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := written(t, c.change)
			var out bytes.Buffer
			if err := ShowReport(&out, filepath.Join(dir, c.file)); !errors.Is(err, c.want) || !strings.Contains(out.String(), c.says) {
				t.Errorf("%v\n%s", err, out.String())
			}
			if _, err := os.Stat(filepath.Join(dir, page.File)); err != nil {
				t.Error(err)
			}
		})
	}
	if err := ShowReport(&bytes.Buffer{}, t.TempDir()); err == nil || !strings.Contains(err.Error(), "report.yaml") {
		t.Error(err)
	}
}

func TestDiffSaysWhetherItIsWorse(t *testing.T) {
	good := written(t, nil)
	bad := written(t, func(r *verdict.Report) { r.Requirements[1].Verdict = verdict.Unknown })
	for _, c := range []struct {
		base, candidate string
		want            error
	}{{good, good, nil}, {good, bad, ErrWorse}, {bad, good, nil}} {
		var out bytes.Buffer
		if err := Diff(&out, c.base, c.candidate, true); !errors.Is(err, c.want) || out.Len() == 0 {
			t.Errorf("%v, wanted %v", err, c.want)
		}
	}
	if err := Diff(&bytes.Buffer{}, good, t.TempDir(), false); err == nil || errors.Is(err, ErrWorse) || !strings.HasPrefix(err.Error(), "candidate: ") {
		t.Error(err)
	}
}

func TestWhatIsRunAgain(t *testing.T) {
	r := &verdict.Report{Requirements: []verdict.Result{
		{Requirement: verdict.Requirement{ID: "a"}, Verdict: verdict.Pass},
		{Requirement: verdict.Requirement{ID: "b"}, Verdict: verdict.Fail},
		{Requirement: verdict.Requirement{ID: "c"}, Verdict: verdict.Fail, ExpectedFailure: "known"},
		{Requirement: verdict.Requirement{ID: "d"}, Verdict: verdict.Unknown},
		{Requirement: verdict.Requirement{ID: "e"}, Verdict: verdict.Pass, ExpectedFailure: "known"},
		{Requirement: verdict.Requirement{ID: "f"}, Verdict: verdict.NotPromised},
	}}
	if got := toRerun(r); !slices.Equal(got, []string{"b", "d", "e"}) || !NeedsRerun(r) {
		t.Error(got)
	}
	r.Requirements = r.Requirements[:1]
	if NeedsRerun(r) {
		t.Error("what passed is run again")
	}
	r.SetupError = "no engine"
	if !NeedsRerun(r) {
		t.Error("a run that tried nothing is not run again")
	}
	environment := RerunSettings(&verdict.Report{Implementation: verdict.Implementation{Policy: "p"}, Stack: verdict.Stack{Name: "s", Endpoint: "of the contract", Images: "build"}, Selection: verdict.Selection{EndpointSetting: "e"}})
	if environment["POLICY"] != "p" || environment["STACK"] != "s" || environment["S3_ENDPOINT"] != "e" || environment["IMAGES"] != "build" {
		t.Error(environment)
	}
	if focus, set := environment["FOCUS"]; !set || focus != "" {
		t.Error("a FOCUS of the environment is left to narrow the rerun")
	}
}

func TestRerunOnAClusterHasToBeAllowedAgain(t *testing.T) {
	given := RerunSettings(&verdict.Report{Stack: verdict.Stack{Name: "external cluster theirs", ExternalCluster: verdict.ExternalCluster{Name: "theirs", Context: "test", BaseSecretFrom: "a/b"}}})
	if given["KUBE_CONTEXT"] != "test" || given["BASE_SECRET_FROM"] != "a/b" || given["STACK"] != "" {
		t.Error(given)
	}
	if _, set := given["ALLOW_CLUSTER"]; set {
		t.Error("a report allows a cluster")
	}
	ours := RerunSettings(&verdict.Report{Stack: verdict.Stack{Name: "s"}})
	for _, name := range []string{"KUBE_CONTEXT", "ALLOW_CLUSTER", "PLAN"} {
		if value, set := ours[name]; !set || value != "" {
			t.Errorf("%s of the environment is left to a rerun on a stack of ours", name)
		}
	}
}

func TestPartialSaysWhichSpecsWereChosen(t *testing.T) {
	sel := selection{only: []string{"core/a", "core/b"}, rerunOf: "r7"}
	got := sel.inWords([]string{"labels x", "focus " + exactly(sel.only)})
	if want := []string{"labels x", "only what failed or was unknown in run r7: core/a, core/b"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := (selection{}).inWords([]string{"focus x"}); !slices.Equal(got, []string{"focus x"}) {
		t.Errorf("%q", got)
	}
}
