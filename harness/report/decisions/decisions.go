// Package decisions lays out what a policy comes to in each situation (a fresh PVC, one with a backup, one with a backup
// while S3 is down in each way), and compares two policies by it. It reads what specs recorded, not how verdicts read.
package decisions

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/smart-restore/conformance/harness/text"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Row is one situation.
type Row struct {
	verdict.Decision
	Requirement string
	Verdict     verdict.Verdict
}

// Right says that the policy came to what is wanted.
func (r Row) Right() bool { return r.Outcome == r.Wanted }

// Table is the decision table of a report: a row for each decision that was recorded.
func Table(report *verdict.Report) []Row {
	var rows []Row
	for _, result := range report.Requirements {
		for _, e := range result.Evidence {
			if d, ok := e.Decision(); ok {
				rows = append(rows, Row{Decision: d, Requirement: result.ID, Verdict: result.Verdict})
			}
		}
	}
	// Faults come last, each after those before it in the report.
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(order(a.Situation), order(b.Situation)) })
	return rows
}

func order(situation string) int {
	if i := slices.Index([]string{"fresh", "backup"}, situation); i >= 0 {
		return i
	}
	return 2
}

// Change is how something differs between two reports.
type Change int

// The changes. What neither policy gets right, and gets wrong in another way, is Different.
const (
	Same Change = iota
	Better
	Different
	NotSeen // the base is right, and the candidate was not looked at
	Worse
)

func (c Change) mark() string {
	return []string{"", "better", "different", "NOT SEEN", "WORSE"}[c]
}

// Pair is one situation in two reports; nil: not in that one.
type Pair struct {
	Situation       string
	Base, Candidate *Row
	Change          Change
}

// Moved is a requirement whose verdict is not the same.
type Moved struct {
	ID              string
	Base, Candidate string // words for its verdict; empty: it was not tried
	Change          Change
}

// Diff is how a candidate differs from a base.
type Diff struct {
	Base, Candidate *verdict.Report
	Pairs           []Pair
	Moved           []Moved
	// Notes say why the two reports do not tell of the policies alone.
	Notes []string
}

// Compare compares what two reports say. A candidate is worse where it comes to something wrong and the base does not, or
// where a requirement held and does not any more. Where it was not seen, it is not known to be as good.
func Compare(base, candidate *verdict.Report) *Diff {
	d := &Diff{Base: base, Candidate: candidate}
	before, after := Table(base), Table(candidate)
	pick := func(rows []Row, situation string) *Row {
		if i := slices.IndexFunc(rows, func(r Row) bool { return r.Situation == situation }); i >= 0 {
			return &rows[i]
		}
		return nil
	}
	for _, row := range slices.Concat(before, after) {
		if slices.ContainsFunc(d.Pairs, func(p Pair) bool { return p.Situation == row.Situation }) {
			continue
		}
		p := Pair{Situation: row.Situation, Base: pick(before, row.Situation), Candidate: pick(after, row.Situation)}
		p.Change = p.change()
		d.Pairs = append(d.Pairs, p)
	}
	slices.SortStableFunc(d.Pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(order(a.Situation), order(b.Situation)), strings.Compare(a.Situation, b.Situation))
	})
	d.move()
	d.note()
	return d
}

func (p Pair) change() Change {
	switch {
	case p.Base == nil:
		if p.Candidate.Right() {
			return Better
		}
		return Different
	case p.Candidate == nil:
		if p.Base.Right() {
			return NotSeen
		}
		return Different
	case p.Base.Right() && p.Candidate.Outcome == verdict.Unseen:
		return NotSeen
	case p.Base.Right() && p.Candidate.Right(), p.Base.Outcome == p.Candidate.Outcome:
		return Same
	case p.Base.Right():
		return Worse
	case p.Candidate.Right():
		return Better
	}
	return Different
}

