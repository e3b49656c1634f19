package page

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/explain"
	"github.com/smart-restore/conformance/harness/report/decisions"
	"github.com/smart-restore/conformance/harness/report/timeline"
	"github.com/smart-restore/conformance/harness/text"
	"github.com/smart-restore/conformance/harness/verdict"
)

// view is what the template shows, in words and numbers as they stand on the page.
type view struct {
	CSS template.CSS
	JS  template.JS
	CSP string

	Headline, Tone string // Tone is a word of tones
	Report         *verdict.Report
	Started        string
	Length         string
	Counts         []count
	Levels         []level
	NotProven      []*spec
	Overview       overview
	Decisions      []decision
	Said           bool // a PVC says something of its decision
	Components     []component
	Files          []link
	Missing        []string
	Reduced        bool
}

type count struct {
	N          int
	Word, Tone string
}

type level struct {
	Name  string
	Specs []*spec
	Pass  int
}

type spec struct {
	verdict.Result
	Anchor, Tone, Mark, Word string
	Brief                    string // why, in a line
	Why                      string
	Cut                      int // characters of Why that were left out
	Explained                *explain.Text
	Time                     string
	Open                     bool
	Chart                    *chart
	Rows                     []row
	RowsLeftOut, LeftOut     int
	Logs                     []link
	LogsLeftOut              int
}

// decision is a row of the decision table.
type decision struct {
	Situation, Wanted, Outcome, Tone, Mark string
	Admitted, Said, Anchor                 string
}

type link struct{ Href, Text string }

type component struct{ Name, Requested, Observed, Image string }

// chart is a timeline in percent of its width.
type chart struct {
	Label  string
	Ticks  []tick
	Bands  []mark // faults, over all lanes
	Failed *mark
	Lanes  []lane
}

type tick struct {
	Left float64
	Text string
}

type lane struct {
	Kind, Name   string
	Spans, Marks []mark
}

type mark struct {
	Left, Width float64
	Class       string
	Text        string
	Row         int // in the list below, from 1; 0: not there
}

// row is one thing that happened, in words.
type row struct {
	N           int
	At          string
	Clock       string
	Kind, Where string
	State, Text string
	at          time.Time
	target      *mark
}

// overview shows when each spec ran.
type overview struct {
	Ticks  []tick
	Phases []bar
	Rows   [][]bar
}

type bar struct {
	Left, Width  float64
	Tone         string
	Text, Anchor string
}

// Marks are the tones in which an outcome is shown, and the marks that tell them apart without colours.
var Marks = map[string]string{"pass": "✓", "fail": "✕", "unknown": "?", "expected": "!", "none": "–"}

func newView(folder string, report *verdict.Report, run *timeline.Run, a amount) *view {
	v := &view{
		CSS: template.CSS(Style), JS: template.JS(pageJS), // #nosec G203 -- both are this package's own
		CSP:    "default-src 'none'; style-src 'unsafe-inline'; script-src " + hash(pageJS),
		Report: report, Missing: run.Missing,
	}
	if !report.Run.Started.IsZero() {
		v.Started = report.Run.Started.UTC().Format("2 January 2006, 15:04 UTC")
	}
	if report.Run.Ended.After(report.Run.Started) {
		v.Length = Length(report.Run.Ended.Sub(report.Run.Started).Seconds())
	}
	v.headline()
	anchors := map[string]int{}
	for _, result := range report.Requirements {
		s := newSpec(folder, result, run, a)
		if anchors[s.Anchor]++; anchors[s.Anchor] > 1 { // two specs claim one requirement; the report says so
			s.Anchor += fmt.Sprintf("-%d", anchors[s.Anchor])
		}
		v.place(s)
		if result.Fails() {
			v.NotProven = append(v.NotProven, s)
		}
	}
	if len(v.NotProven) > 0 {
		v.NotProven[0].Open = true
	}
	v.Overview = newOverview(report)
	for _, r := range decisions.Table(report) {
		d := decision{Situation: r.Situation, Wanted: string(r.Wanted), Outcome: string(r.Outcome), Tone: "pass", Admitted: fmt.Sprintf("%.2f s", r.AdmittedSeconds), Said: r.Said, Anchor: Anchor(r.Requirement)}
		switch {
		case r.Outcome == verdict.Unseen:
			d.Tone = "unknown"
		case !r.Right():
			d.Tone = "fail"
		}
		d.Mark = Marks[d.Tone]
		if r.Outcome == verdict.LateRestore {
			d.Outcome += fmt.Sprintf(", after %.0f s", r.RestoreSeconds)
		}
		v.Decisions, v.Said = append(v.Decisions, d), v.Said || d.Said != ""
	}
	for _, name := range slices.Sorted(maps.Keys(report.Stack.Observed)) {
		o := report.Stack.Observed[name]
		v.Components = append(v.Components, component{name, report.Stack.Requested[path.Base(name)], o.Version, cmp.Or(o.ImageID, o.Image)})
	}
	dir := artifacts.Dir(folder)
	for _, name := range append(files(folder), filesOf(folder, dir.S3Logs())...) {
		if name != File && !strings.HasPrefix(name, ".") {
			v.Files = append(v.Files, link{escape(name), name})
		}
	}
	return v
}

