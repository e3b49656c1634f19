package session

import (
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/blind"
	"github.com/smart-restore/conformance/harness/verdict"
)

func TestRateSight(t *testing.T) {
	passOrUnknown := []verdict.Verdict{verdict.Pass, verdict.Unknown}
	for name, c := range map[string]struct {
		verdict     verdict.Verdict
		suiteErrors []string
		wantsError  bool
		setup       string
		want        bool
	}{
		"pass":                         {verdict: verdict.Pass, want: true},
		"unknown":                      {verdict: verdict.Unknown, want: true},
		"fail":                         {verdict: verdict.Fail},
		"no spec ran":                  {setup: "the API server did not answer", want: true},
		"an error of the suite's":      {verdict: verdict.Pass, suiteErrors: []string{"clean-up"}, wantsError: true, want: true},
		"none, though there was to be": {verdict: verdict.Pass, wantsError: true},
	} {
		report := &verdict.Report{SetupError: c.setup, SuiteErrors: c.suiteErrors}
		if c.verdict != "" {
			report.Requirements = []verdict.Result{{Requirement: verdict.Requirement{ID: "core/fresh"}, Verdict: c.verdict}}
		}
		if got := rateSight(blind.Row{Spec: "core/fresh", SuiteError: c.wantsError}, "good", passOrUnknown, report); got.OK != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestPrintSights(t *testing.T) {
	var b strings.Builder
	if !printSights(&b, []sight{{Row: "a", Policy: "good", OK: true}, {Row: "b", Policy: "bad"}}) || !strings.Contains(b.String(), "1 right, 1 wrong") {
		t.Error(b.String())
	}
}
