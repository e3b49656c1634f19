package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/policy"
)

// fakeRound catches the mutants that it knows.
type fakeRound struct {
	name    string
	catches map[string]check.Catch
	broken  string // the mutant whose judge breaks

	mu     sync.Mutex
	judged []string
}

func (f *fakeRound) Name() string                                         { return f.name }
func (f *fakeRound) Workers() int                                         { return 2 }
func (f *fakeRound) Judge(context.Context, *policy.Policy) (Judge, error) { return f.judge(), nil }
func (f *fakeRound) judge() Judge                                         { return fakeJudge{f} }

type fakeJudge struct{ *fakeRound }

func (f fakeJudge) Judge(m Mutant) (check.Catch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.judged = append(f.judged, m.ID)
	if m.ID == f.broken {
		return check.Catch{}, errors.New("the judge is broken")
	}
	return f.catches[m.ID], nil
}
func (f fakeJudge) Close() error { return nil }

// fakeHistories is a simulator that says what it is told to.
type fakeHistories struct {
	says  []history.Message
	given history.Given
}

func (f *fakeHistories) Explore(_ context.Context, given history.Given, tell func(history.Message)) error {
	f.given = given
	for _, m := range f.says {
		tell(m)
	}
	return nil
}

func TestHistoriesCatchWhatThePolicyItselfDoesNot(t *testing.T) {
	p, err := policy.Load("../../policies/clusterpolicy", endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	m := Of(p)[0]
	finding := &history.Finding{Violation: history.Violation{Invariant: "a/older", Text: "older content"}}
	for name, c := range map[string]struct {
		says []history.Message
		want Verdict
	}{
		"nothing is found":      {[]history.Message{{Histories: 3}, {Done: true}}, Lived},
		"an invariant":          {[]history.Message{{Unplayed: "it never ends"}, {Finding: finding}, {Done: true}}, Caught},
		"one could not be seen": {[]history.Message{{Unplayed: "it never ends"}, {Done: true}}, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			simulator := &fakeHistories{says: c.says}
			round := Histories{Simulator: simulator, Processes: 1, For: time.Second, Seed: 7}
			done := map[string]Outcome{m.ID: {Verdict: Lived, Round: "situations"}}
			rounds := []Round{Situations{}, round}
			if left := Left([]Mutant{m}, rounds, done); len(left) != 1 {
				t.Fatalf("what the first round let live is not left: %v", left)
			}
			if err := judge(t.Context(), p, []Mutant{m}, round, func(m Mutant, o Outcome) error { done[m.ID] = o; return nil }); err != nil {
				t.Fatal(err)
			}
			if o := done[m.ID]; o.Verdict != c.want || o.Round != "histories" || o.Verdict == Caught && o.Requirement != "explore/a/older" {
				t.Errorf("want %s, found %+v", c.want, o)
			}
			if left := Left([]Mutant{m}, rounds, done); len(left) != 0 {
				t.Errorf("what was judged is left: %v", left)
			}
			if g := simulator.given; len(g.Control) != len(p.Objects) || len(g.Play.Policies) != len(p.Objects)-1 || !g.First || g.Millis != 1000 || g.Seed != 7 {
				t.Errorf("the control has %d objects, the mutant %d of %d; %+v", len(g.Control), len(g.Play.Policies), len(p.Objects), g.Seed)
			}
		})
	}
}

