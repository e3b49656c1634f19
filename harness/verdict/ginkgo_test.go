package verdict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// at is t0 plus some seconds.
func at(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

func entry(name string, value any) types.ReportEntry {
	return types.ReportEntry{Name: name, Value: types.WrapEntryValue(value), Time: at(9)}
}

func failure(message string) types.Failure {
	return types.Failure{Message: message, Location: types.CodeLocation{FileName: "/src/e2e/core_test.go", LineNumber: 42}}
}

// it is a spec as Ginkgo and the recorder report it, changed as wanted: one that passed has recorded its end.
func it(text string, state types.SpecState, change ...func(*types.SpecReport)) types.SpecReport {
	s := types.SpecReport{
		LeafNodeType: types.NodeTypeIt, LeafNodeText: text, State: state,
		LeafNodeLocation: types.CodeLocation{FileName: "/src/e2e/core_test.go", LineNumber: 7},
		StartTime:        at(1), EndTime: at(3.5), RunTime: 2500 * time.Millisecond,
	}
	for _, c := range change {
		c(&s)
	}
	if state.Is(types.SpecStatePassed) {
		s.ReportEntries = append(s.ReportEntries, entry(NameBody, BodyReturned))
	}
	return s
}

// cleanUpFailed is a spec whose body returned, and a clean-up after it failed.
func cleanUpFailed(s *types.SpecReport) {
	s.Failure = failure("namespace stays")
	s.Failure.FailureNodeType = types.NodeTypeCleanupAfterEach
	s.ReportEntries = append(s.ReportEntries, entry(NameBody, BodyReturned))
}

func failing(message string) func(*types.SpecReport) {
	return func(s *types.SpecReport) { s.Failure = failure(message) }
}

func entries(e ...types.ReportEntry) func(*types.SpecReport) {
	return func(s *types.SpecReport) { s.ReportEntries = e }
}

func labels(l ...string) func(*types.SpecReport) {
	return func(s *types.SpecReport) { s.LeafNodeLabels = l }
}

// suite is a report of these specs that is otherwise complete: all that have a
// state other than pending were to run.
func suite(change func(*types.Report), specs ...types.SpecReport) types.Report {
	r := types.Report{
		SuitePath: "/src/e2e", SuiteDescription: "Smart Restore", SuiteSucceeded: true,
		StartTime: at(0), EndTime: at(10), SpecReports: specs,
	}
	r.SuiteConfig.ParallelTotal = 2
	for _, s := range specs {
		if s.Failed() {
			r.SuiteSucceeded = false
		}
		if s.LeafNodeType.Is(types.NodeTypeIt) {
			r.PreRunStats.TotalSpecs++
			if s.State != types.SpecStatePending {
				r.PreRunStats.SpecsThatWillRun++
			}
		}
	}
	if change != nil {
		change(&r)
	}
	return r
}

func read(t *testing.T, reports ...types.Report) ([]Result, SuiteInfo) {
	t.Helper()
	b, err := json.Marshal(reports)
	if err != nil {
		t.Fatal(err)
	}
	results, info, err := FromGinkgo(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return results, info
}

func TestFromGinkgoStates(t *testing.T) {
	noRS, began := entry(NameFail, "no RS"), entry(NameRequirement, EntryRequirement(Requirement{ID: "core/fresh", Level: Core}))
	cases := []struct {
		name    string
		spec    types.SpecReport
		verdict Verdict
		message string
		errors  string // the suite's
	}{
		{"passed", it("core/fresh", types.SpecStatePassed), Pass, "", ""},
		{"passed, and did not record its end", it("core/fresh", types.SpecStateInvalid, func(s *types.SpecReport) { s.State = types.SpecStatePassed }), Unknown,
			"the spec did not record that it came to its end", ""},
		{"passed, and left", it("core/fresh", types.SpecStateInvalid, entries(entry(NameBody, BodyLeft)), func(s *types.SpecReport) { s.State = types.SpecStatePassed }), Unknown,
			"the spec did not record that it came to its end", ""},
		{"failed", it("core/fresh", types.SpecStateFailed, failing("no RS"), entries(noRS)), Fail, "no RS", ""},
		{"failed in two ways", it("core/fresh", types.SpecStateFailed, failing("no RS"), entries(noRS, entry(NameFail, "no RD"), entry(NameFail, "no RS"))), Fail, "no RS\nalso: no RD", ""},
		{"failed, and nothing recorded it", it("core/fresh", types.SpecStateFailed, failing("no RS")), Unknown,
			"the spec ended without a verdict: no RS", "core/fresh: failed without recording a verdict: no RS"},
		{"failed without a word", it("core/fresh", types.SpecStateFailed), Unknown,
			"the spec ended without a verdict", "core/fresh: failed without recording a verdict: no reason was given"},
		{"recorded a fail that Ginkgo lost", it("core/fresh", types.SpecStatePassed, entries(noRS)), Fail, "no RS", ""},
		{"panicked", it("core/fresh", types.SpecStatePanicked, func(s *types.SpecReport) {
			s.Failure = failure("Test Panicked")
			s.Failure.ForwardedPanic = "nil map"
		}), Unknown, "the spec panicked: Test Panicked: nil map", "core/fresh: the spec panicked: Test Panicked: nil map"},
		{"panicked, as recorded", it("core/fresh", types.SpecStatePanicked, entries(entry(NameSuiteError, "panic: nil map (e2e/core_test.go:8)")), func(s *types.SpecReport) {
			s.Failure = failure("Test Panicked")
			s.Failure.ForwardedPanic = "nil map"
		}), Unknown, "the spec panicked: Test Panicked: nil map", "core/fresh: panic: nil map (e2e/core_test.go:8)"},
		{"its goroutine ended", it("core/fresh", types.SpecStatePanicked, func(s *types.SpecReport) {
			s.Failure = failure("Test Panicked")
			s.Failure.ForwardedPanic = "<nil>"
		}), Unknown, "the spec panicked: Test Panicked: its goroutine was ended without a panic (runtime.Goexit)",
			"core/fresh: the spec panicked: Test Panicked: its goroutine was ended without a panic (runtime.Goexit)"},
		{"timed out", it("core/fresh", types.SpecStateTimedout, entries(began, entry(NameBody, BodyLeft)), func(s *types.SpecReport) {
			s.Failure = failure("A spec timeout occurred")
			s.Failure.AdditionalFailure = &types.AdditionalFailure{State: types.SpecStateFailed, Failure: failure("wanted Bound, last seen Pending")}
		}), Unknown, "the spec ran out of time: A spec timeout occurred\nwanted Bound, last seen Pending", ""},
		{"timed out after it failed", it("core/fresh", types.SpecStateTimedout, failing("A spec timeout occurred"), entries(began, noRS, entry(NameBody, BodyLeft))), Fail, "no RS", ""},
		{"timed out after it came to its end", it("core/fresh", types.SpecStateTimedout, failing("A spec timeout occurred"), entries(began, entry(NameBody, BodyReturned))), Unknown,
			"the spec ran out of time: A spec timeout occurred", ""},
		{"leaked", it("core/fresh", types.SpecStateTimedout, failing("A spec timeout occurred"), entries(began)), Unknown, "the spec ran out of time: A spec timeout occurred",
			"core/fresh: leaked: its body went on after its time was up and the grace period was over, and may have disturbed specs that ran later"},
		{"interrupted", it("core/fresh", types.SpecStateInterrupted, failing("Interrupted by User"), entries(began, entry(NameBody, BodyLeft))), Unknown, "the spec was interrupted: Interrupted by User", ""},
		{"aborted", it("core/fresh", types.SpecStateAborted, failing("stop all")), Unknown, "the spec aborted the suite: stop all", ""},
		{"passed, and clean-up failed", it("core/fresh", types.SpecStateFailed, cleanUpFailed), Pass, "", "core/fresh: clean-up failed: namespace stays"},
		{"passed, and clean-up could not see", it("core/fresh", types.SpecStatePassed, entries(entry(NameBody, BodyReturned), entry(NameUnknown, "no answer"))), Pass, "",
			"core/fresh: recorded after the body: unknown: no answer"},
		{"failed, and clean-up failed as well", it("core/fresh", types.SpecStateFailed, failing("no RS"), entries(noRS), func(s *types.SpecReport) {
			also := failure("namespace stays")
			also.FailureNodeType = types.NodeTypeCleanupAfterEach
			s.AdditionalFailures = []types.AdditionalFailure{{State: types.SpecStateFailed, Failure: also}}
		}), Fail, "no RS", "core/fresh: clean-up failed: namespace stays"},
		{"a suite error", it("core/fresh", types.SpecStatePassed, entries(entry(NameSuiteError, "bucket: no answer"))), Pass, "", "core/fresh: bucket: no answer"},
		{"could not see", it("core/fresh", types.SpecStateFailed, failing("unknown: log not there"), entries(entry(NameUnknown, "log not there"))), Unknown, "log not there", ""},
		{"passed, but could not see", it("core/fresh", types.SpecStatePassed, entries(entry(NameUnknown, "no control"), entry(NameUnknown, "no log"))), Unknown, "no control; no log", ""},
		{"unknown without a reason", it("core/fresh", types.SpecStatePassed, entries(entry(NameUnknown, " "))), Unknown, "no reason was given", ""},
		{"failed, then could not see", it("core/fresh", types.SpecStateFailed, failing("no RS"), entries(noRS, entry(NameUnknown, "S3 is not back"))), Fail, "no RS\nand could not see: S3 is not back", ""},
		{"could not see, then failed", it("core/fresh", types.SpecStateFailed, failing("unknown: no log"), entries(entry(NameUnknown, "no log"), noRS)), Fail, "no RS\nand could not see: no log", ""},
		{"failed, and passed when tried again", it("core/fresh", types.SpecStatePassed, entries(began, noRS, entry(NameBody, BodyLeft), began)), Fail, "no RS", ""},
		{"could not see, and failed when tried again", it("core/fresh", types.SpecStateFailed, failing("no RS"),
			entries(began, entry(NameUnknown, "no log"), entry(NameBody, BodyLeft), began, noRS, entry(NameBody, BodyLeft))), Fail, "no RS\nand could not see: no log", ""},
		{"skipped by itself", it("core/fresh", types.SpecStateSkipped, failing("no Docker")), Unknown, "skipped: no Docker", ""},
		{"never reached", it("core/fresh", types.SpecStateSkipped), Unknown, "did not run: the run ended before it", ""},
		{"pending", it("core/fresh", types.SpecStatePending), Unknown, "pending: the spec is marked as not ready", ""},
		{"no state", it("core/fresh", types.SpecStateInvalid), Unknown, "Ginkgo's state: INVALID SPEC STATE", ""},
		{"evidence that is none", it("core/fresh", types.SpecStatePassed, entries(entry(NameEvidence, 7))), Unknown, "could not be read back: evidence 1 (json: cannot unmarshal number into Go value of type verdict.Evidence)", ""},
		{"requirement that is none", it("core/fresh", types.SpecStatePassed, entries(entry(NameRequirement, "{}"))), Unknown, "could not be read back: the requirement", ""},
		{"failed, with evidence that is none", it("core/fresh", types.SpecStateFailed, failing("no RS"), entries(noRS, entry(NameRequirement, "{}"))), Fail, "no RS\ncould not be read back: the requirement", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			results, info := read(t, suite(nil, c.spec))
			if len(results) != 1 || len(info.NotSelected) != 0 || info.SetupError != "" || len(info.Partial) != 0 {
				t.Fatalf("%+v\n%+v", results, info)
			}
			if got := strings.Join(info.Errors, "; "); got != c.errors {
				t.Errorf("suite errors\n     %q\nwant %q", got, c.errors)
			}
			r := results[0]
			if r.ID != "core/fresh" || r.Level != Core || r.Verdict != c.verdict || r.Message != c.message {
				t.Errorf("got  %s %s %q\nwant core/fresh %s %q", r.ID, r.Verdict, r.Message, c.verdict, c.message)
			}
			var report Report
			report.Add(results, info)
			if want := c.verdict == Pass && c.errors == ""; report.OK() != want {
				t.Errorf("the report is OK: %v, want %v", report.OK(), want)
			}
			if r.DurationSeconds != 2.5 || !r.Started.Equal(at(1)) || !r.Ended.Equal(at(3.5)) || r.Rerun != "make e2e FOCUS=core/fresh" {
				t.Errorf("%+v", r)
			}
			want := "e2e/core_test.go:7"
			if c.spec.Failed() && c.spec.Failure.Message != "" && c.verdict != Pass {
				want = "e2e/core_test.go:42"
			}
			if r.Location != want {
				t.Errorf("location %q, want %q", r.Location, want)
			}
			if r.Verdict == Pass && !r.FailedAt.IsZero() {
				t.Errorf("it passed, and gave up at %s", r.FailedAt)
			}
		})
	}
}

// What a filter leaves out is listed; what was left out otherwise is unknown.
func TestFromGinkgoSelection(t *testing.T) {
	specs := []types.SpecReport{
		it("core/fresh", types.SpecStatePassed, labels("core", "fast")),
		it("core/restore", types.SpecStateSkipped, labels("core")),
		it("safety/late", types.SpecStateSkipped, labels("safety")),
		it("safety/todo", types.SpecStatePending, labels("safety")),
	}
	cases := []struct {
		name        string
		change      func(*types.Report)
		unknown     string
		notSelected string
		partial     string
	}{
		{"no filter", func(*types.Report) {}, "core/restore safety/late safety/todo", "", ""},
		{"labels", func(r *types.Report) { r.SuiteConfig.LabelFilter = "fast" }, "", "core/restore safety/late safety/todo", "labels fast"},
		{"labels, one never reached", func(r *types.Report) { r.SuiteConfig.LabelFilter = "core" }, "core/restore", "safety/late safety/todo", "labels core"},
		{"labels of the suite count", func(r *types.Report) {
			r.SuiteLabels = []string{"e2e"}
			r.SuiteConfig.LabelFilter = "e2e && !safety"
		}, "core/restore", "safety/late safety/todo", "labels e2e && !safety"},
		{"focus", func(r *types.Report) { r.SuiteConfig.FocusStrings = []string{"fresh", "late"} }, "safety/late", "core/restore safety/todo", "focus fresh|late"},
		{"focus on the suite's own name", func(r *types.Report) { r.SuiteConfig.FocusStrings = []string{"^Smart Restore safety"} }, "safety/late safety/todo", "core/restore", "focus ^Smart Restore safety"},
		{"skip", func(r *types.Report) { r.SuiteConfig.SkipStrings = []string{"safety"} }, "core/restore", "safety/late safety/todo", "skip safety"},
		{"files", func(r *types.Report) { r.SuiteConfig.FocusFiles = []string{"other_test.go"} }, "", "core/restore safety/late safety/todo", "files other_test.go"},
		{"without files", func(r *types.Report) { r.SuiteConfig.SkipFiles = []string{"core_test.go"} }, "", "core/restore safety/late safety/todo", "without files core_test.go"},
		{"several", func(r *types.Report) {
			r.SuiteConfig.LabelFilter = "core"
			r.SuiteConfig.FocusStrings = []string{"fresh"}
		}, "", "core/restore safety/late safety/todo", "labels core, focus fresh"},
		{"a focus in the code", func(r *types.Report) { r.SuiteHasProgrammaticFocus = true; r.PreRunStats.SpecsThatWillRun = 1 }, "safety/todo", "core/restore safety/late", "a focus in the code"},
		{"a focus in the code, one never reached", func(r *types.Report) { r.SuiteHasProgrammaticFocus = true; r.PreRunStats.SpecsThatWillRun = 2 }, "core/restore safety/late safety/todo", "", "a focus in the code"},
		{"dry run", func(r *types.Report) { r.SuiteConfig.DryRun = true }, "core/fresh core/restore safety/late safety/todo", "", "dry run"},
		{"a filter that does not parse hides nothing", func(r *types.Report) { r.SuiteConfig.LabelFilter = "((" }, "core/restore safety/late safety/todo", "", "labels (("},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			results, info := read(t, suite(func(r *types.Report) {
				r.PreRunStats.SpecsThatWillRun = 1
				c.change(r)
			}, specs...))
			var unknown []string
			for _, r := range results {
				if r.Verdict == Unknown {
					unknown = append(unknown, r.ID)
				}
			}
			if got := strings.Join(unknown, " "); got != c.unknown {
				t.Errorf("unknown: %q, want %q", got, c.unknown)
			}
			if got := strings.Join(info.NotSelected, " "); got != c.notSelected {
				t.Errorf("not selected: %q, want %q", got, c.notSelected)
			}
			if got := strings.Join(info.Partial, ", "); got != c.partial {
				t.Errorf("partial: %q, want %q", got, c.partial)
			}
			if len(results)+len(info.NotSelected) != len(specs) {
				t.Errorf("%d results and %d not selected of %d specs", len(results), len(info.NotSelected), len(specs))
			}
		})
	}
}

