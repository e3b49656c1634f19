package matrix

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/report/markdown"
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

// Table puts reports beside each other in Markdown: a column per report, a row per requirement, or per those of a family that
// came out alike everywhere.
func Table(reports []*verdict.Report) (string, error) {
	if len(reports) == 0 {
		return "", errors.New("a table needs a report")
	}
	var heads []string
	var requirements []verdict.Requirement
	marks := map[string][]string{} // by requirement, a report each
	for i, r := range reports {
		h := head(r)
		if slices.Contains(heads, h) {
			return "", fmt.Errorf("two reports are of %s on %s: name one of them", r.Implementation.Policy, r.Stack.Name)
		}
		heads = append(heads, h)
		for _, result := range r.Requirements {
			if marks[result.ID] == nil {
				requirements = append(requirements, result.Requirement)
				marks[result.ID] = make([]string, len(reports))
			}
			marks[result.ID][i] = mark(result)
		}
	}
	rows := markdown.Requirements(requirements, func(r verdict.Requirement) []string { return marks[r.ID] })
	for _, sum := range []struct {
		label string
		of    func(*verdict.Report) string
	}{
		{"passed, of those tried", func(r *verdict.Report) string {
			c := r.Count()
			return fmt.Sprintf("%d of %d", c.Pass, c.Pass+c.Fail+c.ExpectedFail+c.Surprise+c.Unknown)
		}},
		{"of a whole run", func(r *verdict.Report) string {
			if len(r.Partial) > 0 {
				return "no"
			}
			return "yes"
		}},
		{"minutes", func(r *verdict.Report) string { return fmt.Sprintf("%.0f", r.Run.Ended.Sub(r.Run.Started).Minutes()) }},
	} {
		row := markdown.Row{Label: sum.label}
		for _, r := range reports {
			row.Cells = append(row.Cells, sum.of(r))
		}
		rows = append(rows, row)
	}
	return markdown.Table(heads, rows) + "\n" + legend + "\n", nil
}

// head names what a report is of: versions as the cluster said them, where it did.
func head(r *verdict.Report) string {
	version := func(component, observedAs string) string {
		return strings.TrimPrefix(cmp.Or(r.Stack.Observed[observedAs].Version, r.Stack.Requested[component]), "v")
	}
	parts := []string{"Kubernetes " + version("kubernetes", "kubernetes")}
	if kyverno := version("kyverno", "kyverno/kyverno"); kyverno != "" {
		parts = append([]string{"Kyverno " + kyverno}, parts...)
	}
	if snapshotter := version("csi-snapshotter", "csi-driver/csi-snapshotter"); snapshotter != "" {
		parts = append(parts, "CSI snapshots")
	}
	if r.Stack.Nodes > 1 {
		parts = append(parts, fmt.Sprintf("%d nodes", r.Stack.Nodes))
	}
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

// Block is the part of a Markdown file that holds a table.
var Block = markdown.MadeBy("smart-restore matrix table")