func TestTalliesAreReadBack(t *testing.T) {
	r := &Report{Mutants: []Result{
		{Outcome: Outcome{Verdict: Caught}}, {Outcome: Outcome{Verdict: Caught}}, {Outcome: Outcome{Verdict: Caught}}, {Outcome: Outcome{Verdict: Lived}},
		{Outcome: Outcome{Verdict: Lived}, Reason: &Reason{}}, {Outcome: Outcome{Verdict: Lived}, Reason: &Reason{Requirement: "core/fresh"}}, {Outcome: Outcome{Verdict: Refused}},
	}}
	tally := r.Tally("2026-11-27 at abc")
	if tally.All() != 7 || tally.Percent() != 75 {
		t.Errorf("%d mutants, %.1f %%", tally.All(), tally.Percent())
	}
	text := Recorded{"b": tally, "a": tally}.Format()
	if want := "a: 3 caught, 1 not taken, 1 equivalent, 1 left to a cluster, 0 unknown, 1 lives (2026-11-27 at abc)\nb: "; !strings.Contains(string(text), want) {
		t.Errorf("%q is not in\n%s", want, text)
	}
	read, err := ParseRecorded(text)
	if err != nil || !reflect.DeepEqual(read, Recorded{"a": tally, "b": tally}) {
		t.Errorf("%v, %v", read, err)
	}
	for _, wrong := range []string{"a", "a: 1 caught", "a: some caught (x)", "a: 1 drowned (x)"} {
		if _, err := ParseRecorded([]byte("# x\n" + wrong)); err == nil || !strings.Contains(err.Error(), "line 2: wanted is") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestEachRoundJudgesWhatTheOneBeforeLetLive(t *testing.T) {
	all := []Mutant{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}, {ID: "e"}}
	first := &fakeRound{name: "situations", catches: map[string]check.Catch{"a": {Requirement: "core/fresh", Unknown: "x"}, "b": {Refused: "no such field"}, "c": {Unknown: "not played"}}}
	second := &fakeRound{name: "explore", catches: map[string]check.Catch{"d": {Requirement: "explore/a"}}}
	done := map[string]Outcome{}
	if err := Run(t.Context(), nil, all, []Round{first, second}, done, func(Mutant, Outcome) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]Outcome{
		"a": {Verdict: Caught, Round: "situations"}, "b": {Verdict: Refused, Round: "situations"}, "c": {Verdict: Unknown, Round: "situations"},
		"d": {Verdict: Caught, Round: "explore"}, "e": {Verdict: Lived, Round: "explore"},
	} {
		if got := done[id]; got.Verdict != want.Verdict || got.Round != want.Round {
			t.Errorf("%s: want %s by %s, found %s by %s", id, want.Verdict, want.Round, got.Verdict, got.Round)
		}
	}
	if len(first.judged) != 5 || len(second.judged) != 2 {
		t.Errorf("judged: %v, then %v", first.judged, second.judged)
	}
	if err := Run(t.Context(), nil, all, []Round{first, second}, done, func(Mutant, Outcome) error { return nil }); err != nil || len(first.judged)+len(second.judged) != 7 {
		t.Errorf("a second run judges again: %v, %v, %v", first.judged, second.judged, err)
	}
}

func TestABrokenJudgeEndsTheRun(t *testing.T) {
	round := &fakeRound{name: "situations", broken: "a"}
	err := Run(t.Context(), nil, []Mutant{{ID: "a"}}, []Round{round}, map[string]Outcome{}, func(Mutant, Outcome) error { t.Error("it has an outcome"); return nil })
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("want the judge's error, found %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := Run(ctx, nil, []Mutant{{ID: "b"}}, []Round{round}, map[string]Outcome{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted run ends with %v", err)
	}
}

func TestStateGoesOnWhereARunWasKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mutants", "p.jsonl")
	open := func(key string, want int) *State {
		t.Helper()
		s, err := OpenState(path, key)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Outcomes) != want {
			t.Errorf("want %d outcomes, found %v", want, s.Outcomes)
		}
		return s
	}
	add := func(s *State, id string) {
		t.Helper()
		if err := errors.Join(s.Add(Mutant{ID: id}, Outcome{Verdict: Lived}), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	add(open("key", 0), "a")
	add(open("key", 1), "b")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-5], 0o644); err != nil { // killed while it wrote
		t.Fatal(err)
	}
	add(open("key", 1), "c")
	add(open("key", 2), "d")
	if raw, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		if !json.Valid(line) {
			t.Errorf("a line is no JSON: %s", line)
		}
	}
	add(open("another", 0), "e")
	if err := open("another", 1).Close(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{`{"version": 2, "key": "another"}`: "is of version 2, wanted is version 1", "hello": "is no file of outcomes"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenState(path, "another"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, found %v", text, want, err)
		}
	}
}

