package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/smart-restore/conformance/harness/blind"
	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/verdict"
)

// The policies that the suite judges while one of its senses is broken: one that meets the requirements of all rows, and one that
// meets none of them.
const (
	goodPolicy = "policies/smart-restore"
	badPolicy  = knownBadFolder + "/always-restore"
)

// sight is what a row of package blind came to with one policy.
type sight struct {
	Row, Policy string
	OK          bool
	Text        string
}

// Blind breaks the suite's own senses, one row of the table at a time, while a good and a bad policy are judged, and sees that no
// verdict is wrong: all rows, or those named. It runs on the kept stack, or on one that is kept for as long as this takes.
func (s *Session) Blind(ctx context.Context, names []string) (err error) {
	if err := external.Refuse(s.Settings.External, "blind"); err != nil {
		return err
	}
	rows, err := blind.Named(names)
	if err != nil {
		return err
	}
	good, goodErr := policy.Load(goodPolicy, s.Settings.S3Endpoint)
	bad, badErr := policy.Load(badPolicy, s.Settings.S3Endpoint)
	if err := errors.Join(goodErr, badErr); err != nil {
		return err
	}
	if err := s.makeReady(ctx); err != nil {
		return err
	}
	folder, err := s.newArtifacts()
	if err != nil {
		return err
	}
	down, err := s.keepOne(ctx, good)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, down()) }()
	var sights []sight
	for _, judged := range []struct {
		policy *policy.Policy
		name   string
		may    func(blind.Row) []verdict.Verdict
	}{
		{good, "good", func(row blind.Row) []verdict.Verdict { return row.Good }},
		{bad, "bad", func(row blind.Row) []verdict.Verdict { return row.Bad }},
	} {
		for i, row := range rows {
			s.Log.Printf("%d of %d, %s policy: %s while %s", i+1, len(rows), judged.name, row.Spec, row.Sentence)
			report, err := s.judge(ctx, judged.policy, []string{row.Spec}, row.Name, filepath.Join(folder, judged.name, row.Name))
			if err != nil && !errors.Is(err, ErrNotProven) {
				return fmt.Errorf("row %s, %s policy: %w", row.Name, judged.name, err)
			}
			sights = append(sights, rateSight(row, judged.name, judged.may(row), report))
		}
	}
	var table bytes.Buffer
	wrong := printSights(&table, sights)
	return s.conclude(filepath.Join(folder, "blind.txt"), table.Bytes(), !wrong)
}

// rateSight says whether what came of a row is what may.
func rateSight(row blind.Row, name string, may []verdict.Verdict, report *verdict.Report) sight {
	seen := sight{Row: row.Name, Policy: name}
	got := verdict.Unknown // a suite that could not be set up has said so
	text := report.SetupError
	for _, result := range report.Requirements {
		if result.ID == row.Spec {
			got, text = result.Verdict, result.Message
		}
	}
	seen.OK = slices.Contains(may, got)
	seen.Text = fmt.Sprintf("%s, may be %s", got, words(may))
	if row.SuiteError {
		seen.OK = seen.OK && len(report.SuiteErrors) > 0 && !report.OK()
		seen.Text += fmt.Sprintf("; %d suite errors, want some", len(report.SuiteErrors))
	}
	if line := verdict.FirstLine(text); text != "" {
		seen.Text += ": " + line
	}
	return seen
}

func words(verdicts []verdict.Verdict) string {
	var words []string
	for _, v := range verdicts {
		words = append(words, string(v))
	}
	return strings.Join(words, " or ")
}

// printSights prints a table, and reports whether any verdict was wrong.
func printSights(w io.Writer, sights []sight) (wrong bool) {
	var rows []rated
	for _, seen := range sights {
		rows = append(rows, rated{seen.OK, []string{seen.Row, seen.Policy, seen.Text}})
	}
	return printRated(w, "right", "WRONG", "wrong", rows)
}

// rated is a row of a table about the suite itself.
type rated struct {
	ok    bool
	cells []string
}

// printRated prints a table, with how many are good and how many are not, and reports whether any is not.
func printRated(w io.Writer, good, bad, notGood string, rows []rated) (any bool) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	ok := 0
	for _, row := range rows {
		word := bad
		if row.ok {
			word = good
			ok++
		}
		fmt.Fprintf(table, "%s\t%s\n", word, strings.Join(row.cells, "\t"))
	}
	_ = table.Flush() // to memory or a terminal
	fmt.Fprintf(w, "%d %s, %d %s\n", ok, good, len(rows)-ok, notGood)
	return ok < len(rows)
}
