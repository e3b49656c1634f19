package history

import (
	"bytes"
	"cmp"
	_ "embed" // the page's parts
	"fmt"
	"html/template"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/report/page"
	"github.com/smart-restore/conformance/harness/verdict"
)

// File is the page's name in the folder of runs.
const File = "history.html"

const (
	// maxRuns is how many runs of a policy on a stack the page shows, the newest of them.
	maxRuns = 60
	// slowest is how many requirements the tables of the slowest have.
	slowest = 12
)

//go:embed history.html
var pageHTML string

//go:embed history.css
var ownStyle string

var history = template.Must(template.New("history").Parse(pageHTML))

// view is what the template shows.
type view struct {
	CSS            template.CSS
	CSP            string
	Headline, Tone string
	Folder         string
	First, Last    string
	Runs           int
	Failing        []failing
	Flakes         []flake
	Uncommitted    int // runs among which no flake can be told
	Tracks         []track
	LeftOut        []LeftOut
}

type failing struct {
	ID, Track, Anchor string
	Since, Held       *head
	Changed           []string
	Tone, Mark, Word  string
	Why               string
}

type flake struct {
	ID, Track, Anchor string
	Groups            []group
}

// group is runs that were alike.
type group struct {
	Cells  []cell
	Counts string
}

type track struct {
	Name, Anchor string
	Runs         int
	LeftOut      int // older runs
	Heads        []head
	Tried        []row // did not always hold
	Held         []row
	Slow         []slow
	Open         bool
}

// Grid is a table of some of the track's rows.
func (t track) Grid(rows []row) any {
	return struct {
		Heads []head
		Rows  []row
	}{t.Heads, rows}
}

// head is a run, at the head of its column.
type head struct {
	Date, Time, Href, Title string
	Tone                    string
}

type row struct {
	ID, Sentence, Anchor string
	Cells                []cell
}

type cell struct{ Mark, Tone, Href, Title string }

type slow struct {
	ID                   string
	Last, Median, Most   string
	Points, Label, Trend string
}

