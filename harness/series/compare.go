package series

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/report/decisions"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Compare runs the selected specs on two policies, first the one at basePath and then POLICY, and puts their decisions beside
// each other. Each run has a new folder: no earlier run is ever compared. A base that comes to no verdict leaves nothing to
// compare with; the result is POLICY's alone.
func (s *Series) Compare(ctx context.Context, basePath string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.compare(ctx, self, basePath)
}

func (s *Series) compare(ctx context.Context, self, basePath string) error {
	if basePath == "" {
		return errors.New("BASE_POLICY is not set: want the path of the policy to compare POLICY with (make compare BASE_POLICY=…, or compare --base …)")
	}
	if _, err := os.Stat(basePath); err != nil {
		return fmt.Errorf("BASE_POLICY=%s: want the path of the policy to compare POLICY with: %w", basePath, err)
	}
	if err := external.CheckForSeveral(s.Settings.External, "compare"); err != nil {
		return err
	}
	folder := s.folder("compare")
	run := func(name, policyPath string) (*verdict.Report, error) {
		artifacts := filepath.Join(folder, name)
		s.Log.Printf("the %s: %s (%s)", name, policyPath, artifacts)
		cell := matrix.Cell{Stack: s.Settings.Stack, Policy: policyPath, Target: matrix.E2E}
		result, report, err := s.tryCell(ctx, self, cell, artifacts, s.Settings.Keep)
		s.Log.Printf("the %s: %s", name, result)
		if report != nil && report.SetupError != "" {
			report = nil // it says nothing of the policy
		}
		return report, err
	}
	base, _ := run("base", basePath) // its verdict is not this command's
	if ctx.Err() != nil {
		return ctx.Err()
	}
	candidate, err := run("candidate", s.Settings.Policy)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case candidate == nil:
		fmt.Fprintf(s.Out, "\nThere is nothing to compare: the candidate %s came to no verdict.\n", s.Settings.Policy)
	case base == nil:
		fmt.Fprintf(s.Out, "\nThere is nothing to compare with: the base %s came to no verdict.\n", basePath)
	default:
		d := decisions.Compare(base, candidate)
		if err := errors.Join(d.Text(s.Out), session.ToStepSummary(d.Markdown)); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.Out, "\n%s\n", folder)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return session.ErrNotProven
	}
	return fmt.Errorf("the candidate came to no verdict: %w", err)
}
