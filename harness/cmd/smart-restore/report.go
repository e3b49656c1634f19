package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/verdict"
)

// aboutReports are the commands that begin with the report of a run. They need no engine; a rerun does.
func aboutReports() []*cobra.Command {
	report := &cobra.Command{
		Use: "report <folder or report.yaml>", Short: "read a report back: its summary, its page anew; exits as the run did",
		Args: cobra.MaximumNArgs(1),
	}
	schema := report.Flags().Bool("schema", false, "print the JSON schema of reports instead")
	report.RunE = func(_ *cobra.Command, args []string) error {
		switch {
		case *schema:
			_, err := os.Stdout.Write(verdict.Schema)
			return err
		case len(args) == 0:
			return fmt.Errorf("which report? the newest run's is artifacts/latest")
		}
		return session.ShowReport(os.Stdout, args[0])
	}

	diff := &cobra.Command{
		Use: "diff <base report> <candidate report>", Short: "compare the decisions of two policies; exits with 1 where the candidate is worse in anything",
		Long: `Compares what two policies came to in each situation (a fresh PVC, one with a backup, one with a backup while S3 is down
in each way), and the verdicts on all requirements.

Exit code 0: the candidate is nowhere worse: the same, better, or wrong in another way where the base is wrong, too.
Exit code 1: the candidate comes to something wrong, is not admitted, or was not seen or tried, where the base does right; or a
requirement held and does not any more. How long admission took is shown and not judged: its bound is a requirement.
Exit code 2: there is no comparison, because a report cannot be read.`,
		Args: cobra.ExactArgs(2),
	}
	markdown := diff.Flags().Bool("markdown", false, "as Markdown, for a pull request")
	diff.RunE = func(_ *cobra.Command, args []string) error {
		return session.Diff(os.Stdout, args[0], args[1], *markdown)
	}

	rerun := &cobra.Command{
		Use: "rerun <folder or report.yaml>", Short: "run exactly what failed or was unknown, on the same policy and stack",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, _, err := session.ReadReport(args[0])
			if err != nil {
				return err
			}
			if !session.NeedsRerun(report) {
				fmt.Printf("nothing to run again: nothing failed or was unknown in run %s\n", report.Run.ID)
				return nil
			}
			return withGiven(cmd, session.RerunSettings(report), func(s *session.Session) error { return s.Rerun(cmd.Context(), report) })
		},
	}

	history := &cobra.Command{
		Use: "history <folder of reports>", Short: "put the reports of many runs on one page: requirement by run, since when each fails, flakes, the slowest",
		Long: `Reads the report of every run below the folder, such as artifacts or the unpacked artifacts of CI, and writes one HTML page that
needs nothing else. A flake is a requirement whose verdict changed while the policy, the suite and the stack did not.

Exit code 0: the page was written, whatever the runs said.
Exit code 2: there is no report that can be read. Single reports that cannot be read are listed.`,
		Args: cobra.ExactArgs(1),
	}
	output := history.Flags().String("output", "", "write the page into this `file` (default: history.html in the folder)")
	seconds := history.Flags().String("seconds", "", "write how long each requirement took, as the median, into this `file`: harness/explain/seconds.yaml")
	history.RunE = func(_ *cobra.Command, args []string) error {
		return session.History(os.Stdout, args[0], *output, *seconds)
	}
	return []*cobra.Command{report, diff, rerun, history}
}
