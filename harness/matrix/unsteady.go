package matrix

import (
	"fmt"
	"strings"

	"github.com/smart-restore/conformance/harness/verdict"
)

// Unsteady names, of reports of the same specs, the requirements that did not hold in all of them, in the order of the first
// report that has them: a line with how often, and a line for each time with the reason. It is empty where all held. A run
// that came to no report is nil.
func Unsteady(reports []*verdict.Report) string {
	var order []string
	failures := map[string][]string{} // by requirement
	tried := map[string]int{}
	for i, report := range reports {
		if report == nil {
			continue
		}
		for _, result := range report.Requirements {
			if tried[result.ID]++; tried[result.ID] == 1 {
				order = append(order, result.ID)
			}
			if result.Fails() {
				failures[result.ID] = append(failures[result.ID], fmt.Sprintf("    run %d, %s: %s\n", i+1, result.Word(), verdict.FirstLine(result.Why())))
			}
		}
	}
	var b strings.Builder
	for _, id := range order {
		if n := len(failures[id]); n > 0 {
			fmt.Fprintf(&b, "%s did not hold in %d of %d runs\n%s", id, n, tried[id], strings.Join(failures[id], ""))
		}
	}
	return b.String()
}