// move finds the requirements whose verdicts differ. What the candidate's run was not to try is in the notes.
func (d *Diff) move() {
	find := func(report *verdict.Report, id string) *verdict.Result {
		for i := range report.Requirements {
			if report.Requirements[i].ID == id {
				return &report.Requirements[i]
			}
		}
		return nil
	}
	word := func(r *verdict.Result) string {
		if r == nil {
			return ""
		}
		return r.Word()
	}
	var seen []string
	for _, result := range slices.Concat(d.Base.Requirements, d.Candidate.Requirements) {
		if slices.Contains(seen, result.ID) {
			continue
		}
		seen = append(seen, result.ID)
		b, c := find(d.Base, result.ID), find(d.Candidate, result.ID)
		held := func(r *verdict.Result) bool { return r != nil && r.Verdict == verdict.Pass }
		m := Moved{ID: result.ID, Base: word(b), Candidate: word(c)}
		switch {
		case m.Base == m.Candidate || held(b) && held(c):
			continue
		case held(b) && (c == nil || c.Verdict == verdict.Unknown):
			m.Change = NotSeen
		case held(b):
			m.Change = Worse
		case held(c):
			m.Change = Better
		default:
			m.Change = Different
		}
		d.Moved = append(d.Moved, m)
	}
	slices.SortStableFunc(d.Moved, func(a, b Moved) int { return cmp.Compare(b.Change, a.Change) })
}

func (d *Diff) note() {
	for _, side := range []struct {
		name   string
		report *verdict.Report
	}{{"base", d.Base}, {"candidate", d.Candidate}} {
		if len(side.report.Partial) > 0 {
			d.Notes = append(d.Notes, "the "+side.name+"'s run is partial: "+strings.Join(side.report.Partial, "; "))
		}
		if side.report.SetupError != "" {
			d.Notes = append(d.Notes, "the "+side.name+"'s run could not be set up: "+verdict.FirstLine(side.report.SetupError))
		}
		if len(Table(side.report)) == 0 {
			d.Notes = append(d.Notes, "the "+side.name+"'s report has no decisions: no spec of the table ran, or the report is of an older suite")
		}
	}
	if a, b := d.Base.Stack.Name, d.Candidate.Stack.Name; a != b {
		d.Notes = append(d.Notes, fmt.Sprintf("they ran on different stacks, %s and %s", a, b))
	}
}

// Worse says whether the candidate is worse than the base in anything, or was not seen to be as good.
func (d *Diff) Worse() bool {
	return slices.ContainsFunc(d.Pairs, func(p Pair) bool { return p.Change >= NotSeen }) ||
		slices.ContainsFunc(d.Moved, func(m Moved) bool { return m.Change >= NotSeen })
}

// untried lists the requirements that only the base's run tried; the others have two verdicts.
func (d *Diff) untried() (ids []string, others []Moved) {
	for _, m := range d.Moved {
		if m.Candidate == "" {
			ids = append(ids, m.ID)
		} else {
			others = append(others, m)
		}
	}
	return ids, others
}

// Verdict is the comparison in a sentence.
func (d *Diff) Verdict() string {
	n := map[Change]int{}
	for _, p := range d.Pairs {
		n[p.Change]++
	}
	for _, m := range d.Moved {
		n[m.Change]++
	}
	if len(n) == 0 || len(n) == 1 && n[Same] > 0 {
		return "The two come to the same everywhere."
	}
	var parts []string
	for _, c := range []Change{Worse, NotSeen, Better, Different} {
		if n[c] > 0 {
			parts = append(parts, fmt.Sprintf("%s in %d", strings.ToLower(c.mark()), n[c]))
		}
	}
	return "Of decisions and requirements, the candidate is " + strings.Join(parts, ", ") + "."
}

// cells are what a row says of a policy.
func cells(r *Row) (outcome, admitted string) {
	if r == nil {
		return "–", "–"
	}
	outcome = string(r.Outcome)
	if r.Outcome == verdict.LateRestore {
		outcome = fmt.Sprintf("%s, after %.0f s", outcome, r.RestoreSeconds)
	}
	if !r.Right() {
		outcome += " ✕"
	}
	return outcome, fmt.Sprintf("%.2f s", r.AdmittedSeconds)
}