func (v *view) headline() {
	v.Headline = v.Report.Headline()
	c := v.Report.Count()
	switch {
	case v.Report.OK():
		v.Tone = "pass"
	case v.Report.SetupError == "" && len(v.Report.SuiteErrors) == 0 && c.Fail+c.Surprise == 0:
		v.Tone = "unknown"
	default:
		v.Tone = "fail"
	}
	notSelected := "not selected"
	if v.Report.Selection.Whole {
		notSelected = "on request only"
	}
	for _, n := range []count{
		{c.Pass, "passed", "pass"}, {c.Fail, "failed", "fail"}, {c.Surprise, "passed by surprise", "fail"}, {c.Unknown, "unknown", "unknown"},
		{c.ExpectedFail, "failed as expected", "expected"}, {c.NotPromised, "not promised", "none"}, {c.NotSelected, notSelected, "none"},
	} {
		if n.N > 0 || n.Word == "passed" || n.Word == "failed" {
			v.Counts = append(v.Counts, n)
		}
	}
}

// place puts a spec into its level, in the order in which the report has them.
func (v *view) place(s *spec) {
	name := cmp.Or(s.Level, "other")
	if n := len(v.Levels); n == 0 || v.Levels[n-1].Name != name {
		v.Levels = append(v.Levels, level{Name: name})
	}
	l := &v.Levels[len(v.Levels)-1]
	l.Specs = append(l.Specs, s)
	if s.Tone == "pass" {
		l.Pass++
	}
}

// Anchor is the place of a requirement in a page.
func Anchor(id string) string { return "r-" + text.Slug(id) }

// Tone is the tone in which a result is shown: one of Marks.
func Tone(r verdict.Result) string {
	switch {
	case r.Fails() && (r.Verdict == verdict.Fail || r.Verdict == verdict.Pass):
		return "fail"
	case r.Fails():
		return "unknown"
	case r.Verdict == verdict.Pass:
		return "pass"
	case r.Verdict == verdict.Fail:
		return "expected"
	}
	return "none"
}

func newSpec(folder string, result verdict.Result, run *timeline.Run, a amount) *spec {
	s := &spec{Result: result, Anchor: Anchor(result.ID), Tone: Tone(result), Word: result.Word(), Time: Length(result.DurationSeconds)}
	s.Mark = Marks[s.Tone]
	if s.Tone != "pass" {
		s.Brief, s.Why = verdict.FirstLine(result.Why()), result.Why()
		if runes := []rune(s.Why); len(runes) > a.message {
			s.Why, s.Cut = string(runes[:a.message]), len(runes)-a.message
		}
		if text, found := result.Explained(); found {
			s.Explained = &text
		}
	}
	t := run.Of(result.ID, a.limits)
	if t == nil {
		s.evidenceOnly(a)
		return s
	}
	s.LeftOut = t.LeftOut
	if a.limits.Lanes > 0 {
		s.draw(t, a)
	}
	dir := artifacts.Dir(folder)
	for _, namespace := range t.Namespaces {
		s.Logs = append(s.Logs, linksTo(folder, dir.NamespaceLogs(namespace), "")...)
	}
	s.Logs = append(s.Logs, linksTo(folder, dir.Dump(result.ID), "dump: ")...)
	if len(s.Logs) > a.logs {
		s.LogsLeftOut, s.Logs = len(s.Logs)-a.logs, s.Logs[:a.logs]
	}
	return s
}