func TestReasons(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, ReasonsFile)
	if all, err := Reasons(folder); err != nil || all != nil {
		t.Errorf("a policy without the file: %v, %v", all, err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("# why\n\n0000000a equivalent: it is the default\n0000000b  core/restore: a mover tells\n0000000c equivalent: x\n0000000d equivalent: y\n")
	all, err := Reasons(filepath.Join(folder, "mutants.txt")) // of a manifest, the file beside it
	if err != nil || len(all) != 4 || all[0].Requirement != "" || all[0].Text != "it is the default" || all[1].Requirement != "core/restore" {
		t.Fatalf("%+v, %v", all, err)
	}
	wrong := Wrong(all, []Mutant{{ID: "0000000a"}, {ID: "0000000b"}, {ID: "0000000c"}}, map[string]Outcome{
		"0000000a": {Verdict: Lived}, "0000000b": {Verdict: Caught, Catch: check.Catch{Requirement: "core/fresh"}}, "0000000c": {Verdict: Refused},
	})
	if len(wrong) != 3 || !strings.Contains(wrong[0], "mutants.txt:4: mutant 0000000b is caught by core/fresh") ||
		!strings.Contains(wrong[1], "0000000c is not taken") || !strings.Contains(wrong[2], "no operator makes mutant 0000000d") {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	for text, want := range map[string]string{
		"0000000a equivalent:\n": "mutants.txt:1: wanted is", "0000000a because: x\n": "mutants.txt:1: wanted is",
		"0000000a equivalent: x\n0000000a equivalent: y\n": "mutants.txt:2: mutant 0000000a has a reason already",
	} {
		write(text)
		if _, err := Reasons(folder); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, found %v", text, want, err)
		}
	}
}

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("one\ntwo: <b>\nthree\nfour\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mutant := func(id string, line int) Mutant {
		return Mutant{ID: id, Operator: Negate, Object: "Kind/name", File: file, Line: line, Before: "b" + id, After: "a" + id}
	}
	all := []Mutant{mutant("1", 1), mutant("2", 1), mutant("3", 2), mutant("4", 3), mutant("5", 3), mutant("6", 3)}
	outcomes := map[string]Outcome{
		"1": {Verdict: Caught, Catch: check.Catch{Requirement: "core/fresh"}}, "2": {Verdict: Caught, Catch: check.Catch{Requirement: "core/backup"}},
		"3": {Verdict: Lived}, "4": {Verdict: Lived}, "5": {Verdict: Refused}, "6": {Verdict: Lived},
	}
	reasons := []Reason{{Mutant: "4", Text: "the same"}, {Mutant: "6", Requirement: "core/restore", Text: "a mover tells"}}
	p := &policy.Policy{Path: file, Contract: policy.Default()}
	report := NewReport(p, "", all, outcomes, reasons)
	var text, page bytes.Buffer
	if err := errors.Join(report.Text(&text, true), report.HTML(&page)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"    1  core/backup, core/fresh ", "!    2  1 live ", "    3  equivalent, not taken, left to a cluster", "6 mutants\n", "    2 caught by a requirement\n",
		"66.7 % of those", "3  lives ", "b3 → a3",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text does not say %q:\n%s", want, text.String())
		}
	}
	if report.OK() || strings.Contains(page.String(), "<b>") || !strings.Contains(page.String(), "two: &lt;b&gt;") || !strings.Contains(page.String(), `class="bare"`) {
		t.Errorf("OK: %v, and the page:\n%s", report.OK(), page.String())
	}
	outcomes["3"] = Outcome{Verdict: Caught, Catch: check.Catch{Requirement: "core/fresh"}}
	if report = NewReport(p, "", all, outcomes, reasons); !report.OK() {
		t.Error("nothing lives that has no reason, and it is not OK")
	}
	report.Wrong = []string{"a reason does not hold"}
	if report.OK() {
		t.Error("a reason does not hold, and it is OK")
	}
}

// That a mutant behaves as the policy does is no reason for what could not be judged, which only a cluster can.
func TestFates(t *testing.T) {
	equivalent, left := &Reason{Text: "the same"}, &Reason{Requirement: "core/restore", Text: "a mover tells"}
	for name, c := range map[string]struct {
		verdict Verdict
		reason  *Reason
		want    Fate
	}{
		"caught":                         {Caught, nil, IsCaught},
		"caught, for all its reason":     {Caught, equivalent, IsCaught},
		"not taken":                      {Refused, nil, IsRefused},
		"lives":                          {Lived, nil, IsAlive},
		"lives, and is equivalent":       {Lived, equivalent, IsEquivalent},
		"lives, left to a cluster":       {Lived, left, IsForCluster},
		"unknown":                        {Unknown, nil, IsUnknown},
		"unknown, said to be the same":   {Unknown, equivalent, IsUnknown},
		"unknown, and left to a cluster": {Unknown, left, IsForCluster},
	} {
		t.Run(name, func(t *testing.T) {
			r := Result{Outcome: Outcome{Verdict: c.verdict}, Reason: c.reason}
			if got := r.fate(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestOnlyWhatChangedSinceACommit(t *testing.T) {
	folder := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", folder, "-c", "user.name=n", "-c", "user.email=n@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Since(t.Context(), folder, "HEAD"); err == nil || !strings.Contains(err.Error(), "is in no git repository") {
		t.Errorf("without git: %v", err)
	}
	run("init", "-q")
	write("a.yaml", "1\n2\n3\n4\n5\n")
	write("b.yaml", "1\n")
	run("add", ".")
	run("commit", "-q", "-m", "one")
	write("a.yaml", "1\ntwo\n3\n5\n6\n")
	write("new file.yaml", "1\n")
	changed, err := Since(t.Context(), folder, "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		file string
		line int
		want bool
	}{{"a.yaml", 1, false}, {"a.yaml", 2, true}, {"a.yaml", 3, false}, {"a.yaml", 4, false}, {"a.yaml", 5, true}, {"b.yaml", 1, false}, {"new file.yaml", 1, true}} {
		if got := changed.Has(Mutant{File: filepath.Join(folder, test.file), Line: test.line}); got != test.want {
			t.Errorf("%s:%d changed: want %v, found %v", test.file, test.line, test.want, got)
		}
	}
	for _, ref := range []string{"nowhere", "--output=x"} {
		if _, err := Since(t.Context(), folder, ref); err == nil || !strings.Contains(err.Error(), "wanted is a commit") {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
