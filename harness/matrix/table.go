package matrix

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/verdict"
)

// The marks of a table, and what they mean.
const (
	markPass         = "✓"
	markFail         = "✗"
	markExpectedFail = "(✗)"
	markSurprise     = "!"
	markUnknown      = "?"
	markNotPromised  = "–"

	legend = markPass + " passed, " + markFail + " failed, " + markExpectedFail + " failed, as the policy's contract says, " +
		markSurprise + " passed against what it says, " + markUnknown + " could not be seen, " + markNotPromised +
		" not promised; nothing where it was not tried."
)

// Table puts reports beside each other in Markdown: a column per report, a row per requirement. Requirements of one
// family, like core/s3-down/…, that came out alike everywhere share a row.
func Table(reports []*verdict.Report) (string, error) {
	if len(reports) == 0 {
		return "", errors.New("a table needs a report")
	}
	heads := map[string]bool{}
	var columns []map[string]string // by requirement
	levels := map[string]string{}
	for _, r := range reports {
		h := head(r)
		if heads[h] {
			return "", fmt.Errorf("two reports are of %s on %s: name one of them", r.Implementation.Policy, r.Stack.Name)
		}
		heads[h] = true
		column := map[string]string{}
		for _, result := range r.Requirements {
			column[result.ID] = mark(result)
			levels[result.ID] = result.Level
		}
		columns = append(columns, column)
	}
	var text strings.Builder
	line := func(first string, cells []string) {
		fmt.Fprintf(&text, "| %s | %s |\n", first, strings.Join(cells, " | "))
	}
	line("", each(reports, head))
	fmt.Fprintf(&text, "|---|%s\n", strings.Repeat(":-:|", len(reports)))
	for _, row := range rows(levels, columns) {
		line(row.label(), row.marks)
	}
	line("passed, of those tried", each(reports, func(r *verdict.Report) string {
		c := r.Count()
		return fmt.Sprintf("%d of %d", c.Pass, c.Pass+c.Fail+c.ExpectedFail+c.Surprise+c.Unknown)
	}))
	line("of a whole run", each(reports, func(r *verdict.Report) string {
		if len(r.Partial) > 0 {
			return "no"
		}
		return "yes"
	}))
	line("minutes", each(reports, func(r *verdict.Report) string {
		return fmt.Sprintf("%.0f", r.Run.Ended.Sub(r.Run.Started).Minutes())
	}))
	fmt.Fprintf(&text, "\n%s\n", legend)
	return text.String(), nil
}

func each(reports []*verdict.Report, cell func(*verdict.Report) string) (cells []string) {
	for _, r := range reports {
		cells = append(cells, cell(r))
	}
	return cells
}

// head names what a report is of: versions as the cluster said them, where it did.
func head(r *verdict.Report) string {
	version := func(component, observedAs string) string {
		return strings.TrimPrefix(cmp.Or(r.Stack.Observed[observedAs].Version, r.Stack.Requested[component]), "v")
	}
	parts := []string{"Kyverno " + version("kyverno", "kyverno/kyverno"), "Kubernetes " + version("kubernetes", "kubernetes")}
	if s3, _, _ := strings.Cut(r.Stack.Requested["s3"], " "); s3 != "" {
		parts = append(parts, s3)
	}
	return strings.Join(append(parts, path.Base(r.Implementation.Policy)), "<br>")
}

func mark(r verdict.Result) string {
	expected := r.ExpectedFailure != ""
	switch {
	case r.Verdict == verdict.Pass && expected:
		return markSurprise
	case r.Verdict == verdict.Pass:
		return markPass
	case r.Verdict == verdict.Fail && expected:
		return markExpectedFail
	case r.Verdict == verdict.Fail:
		return markFail
	case r.Verdict == verdict.NotPromised:
		return markNotPromised
	}
	return markUnknown
}

// row is one requirement, or several of a family that have the same marks.
type row struct {
	ids   []string
	marks []string
}

func rows(levels map[string]string, columns []map[string]string) (rows []row) {
	order := []string{verdict.Core, verdict.Safety, verdict.Resilience, verdict.Scale}
	ids := slices.SortedFunc(maps.Keys(levels), func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(order, levels[a]), slices.Index(order, levels[b])), cmp.Compare(a, b))
	})
	for _, id := range ids {
		r := row{ids: []string{id}}
		for _, column := range columns {
			r.marks = append(r.marks, column[id])
		}
		alike := slices.IndexFunc(rows, func(o row) bool {
			return strings.Count(id, "/") > 1 && path.Dir(o.ids[0]) == path.Dir(id) && slices.Equal(o.marks, r.marks)
		})
		if alike >= 0 {
			rows[alike].ids = append(rows[alike].ids, id)
			continue
		}
		rows = append(rows, r)
	}
	return rows
}

func (r row) label() string {
	if len(r.ids) == 1 {
		return "`" + r.ids[0] + "`"
	}
	var names []string
	for _, id := range r.ids {
		names = append(names, "`"+path.Base(id)+"`")
	}
	return "`" + path.Dir(r.ids[0]) + "/…`: " + strings.Join(names, ", ")
}

// The lines between which a table stands in a Markdown file.
const (
	tableBegin = "<!-- made by: smart-restore matrix table -->"
	tableEnd   = "<!-- end of what is made by: smart-restore matrix table -->"
)

// WriteInto puts a table into a Markdown file, in place of the one that stands between its two marking lines.
func WriteInto(file, table string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(raw, []byte(tableBegin+"\n"))
	_, after, ends := bytes.Cut(rest, []byte(tableEnd+"\n"))
	if !begins || !ends {
		return fmt.Errorf("%s lacks the lines that a table stands between: %q and %q", file, tableBegin, tableEnd)
	}
	text := slices.Concat(before, []byte(tableBegin+"\n\n"+table+"\n"+tableEnd+"\n"), after)
	return os.WriteFile(file, text, 0o644)
}
