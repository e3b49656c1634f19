package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/explore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/replay"
)

// Explore plays random histories with POLICY on Kyverno's own engine or, if a file is named, the one in it.
func (s *Session) Explore(ctx context.Context, o explore.Options, replay string) error {
	policies, err := s.loadToCheck(ctx, []string{s.Settings.Policy})
	if err != nil {
		return err
	}
	p := policies[0]
	simulator, _, err := s.simulatorFor(policies)(ctx)
	if err != nil {
		return err
	}
	var report *explore.Report
	if replay != "" {
		report, err = explore.Replay(ctx, p, simulator, replay)
	} else {
		o.Folder = s.findings()
		report, err = explore.Run(ctx, p, simulator, o, s.Log)
	}
	if err != nil {
		err = fmt.Errorf("POLICY=%s: %w", p.Path, err)
		if report != nil && len(report.Findings) > 0 { // found before it was interrupted, or could not be written
			err = errors.Join(report.Text(s.Out), err)
		}
		return err
	}
	if err := report.Text(s.Out); err != nil {
		return err
	}
	return explored(report)
}

// explored is how it ends, by its report. That nothing can be told is no finding.
func explored(report *explore.Report) error {
	switch {
	case report.OK():
		return nil
	case report.Broken():
		return ErrNotProven
	}
	return fmt.Errorf("POLICY=%s: whether every invariant holds cannot be told: %s", report.Policy.Path, report.Untold())
}

// replaySpec is the spec that plays a history.
const replaySpec = "explore/replay"

// Replay plays a history of make explore's on the cluster: only what is seen there is a finding against a policy.
func (s *Session) Replay(ctx context.Context, file string) error {
	if s.Settings.Focus != "" || s.Settings.Labels != "" {
		return fmt.Errorf("REPLAY=%s: FOCUS and LABELS select specs, and a history is played instead of them: leave them out", file)
	}
	p, err := s.loadPolicy()
	if err != nil {
		return errors.Join(err, s.annotate(p, err))
	}
	given, err := check.Setting(p)
	if err != nil {
		return err
	}
	f, err := explore.Read(file, given.Faults)
	if err != nil {
		return err
	}
	if err := replay.Check(f.Events); err != nil {
		return fmt.Errorf("REPLAY=%s: %w", file, err)
	}
	if s.history, err = filepath.Abs(file); err != nil {
		return err
	}
	return s.E2E(ctx)
}

// findings is the folder of histories that were found.
func (s *Session) findings() string { return filepath.Join(s.Settings.Artifacts, "explore") }

// ExploreKnownBad says of each policy that is known to be bad whether random histories find it, and how long that takes. Those that break no
// invariant, because what is wrong with them is not about data, are not found, nor what their control breaks in the same history.
func (s *Session) ExploreKnownBad(ctx context.Context, o explore.Options, names []string) error {
	specs, _, err := s.listSpecs(ctx, selection{})
	if err != nil {
		return err
	}
	suspects, err := s.loadKnownBad(names, ids(specs))
	if err != nil {
		return err
	}
	simulator, _, err := s.readySimulator(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	o.First, o.Folder = true, s.findings()
	found := 0
	for _, one := range suspects {
		o.Control = one.control
		line, is, err := exploreOne(ctx, one.Policy, simulator, o, s.Log)
		if err != nil {
			return fmt.Errorf("POLICY=%s: %w", one.Path, err)
		}
		if is {
			found++
		}
		fmt.Fprintln(table, line)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%d of %d are found\n", found, len(suspects))
	return nil
}

// exploreOne is a line of the table of those that are known to be bad.
func exploreOne(ctx context.Context, p *policy.Policy, simulator explore.Simulator, o explore.Options, log *progress.Log) (line string, found bool, err error) {
	report, err := explore.Run(ctx, p, simulator, o, log)
	switch {
	case err != nil:
		return "", false, err
	case len(report.Findings) == 0 && report.Untold() != "":
		return p.Contract.Name + "\tunknown\t" + report.Untold(), false, nil
	case len(report.Findings) == 0:
		return fmt.Sprintf("%s\tnot found\t%d histories in %s", p.Contract.Name, report.Histories, progress.Duration(report.Took)), false, nil
	}
	f := report.Findings[0]
	return fmt.Sprintf("%s\t%s\t%s: %s", p.Contract.Name, progress.Duration(time.Duration(f.Millis)*time.Millisecond), f.Invariant, f.Text), true, nil
}
