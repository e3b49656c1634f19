package history

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/smart-restore/conformance/harness/verdict"
)

const hostile = `</style><script>alert(1)</script>" onload="x' {{.}}`

var begin = time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)

// made is a run of the policy p on the stack s on a day, with a result of core/x: p, f, u, a failure that is expected (e), not
// promised (n), never reached (r), or none.
type made struct {
	day                  int
	x                    rune
	policy, suite, stack string
	seconds              float64
}

func (m made) report() *verdict.Report {
	at := begin.AddDate(0, 0, m.day)
	r := &verdict.Report{
		Run:            verdict.Run{ID: fmt.Sprintf("run%d", m.day), Suite: m.suite, Started: at, Ended: at.Add(time.Hour)},
		Implementation: verdict.Implementation{Name: "p", Policy: "policies/p", SHA256: m.policy},
		Stack:          verdict.Stack{Name: "s", Requested: map[string]string{"kyverno": m.stack}},
	}
	result := verdict.Result{Requirement: verdict.Requirement{ID: "core/x", Level: verdict.Core, Sentence: "It is so."},
		Started: at, Ended: at.Add(time.Minute), DurationSeconds: m.seconds}
	switch m.x {
	case 'p':
		result.Verdict = verdict.Pass
	case 'f', 'e':
		result.Verdict, result.Message = verdict.Fail, "no RS"
		if m.x == 'e' {
			result.ExpectedFailure = "known"
		}
	case 'u':
		result.Verdict, result.Message = verdict.Unknown, "no log"
	case 'n':
		result.Verdict = verdict.NotPromised
	case 'r':
		result.Verdict, result.Started = verdict.Unknown, time.Time{}
	default:
		return r
	}
	r.Requirements = []verdict.Result{result}
	return r
}

// tracked are runs of alike policy, suite and stack with these results of core/x, unless change says otherwise.
func tracked(results string, change func(*made)) []*Track {
	var runs []Run
	for i, x := range results {
		m := made{day: i, x: x, policy: "aaaaaaaa11", suite: "c1", stack: "v1", seconds: 10}
		if change != nil {
			change(&m)
		}
		runs = append(runs, Run{Report: m.report(), Folder: "none"})
	}
	return Tracks(runs)
}