func TestFromGinkgoIrregular(t *testing.T) {
	again := it("core/again", types.SpecStatePassed, func(s *types.SpecReport) { s.MaxFlakeAttempts, s.NumAttempts = 3, 2 })
	notPromised := it("safety/optional", types.SpecStateSkipped, failing("not promised"), entries(entry(NameNotPromised, "not promised")))
	_, info := read(t, suite(func(r *types.Report) { r.SuiteConfig.LabelFilter = "!slow" },
		it("core/fresh", types.SpecStatePassed), again, notPromised,
		it("core/late", types.SpecStateSkipped), it("core/left-out", types.SpecStateSkipped, labels("slow")),
		it("safety/own", types.SpecStateSkipped, failing("no Docker")), it("safety/todo", types.SpecStatePending),
		it("safety/cut", types.SpecStateInterrupted, failing("Interrupted by User")),
	))
	want := "interrupted: safety/cut; marked as not ready: safety/todo; never reached: core/late; skipped by the spec itself: safety/own; tried 2 times: core/again"
	if got := strings.Join(info.Irregular, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var r Report
	r.Add(nil, info)
	if got := strings.Join(r.Partial, "; "); got != "labels !slow; "+want {
		t.Error(got)
	}
}

func TestFromGinkgoIdentity(t *testing.T) {
	wanted := Requirement{ID: "core/restore", Sentence: "All comes back.", Level: Core}
	cases := []struct {
		name string
		spec types.SpecReport
		want Requirement
	}{
		{"entry", it("anything", types.SpecStatePassed, entries(entry(NameRequirement, EntryRequirement(wanted)))), wanted},
		{"entry as an object", it("anything", types.SpecStatePassed, entries(entry(NameRequirement, wanted))), wanted},
		{"entry without a level", it("", types.SpecStatePassed, entries(entry(NameRequirement, `{"id":"safety/x"}`))), Requirement{ID: "safety/x", Level: Safety}},
		{"text", it("core/restore", types.SpecStatePassed), Requirement{ID: "core/restore", Level: Core}},
		{"text and sentence", it("core/restore: All comes back.", types.SpecStatePassed), wanted},
		{"text and dash", it("core/restore — All comes back.", types.SpecStatePassed), wanted},
		{"container", it("All comes back.", types.SpecStatePassed, func(s *types.SpecReport) {
			s.ContainerHierarchyTexts = []string{"Smart Restore", "core/restore"}
		}), wanted},
		{"label", it("All comes back.", types.SpecStatePassed, labels("slow", "core/restore")), wanted},
		{"deep ID", it("core/s3-down/refused", types.SpecStatePassed), Requirement{ID: "core/s3-down/refused", Level: Core}},
		{"none", it("works", types.SpecStatePassed, labels("core", "other/thing")), Requirement{ID: "works"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			results, _ := read(t, suite(nil, c.spec))
			if got := results[0].Requirement; got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if results[0].Verdict != Pass {
				t.Errorf("%+v", results[0])
			}
		})
	}
}

func TestFromGinkgoEvidence(t *testing.T) {
	later := Evidence{Time: at(5), Kind: "bucket", Text: "unchanged", Data: map[string]any{"keys": 3.0}}
	results, info := read(t, suite(nil,
		types.SpecReport{LeafNodeType: types.NodeTypeBeforeSuite, State: types.SpecStatePassed, ReportEntries: types.ReportEntries{
			entry(NameEvidence, EntryEvidence(Evidence{Time: at(0), Kind: "stack", Text: "up"})),
		}},
		it("core/fresh", types.SpecStatePassed, entries(
			entry(NameEvidence, EntryEvidence(later)),
			entry("something else", "ignored"),
			entry(NameEvidence, EntryEvidence(Evidence{Time: at(4), Kind: "audit", Text: "no create"})),
			entry(NameEvidence, EntryEvidence(Evidence{Kind: "volume", Text: "no time of its own"})),
		), func(s *types.SpecReport) { s.MaxFlakeAttempts, s.NumAttempts = 3, 2 }),
	))
	var got []string
	for _, e := range results[0].Evidence {
		got = append(got, fmt.Sprintf("%s@%v", e.Kind, e.Time.Sub(t0).Seconds()))
	}
	if want := []string{"audit@4", "bucket@5", "volume@9", "ginkgo@3.5"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if e := results[0].Evidence[1]; e.Data["keys"] != 3.0 || e.Text != "unchanged" {
		t.Errorf("%+v", e)
	}
	if len(info.Evidence) != 1 || info.Evidence[0].Kind != "stack" {
		t.Errorf("%+v", info.Evidence)
	}
}

func TestEntryEvidenceNeverFails(t *testing.T) {
	for _, e := range []Evidence{
		{Kind: "k", Text: "channel", Data: map[string]any{"c": make(chan int)}},
		{Kind: "k", Text: "far future", Time: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		var back Evidence
		if err := json.Unmarshal([]byte(EntryEvidence(e)), &back); err != nil || back.Text != e.Text {
			t.Errorf("%s: %+v, %v", e.Text, back, err)
		}
	}
}

func TestFromGinkgoSetup(t *testing.T) {
	node := func(kind types.NodeType, state types.SpecState, message string) types.SpecReport {
		return types.SpecReport{LeafNodeType: kind, State: state, Failure: failure(message),
			LeafNodeLocation: types.CodeLocation{FileName: "/src/e2e/suite_test.go", LineNumber: 5}}
	}
	const sync = types.NodeTypeSynchronizedBeforeSuite
	echo := types.GinkgoErrors.SynchronizedBeforeSuiteFailedOnProc1().Error()
	cases := []struct {
		name    string
		change  func(*types.Report)
		nodes   []types.SpecReport
		setup   string
		errors  []string
		results int
	}{
		{"before suite failed", nil, []types.SpecReport{node(types.NodeTypeBeforeSuite, types.SpecStateFailed, "no engine")}, "no engine", nil, 0},
		{"on process 1, the others echo", nil, []types.SpecReport{
			node(sync, types.SpecStateFailed, echo),
			node(sync, types.SpecStateFailed, "no engine"),
			node(sync, types.SpecStateInterrupted, "Interrupted by Other Ginkgo Process"),
		}, "no engine", nil, 0},
		{"two causes", nil, []types.SpecReport{
			node(sync, types.SpecStateFailed, "a"), node(sync, types.SpecStateFailed, "b"), node(sync, types.SpecStateFailed, "a"),
		}, "a\nb", nil, 0},
		{"interrupted in set-up", func(r *types.Report) { r.SpecialSuiteFailureReasons = []string{"Interrupted by User"} }, []types.SpecReport{
			node(sync, types.SpecStateInterrupted, "Interrupted by User"),
		}, "Interrupted by User", []string{"Interrupted by User"}, 0},
		{"skipped in set-up", func(r *types.Report) {
			r.SpecialSuiteFailureReasons = []string{"Suite skipped in BeforeSuite"}
		}, []types.SpecReport{
			node(types.NodeTypeBeforeSuite, types.SpecStateSkipped, "no root"),
			it("core/fresh", types.SpecStateSkipped),
		}, "skipped: no root", nil, 1},
		{"clean-up failed", nil, []types.SpecReport{
			it("core/fresh", types.SpecStatePassed),
			node(types.NodeTypeCleanupAfterSuite, types.SpecStateFailed, "a container stays"),
		}, "", []string{"DeferCleanup (Suite) (e2e/core_test.go:42): a container stays"}, 1},
		{"after suite failed", nil, []types.SpecReport{
			it("core/fresh", types.SpecStatePassed),
			node(types.NodeTypeSynchronizedAfterSuite, types.SpecStatePanicked, "boom"),
		}, "", []string{"SynchronizedAfterSuite (e2e/core_test.go:42): boom"}, 1},
		{"interrupted", func(r *types.Report) {
			r.SuiteSucceeded = false
			r.SpecialSuiteFailureReasons = []string{"Interrupted by User"}
		}, []types.SpecReport{it("core/fresh", types.SpecStatePassed), it("core/restore", types.SpecStateSkipped)},
			"", []string{"Interrupted by User"}, 2},
		{"a process died", func(r *types.Report) { r.PreRunStats.SpecsThatWillRun = 3 }, []types.SpecReport{it("core/fresh", types.SpecStatePassed)},
			"", []string{"2 of 3 selected specs left no report: a Ginkgo process may have died, see ginkgo.log"}, 1},
		{"failed for no reason", func(r *types.Report) { r.SuiteSucceeded = false }, []types.SpecReport{it("core/fresh", types.SpecStatePassed)},
			"", []string{"Ginkgo says that the suite failed, and gives no reason"}, 1},
		{"one ID twice", nil, []types.SpecReport{it("core/fresh", types.SpecStatePassed), it("core/fresh", types.SpecStatePassed)},
			"", []string{"two specs claim the requirement core/fresh"}, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			results, info := read(t, suite(c.change, c.nodes...))
			if info.SetupError != c.setup || !slices.Equal(info.Errors, c.errors) || len(results) != c.results {
				t.Errorf("set-up %q, want %q\nerrors %q, want %q\n%d results, want %d", info.SetupError, c.setup, info.Errors, c.errors, len(results), c.results)
			}
			var report Report
			report.Add(results, info)
			if report.OK() {
				t.Error("the report is OK")
			}
		})
	}
	// The reason is said at the spec that it kept from running.
	results, _ := read(t, suite(func(r *types.Report) { r.SpecialSuiteFailureReasons = []string{"Suite Timeout Elapsed"} },
		it("core/restore", types.SpecStateSkipped)))
	if results[0].Message != "did not run: the run ended before it (Suite Timeout Elapsed)" {
		t.Errorf("%q", results[0].Message)
	}
}

func TestFromGinkgoOrderAndInput(t *testing.T) {
	results, info := read(t, suite(nil,
		it("scale/storm", types.SpecStatePassed), it("core/restore", types.SpecStatePassed), it("works", types.SpecStatePassed),
		it("safety/late", types.SpecStatePassed), it("core/fresh", types.SpecStatePassed)))
	var ids []string
	for _, r := range results {
		ids = append(ids, r.ID)
	}
	if got := strings.Join(ids, " "); got != "core/fresh core/restore safety/late scale/storm works" {
		t.Error(got)
	}
	if info.TotalSpecs != 5 || info.SelectedSpecs != 5 || info.Procs != 2 || !info.Started.Equal(at(0)) || !info.Ended.Equal(at(10)) {
		t.Errorf("%+v", info)
	}
	for _, bad := range []string{"", "{}", "[]", "[{", `"x"`} {
		if _, _, err := FromGinkgo(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
