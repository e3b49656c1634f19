package main

import (
	"github.com/spf13/cobra"

	"github.com/smart-restore/conformance/harness/session"
)

// docsCommand is about the documentation of this repository.
func docsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "docs page.md...", Short: "make the generated blocks of documentation pages anew", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, pages []string) error {
			return with(cmd, func(s *session.Session) error { return s.Docs(cmd.Context(), pages) })
		},
	}
}
