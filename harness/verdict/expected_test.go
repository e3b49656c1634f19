package verdict

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2/types"
)

// expecting is a report with a result of every outcome.
func expecting() *Report {
	r := &Report{Requirements: []Result{
		{Requirement: Requirement{ID: "core/fresh", Level: Core}, Verdict: Pass, Rerun: "make e2e FOCUS=core/fresh"},
		{Requirement: Requirement{ID: "safety/late-restore", Level: Safety}, Verdict: Fail, Message: "restored over\nat 12:00", Rerun: "make e2e FOCUS=safety/late-restore"},
		{Requirement: Requirement{ID: "safety/isolation", Level: Safety}, Verdict: Pass, Rerun: "make e2e FOCUS=safety/isolation"},
		{Requirement: Requirement{ID: "safety/token-leak", Level: Safety}, Verdict: Unknown, Message: "no log", Rerun: "make e2e FOCUS=safety/token-leak"},
		{Requirement: Requirement{ID: "safety/no-app-before-restore", Level: Safety, Feature: "gated-start"}, Verdict: NotPromised, Message: "the policy does not promise gated-start"},
	}}
	r.Expect(map[string]string{
		"safety/late-restore": "it asks S3 again", "safety/isolation": "names are cut off", "safety/token-leak": "old Kyverno", "safety/not-selected": "left alone",
	})
	return r
}

func TestExpectations(t *testing.T) {
	for _, c := range []struct {
		name     string
		verdict  Verdict
		expected string
		ok       bool
		counts   Counts
		summary  string
	}{
		{"passes", Pass, "", true, Counts{Pass: 1}, "1 passed, 0 failed, 0 unknown"},
		{"fails", Fail, "", false, Counts{Fail: 1}, "0 passed, 1 failed, 0 unknown"},
		{"fails as expected", Fail, "known", true, Counts{ExpectedFail: 1}, "0 passed, 0 failed, 1 failed as expected, 0 unknown"},
		{"passes as a surprise", Pass, "known", false, Counts{Surprise: 1}, "0 passed, 0 failed, 1 passed although expected to fail, 0 unknown"},
		{"unknown", Unknown, "", false, Counts{Unknown: 1}, "0 passed, 0 failed, 1 unknown"},
		{"unknown where a failure is expected", Unknown, "known", false, Counts{Unknown: 1}, "0 passed, 0 failed, 1 unknown"},
		{"not promised", NotPromised, "", true, Counts{NotPromised: 1}, "0 passed, 0 failed, 1 not promised, 0 unknown"},
		{"not promised, where a failure is expected", NotPromised, "known", true, Counts{NotPromised: 1}, "0 passed, 0 failed, 1 not promised, 0 unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{Requirements: []Result{{Requirement: Requirement{ID: "core/x"}, Verdict: c.verdict}}}
			r.Expect(map[string]string{"core/x": c.expected, "core/other": "not selected"})
			failures := 1
			if c.ok {
				failures = 0
			}
			if r.OK() != c.ok || r.Failures() != failures || r.Count() != c.counts || r.Count().String() != c.summary {
				t.Errorf("OK %v, %d failures, %+v, %s", r.OK(), r.Failures(), r.Count(), r.Count())
			}
		})
	}
}

// Summary, Markdown, JUnit and the report say the same of an expected failure, a surprise and what is not promised.
func TestExpectationsAreShown(t *testing.T) {
	r := expecting()
	var summary, markdown bytes.Buffer
	dir := t.TempDir()
	for _, err := range []error{r.Summary(&summary, false), r.Markdown(&markdown), r.Write(dir), r.WriteJUnit(filepath.Join(dir, "junit.xml"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "summary-expected.txt", summary.Bytes())
	golden(t, "markdown-expected.md", markdown.Bytes())
	back, err := Read(filepath.Join(dir, "report.yaml"))
	if err != nil || !reflect.DeepEqual(back.Requirements, r.Requirements) {
		t.Errorf("%+v\n%v", back, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "junit-expected.xml", text)
	var junit junitSuites
	if err := xml.Unmarshal(text, &junit); err != nil {
		t.Fatal(err)
	}
	suite := junit.Suites[0]
	if junit.Failures != r.Failures() || suite.Skipped != 2 {
		t.Errorf("JUnit has %d failures and %d skipped, the report %d failures", junit.Failures, suite.Skipped, r.Failures())
	}
	for _, c := range suite.Cases {
		failed := strings.HasPrefix(c.Name, "safety/isolation") || strings.HasPrefix(c.Name, "safety/token-leak")
		if (c.Failure != nil) != failed || c.Failure != nil && c.Skipped != nil {
			t.Errorf("%s: %+v, %+v", c.Name, c.Failure, c.Skipped)
		}
	}
}

func TestFromGinkgoNotPromised(t *testing.T) {
	skipped := func(e ...types.ReportEntry) types.SpecReport {
		return it("safety/x", types.SpecStateSkipped, failing("the policy does not promise gated-start"), entries(e...))
	}
	promise := entry(NameNotPromised, EntryNotPromised("the policy does not promise gated-start"))
	for _, c := range []struct {
		name string
		spec types.SpecReport
		want Verdict
	}{
		{"skipped for that", skipped(promise), NotPromised},
		{"skipped for something else", skipped(), Unknown},
		{"passed all the same", it("safety/x", types.SpecStatePassed, entries(promise)), Pass},
		{"failed all the same", it("safety/x", types.SpecStateFailed, failing("no RS"), entries(promise, entry(NameFail, "no RS"))), Fail},
		{"skipped, and could not see", skipped(promise, entry(NameUnknown, "no log")), Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			results, info := read(t, suite(nil, c.spec))
			if len(results) != 1 || results[0].Verdict != c.want || len(info.Errors) != 0 {
				t.Errorf("%+v, %+v", results, info)
			}
		})
	}
	// A suite that failed without a failed spec is not excused by one that was not promised.
	_, info := read(t, suite(func(r *types.Report) { r.SuiteSucceeded = false }, skipped(promise)))
	if len(info.Errors) != 1 {
		t.Errorf("%+v", info)
	}
}

func TestFeatures(t *testing.T) {
	if err := CheckFeature("gated-start"); err != nil {
		t.Error(err)
	}
	if err := CheckFeature("gated"); err == nil || !strings.Contains(err.Error(), "want one of gated-start, visible-decision") {
		t.Error(err)
	}
}
