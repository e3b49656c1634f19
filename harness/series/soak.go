package series

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Soak runs the same specs so many times, each time on a new stack or on the external cluster, and says which requirements did
// not always hold: what fails now and then does not show in a single run. It goes on whatever a run comes to, and ends when it
// is interrupted. With the folder of an earlier soak (else empty), the runs of that one count, if they are of the same specs,
// suite, policy and stack, and only the rest are done.
func (s *Series) Soak(ctx context.Context, runs int, folder string) error {
	if runs < 1 {
		return fmt.Errorf("%d runs are wanted; there must be at least one", runs)
	}
	if err := external.CheckForSeveral(s.Settings.External, "soak"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.soak(ctx, self, runs, folder)
}

func (s *Series) soak(ctx context.Context, self string, runs int, folder string) error {
	soaked := &soakRuns{folder: folder}
	if folder == "" {
		soaked.folder = s.folder("soak")
	} else if err := soaked.read(s.next()); err != nil {
		return err
	}
	cell := matrix.Cell{Stack: s.Settings.Stack, Policy: s.Settings.Policy, Target: matrix.E2E}
	for len(soaked.runs) < runs && ctx.Err() == nil {
		n := len(soaked.runs) + 1
		artifacts := soaked.artifacts(n)
		s.Log.Printf("run %d of %d (%s)", n, runs, artifacts)
		start := time.Now()
		result, report, err := s.tryCell(ctx, self, cell, artifacts, settings.KeepNever)
		if ctx.Err() != nil {
			break
		}
		run := soakRun{Run: n, Result: result, Proven: err == nil, Minutes: time.Since(start).Minutes(), report: report}
		s.Log.Printf("run %d of %d: %s, in %.1f min", n, runs, result, run.Minutes)
		if err := soaked.add(run); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.Out, "\n%s%d of %d runs proven\n%s\n", matrix.Unsteady(soaked.reports()), soaked.proven(), len(soaked.runs), soaked.folder)
	if err := ctx.Err(); err != nil {
		if len(soaked.runs) > 0 {
			fmt.Fprintf(s.Out, "\nTo go on: make soak RUNS=%d SERIES=%s\n", runs, soaked.folder)
		}
		return fmt.Errorf("interrupted after %d of %d runs: %w", len(soaked.runs), runs, err)
	}
	if soaked.proven() < len(soaked.runs) {
		return session.ErrNotProven
	}
	return nil
}

// next is what a report says of a run that this soak begins.
func (s *Series) next() *verdict.Report {
	return &verdict.Report{
		Run: verdict.Run{Suite: session.SuiteRevision()}, Stack: verdict.Stack{Name: s.Settings.Stack}, Implementation: verdict.Implementation{Policy: policy.Shown(s.Settings.Policy)},
		Selection: verdict.Selection{Focus: s.Settings.Focus, Labels: s.Settings.Labels},
	}
}

// soakRuns are the runs of a soak. Its file series.jsonl has a line for each that came to its end, the folders beside it their
// artifacts.
type soakRuns struct {
	folder string
	runs   []soakRun
}

type soakRun struct {
	Run     int             `json:"run"`
	Result  string          `json:"result"`
	Proven  bool            `json:"proven"`
	Minutes float64         `json:"minutes"`
	report  *verdict.Report // nil: it left none
}

func (s *soakRuns) artifacts(run int) string { return filepath.Join(s.folder, strconv.Itoa(run)) }

func (s *soakRuns) file() string { return filepath.Join(s.folder, "series.jsonl") }

// read finds the runs of an earlier series, which must be of the same as the next one.
func (s *soakRuns) read(next *verdict.Report) error {
	lines, err := os.ReadFile(s.file())
	if err != nil {
		return fmt.Errorf("SERIES: want the folder of an earlier soak: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(lines))
	for {
		run := soakRun{}
		if err := decoder.Decode(&run); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", s.file(), err)
		}
		if report, _, err := session.ReadReport(filepath.Join(s.artifacts(run.Run), "latest")); err == nil {
			run.report = report
			if other := differs(report, next); other != "" {
				return fmt.Errorf("the runs in %s are not of the same: %s; a series of its own begins without SERIES", s.folder, other)
			}
		}
		s.runs = append(s.runs, run)
	}
}

// differs says what two reports are not both of; what one does not know counts for nothing.
func differs(earlier, later *verdict.Report) string {
	for _, c := range []struct{ what, earlier, later string }{
		{"the suite", earlier.Run.Suite, later.Run.Suite},
		{"the stack", earlier.Stack.Name, later.Stack.Name},
		{"the policy", earlier.Implementation.Policy, later.Implementation.Policy},
		{"the policy's content", earlier.Implementation.SHA256, later.Implementation.SHA256},
	} {
		if c.earlier != c.later && c.earlier != "" && c.later != "" {
			return fmt.Sprintf("%s was %s, and is %s", c.what, c.earlier, c.later)
		}
	}
	if was, is := earlier.Selection, later.Selection; was.Focus != is.Focus || was.Labels != is.Labels {
		return fmt.Sprintf("the selection was FOCUS=%q LABELS=%q, and is FOCUS=%q LABELS=%q", was.Focus, was.Labels, is.Focus, is.Labels)
	}
	return ""
}

// add keeps a run that came to its end.
func (s *soakRuns) add(run soakRun) error {
	for _, earlier := range s.runs {
		if run.report == nil || earlier.report == nil {
			continue
		}
		if other := differs(earlier.report, run.report); other != "" {
			return fmt.Errorf("run %d is not of the same as run %d: %s; it does not count", run.Run, earlier.Run, other)
		}
	}
	line, err := json.Marshal(run)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.folder, 0o755); err != nil {
		return err
	}
	s.runs = append(s.runs, run)
	return artifacts.AppendLine(s.file(), line)
}

func (s *soakRuns) reports() []*verdict.Report {
	reports := make([]*verdict.Report, len(s.runs))
	for i := range s.runs {
		reports[i] = s.runs[i].report
	}
	return reports
}

func (s *soakRuns) proven() int {
	n := 0
	for _, run := range s.runs {
		if run.Proven {
			n++
		}
	}
	return n
}
