package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/series"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/verdict"
)

// matrixCommand is about fixtures/matrix.yaml: which policy runs on which stack, and when.
func matrixCommand() *cobra.Command {
	var event, format, write string
	show := &cobra.Command{
		Use: "matrix [cell...]", Short: "show the cells of the matrix: a policy on a stack each",
		RunE: func(cmd *cobra.Command, names []string) error {
			cells, err := chooseCells(event, names)
			if err != nil {
				return err
			}
			switch format {
			case "json": // what fromJSON in a workflow takes for strategy.matrix
				type job struct {
					Name   string `json:"name"`
					Stack  string `json:"stack"`
					Policy string `json:"policy"`
					Target string `json:"target"`
					Labels string `json:"labels"`
					// An artifact's name has no slash in it.
					Artifact string `json:"artifact"`
				}
				include := []job{}
				for _, c := range cells {
					include = append(include, job{c.Name(), c.Stack, c.Policy, c.Target, c.Labels, c.Target + "-" + strings.ReplaceAll(c.Name(), "/", "-")})
				}
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"include": include})
			case "text":
				for _, c := range cells {
					fmt.Fprintf(cmd.OutOrStdout(), "%-44s %v\n", c.Name(), append(c.Events, matrix.Schedule))
				}
				return nil
			}
			return fmt.Errorf("format %q is unknown: there are text, json", format)
		},
	}
	show.Flags().StringVar(&format, "format", "text", "text, or json for a workflow")
	run := &cobra.Command{
		Use: "run [cell...]", Short: "run cells one after the other, and put their reports into a table",
		RunE: func(cmd *cobra.Command, names []string) error {
			cells, err := chooseCells(event, names)
			if err != nil {
				return err
			}
			return with(cmd, func(s *session.Session) error { return series.Of(s).Matrix(cmd.Context(), cells) })
		},
	}
	for _, c := range []*cobra.Command{show, run} {
		c.Flags().StringVar(&event, "event", "", fmt.Sprintf("only those for this occasion: %v (default: all)", matrix.Events()))
	}
	table := &cobra.Command{
		Use: "table report.yaml...", Short: "put reports beside each other, as a table in Markdown", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error {
			var reports []*verdict.Report
			for _, file := range files {
				report, err := verdict.Read(file)
				if err != nil {
					return err
				}
				reports = append(reports, report)
			}
			text, err := matrix.Table(reports)
			if err != nil {
				return err
			}
			if write != "" {
				return matrix.Block.WriteInto(write, "\n"+text+"\n")
			}
			_, err = fmt.Fprint(os.Stdout, text)
			return err
		},
	}
	table.Flags().StringVar(&write, "write", "", "put it into this Markdown file, between the lines that mark its place")
	show.AddCommand(run, table)
	return show
}

// chooseCells are the cells of an occasion, or those named; all of them where neither is said.
func chooseCells(event string, names []string) ([]matrix.Cell, error) {
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		return nil, err
	}
	m, err := matrix.Load(fixtures.Files, lock.StackNames())
	if err != nil {
		return nil, err
	}
	switch {
	case len(names) > 0 && event != "":
		return nil, fmt.Errorf("either an event or cells by name, not both")
	case len(names) > 0:
		return m.Matching(names)
	}
	return m.For(cmp.Or(event, matrix.Schedule))
}
