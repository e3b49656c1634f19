package recorder

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"

	"github.com/smart-restore/conformance/harness/verdict"
)

// The protocol is held against Ginkgo itself: this test binary runs itself as a suite of one case's specs, and what comes
// out is judged.
const innerCase = "RECORDER_INNER_CASE"

// later is the spec that runs after a case's own: whatever that one does, it passes.
const later = "core/later"

type protocolCase struct {
	name string
	// body is of the spec core/case; hold ends when the spec after it runs.
	body func(ctx context.Context, s *Spec, hold <-chan struct{})
	// timeout is the spec's; zero: it has none to speak of.
	timeout time.Duration

	verdict verdict.Verdict
	message string
	errors  []string // what each of the suite errors contains
	// evidence is what was recorded, in its order.
	evidence []string
	// ends says that no spec runs after the case's.
	ends bool
}

var protocolCases = []protocolCase{
	{name: "pass", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.OnFailure(func(context.Context) { s.Evidence("k", "dump", nil) })
		s.Evidence("k", "seen", nil)
	}, verdict: verdict.Pass, evidence: []string{"seen"}},
	{name: "fail", body: func(_ context.Context, s *Spec, _ <-chan struct{}) { s.Fail("no RS") }, verdict: verdict.Fail, message: "no RS"},
	{name: "unknown", body: func(_ context.Context, s *Spec, _ <-chan struct{}) { s.Unknown("no log") }, verdict: verdict.Unknown, message: "no log"},
	{name: "not promised", body: func(_ context.Context, s *Spec, _ <-chan struct{}) { s.NotPromised("no relabel") }, verdict: verdict.NotPromised, message: "no relabel"},
	{name: "only looks, and sees", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.LooksOnly("no Snapshot")
		s.Evidence("k", "seen", nil)
	}, verdict: verdict.NotPromised, message: "no Snapshot. Tried all the same, it came about this time", evidence: []string{"seen"}},
	{name: "only looks, and sees otherwise", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.LooksOnly("no Snapshot")
		s.Fail("it is torn")
	}, verdict: verdict.NotPromised, message: "no Snapshot. Tried all the same, this came of it: it is torn"},
	{name: "only looks, and is blind", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.LooksOnly("no Snapshot")
		s.Unknown("no log")
	}, verdict: verdict.NotPromised, message: "no Snapshot. Tried all the same, nothing could be seen: no log"},
	{name: "fail, then unknown in deferred code", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		defer func() { s.Unknown("S3 is not back") }()
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS\nand could not see: S3 is not back"},
	{name: "unknown, then fail in deferred code", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		defer func() { s.Fail("no RS") }()
		s.Unknown("no log")
	}, verdict: verdict.Fail, message: "no RS\nand could not see: no log"},
	{name: "fail, then panic in deferred code", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		defer func() { panic("boom") }()
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS", errors: []string{"core/case: panic: boom (recorder/protocol_test.go:"}},
	{name: "panic in the body", body: func(context.Context, *Spec, <-chan struct{}) { panic("boom") },
		verdict: verdict.Unknown, message: "the spec panicked: Test Panicked: boom", errors: []string{"core/case: panic: boom (recorder/protocol_test.go:"}},
	{name: "nil map", body: func(context.Context, *Spec, <-chan struct{}) {
		var m map[string]int
		m["a"] = 1 //nolint:staticcheck // it panics: that is what is looked at
	}, verdict: verdict.Unknown, message: "assignment to entry in nil map", errors: []string{"core/case: panic: assignment to entry in nil map (recorder/protocol_test.go:"}},
	{name: "an expectation outside of the recorder", body: func(context.Context, *Spec, <-chan struct{}) { gomega.Expect(1).To(gomega.Equal(2)) },
		verdict: verdict.Unknown, message: "the spec ended without a verdict: Expected\n    <int>: 1\nto equal\n    <int>: 2",
		errors: []string{"core/case: failed without recording a verdict: Expected"}},
	{name: "an expectation outside, after a fail", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		defer func() { gomega.Expect(1).To(gomega.Equal(2)) }()
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS"},
	{name: "panic in a clean-up after pass", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.CleanUp("undo", time.Second, func(context.Context) error { panic("boom") })
	}, verdict: verdict.Pass, errors: []string{"core/case: undo: panic: boom (recorder/protocol_test.go:"}},
	{name: "panic in anybody's clean-up after pass", body: func(context.Context, *Spec, <-chan struct{}) {
		ginkgo.DeferCleanup(func() { panic("boom") })
	}, verdict: verdict.Pass, errors: []string{"core/case: clean-up failed: Test Panicked: boom"}},
	{name: "clean-up failed after pass", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.CleanUp("undo", time.Second, func(context.Context) error { return errors.New("no answer") })
	}, verdict: verdict.Pass, errors: []string{"core/case: undo: no answer"}},
	{name: "clean-up failed after fail", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.CleanUp("undo", time.Second, func(context.Context) error { return errors.New("no answer") })
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS", errors: []string{"core/case: undo: no answer"}},
	{name: "what there is to see is kept before any clean-up", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.OnFailure(func(context.Context) { s.Evidence("k", "dump", nil) })
		s.CleanUp("undo", time.Second, func(context.Context) error { s.Evidence("k", "undo", nil); return nil })
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS", evidence: []string{"dump", "undo"}},
	{name: "keeping what there is to see panics", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.OnFailure(func(context.Context) { panic("boom") })
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS", errors: []string{"core/case: what there was to see could not be kept: panic: boom"}},
	{name: "anybody's clean-up failed after pass", body: func(context.Context, *Spec, <-chan struct{}) {
		ginkgo.DeferCleanup(func() error { return errors.New("no answer") })
	}, verdict: verdict.Pass, errors: []string{"core/case: clean-up failed: DeferCleanup callback returned error: no answer"}},
	{name: "anybody's clean-up failed after fail", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		ginkgo.DeferCleanup(func() { ginkgo.Fail("no answer") })
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS", errors: []string{"core/case: clean-up failed: no answer"}},
	{name: "clean-up says fail", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.CleanUp("undo", time.Second, func(context.Context) error { s.Fail("still there"); return nil })
	}, verdict: verdict.Pass, errors: []string{"core/case: undo: still there"}},
	{name: "anybody's clean-up says unknown", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		ginkgo.DeferCleanup(func() { s.Unknown("no answer") })
	}, verdict: verdict.Pass, errors: []string{"core/case: clean-up failed: Test Panicked: no answer"}},
	{name: "clean-up fails at first", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		tries := 0
		s.CleanUp("undo", time.Minute, func(context.Context) error {
			if tries++; tries < cleanUpAttempts {
				return errors.New("no answer")
			}
			return nil
		})
	}, verdict: verdict.Pass},
	{name: "clean-up hangs as long as it may", body: func(_ context.Context, s *Spec, _ <-chan struct{}) {
		s.CleanUp("undo", 2*time.Second, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	}, verdict: verdict.Pass, errors: []string{"core/case: undo: context deadline exceeded"}},
	{name: "clean-up hangs for good", body: func(_ context.Context, s *Spec, hold <-chan struct{}) {
		s.CleanUp("undo", 20*time.Millisecond, func(context.Context) error { <-hold; return nil })
	}, verdict: verdict.Pass, errors: []string{"core/case: clean-up failed: A node timeout occurred"}},
	{name: "time-out with a reason", timeout: 20 * time.Millisecond, body: func(ctx context.Context, s *Spec, _ <-chan struct{}) {
		<-ctx.Done()
		s.Unknown("interrupted while waiting for the RS")
	}, verdict: verdict.Unknown, message: "interrupted while waiting for the RS"},
	{name: "time-out without a reason", timeout: 20 * time.Millisecond, body: func(ctx context.Context, _ *Spec, _ <-chan struct{}) { <-ctx.Done() },
		verdict: verdict.Unknown, message: "the spec ran out of time: A spec timeout occurred"},
	{name: "time-out, and a fail that is only said then", timeout: 20 * time.Millisecond, body: func(ctx context.Context, s *Spec, _ <-chan struct{}) {
		<-ctx.Done()
		s.Fail("no RS")
	}, verdict: verdict.Unknown, message: "no RS (seen after the spec was told to stop: spec timeout occurred)"},
	{name: "fail, and a time-out in deferred code", timeout: 20 * time.Millisecond, body: func(ctx context.Context, s *Spec, _ <-chan struct{}) {
		defer func() { <-ctx.Done() }()
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS"},
	{name: "time-out, and an expectation outside of the recorder", timeout: 20 * time.Millisecond, body: func(ctx context.Context, _ *Spec, _ <-chan struct{}) {
		<-ctx.Done()
		gomega.Expect(ctx.Err()).NotTo(gomega.HaveOccurred())
	}, verdict: verdict.Unknown, message: "the spec ran out of time: A spec timeout occurred\nA spec timeout occurred and then"},
	{name: "leaked, and fails while the next spec runs", timeout: 20 * time.Millisecond, body: func(_ context.Context, s *Spec, hold <-chan struct{}) {
		<-hold
		s.Evidence("k", "late", nil)
		s.SuiteError("late")
		s.Fail("no RS")
	}, verdict: verdict.Unknown, message: "the spec ran out of time", errors: []string{"core/case: leaked: its body went on"}},
	{name: "leaked, and returns while the next spec runs", timeout: 20 * time.Millisecond, body: func(_ context.Context, _ *Spec, hold <-chan struct{}) { <-hold },
		verdict: verdict.Unknown, message: "the spec ran out of time", errors: []string{"core/case: leaked: its body went on"}},
	{name: "leaked, and panics while the next spec runs", timeout: 20 * time.Millisecond, body: func(_ context.Context, _ *Spec, hold <-chan struct{}) {
		<-hold
		panic("boom")
	}, verdict: verdict.Unknown, message: "the spec ran out of time", errors: []string{"core/case: leaked: its body went on"}},
	{name: "interrupted", ends: true, body: func(ctx context.Context, _ *Spec, _ <-chan struct{}) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
		<-ctx.Done()
	}, verdict: verdict.Unknown, message: "the spec was interrupted: Interrupted by User", errors: []string{"Interrupted by User"}},
	{name: "interrupted after a fail", ends: true, body: func(ctx context.Context, s *Spec, _ <-chan struct{}) {
		defer func() { _ = syscall.Kill(os.Getpid(), syscall.SIGINT); <-ctx.Done() }()
		s.Fail("no RS")
	}, verdict: verdict.Fail, message: "no RS", errors: []string{"Interrupted by User"}},
	{name: "aborted", ends: true, body: func(context.Context, *Spec, <-chan struct{}) { ginkgo.AbortSuite("enough") },
		verdict: verdict.Unknown, message: "the spec aborted the suite: enough"},
}

var _ = func() bool {
	i := slices.IndexFunc(protocolCases, func(c protocolCase) bool { return c.name == os.Getenv(innerCase) })
	if i < 0 {
		return true
	}
	c := protocolCases[i]
	cleanUpPause = time.Millisecond
	Register()
	ginkgo.Describe("cases", ginkgo.Ordered, ginkgo.ContinueOnFailure, func() {
		hold, said := make(chan struct{}), make(chan struct{})
		ginkgo.It("core/case", ginkgo.SpecTimeout(cmp.Or(c.timeout, time.Minute)), func(ctx ginkgo.SpecContext) {
			Run(ctx, verdict.Requirement{ID: "core/case"}, func(s *Spec) {
				defer close(said) // after the case's own body, also of one that leaked
				c.body(ctx, s, hold)
			})
		})
		ginkgo.It(later, func(ctx ginkgo.SpecContext) {
			Run(ctx, verdict.Requirement{ID: later}, func(*Spec) {
				close(hold)
				<-said
			})
		})
	})
	return true
}()

func TestInnerSuite(t *testing.T) {
	if os.Getenv(innerCase) == "" {
		t.Skip("runs only as a child of TestProtocol")
	}
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "inner suite")
}

func TestProtocol(t *testing.T) {
	if os.Getenv(innerCase) != "" {
		t.Skip("is the parent")
	}
	for _, c := range protocolCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ginkgo.json")
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInnerSuite$", "-ginkgo.grace-period=100ms", "-ginkgo.json-report="+path)
			cmd.Env = append(os.Environ(), innerCase+"="+c.name)
			out, runErr := cmd.CombinedOutput()
			file, err := os.Open(path)
			if err != nil {
				t.Fatalf("%v, %v\n%s", runErr, err, out)
			}
			defer func() { _ = file.Close() }()
			results, info, err := verdict.FromGinkgo(file)
			if err != nil || len(results) != 2 {
				t.Fatalf("%v\n%+v\n%s", err, results, out)
			}
			got := results[0]
			if got.ID != "core/case" || got.Verdict != c.verdict || !strings.Contains(got.Message, c.message) || (c.message == "") != (got.Message == "") {
				t.Errorf("%s is %s: %q\nwant %s: %q", got.ID, got.Verdict, got.Message, c.verdict, c.message)
			}
			var evidence []string
			for _, e := range got.Evidence {
				evidence = append(evidence, e.Text)
			}
			if !slices.Equal(evidence, c.evidence) {
				t.Errorf("evidence %q, want %q", evidence, c.evidence)
			}
			if next := results[1]; !c.ends && (next.Verdict != verdict.Pass || len(next.Evidence) > 0) {
				t.Errorf("the spec after it is %s: %s, with %v", next.Verdict, next.Message, next.Evidence)
			}
			if len(info.Errors) != len(c.errors) {
				t.Errorf("suite errors %q, want %q", info.Errors, c.errors)
			} else {
				for i, want := range c.errors {
					if !strings.Contains(info.Errors[i], want) {
						t.Errorf("suite error %q, want %q", info.Errors[i], want)
					}
				}
			}
			var report verdict.Report
			report.Add(results, info)
			if want := (c.verdict == verdict.Pass || c.verdict == verdict.NotPromised) && len(c.errors) == 0; report.OK() != want {
				t.Errorf("the report is OK: %v, want %v", report.OK(), want)
			}
		})
	}
}

// A failure's place is the spec's, not that of the harness that found it. Here, what is not in the harness is package testing.
func TestAFailureIsWhereTheSpecIs(t *testing.T) {
	verb := func() types.CodeLocation { return types.NewCodeLocation(callerInSpec()) }
	for _, at := range []types.CodeLocation{verb(), func() types.CodeLocation { return verb() }()} {
		if filepath.Base(at.FileName) != "testing.go" {
			t.Errorf("it is at %s", at)
		}
	}
}
