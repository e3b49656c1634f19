package verdict

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is a report with something of everything.
func sample() *Report {
	return &Report{
		Run:            Run{ID: "r7", Started: at(0), Ended: at(100.25), Host: Host{OS: "linux", CPUs: 2, MemoryBytes: 24 << 30}},
		Implementation: Implementation{Policy: "policies/smart-restore", SHA256: "abc", Objects: []string{"GeneratingPolicy/restore"}},
		Stack: Stack{Name: "default", Requested: map[string]string{"kyverno": "v1.19.1", "volsync": "v0.14.0"},
			Observed: map[string]Component{"kyverno": {Version: "v1.19.1", Image: "kyverno:v1.19.1", ImageID: "sha256:1"}, "volsync": {Version: "v0.14.0"}}},
		Selection: Selection{Labels: "core", Procs: 4, Keep: "never", KeptStack: true},
		Partial:   []string{"labels core", "on a stack that was up before"},
		Phases:    []Phase{{"boot", at(0), 22, ""}, {"install", at(22), 15.5, "webhook: no answer\nfor 30 s"}},
		Timings:   Timings{Scale: 1.5, Seconds: map[string]float64{"mover": 135}},
		Requirements: []Result{
			{Requirement: Requirement{ID: "core/fresh", Sentence: "A labelled PVC binds.", Level: Core}, Verdict: Pass, Started: at(40), Ended: at(48.1), DurationSeconds: 8.1, Rerun: "make e2e FOCUS=core/fresh",
				Evidence: []Evidence{{Time: at(41), Kind: "audit", Text: "no create", Data: map[string]any{"n": 0.0, "names": []any{"a", "b"}}}}},
			{Requirement: Requirement{ID: "core/restore", Sentence: "All <comes> back | all.", Level: Core}, Verdict: Fail, DurationSeconds: 42, Rerun: "make e2e FOCUS=core/restore",
				Message: "Expected\n    <string>: a\nto equal\n    <string>: b", Location: "e2e/core_test.go:42"},
			{Requirement: Requirement{ID: "core/s3-down/refused", Sentence: "Nothing is restored.", Level: Core}, Verdict: Unknown, DurationSeconds: 103.25, Rerun: "make e2e FOCUS=core/s3-down/refused",
				Message: "the fault was not on: ```\x01 ]]> &", Location: "e2e/core_test.go:50"},
		},
		NotSelected: []string{"safety/late"},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s\ngot\n%s\nwant\n%s", path, got, want)
	}
}

func TestSummaryAndMarkdown(t *testing.T) {
	good := &Report{Requirements: []Result{{Requirement: Requirement{ID: "core/fresh"}, Verdict: Pass, DurationSeconds: 8.149}}}
	broken := &Report{SetupError: "no engine\nand no root", SuiteErrors: []string{"a container stays"}, Redact: func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("engine"), []byte("[redacted]"))
	}}
	cases := []struct {
		name   string
		report *Report
		color  bool
		last   string
	}{
		{"mixed", sample(), false, "1 passed, 2 failed"},
		{"mixed-color", sample(), true, "1 passed, 2 failed"},
		{"good", good, true, "1 passed, 0 failed"},
		{"broken", broken, false, "0 passed, 2 failed"},
		{"nothing", &Report{}, false, "0 passed, 0 failed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := c.report.Summary(&b, c.color); err != nil {
				t.Fatal(err)
			}
			golden(t, "summary-"+c.name+".txt", b.Bytes())
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if lines[len(lines)-1] != c.last {
				t.Errorf("last line %q, want %q", lines[len(lines)-1], c.last)
			}
			if c.color {
				return
			}
			b.Reset()
			if err := c.report.Markdown(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, "markdown-"+c.name+".md", b.Bytes())
		})
	}
}

func TestFirstLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "no reason was given",
		"\n  \n one  two \nthree": "one two",
		"Expected\n  <int>: 1\nto equal\n  <int>: 2\nmore": "Expected <int>: 1 to equal <int>: 2",
		"Timed out after 3s.\nlast seen: Pending\nx":       "Timed out after 3s. last seen: Pending",
		"wanted: a within 30s\nlast seen: b, for 2 s\nx":   "wanted: a within 30s last seen: b, for 2 s",
		"the PVC did not bind:\nPending\nx":                "the PVC did not bind: Pending",
		"\x1b[31mred\x07":                                  "[31mred",
		strings.Repeat("é", 200):                           strings.Repeat("é", 159) + "…",
	} {
		if got := FirstLine(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestRerunLine(t *testing.T) {
	for id, want := range map[string]string{
		"core/s3-down/refused": "make e2e FOCUS=core/s3-down/refused",
		"it's $HOME (odd)":     "make e2e FOCUS='it.s .HOME .odd.'",
		"":                     "make e2e FOCUS=''",
	} {
		if got := RerunLine(id); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}

func TestReportOK(t *testing.T) {
	result := func(v ...Verdict) (out []Result) {
		for _, v := range v {
			out = append(out, Result{Requirement: Requirement{ID: "core/x"}, Verdict: v})
		}
		return out
	}
	for _, c := range []struct {
		name     string
		report   Report
		ok       bool
		failures int
	}{
		{"nothing", Report{}, false, 0},
		{"only not selected", Report{NotSelected: []string{"core/x"}}, false, 0},
		{"all passed", Report{Requirements: result(Pass, Pass)}, true, 0},
		{"passed in part", Report{Requirements: result(Pass), NotSelected: []string{"core/y"}, Partial: []string{"focus"}}, true, 0},
		{"one failed", Report{Requirements: result(Pass, Fail)}, false, 1},
		{"one unknown", Report{Requirements: result(Pass, Unknown)}, false, 1},
		{"one without a verdict", Report{Requirements: result(Pass, "")}, false, 1},
		{"set-up", Report{Requirements: result(Pass), SetupError: "x"}, false, 1},
		{"suite", Report{Requirements: result(Pass), SuiteErrors: []string{"x", "y"}}, false, 1},
	} {
		if got := c.report.OK(); got != c.ok || c.report.Failures() != c.failures {
			t.Errorf("%s: OK %v, %d failures", c.name, got, c.report.Failures())
		}
	}
}

func TestReportWriteRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "artifacts")
	for range 2 { // over an older one too
		if err := sample().Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	want := sample()
	want.APIVersion, want.Kind = APIVersion, Kind
	want.Counts = Counts{Pass: 1, Fail: 1, Unknown: 1, NotSelected: 1}
	want.Levels = map[string]Counts{Core: {Pass: 1, Fail: 1, Unknown: 1}}
	for _, f := range Features {
		want.Implementation.Features.NotPromised = append(want.Implementation.Features.NotPromised, f.Name)
	}
	for _, name := range []string{"report.yaml", "report.json"} {
		got, err := Read(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", name, got, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"apiVersion: conformance.smart-restore.io/v1alpha1\n", "kind: Report\n", "verdict: pass\n", "summary:\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	// Strict: each of these changes must be refused, where it says so at the | in the text that at has.
	for _, c := range []struct{ from, to, at, why string }{
		{"kind: Report", "kind: Reports", "kind: |Reports", `found kind "Reports"`},
		{"v1alpha1", "v2", "apiVersion: |", `found kind "Report" of apiVersion "conformance.smart-restore.io/v2", want Report of conformance.smart-restore.io/v1alpha1`},
		{"v1alpha1", "v2\nextra: 1", "apiVersion: |", `found kind "Report" of apiVersion "conformance.smart-restore.io/v2"`}, // which says more than "no field"
		{"verdict: pass", "verdict: good", "", `core/fresh: found the verdict "good", want one of pass, fail, unknown, not-promised`},
		{"summary:\n  expectedFail: 0", "summary:\n  expectedFail: 1", "", "its summary says 1 passed, 1 failed, 1 failed as expected, 1 unknown, 1 not selected; its requirements make 1 passed, 1 failed, 1 unknown, 1 not selected"},
		{"    pass: 1", "    pass: 2", "levels:\n  |core:", "its levels say core: 2 passed, 1 failed, 1 unknown; its requirements make core: 1 passed, 1 failed, 1 unknown"},
		{"kind: Report", "kind: Report\nextra: 1", "\n|extra: 1", `there is no field "extra"`},
		{"durationSeconds: 8.1", "durationSeconds: long", "durationSeconds: |long", `found is "long" (str), wanted a number`},
		{"sentence: A labelled", "sentense: A labelled", "", `there is no field "sentense"`},
		{"id: core/restore", "id: core/fresh", "", "core/fresh is there twice"},
		{"apiVersion:", "# text\n--- \napiVersion: x\n---\napiVersion:", "", "a second document"},
		{"labels: core", "labels: &l core\n  focus: *l", "", "anchors and aliases are not taken"},
		{"kind: Report", "kind: Report\nkind: Report", "kind: Report\n|kind: Report", `"kind" is there twice: first in line`},
		{"started: \"", "started: \"on ", "", `cannot be read as a time like 2006-01-02T15:04:05Z`},
		{"memoryBytes: ", "memoryBytes: 99999999", "", "cannot be read as a whole number"},
		{"id: core/fresh", "id: ''", "", "no id"},
	} {
		changed := strings.Replace(string(text), c.from, c.to, 1)
		if changed == string(text) {
			t.Errorf("nothing to change: %q", c.from)
		}
		if before, after, ok := strings.Cut(c.at, "|"); ok {
			c.why = placeOf(t, changed, before, after) + c.why
		}
		path := filepath.Join(t.TempDir(), "report.yaml")
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q\ngot  %v\nwant %s", c.to, err, c.why)
		}
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// placeOf is how errors about report.yaml name the place between before and after in its text.
func placeOf(t *testing.T, text, before, after string) string {
	t.Helper()
	head, _, ok := strings.Cut(text, before+after)
	if !ok {
		t.Fatalf("there is no %q in\n%s", before+after, text)
	}
	head += before
	return fmt.Sprintf("report.yaml:%d:%d: ", 1+strings.Count(head, "\n"), len(head)-strings.LastIndexByte(head, '\n'))
}

// What a container wrote, or a PVC is called, is read back as it was, whatever YAML could take it for.
func TestAnyTextIsReadBack(t *testing.T) {
	for _, text := range []string{
		"0o17", "0777", "089", "0b1", "0x1F", "1_000", "1e3", ".5", "5.", "+1", ".inf", "-.INF", ".NaN", "12:30:45", "2026-01-01", "2026-01-01T00:00:00Z",
		"yes", "y", "NO", "on", "~", "null", "true", "<<", "=", "-", "? a", "&a", "*a", "!x", "%", "@", "`", "|", ">", "|-\n a", "---", "...", "--- a",
		"a: b", "- a", "#", "a #b", "'", `"`, `\`, " lead", "trail ", "a\n\nb ", " a\nb", "\n", "\t", "a\tb", "\r\n",
		"\x00", "\x1b[31m", "\x7f", "\u0085", "\u0090", "\u00a0", "\u2028", "\ud7ff", "\ufeff", "\ufffe", "\uffff", "\U0001F4BE",
	} {
		r := sample()
		r.Requirements[1].Message = text
		r.Requirements[0].Evidence[0].Data = map[string]any{text: []any{text, nil, 0.5}}
		inYAML, inJSON, err := r.encode()
		if err != nil {
			t.Errorf("%q cannot be written: %v", text, err)
			continue
		}
		for name, raw := range map[string][]byte{"report.yaml": inYAML, "report.json": inJSON} {
			if back, err := Parse(name, raw); err != nil || !reflect.DeepEqual(back, r) {
				t.Errorf("%q: %v\n%s", text, err, raw)
			}
		}
	}
}

func TestReportIsRedactedAndWhole(t *testing.T) {
	dir := t.TempDir()
	r := sample()
	r.Redact = func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("no create"), []byte("[redacted]")) }
	if err := errors.Join(r.Write(dir), r.WriteJUnit(filepath.Join(dir, "sub", "junit.xml"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.yaml", "report.json", "sub/junit.xml"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.Contains(b, []byte("no create")) || !bytes.Contains(b, []byte("[redacted]")) {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
	// A folder that is a file: an error, and nothing half-made.
	if err := r.Write(filepath.Join(dir, "report.yaml")); err == nil {
		t.Error("no error")
	}
}

func TestJUnit(t *testing.T) {
	r := sample()
	r.SetupError = "no engine\nand no root"
	r.SuiteErrors = []string{"a container stays"}
	path := filepath.Join(t.TempDir(), "junit.xml")
	if err := r.WriteJUnit(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", text)
	var back junitSuites
	if err := xml.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Suites) != 1 || back.Suites[0].Tests != len(back.Suites[0].Cases) || back.Failures+back.Errors != r.Failures() {
		t.Errorf("%+v", back)
	}
	// A run that never ended has no negative time.
	if err := (&Report{Run: Run{Started: at(0)}}).WriteJUnit(path); err != nil {
		t.Fatal(err)
	}
	if text, _ = os.ReadFile(path); !bytes.Contains(text, []byte(`time="0.000"`)) {
		t.Errorf("%s", text)
	}
}

func TestPhaseTimer(t *testing.T) {
	var timer PhaseTimer
	outer := timer.Start("outer")
	inner := timer.Start("inner")
	_ = timer.Start("open")
	inner(errors.New("no answer"))
	outer(nil)
	outer(errors.New("too late"))
	phases := timer.Phases()
	var got []string
	for _, p := range phases {
		if p.DurationSeconds < 0 || p.Started.IsZero() {
			t.Errorf("%+v", p)
		}
		got = append(got, p.Name+":"+p.Error)
	}
	if s := strings.Join(got, " "); s != "outer: inner:no answer open:not finished" {
		t.Error(s)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { timer.Start("many")(nil); _ = timer.Phases() })
	}
	wg.Wait()
	if n := len(timer.Phases()); n != 23 {
		t.Errorf("%d phases", n)
	}
}

// A failure is explained, expected or not. To what could not be seen, or held against expectations, its text does not fit.
func TestOnlyFailuresAreExplained(t *testing.T) {
	for _, c := range []struct {
		id       string
		verdict  Verdict
		expected string
		want     bool
	}{
		{"core/restore", Fail, "", true}, {"core/restore", Fail, "known", true}, {"core/restore", Pass, "known", false},
		{"core/restore", Unknown, "", false}, {"core/restore", NotPromised, "", false}, {"policy/acts", Fail, "", false},
	} {
		r := Result{Requirement: Requirement{ID: c.id}, Verdict: c.verdict, ExpectedFailure: c.expected}
		if text, got := r.Explained(); got != c.want || got != (text.Failure != "") {
			t.Errorf("%+v: %+v", c, text)
		}
	}
}
