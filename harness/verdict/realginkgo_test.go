package verdict

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
)

// What FromGinkgo believes about Ginkgo is held against Ginkgo itself: this
// test binary runs itself as a suite, and reads the report that comes out.
const innerSuite = "VERDICT_INNER_SUITE"

var _ = func() bool {
	if os.Getenv(innerSuite) == "" {
		return true
	}
	ginkgo.BeforeSuite(func() {
		switch os.Getenv(innerSuite) {
		case "setup-fails":
			ginkgo.Fail("no engine")
		case "setup-skips":
			ginkgo.Skip("no root")
		}
	})
	ginkgo.AfterSuite(func() {
		if os.Getenv(innerSuite) == "cleanup-fails" {
			ginkgo.Fail("a container stays")
		}
	})
	ginkgo.Describe("core", ginkgo.Label("core"), func() {
		ginkgo.It("core/pass A sentence.", func() {
			ginkgo.AddReportEntry(NameRequirement, EntryRequirement(Requirement{ID: "core/pass", Sentence: "Recorded.", Level: Core}), ginkgo.ReportEntryVisibilityNever)
			ginkgo.AddReportEntry(NameEvidence, EntryEvidence(Evidence{Kind: "k", Text: "seen"}), ginkgo.ReportEntryVisibilityNever)
			ginkgo.AddReportEntry(NameBody, BodyReturned, ginkgo.ReportEntryVisibilityNever)
		})
		ginkgo.It("core/fail", ginkgo.Label("bad"), func() {
			ginkgo.AddReportEntry(NameFail, "no RS", ginkgo.ReportEntryVisibilityNever)
			ginkgo.Fail("no RS")
		})
		ginkgo.It("core/panic", ginkgo.Label("bad"), func() { panic("boom") })
		ginkgo.It("core/unknown", ginkgo.Label("bad"), func() {
			ginkgo.AddReportEntry(NameUnknown, "the fault was not on", ginkgo.ReportEntryVisibilityNever)
			ginkgo.Fail("unknown: the fault was not on")
		})
		ginkgo.It("core/unknown-entry", ginkgo.Label("bad"), func() {
			ginkgo.AddReportEntry(NameUnknown, "the log was not there", ginkgo.ReportEntryVisibilityNever)
		})
		ginkgo.It("core/skips", ginkgo.Label("bad"), func() { ginkgo.Skip("no IPv6") })
		ginkgo.PIt("core/pending", ginkgo.Label("bad"), func() {})
	})
	ginkgo.It("safety/abort", ginkgo.Label("abort"), func() { ginkgo.AbortSuite("enough") })
	return true
}()

func TestInnerSuite(t *testing.T) {
	if os.Getenv(innerSuite) == "" {
		t.Skip("runs only as a child of TestFromRealGinkgo")
	}
	ginkgo.RunSpecs(t, "inner suite")
}

func TestFromRealGinkgo(t *testing.T) {
	if os.Getenv(innerSuite) != "" {
		t.Skip("is the parent")
	}
	const all = "core/fail core/panic core/pass core/pending core/skips core/unknown core/unknown-entry safety/abort"
	cases := []struct {
		name        string
		inner       string
		args        []string
		results     []string // ID=verdict
		notSelected string
		setup       string
		errors      string
	}{
		{"labels", "run", []string{"-ginkgo.label-filter=core && !bad"}, []string{"core/pass=pass"},
			"core/fail core/panic core/pending core/skips core/unknown core/unknown-entry safety/abort", "", ""},
		{"focus", "run", []string{"-ginkgo.focus=core/pass"}, []string{"core/pass=pass"},
			"core/fail core/panic core/pending core/skips core/unknown core/unknown-entry safety/abort", "", ""},
		{"focus and skip by the suite's name", "run", []string{"-ginkgo.focus=inner suite core core/(pass|unknown)", "-ginkgo.skip=entry"},
			[]string{"core/pass=pass", "core/unknown=unknown"}, "core/fail core/panic core/pending core/skips core/unknown-entry safety/abort", "", ""},
		{"file", "run", []string{"-ginkgo.focus-file=nowhere_test.go"}, nil, all, "", ""},
		{"every end", "run", []string{"-ginkgo.label-filter=core"}, []string{
			"core/fail=fail", "core/panic=unknown", "core/pass=pass", "core/pending=unknown", "core/skips=unknown", "core/unknown=unknown", "core/unknown-entry=unknown",
		}, "safety/abort", "", "core/panic: the spec panicked: Test Panicked: boom"},
		{"clean-up fails", "cleanup-fails", []string{"-ginkgo.focus=core/pass"}, []string{"core/pass=pass"},
			"core/fail core/panic core/pending core/skips core/unknown core/unknown-entry safety/abort", "", "a container stays"},
		{"set-up fails", "setup-fails", nil, nil, "", "no engine", ""},
		{"set-up skips", "setup-skips", []string{"-ginkgo.focus=core/pass"}, []string{"core/pass=unknown"},
			"core/fail core/panic core/pending core/skips core/unknown core/unknown-entry safety/abort", "skipped: no root", ""},
		{"aborted at once", "run", []string{"-ginkgo.label-filter=abort || core && !bad", "-ginkgo.seed=1"}, []string{"core/pass=*", "safety/abort=unknown"},
			"core/fail core/panic core/pending core/skips core/unknown core/unknown-entry", "", ""},
		{"dry run", "run", []string{"-ginkgo.dry-run", "-ginkgo.focus=core/pass"}, []string{"core/pass=unknown"},
			"core/fail core/panic core/pending core/skips core/unknown core/unknown-entry safety/abort", "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ginkgo.json")
			args := append([]string{"-test.run=^TestInnerSuite$", "-ginkgo.json-report=" + path}, c.args...)
			cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
			cmd.Env = append(os.Environ(), innerSuite+"="+c.inner)
			out, _ := cmd.CombinedOutput() // a suite that fails is what most cases want
			f, err := os.Open(path)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			defer func() { _ = f.Close() }()
			results, info, err := FromGinkgo(f)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, r := range results {
				v := string(r.Verdict)
				if i < len(c.results) && strings.HasSuffix(c.results[i], "=*") {
					v = "*" // depends on the order
				}
				got = append(got, fmt.Sprintf("%s=%s", r.ID, v))
				if r.Verdict != Pass && r.Message == "" {
					t.Errorf("%s: no message", r.ID)
				}
			}
			if !slices.Equal(got, c.results) {
				t.Errorf("results %q\nwant    %q", got, c.results)
			}
			if got := strings.Join(info.NotSelected, " "); got != c.notSelected {
				t.Errorf("not selected %q\nwant         %q", got, c.notSelected)
			}
			if info.SetupError != c.setup {
				t.Errorf("set-up %q, want %q", info.SetupError, c.setup)
			}
			if got := strings.Join(info.Errors, "\n"); !strings.Contains(got, c.errors) || (c.errors == "" && got != "") {
				t.Errorf("errors %q, want %q", got, c.errors)
			}
			for _, r := range results {
				if r.ID == "core/pass" && r.Verdict == Pass && (r.Sentence != "Recorded." || len(r.Evidence) != 1 || r.Evidence[0].Time.IsZero()) {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}
