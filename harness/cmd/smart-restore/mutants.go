package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/smart-restore/conformance/harness/session"
)

// mutantsCommand is about what protects a policy's lines.
func mutantsCommand() *cobra.Command {
	var asked session.MutantsOf
	format := ""
	command := &cobra.Command{Use: "mutants", Short: "change POLICY in one thing at a time, and see which requirement catches each change", Long: mutantsHelp, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if format != "text" && format != "json" {
			return fmt.Errorf("--format=%s is unknown: allowed are text, json", format)
		}
		asked.JSON = format == "json"
		return with(cmd, func(s *session.Session) error { return s.Mutants(cmd.Context(), asked) })
	}}
	command.Flags().StringVar(&asked.Since, "changed-since", "", "only lines that changed since this `commit`, such as origin/main")
	command.Flags().BoolVar(&asked.All, "matrix", false, "play every situation with every mutant, and say how many each requirement catches")
	command.Flags().BoolVar(&asked.Listing, "listing", false, "print each line of the policy with the requirements that protect it")
	command.Flags().StringVar(&asked.HTML, "html", "", "write that listing into this `file`, as a page")
	command.Flags().StringVar(&asked.State, "state", "", "keep outcomes in this `file`, and go on from it (default: mutants/<name>.jsonl below ARTIFACTS)")
	command.Flags().StringVar(&asked.Record, "record", "", "count what became of all in the policy's line of this `file`, such as policies/mutants.txt")
	command.Flags().DurationVar(&asked.Histories, "histories", time.Second, "how long random histories are played with each mutant that no situation catches; 0: none are")
	command.Flags().StringVar(&asked.Write, "write", "", "instead: print the mutant of this `ID` as a manifest, to test it on a cluster")
	command.Flags().StringVar(&format, "format", "text", "text or json")
	return command
}

const mutantsHelp = `Mutants are a policy with one thing in it changed: a condition dropped, an operation more, a right less. Each is played in the
situations of check, on Kyverno's own engine, until a requirement catches it. With one that none catches, random histories are played, as
explore does. One that lives shows a line that no requirement protects.

The file mutants.txt beside the policy says why mutants live that nobody can catch: a line for each, with its ID, the word
equivalent or the requirement whose spec catches it on a cluster, and the reason. A reason that does not hold is an error.

Exit codes:
  0  each mutant is caught, is not taken by Kyverno or the API server, or has a reason in mutants.txt.
  1  a mutant lives or is unknown, or a reason does not hold.
  2  no mutant could be judged: a policy or a file that cannot be read, a commit that is not there. A run that was interrupted
     goes on where it was.`