// evidenceOnly lists what a spec recorded, where there is no timeline of it.
func (s *spec) evidenceOnly(a amount) {
	for i, e := range s.Evidence {
		if i == a.rows {
			s.RowsLeftOut = len(s.Evidence) - i
			break
		}
		s.Rows = append(s.Rows, row{N: i + 1, At: "", Clock: clock(e.Time), Kind: string(timeline.Suite), Where: e.Kind, Text: e.Text})
	}
}

// filesOf lists the files in a subfolder, as paths below the folder.
func filesOf(folder, sub string) []string {
	var names []string
	for _, name := range files(sub) {
		names = append(names, artifacts.Dir(folder).Below(filepath.Join(sub, name)))
	}
	return names
}

func linksTo(folder, sub, prefix string) []link {
	var links []link
	for _, name := range filesOf(folder, sub) {
		links = append(links, link{escape(name), prefix + path.Base(name)})
	}
	return links
}

// escape makes a relative URL of a file's path.
func escape(name string) string { return (&url.URL{Path: name}).EscapedPath() }

// laneNames say what a lane is about, before its name.
var laneNames = map[timeline.Kind]string{
	timeline.Fault: "fault", timeline.Suite: "the spec", timeline.Claim: "PVC", timeline.Source: "RS", timeline.Destination: "RD",
	timeline.Secret: "Secrets", timeline.Mover: "mover", timeline.Pod: "pod", timeline.Policy: "Kyverno says", timeline.Controller: "pods of", timeline.S3: "S3",
}

func laneName(l timeline.Lane) string {
	switch l.Kind {
	case timeline.Suite, timeline.Secret, timeline.Policy:
		return laneNames[l.Kind]
	case timeline.Mover:
		return laneNames[l.Kind] + " " + strings.TrimPrefix(l.Name, "volsync-")
	}
	return laneNames[l.Kind] + " " + l.Name
}

// draw lays a timeline out.
func (s *spec) draw(t *timeline.Timeline, a amount) {
	whole := t.To.Sub(t.From)
	left := func(at time.Time) float64 { return percent(at.Sub(t.From), whole) }
	c := &chart{Label: fmt.Sprintf("Timeline of %s over %s; the list below says the same in words.", s.ID, Length(whole.Seconds())), Ticks: ticks(whole)}
	if !t.Failed.IsZero() {
		c.Failed = &mark{Left: left(t.Failed), Text: "gave up at " + Length(t.Failed.Sub(t.From).Seconds())}
	}
	var rows []row
	add := func(l timeline.Lane, at time.Time, state timeline.State, text string, target *mark) {
		rows = append(rows, row{
			At: fmt.Sprintf("%.2f", at.Sub(t.From).Seconds()), Clock: clock(at), Kind: string(l.Kind), Where: laneName(l),
			State: string(state), Text: text, at: at, target: target,
		})
	}
	for _, l := range t.Lanes {
		drawn := lane{Kind: string(l.Kind), Name: laneName(l), Spans: make([]mark, len(l.Spans)), Marks: make([]mark, len(l.Points))}
		for i, span := range l.Spans {
			m := &drawn.Spans[i]
			lasted := span.To.Sub(span.From)
			*m = mark{Left: left(span.From), Width: percent(lasted, whole), Class: string(span.State), Text: span.Text}
			if span.State == timeline.Plain {
				m.Text += ", there for " + Length(lasted.Seconds())
				continue // its making is a point of its own
			}
			if l.Kind == timeline.Fault {
				c.Bands = append(c.Bands, *m)
			}
			m.Text = ""
			add(l, span.From, span.State, span.Text+", for "+Length(lasted.Seconds()), m)
		}
		for i, p := range l.Points {
			m := &drawn.Marks[i]
			*m = mark{Left: left(p.At), Class: string(p.State)}
			if p.Count > 1 {
				m.Class += " many"
			}
			add(l, p.At, p.State, p.Text, m)
		}
		c.Lanes = append(c.Lanes, drawn)
	}
	slices.SortStableFunc(rows, func(x, y row) int { return x.at.Compare(y.at) })
	if len(rows) > a.rows {
		s.RowsLeftOut = len(rows) - a.rows
		// What the spec saw, and what went wrong, is kept.
		rank := func(r row) int {
			if r.Kind == string(timeline.Suite) || r.State == string(timeline.Bad) || r.Kind == string(timeline.Fault) {
				return 0
			}
			return 1
		}
		slices.SortStableFunc(rows, func(x, y row) int { return rank(x) - rank(y) })
		rows = rows[:a.rows]
		slices.SortStableFunc(rows, func(x, y row) int { return x.at.Compare(y.at) })
	}
	for i := range rows {
		rows[i].N = i + 1
		rows[i].target.Row = i + 1
	}
	s.Chart, s.Rows = c, rows
}

