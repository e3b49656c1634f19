package check

import (
	"encoding/json"
	"fmt"
	"io"
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
	fmt.Fprintf(b, "policy %s (%s), judged by %s\n", r.Name, policy.Shown(r.Policy), r.Engine)
	if len(r.MadeFor) > 0 {
		fmt.Fprintf(b, "it is made for %s: what it does there may be different\n", strings.Join(r.MadeFor, ", "))
	}
	fmt.Fprintln(b)
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tsituation\trestores\tbacks up\tadmitted\tin\twanted")
	counts := map[Verdict]int{}
	for _, row := range r.Rows {
		counts[row.Verdict]++
		took := "-"
		if row.Admitted == "yes" {
			took = fmt.Sprintf("%.1f s", float64(row.TookMillis)/1000)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Verdict, row.Situation, row.Restores, row.BacksUp, row.Admitted, took, row.Wanted)
	}
	_ = table.Flush() // to memory
	for i, t := range r.Findings {
		if i == 0 {
			fmt.Fprintln(b)
		}
		// What is wrong in the same way while S3 is down in different ways is said once.
		if slices.ContainsFunc(r.Findings[:i], t.like) {
			continue
		}
		ids := t.Requirement
		for _, other := range r.Findings[i+1:] {
			if t.like(other) && !strings.Contains(ids+" ", other.Requirement+" ") {
				ids += " " + other.Requirement
			}
		}
		fmt.Fprintf(b, "%s  %s\n    %s%s\n", t.Verdict, ids, t.Where(), t.Text)
	}
	said := map[string]bool{}
	for _, row := range r.Rows {
		if row.Verdict == Unknown && !said[row.Text] {
			said[row.Text] = true
			fmt.Fprintf(b, "\nunknown: %s\n", row.Text)
		}
	}
	if len(r.NotCalled) > 0 {
		fmt.Fprintf(b, "\nNothing in these situations is about %s: nothing is said of them.\n", strings.Join(r.NotCalled, ", "))
	}
	fmt.Fprintf(b, "\n%d ok, %d not, %d not as expected, %d unknown, in %.1f s; only a cluster shows what comes of it: make e2e\n",
		counts[OK], counts[Finding], counts[Expected], counts[Unknown], float64(r.Millis)/1000)
	_, err := io.WriteString(w, b.String())
	return err
}

// like says whether another finding is the same but for its requirement.
func (t Trouble) like(other Trouble) bool {
	other.Requirement = t.Requirement
	return t == other
}

// Where is the place that a finding is about, with a colon after it. Empty: none.
func (t Trouble) Where() string {
	switch {
	case t.File != "" && t.Policy != "":
		return fmt.Sprintf("%s:%d (%s): ", policy.Shown(t.File), t.Line, t.Policy)
	case t.Policy != "":
		return t.Policy + ": "
	}
	return ""
}