func TestSinceWhenARequirementFails(t *testing.T) {
	for _, c := range []struct {
		name, results string
		change        func(*made)
		want          *Since
	}{
		{name: "it holds", results: "fp"},
		{name: "never tried", results: "rr"},
		{name: "not promised any more", results: "fn"},
		{name: "failure is expected", results: "pe"},
		{name: "failing from the first", results: "ff", want: &Since{Run: 0, Held: -1}},
		{name: "began to fail", results: "ppff", want: &Since{Run: 2, Held: 1}},
		{name: "not tried between", results: "p-f-rf-", want: &Since{Run: 2, Held: 0}},
		{name: "unknown and failed", results: "puf", want: &Since{Run: 1, Held: 0}},
		{name: "held between", results: "fpf", want: &Since{Run: 2, Held: 1}},
		{name: "was expected to fail", results: "ef", want: &Since{Run: 1, Held: 0}},
		{name: "not promised between", results: "pnf", want: &Since{Run: 2, Held: 0}},
		{name: "the policy changed", results: "pf", change: func(m *made) { m.policy = []string{"aaaaaaaa11", "bbbbbbbb22"}[m.day] }, want: &Since{Run: 1, Held: 0, Changed: []string{"policy aaaaaaaa → bbbbbbbb"}}},
		{name: "suite and stack changed", results: "pf", change: func(m *made) { m.suite, m.stack = fmt.Sprint("c", m.day), fmt.Sprint("v", m.day) },
			want: &Since{Run: 1, Held: 0, Changed: []string{"suite c0 → c1", "kyverno v0 → v1"}}},
		{name: "suite not as committed", results: "pf", change: func(m *made) { m.suite = "c1+" },
			want: &Since{Run: 1, Held: 0, Changed: []string{"perhaps the suite, which was not as committed"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tracks := tracked(c.results, c.change)
			if len(tracks) != 1 || len(tracks[0].Rows) != 1 {
				t.Fatalf("%d tracks", len(tracks))
			}
			got := tracks[0].Rows[0].Failing
			if (got == nil) != (c.want == nil) {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			if got == nil {
				return
			}
			if !got.Last.Fails() {
				t.Errorf("%+v", got.Last)
			}
			got.Last = nil
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestFlakes(t *testing.T) {
	alternating := func(set func(*made, string)) func(*made) {
		return func(m *made) { set(m, []string{"a", "b"}[m.day%2]) }
	}
	for _, c := range []struct {
		name, results string
		change        func(*made)
		want          []Flake
	}{
		{name: "always alike", results: "ppp"},
		{name: "not tried", results: "pr-p"},
		{name: "not promised", results: "pn"},
		{name: "fails now and then", results: "pfpp", want: []Flake{{Runs: []int{0, 1, 2, 3}, Pass: 3, Fail: 1}}},
		{name: "unknown now and then", results: "pup", want: []Flake{{Runs: []int{0, 1, 2}, Pass: 2, Unknown: 1}}},
		{name: "an expected failure that passes", results: "ep", want: []Flake{{Runs: []int{0, 1}, Pass: 1, Fail: 1}}},
		{name: "with the policy", results: "pfpf", change: alternating(func(m *made, v string) { m.policy = v })},
		{name: "with the suite", results: "pfpf", change: alternating(func(m *made, v string) { m.suite = v })},
		{name: "with the stack", results: "pfpf", change: alternating(func(m *made, v string) { m.stack = v })},
		{name: "with one of two policies", results: "pfppp", change: func(m *made) {
			if m.day > 1 {
				m.policy = "b"
			}
		}, want: []Flake{{Runs: []int{0, 1}, Pass: 1, Fail: 1}}},
		{name: "of a suite that was not as committed", results: "pf", change: func(m *made) { m.suite = "c1+" }},
		{name: "of a suite that nobody knows", results: "pf", change: func(m *made) { m.suite = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := tracked(c.results, c.change)[0].Rows[0].Flakes; len(got) != len(c.want) || len(got) > 0 && !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestTracksAreOfOnePolicyOnOneStackNewestFirst(t *testing.T) {
	old, other := made{day: 0, x: 'p'}.report(), made{day: 1, x: 'p'}.report()
	other.Stack.Name = "s2"
	theirs := made{day: 2, x: 'p'}.report()
	theirs.Implementation.Name, theirs.Stack.Name, theirs.Stack.ExternalCluster.Name = "", "", "lab"
	var names []string
	for _, track := range Tracks([]Run{{Report: old}, {Report: other}, {Report: theirs}}) {
		names = append(names, track.Policy+" on "+track.Stack)
	}
	if want := []string{"policies/p on lab", "p on s2", "p on s"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestMedian(t *testing.T) {
	for want, of := range map[float64][]float64{0: nil, 3: {5, 1, 3}, 2.5: {4, 1, 2, 3}} {
		if got := Median(of); got != want {
			t.Errorf("%v: %v, want %v", of, got, want)
		}
	}
}

func TestTookIsOfWhatPassed(t *testing.T) {
	var runs []Run
	for day, x := range "pfpp" {
		r := made{day: day, x: x, seconds: []float64{10, 1000, 20, 30}[day]}.report()
		r.Stack.Name = fmt.Sprint(day)
		runs = append(runs, Run{Report: r})
	}
	if got := Took(runs); len(got) != 1 || got["core/x"] != 20 {
		t.Errorf("%v", got)
	}
	if got := Took(runs[1:2]); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestFindReadsEachRunOnce(t *testing.T) {
	dir := t.TempDir()
	for folder, m := range map[string]made{"2": {day: 2, x: 'p'}, "nested/deep/1": {day: 1, x: 'f'}, "again/2": {day: 2, x: 'p'}} {
		if err := m.report().Write(filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "2", "report.yaml")); err != nil { // JSON will do
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "2", "logs", "report.yaml"), "a log")
	write(t, filepath.Join(dir, "other", "report.yaml"), "apiVersion: conformance.smart-restore.io/v9\nkind: Report\nwhatever: 1\n")
	if err := os.Symlink("2", filepath.Join(dir, "latest")); err != nil {
		t.Fatal(err)
	}
	found, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, run := range found.Runs {
		ids = append(ids, run.Run.ID)
	}
	if want := []string{"run1", "run2"}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
	if len(found.LeftOut) != 1 || !strings.Contains(found.LeftOut[0].Why, `found kind "Report" of apiVersion "conformance.smart-restore.io/v9", want Report of conformance.smart-restore.io/v1alpha1`) {
		t.Errorf("%+v", found.LeftOut)
	}
	if found, err = Find(filepath.Join(dir, "latest")); err != nil || len(found.Runs) != 1 {
		t.Errorf("a link to a run: %+v, %v", found, err)
	}
}

func TestFindSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty", "notes.txt"), "")
	for i := range 7 {
		write(t, filepath.Join(dir, "old", fmt.Sprint(i), "report.yaml"), "kind: Report\napiVersion: conformance.smart-restore.io/v0\n")
	}
	for folder, want := range map[string]string{
		"empty":           "found no report.yaml and no report.json in " + filepath.Join(dir, "empty"),
		"none":            "no such file or directory",
		"empty/notes.txt": "is a file: name the folder that holds the folders of runs",
		"old":             "none of the 7 reports below",
	} {
		if _, err := Find(filepath.Join(dir, folder)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", folder, err, want)
		}
	}
	if _, err := Find(filepath.Join(dir, "old")); !strings.Contains(err.Error(), `of apiVersion "conformance.smart-restore.io/v0"`) || !strings.Contains(err.Error(), "and 2 more") {
		t.Error(err)
	}
}

// reports are runs with something of everything, in a folder; of the last there is a page.
func reports(t *testing.T) (string, *Reports) {
	t.Helper()
	dir := t.TempDir()
	for day, x := range "ppfpfr" {
		m := made{day: day, x: x, policy: "aaaaaaaa11", suite: "c1", stack: "v1", seconds: []float64{10, 12, 1, 40, 1, 0}[day]}
		r := m.report()
		steady := r.Requirements[0]
		steady.ID, steady.Verdict, steady.Message, steady.DurationSeconds, steady.Started = "safety/steady", verdict.Pass, "", 100, begin
		hidden := steady
		hidden.ID, hidden.Verdict, hidden.Message, hidden.ExpectedFailure = "safety/known", verdict.Fail, hostile, hostile
		r.Requirements = append(r.Requirements, steady, hidden)
		r.Partial = []string{hostile}
		if err := r.Write(filepath.Join(dir, fmt.Sprint(day))); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "4", "report.html"), "")
	write(t, filepath.Join(dir, "bad", "report.json"), "{")
	found, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, found
}

// all are the elements of a page by what is asked.
func all(t *testing.T, page []byte, is func(*html.Node) bool) (found []*html.Node) {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for node := range doc.Descendants() {
		if node.Type == html.ElementNode && is(node) {
			found = append(found, node)
		}
	}
	return found
}

func attr(node *html.Node, key string) string {
	for _, a := range node.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func text(node *html.Node) string {
	var b strings.Builder
	for inner := range node.Descendants() {
		if inner.Type == html.TextNode {
			b.WriteString(inner.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func within(t *testing.T, page []byte, id string) string {
	t.Helper()
	found := all(t, page, func(n *html.Node) bool { return attr(n, "id") == id })
	if len(found) != 1 {
		t.Fatalf("%d elements are called %s", len(found), id)
	}
	return text(found[0])
}

func TestThePage(t *testing.T) {
	dir, found := reports(t)
	file := filepath.Join(dir, File)
	if err := Write("artifacts", found, file); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for id, wants := range map[string][]string{
		"failing":           {"core/x", "p on s", "fail: no RS", "5 Nov, 03:00", "4 Nov, 03:00", "nothing that the reports name"},
		"flakes":            {"core/x", "✕✓✕✓✓ 3 pass, 2 fail"},
		"t1-r-core-x":       {"core/x✕✓✕✓✓"},
		"t1-r-safety-known": {"safety/known!!!!!!"},
		"t1":                {"p on s, 6 runs", "did not always hold", "1 held whenever they were tried", "safety/steady✓✓✓✓✓✓", "slowest"},
		"left-out":          {"bad/report.json"},
	} {
		got := within(t, page, id)
		for _, want := range wants {
			if !strings.Contains(strings.ReplaceAll(got, " ", ""), strings.ReplaceAll(want, " ", "")) {
				t.Errorf("%s: no %q in\n%s", id, want, got)
			}
		}
	}
	// Slowest first, and what got slower is marked: 10, 12, 40 s.
	slow := all(t, page, func(n *html.Node) bool { return n.Data == "table" && attr(n, "class") == "list slow" })
	if len(slow) != 1 || !regexp.MustCompile(`safety/steady.*core/x`).MatchString(text(slow[0])) || !strings.Contains(text(slow[0]), "core/x40 s12 s40 s") {
		t.Errorf("%d, %s", len(slow), text(slow[0]))
	}
	lines := all(t, page, func(n *html.Node) bool { return n.Data == "polyline" })
	if len(lines) != 2 || attr(lines[1], "points") != "2.0,14.5 50.0,13.6 98.0,1.0" || attr(lines[1].Parent, "aria-label") != "10 s, 12 s, 40 s" {
		t.Errorf("%+v", lines)
	}
	// A cell that is not good leads to the run's page, where there is one.
	if links := all(t, page, func(n *html.Node) bool { return attr(n, "href") == "4/report.html#r-core-x" }); len(links) == 0 {
		t.Error("the failure of the last run has no link")
	}
	for _, link := range all(t, page, func(n *html.Node) bool { return n.Data == "a" }) {
		target, inside := strings.CutPrefix(attr(link, "href"), "#")
		if inside && len(all(t, page, func(n *html.Node) bool { return attr(n, "id") == target })) != 1 {
			t.Errorf("#%s leads nowhere", target)
		}
		if !inside && !strings.HasPrefix(attr(link, "href"), "4/report.html") {
			t.Errorf("%s leads to no page", attr(link, "href"))
		}
	}
}

func TestSlowerNeedsThreeEarlierRuns(t *testing.T) {
	for _, c := range []struct {
		seconds []float64
		slower  bool
	}{{[]float64{10, 10, 10, 40}, true}, {[]float64{10, 10, 40}, false}, {[]float64{10, 40, 10, 12}, false}, {[]float64{1, 1, 1, 3}, false}} {
		tracks := tracked(strings.Repeat("p", len(c.seconds)), func(m *made) { m.seconds = c.seconds[m.day] })
		if got := newSlow(tracks[0])[0].Trend == "slower"; got != c.slower {
			t.Errorf("%v: slower is %v", c.seconds, got)
		}
	}
}

// The page needs nothing from elsewhere, and nothing that a log or a manifest holds becomes a part of it.
func TestThePageNeedsNothingElse(t *testing.T) {
	dir, found := reports(t)
	page, err := Render(hostile, found, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range all(t, page, func(*html.Node) bool { return true }) {
		if slices.Contains([]string{"script", "link", "img", "iframe", "object"}, node.Data) {
			t.Errorf("there is a %s", node.Data)
		}
		for _, a := range node.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || strings.Contains(a.Val, "://") {
				t.Errorf("%s has %s=%s", node.Data, a.Key, a.Val)
			}
		}
	}
	if policy := all(t, page, func(n *html.Node) bool { return attr(n, "http-equiv") == "Content-Security-Policy" }); len(policy) != 1 || attr(policy[0], "content") != "default-src 'none'; style-src 'unsafe-inline'" {
		t.Error("the page allows more than its style")
	}
}

func TestThePageIsNotTooLarge(t *testing.T) {
	tracks := tracked(strings.Repeat("pf", maxRuns), nil)
	shown := newTrack(tracks[0], "t1", t.TempDir())
	if len(shown.Heads) != maxRuns || shown.LeftOut != maxRuns || len(shown.Tried) != 1 || len(shown.Tried[0].Cells) != maxRuns {
		t.Errorf("%d heads, %d left out", len(shown.Heads), shown.LeftOut)
	}
}

func TestHeadlines(t *testing.T) {
	for results, want := range map[string]string{
		"pp": "What was tried last holds", "pfp": "What was tried last holds, and one requirement flakes", "pf": "One requirement is not proven",
	} {
		var runs []Run
		for _, track := range tracked(results, nil) {
			runs = append(runs, track.Runs...)
		}
		page, err := Render("artifacts", &Reports{Runs: runs}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if h := all(t, page, func(n *html.Node) bool { return n.Data == "h1" }); len(h) != 1 || text(h[0]) != want {
			t.Errorf("%s: %s, want %s", results, text(h[0]), want)
		}
	}
}

func TestSummary(t *testing.T) {
	_, found := reports(t)
	var b bytes.Buffer
	if err := Summary(&b, found); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"runs: 6, of policies on stacks: 1\n",
		"fail: core/x (p on s), since run run4 of 5 November 2026, 03:00 UTC; changed before it: nothing that the reports name\n",
		"flakes: core/x (p on s): 3 pass, 2 fail\n", "could not be read: ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