// steps are what a scale may be marked in, in seconds.
var steps = []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200}

// ticks are some five to eight round marks.
func ticks(whole time.Duration) []tick {
	total := whole.Seconds()
	step := steps[len(steps)-1]
	for _, candidate := range steps {
		if total/candidate <= 8 {
			step = candidate
			break
		}
	}
	var out []tick
	for at := 0.0; at < total*0.97 && len(out) < 50; at += step {
		text := fmt.Sprintf("%g s", math.Round(at*10)/10)
		if step >= 60 {
			text = fmt.Sprintf("%.0f min", at/60)
		}
		out = append(out, tick{round(at / total * 100), text})
	}
	return out
}

func newOverview(report *verdict.Report) overview {
	from, to := report.Run.Started, report.Run.Ended
	for _, r := range report.Requirements {
		if r.Ended.After(to) {
			to = r.Ended
		}
	}
	whole := to.Sub(from)
	if from.IsZero() || whole <= 0 {
		return overview{}
	}
	o := overview{Ticks: ticks(whole)}
	for _, p := range report.Phases {
		took := time.Duration(p.DurationSeconds * float64(time.Second))
		b := bar{Left: percent(p.Started.Sub(from), whole), Width: percent(took, whole), Tone: "none", Text: p.Name + ", " + Length(p.DurationSeconds)}
		if p.Error != "" {
			b.Tone, b.Text = "fail", b.Text+": "+verdict.FirstLine(p.Error)
		}
		o.Phases = append(o.Phases, b)
	}
	specs := slices.Clone(report.Requirements)
	slices.SortStableFunc(specs, func(a, b verdict.Result) int { return a.Started.Compare(b.Started) })
	var ends []time.Time // of each row's last spec
	for _, r := range specs {
		if r.Started.Before(from) || !r.Ended.After(r.Started) || r.Verdict == verdict.NotPromised {
			continue
		}
		b := bar{percent(r.Started.Sub(from), whole), percent(r.Ended.Sub(r.Started), whole), Tone(r), r.ID + ": " + r.Word() + ", " + Length(r.DurationSeconds), Anchor(r.ID)}
		row := slices.IndexFunc(ends, func(end time.Time) bool { return !end.After(r.Started) })
		if row < 0 {
			row = len(ends)
			ends, o.Rows = append(ends, time.Time{}), append(o.Rows, nil)
		}
		ends[row] = r.Ended
		o.Rows[row] = append(o.Rows[row], b)
	}
	return o
}

func percent(part, whole time.Duration) float64 {
	return round(min(100, max(0, float64(part)/float64(whole)*100)))
}

func round(x float64) float64 { return math.Round(x*100) / 100 }

func clock(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("15:04:05.000")
}

// Length is a time in seconds as a person reads it.
func Length(seconds float64) string {
	switch {
	case seconds < 10:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	}
	return fmt.Sprintf("%d min %02d s", int(seconds)/60, int(seconds)%60)
}
