package check

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/smart-restore/conformance/harness/policy"
)

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Text writes the report for people: the table, and then what is wrong, each with where.
func (r *Report) Text(w io.Writer) error {
	b := &strings.Builder{}
	by := "played by " + r.Kyverno
	if r.Kyverno == "" {
		by = "which has no policy of Kyverno's to be played: its templates were read"
	}
	fmt.Fprintf(b, "policy %s (%s), %s\n", r.Name, policy.Shown(r.Policy), by)
	if len(r.MadeFor) > 0 {
		fmt.Fprintf(b, "The policy is made for %s: what it does there may be different.\n", strings.Join(r.MadeFor, ", "))
	}
	counts := map[Verdict]int{}
	for _, row := range r.Rows {
		counts[row.Verdict]++
	}
	if counts[Unknown] < len(r.Rows) {
		r.table(b)
	}
	for i, t := range r.Findings {
		if t.Follows == 0 {
			fmt.Fprintln(b)
			r.finding(b, i)
		}
	}
	r.unknown(b)
	if len(r.Notes) > 0 {
		fmt.Fprint(b, "\nThese may be mistakes:\n")
		for _, n := range r.Notes {
			fmt.Fprintf(b, "note  %s:%d (%s): %s\n", policy.Shown(n.File), n.Line, n.Policy, n.Text)
		}
	}
	if len(r.NotSeen) > 0 {
		fmt.Fprintln(b)
		for _, n := range r.NotSeen {
			fmt.Fprintf(b, "expected to fail, not seen here: %s: %s\n", n.Requirement, n.Reason)
		}
	}
	if len(r.NotLookedAt) > 0 {
		fmt.Fprint(b, "\nNot looked at, so neither right nor wrong:\n")
		for _, text := range r.NotLookedAt {
			fmt.Fprintf(b, "  %s\n", text)
		}
	}
	fmt.Fprintf(b, "\n%d ok, %d fail, %d fail as its contract says, %d unknown", counts[OK], counts[Finding], counts[Expected], counts[Unknown])
	if beyond := r.beyondSituations(); beyond > 0 {
		fmt.Fprintf(b, "; %d found wrong beyond the situations", beyond)
	}
	fmt.Fprintf(b, ", in %.1f s. Only a cluster shows what comes of it: make e2e\n", float64(r.Millis)/1000)
	if r.Refused != "" {
		fmt.Fprintf(b, "\nmake e2e would not start. To try it on a cluster, change this first:\n  %s\n", strings.ReplaceAll(r.Refused, "\n", "\n  "))
	}
	if r.Unplayed != "" {
		fmt.Fprintf(b, "unknown: nothing could be said: %s\n", r.Unplayed)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Line is the report in one line.
func (r *Report) Line() string {
	counts := map[Verdict]int{}
	for _, t := range r.Findings {
		counts[t.Verdict]++
	}
	for _, row := range r.Rows {
		if row.Verdict == OK || row.Verdict == Unknown {
			counts[row.Verdict]++
		}
	}
	verdict := OK
	switch {
	case counts[Finding] > 0:
		verdict = Finding
	case !r.saysSomething():
		verdict = Unknown
	}
	return fmt.Sprintf("%-7s %-24s %3d ok, %d wrong, %d wrong as its contract says, %d unknown, %d to be shown by a cluster, in %.1f s",
		verdict, r.Name, counts[OK], counts[Finding], counts[Expected], counts[Unknown], len(r.NotSeen), float64(r.Millis)/1000)
}

func (r *Report) table(w io.Writer) {
	fmt.Fprint(w, "\nRD: a ReplicationDestination (a restore) is made. RS: a ReplicationSource (backups) is made; not: a backup may run.\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tsituation\tRD\tRS\tadmitted\tin\twanted")
	for _, row := range r.Rows {
		took := "-"
		if row.Admitted == "yes" {
			took = fmt.Sprintf("%.1f s", float64(row.TookMillis)/1000)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Verdict, row.Situation, row.Restores, row.BacksUp, row.Admitted, took, row.Wanted)
	}
	_ = table.Flush() // to memory
}

// finding writes a finding, and what follows from it.
func (r *Report) finding(w io.Writer, i int) {
	t := r.Findings[i]
	fmt.Fprintf(w, "%s  %s\n    %s%s\n", t.Verdict, t.Requirement, t.Where(), t.Text)
	requirements, situations, said := []string{}, []string{t.Situation}, []string{t.Text}
	for _, other := range r.Findings[i+1:] {
		if other.Follows != i+1 {
			continue
		}
		if !slices.Contains(situations, other.Situation) {
			situations = append(situations, other.Situation)
		}
		if other.Requirement != t.Requirement && !slices.Contains(requirements, other.Requirement) {
			requirements = append(requirements, other.Requirement)
		}
		// Of a policy that Kyverno does not take, the other errors are worth knowing: not all may follow.
		if t.Requirement == policy.Accepted && !slices.Contains(said, other.Text) {
			said = append(said, other.Text)
			fmt.Fprintf(w, "    perhaps only because of that: %s%s\n", other.Where(), other.Text)
		}
	}
	if more := len(situations) - 1; more > 0 {
		fmt.Fprintf(w, "    and %s from it: %s\n", counted(more, "situation follows", "situations follow"), strings.Join(requirements, ", "))
	} else if len(requirements) > 0 {
		fmt.Fprintf(w, "    and from it: %s\n", strings.Join(requirements, ", "))
	}
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// atStep is where in a situation it could not be told any more, which is another step in each.
var atStep = regexp.MustCompile(`\bstep \d+: `)

// unknown says why situations are, each reason once.
func (r *Report) unknown(w io.Writer) {
	rows := map[string]int{}
	var reasons []string
	for _, row := range r.Rows {
		if row.Verdict != Unknown {
			continue
		}
		reason := atStep.ReplaceAllString(row.Text, "")
		if rows[reason]++; rows[reason] == 1 {
			reasons = append(reasons, reason)
		}
	}
	for _, reason := range reasons {
		fmt.Fprintf(w, "\nunknown: %s: %s\n", counted(rows[reason], "situation", "situations"), reason)
	}
}

// beyondSituations counts the findings that no situation has, and that nothing before them is the cause of.
func (r *Report) beyondSituations() (n int) {
	for _, t := range r.Findings {
		if t.Verdict == Finding && t.Follows == 0 && !slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Requirement == t.Requirement }) {
			n++
		}
	}
	return n
}

// Where is the place that a finding is about, with a colon after it.
func (t Trouble) Where() string {
	if t.Policy == "" {
		return fmt.Sprintf("%s:%d: ", policy.Shown(t.File), t.Line)
	}
	return fmt.Sprintf("%s:%d (%s): ", policy.Shown(t.File), t.Line, t.Policy)
}
