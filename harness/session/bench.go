package session

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Bench shows the phases' times of the last run beside its longest spec.
func (s *Session) Bench(context.Context) error {
	path := artifacts.Dir(filepath.Join(s.Settings.Artifacts, "latest")).ReportYAML()
	report, err := verdict.Read(path)
	if err != nil {
		return fmt.Errorf("there is no report of a run to show: %w", err)
	}
	fmt.Fprintf(s.Out, "run %s of %s, %d specs on %s\n\n", report.Run.ID, report.Run.Started.Format("2006-01-02 15:04"), len(report.Requirements), report.Stack.Name)
	for _, phase := range report.Phases {
		fmt.Fprintf(s.Out, "  %7.1f s  %s (from %.1f s on)\n", phase.DurationSeconds, phase.Name, phase.Started.Sub(report.Run.Started).Seconds())
		if phase.Name == "specs" {
			fmt.Fprintf(s.Out, "  %7.1f s  from the start to the first spec\n", phase.Started.Sub(report.Run.Started).Seconds())
		}
	}
	fmt.Fprintf(s.Out, "  %7.1f s  in all\n", report.Run.Ended.Sub(report.Run.Started).Seconds())
	var longest verdict.Result
	for _, result := range report.Requirements {
		if result.DurationSeconds > longest.DurationSeconds {
			longest = result
		}
	}
	fmt.Fprintf(s.Out, "\n  %7.1f s  longest spec: %s\n", longest.DurationSeconds, longest.ID)
	return nil
}