func wanted(p Pair) string {
	if p.Base != nil {
		return string(p.Base.Wanted)
	}
	return string(p.Candidate.Wanted)
}

func name(r *verdict.Report) string { return cmp.Or(r.Implementation.Policy, "unnamed") }

// Text writes the comparison for a terminal.
func (d *Diff) Text(w io.Writer) error {
	rows := [][]string{{"situation", "wanted", "base", "admitted", "candidate", "admitted", ""}}
	for _, p := range d.Pairs {
		b, bt := cells(p.Base)
		c, ct := cells(p.Candidate)
		rows = append(rows, []string{p.Situation, wanted(p), b, bt, c, ct, p.Change.mark()})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "base:      %s, %s on %s\ncandidate: %s, %s on %s\n\n", name(d.Base), d.Base.Run.ID, d.Base.Stack.Name, name(d.Candidate), d.Candidate.Run.ID, d.Candidate.Stack.Name)
	if len(d.Pairs) > 0 {
		align(&b, rows)
	}
	untried, others := d.untried()
	if len(others) > 0 {
		b.WriteString("\nverdicts that are not the same:\n")
		var moved [][]string
		for _, m := range others {
			moved = append(moved, []string{m.ID, cmp.Or(m.Base, "not tried") + " → " + cmp.Or(m.Candidate, "not tried"), m.Change.mark()})
		}
		align(&b, moved)
	}
	if len(untried) > 0 {
		fmt.Fprintf(&b, "\nnot tried on the candidate: %s\n", strings.Join(untried, ", "))
	}
	for _, note := range d.Notes {
		fmt.Fprintf(&b, "\nnote: %s", note)
	}
	if len(d.Notes) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%s\n", d.Verdict())
	_, err := io.WriteString(w, b.String())
	return err
}

// align writes rows as a table, without spaces at the ends of lines.
func align(b *strings.Builder, rows [][]string) {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // to memory
	for line := range strings.Lines(table.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// Markdown writes the comparison for a pull request.
func (d *Diff) Markdown(w io.Writer) error {
	var b strings.Builder
	mark := map[Change]string{Worse: "🔴 worse", NotSeen: "🟠 not seen", Better: "🟢 better", Different: "🟡 different"}
	fmt.Fprintf(&b, "### Decisions of %s against %s\n\n%s\n\n", text.Code(name(d.Candidate)), text.Code(name(d.Base)), d.Verdict())
	if len(d.Pairs) > 0 {
		b.WriteString("| situation | wanted | base | admitted | candidate | admitted | |\n|---|---|---|---:|---|---:|---|\n")
		for _, p := range d.Pairs {
			base, bt := cells(p.Base)
			candidate, ct := cells(p.Candidate)
			if p.Change != Same {
				candidate = "**" + candidate + "**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", text.Code(p.Situation), wanted(p), base, bt, candidate, ct, mark[p.Change])
		}
		b.WriteString("\n✕: not what is wanted. `none`: no ReplicationDestination is made, the volume starts empty and is backed up.\n\n")
	}
	untried, others := d.untried()
	if len(others) > 0 {
		b.WriteString("| requirement | base | candidate | |\n|---|---|---|---|\n")
		for _, m := range others {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", text.Code(m.ID), cmp.Or(m.Base, "not tried"), cmp.Or(m.Candidate, "not tried"), mark[m.Change])
		}
		b.WriteString("\n")
	}
	if len(untried) > 0 {
		fmt.Fprintf(&b, "- not tried on the candidate: %s\n", text.Plain(strings.Join(untried, ", ")))
	}
	for _, note := range d.Notes {
		fmt.Fprintf(&b, "- %s\n", text.Plain(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