// Render makes the page of what was found; links lead to the runs' pages from the folder that it is written to.
func Render(folder string, found *Reports, into string) ([]byte, error) {
	tracks := Tracks(found.Runs)
	v := &view{
		CSS: template.CSS(page.Style + ownStyle), // #nosec G203 -- both are our own
		CSP: "default-src 'none'; style-src 'unsafe-inline'", Folder: folder, Runs: len(found.Runs), LeftOut: found.LeftOut,
		First: date(found.Runs[0]), Last: date(found.Runs[len(found.Runs)-1]),
	}
	for _, run := range found.Runs {
		if uncommitted(run.Run.Suite) {
			v.Uncommitted++
		}
	}
	for i, t := range tracks {
		shown := newTrack(t, fmt.Sprintf("t%d", i+1), into)
		shown.Open = i == 0
		v.Tracks = append(v.Tracks, shown)
		v.judge(t, shown, into)
	}
	v.headline()
	var b bytes.Buffer
	if err := history.Execute(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Write renders the page into a file, whole or not at all.
func Write(folder string, found *Reports, file string) error {
	into, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(into); err == nil {
		into = real // as the runs' folders are
	}
	text, err := Render(folder, found, into)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return (&verdict.Report{}).WriteFile(file, text)
}

func (v *view) headline() {
	count := func(n int, one, many string) string {
		if n == 1 {
			return one
		}
		return fmt.Sprintf(many, n)
	}
	v.Tone, v.Headline = "pass", "What was tried last holds"
	if n := len(v.Flakes); n > 0 {
		v.Tone, v.Headline = "unknown", "What was tried last holds, and "+count(n, "one requirement flakes", "%d requirements flake")
	}
	if n := len(v.Failing); n > 0 {
		v.Tone, v.Headline = "fail", count(n, "One requirement is not proven", "%d requirements are not proven")
	}
}

// judge lists what of a track does not hold, and what flakes.
func (v *view) judge(t *Track, shown track, into string) {
	for _, r := range t.Rows {
		if s := r.Failing; s != nil {
			since := newHead(t.Runs[s.Run], into)
			f := failing{ID: r.ID, Track: shown.Name, Anchor: rowAnchor(shown.Anchor, r.ID), Since: &since, Changed: s.Changed,
				Tone: page.Tone(*s.Last), Word: s.Last.Word(), Why: verdict.FirstLine(s.Last.Why())}
			f.Mark = page.Marks[f.Tone]
			if s.Held >= 0 {
				held := newHead(t.Runs[s.Held], into)
				f.Held = &held
			}
			v.Failing = append(v.Failing, f)
		}
		f := flake{ID: r.ID, Track: shown.Name, Anchor: rowAnchor(shown.Anchor, r.ID)}
		for _, one := range slices.Backward(r.Flakes) {
			g := group{Counts: one.String()}
			for _, i := range slices.Backward(one.Runs[max(0, len(one.Runs)-maxRuns):]) {
				g.Cells = append(g.Cells, newCell(t.Runs[i], r.Results[i], into))
			}
			f.Groups = append(f.Groups, g)
		}
		if len(f.Groups) > 0 {
			v.Flakes = append(v.Flakes, f)
		}
	}
}

// Summary says for a terminal what the page says first.
func Summary(w io.Writer, found *Reports) error {
	tracks := Tracks(found.Runs)
	var b bytes.Buffer
	fmt.Fprintf(&b, "runs: %d, of policies on stacks: %d\n", len(found.Runs), len(tracks))
	for _, t := range tracks {
		for _, r := range t.Rows {
			where := fmt.Sprintf("%s (%s on %s)", r.ID, t.Policy, t.Stack)
			if s := r.Failing; s != nil {
				run := t.Runs[s.Run]
				fmt.Fprintf(&b, "%s: %s, since run %s of %s", s.Last.Word(), where, run.Run.ID, date(run))
				if s.Held >= 0 {
					fmt.Fprintf(&b, "; changed before it: %s", cmp.Or(strings.Join(s.Changed, ", "), "nothing that the reports name"))
				}
				b.WriteString("\n")
			}
			for _, f := range r.Flakes {
				fmt.Fprintf(&b, "flakes: %s: %s\n", where, f)
			}
		}
	}
	for _, l := range found.LeftOut {
		fmt.Fprintf(&b, "could not be read: %s: %s\n", l.Path, verdict.FirstLine(l.Why))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// String is how often each verdict was given.
func (f Flake) String() string {
	var words []string
	for _, c := range []struct {
		n    int
		word verdict.Verdict
	}{{f.Pass, verdict.Pass}, {f.Fail, verdict.Fail}, {f.Unknown, verdict.Unknown}} {
		if c.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	return strings.Join(words, ", ")
}

func rowAnchor(track, id string) string { return track + "-" + page.Anchor(id) }

func newTrack(t *Track, anchor, into string) track {
	first := max(0, len(t.Runs)-maxRuns)
	shown := track{Name: t.Policy + " on " + t.Stack, Anchor: anchor, Runs: len(t.Runs), LeftOut: first, Slow: newSlow(t)}
	for _, run := range slices.Backward(t.Runs[first:]) {
		shown.Heads = append(shown.Heads, newHead(run, into))
	}
	for _, r := range t.Rows {
		line, held := row{ID: r.ID, Sentence: r.Sentence, Anchor: rowAnchor(anchor, r.ID)}, true
		for i := len(t.Runs) - 1; i >= first; i-- {
			c := newCell(t.Runs[i], r.Results[i], into)
			held = held && (c.Tone == "pass" || c.Tone == "" || c.Tone == "none")
			line.Cells = append(line.Cells, c)
		}
		if held {
			shown.Held = append(shown.Held, line)
		} else {
			shown.Tried = append(shown.Tried, line)
		}
	}
	return shown
}

func date(run Run) string { return run.Run.Started.UTC().Format("2 January 2006, 15:04 UTC") }

// link leads to a run's page, where the run has one.
func link(run Run, into, anchor string) string {
	file := artifacts.Dir(run.Folder).Page()
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	relative, err := filepath.Rel(into, absolute)
	if err != nil {
		return ""
	}
	return (&url.URL{Path: filepath.ToSlash(relative), Fragment: anchor}).String()
}

func newHead(run Run, into string) head {
	at := run.Run.Started.UTC()
	h := head{Date: at.Format("2 Jan"), Time: at.Format("15:04"), Href: link(run, into, ""), Tone: "pass", Title: fmt.Sprintf("run %s of %s: %s", run.Run.ID, date(run), run.Headline())}
	h.Title += "; policy " + cmp.Or(short(run.Implementation.SHA256), "unknown") + ", suite " + cmp.Or(run.Run.Suite, "unknown")
	if len(run.Partial) > 0 {
		h.Title += "; partial: " + strings.Join(run.Partial, "; ")
	}
	if !run.OK() {
		h.Tone = "fail"
	}
	return h
}

func newCell(run Run, r *verdict.Result, into string) cell {
	if r == nil {
		return cell{}
	}
	tone := page.Tone(*r)
	c := cell{Mark: page.Marks[tone], Tone: tone}
	if tone != "pass" && tone != "none" { // what there is to look at
		c.Href, c.Title = link(run, into, page.Anchor(r.ID)), r.Word()+": "+verdict.FirstLine(r.Why())
	}
	return c
}

// newSlow lists those that took longest when they were last seen to hold.
func newSlow(t *Track) []slow {
	rows := slices.Clone(t.Rows)
	last := func(r *Row) float64 {
		all := r.Seconds()
		if len(all) == 0 {
			return 0
		}
		return all[len(all)-1]
	}
	slices.SortStableFunc(rows, func(a, b *Row) int { return int(1000 * (last(b) - last(a))) })
	var out []slow
	for _, r := range rows[:min(slowest, len(rows))] {
		all := r.Seconds()
		if len(all) == 0 {
			break
		}
		all = all[max(0, len(all)-maxRuns):]
		s := slow{ID: r.ID, Last: page.Length(last(r)), Median: page.Length(Median(all)), Most: page.Length(slices.Max(all))}
		s.Points, s.Label = points(all)
		if earlier := all[:len(all)-1]; len(earlier) >= 3 && last(r) > 1.5*Median(earlier) && last(r) > Median(earlier)+5 {
			s.Trend = "slower"
		}
		out = append(out, s)
	}
	return out
}

// points are numbers as a line of 100 by 20, and in words.
func points(of []float64) (line, words string) {
	most := max(slices.Max(of), 0.1)
	var at, said []string
	for i, n := range of {
		x := 50.0
		if len(of) > 1 {
			x = 2 + 96*float64(i)/float64(len(of)-1)
		}
		at = append(at, fmt.Sprintf("%.1f,%.1f", x, 19-18*n/most))
		said = append(said, page.Length(n))
	}
	if len(at) == 1 {
		at = []string{strings.Replace(at[0], "50.0", "2.0", 1), strings.Replace(at[0], "50.0", "98.0", 1)}
	}
	return strings.Join(at, " "), strings.Join(said, ", ")
}
