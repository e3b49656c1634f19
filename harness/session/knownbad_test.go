package session

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/verdict"
)

func TestRateCatches(t *testing.T) {
	result := func(id string, v verdict.Verdict, message string) verdict.Result {
		return verdict.Result{Requirement: verdict.Requirement{ID: id}, Verdict: v, Message: message}
	}
	finding := &policy.Finding{Requirement: policy.Label, Text: "it is for others"}
	for _, c := range []struct {
		name    string
		by      string
		results []verdict.Result
		found   error
		caught  bool
		text    string
	}{
		{"by its spec", "core/fresh", []verdict.Result{result("core/fresh", verdict.Fail, "an RD\nwas made")}, nil, true, "an RD"},
		{"its spec passed", "core/fresh", []verdict.Result{result("core/fresh", verdict.Pass, "")}, nil, false, "pass"},
		{"its spec could not see", "core/fresh", []verdict.Result{result("core/fresh", verdict.Unknown, "no log")}, nil, false, "unknown: no log"},
		{"its spec is not promised", "core/fresh", []verdict.Result{result("core/fresh", verdict.NotPromised, "no promise")}, nil, false, "not-promised: no promise"},
		{"another spec failed", "core/fresh", []verdict.Result{result("core/restore", verdict.Fail, "x")}, nil, false, "no spec of that name ran"},
		{"by its finding", policy.Label, nil, fmt.Errorf("around: %w", errors.Join(finding)), true, "it is for others [policy/label]"},
		{"another finding", policy.Acts, nil, finding, false, "it is for others [policy/label]"},
		{"a finding where a spec was to catch it", "core/fresh", nil, finding, false, "it is for others [policy/label]"},
		{"no finding", policy.Label, []verdict.Result{result("core/fresh", verdict.Fail, "x")}, nil, false, "nothing of the kind was found before specs ran"},
		{"an error that is none", policy.Accepted, nil, errors.New("no engine"), false, "no engine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := rateCatches(policy.Contract{Name: "p", CaughtBy: []string{c.by}}, c.results, c.found)
			if len(got) != 1 || got[0] != (catch{"p", c.by, c.caught, c.text}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestPrintCatches(t *testing.T) {
	var b bytes.Buffer
	if !printCatches(&b, []catch{{"one", "core/fresh", true, "an RD"}, {"other", "core/restore", false, "pass"}}) {
		t.Error("one was missed")
	}
	want := "caught      one    core/fresh    an RD\nNOT CAUGHT  other  core/restore  pass\n1 caught, 1 not caught\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if printCatches(&b, []catch{{"one", "core/fresh", true, ""}}) {
		t.Error("none was missed")
	}
}

// A FOCUS that is an ID selects that spec alone.
func TestFocusOnID(t *testing.T) {
	specs := func() []spec {
		return []spec{{ID: "core/s3-down/reset", Selected: true}, {ID: "core/s3-down/reset-late", Selected: true}}
	}
	for focus, want := range map[string]string{
		"core/s3-down/reset":      "core/s3-down/reset",
		"core/s3-down/reset-late": "core/s3-down/reset-late",
		"core/s3-down":            "core/s3-down/reset core/s3-down/reset-late",
	} {
		listed := specs()
		sel := selection{focus: focus}.onID(listed)
		re := regexp.MustCompile(strings.TrimPrefix(sel.args()[0], "--focus="))
		var selected, matched []string
		for _, sp := range listed {
			if sp.Selected {
				selected = append(selected, sp.ID)
			}
			if re.MatchString("Smart Restore conformance " + sp.ID + " While S3 is down") {
				matched = append(matched, sp.ID)
			}
		}
		if strings.Join(selected, " ") != want || !slices.Equal(selected, matched) {
			t.Errorf("FOCUS=%s selects %v, and Ginkgo %v", focus, selected, matched)
		}
	}
}

// The line that runs a spec again names the settings that the run had.
func TestRerunLine(t *testing.T) {
	run := func(change func(*e2eRun)) string {
		r := &e2eRun{
			Session: &Session{
				Settings: &settings.Settings{Images: "auto"},
				Lock:     &stack.Lock{DefaultStack: "kyverno-1.19"}, Stack: &stack.Stack{Name: "kyverno-1.19"},
			},
			report: &verdict.Report{Implementation: verdict.Implementation{Policy: "policies/smart-restore"}},
		}
		change(r)
		return r.rerunLine("core/fresh")
	}
	for want, change := range map[string]func(*e2eRun){
		"make e2e FOCUS=core/fresh":                                    func(*e2eRun) {},
		"make e2e FOCUS=core/fresh POLICY=fixtures/known-bad/x":        func(r *e2eRun) { r.report.Implementation.Policy = "fixtures/known-bad/x" },
		"make e2e FOCUS=core/fresh STACK=kyverno-1.13 POLICY='/my p'":  func(r *e2eRun) { r.Stack.Name = "kyverno-1.13"; r.report.Implementation.Policy = "/my p" },
		"make e2e FOCUS=core/fresh S3_ENDPOINT=http://10.0.0.5:9000":   func(r *e2eRun) { r.Settings.S3Endpoint.URL = "http://10.0.0.5:9000" },
		"make e2e FOCUS=core/fresh IMAGES=build POLICY='it'\\''s/$$x'": func(r *e2eRun) { r.Settings.Images = "build"; r.report.Implementation.Policy = "it's/$x" },
		"make e2e FOCUS=core/fresh KUBE_CONTEXT=home KUBECONFIG=/k ALLOW_CLUSTER=theirs BASE_SECRET_FROM=a/b": func(r *e2eRun) {
			r.Settings.External = settings.ExternalCluster{Context: "home", Kubeconfig: "/k", Allow: "theirs", BaseSecretFrom: "a/b"}
		},
		"make e2e FOCUS=core/fresh  ": func(r *e2eRun) { r.Settings.External.Kubeconfig = "/k" },
	} {
		if got := run(change); got != strings.TrimSpace(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
