package session

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/policy"
)

// simulator is Kyverno's own engine, out of the default stack's build: it is what the simulator's program is written for. It also
// returns that stack's name.
func (s *Session) simulator() (*check.Kyverno, string, error) {
	of, err := s.Lock.Stack("")
	if err != nil {
		return nil, "", err
	}
	modules := &gomod.Builder{Cache: s.Cache, Fixtures: fixtures.Files}
	renderer := &install.Renderer{Cache: s.Cache, Fixtures: fixtures.Files, Modules: modules}
	roles := func(ctx context.Context) (all []map[string]any, err error) {
		objects, err := renderer.Roles(ctx, s.Lock, of)
		for _, o := range objects {
			all = append(all, o.Object)
		}
		return all, err
	}
	simulator, err := check.NewKyverno(s.Lock, of, modules, roles, s.Log)
	return simulator, of.Name, err
}

// readySimulator is simulator, compiled.
func (s *Session) readySimulator(ctx context.Context) (*check.Kyverno, string, error) {
	simulator, stackName, err := s.simulator()
	if err == nil {
		err = simulator.Prepare(ctx)
	}
	return simulator, stackName, err
}

// simulatorFor is readySimulator where one of the policies is to be played, else simulator.
func (s *Session) simulatorFor(policies []*policy.Policy) func(context.Context) (*check.Kyverno, string, error) {
	if slices.ContainsFunc(policies, func(p *policy.Policy) bool { return len(p.Kyverno()) > 0 }) {
		return s.readySimulator
	}
	return func(context.Context) (*check.Kyverno, string, error) { return s.simulator() }
}

// ExamineSimulator vets, lints and tests the program that check plays policies with.
func (s *Session) ExamineSimulator(ctx context.Context) error {
	simulator, _, err := s.simulator()
	if err != nil {
		return err
	}
	return simulator.Examine(ctx)
}

// Check finds what can be found about policies without a cluster: those named, or POLICY. It records the verdicts in a file,
// where one is named.
func (s *Session) Check(ctx context.Context, paths []string, asJSON bool, record string) error {
	if len(paths) == 0 {
		paths = []string{s.Settings.Policy}
	}
	policies, err := s.loadToCheck(ctx, paths)
	if err != nil {
		return err
	}
	ready := s.simulatorFor(policies)
	simulator, stackName, err := ready(ctx)
	if err != nil {
		return err
	}
	ok, recorded := true, check.Recorded{}
	for i, p := range policies {
		report, err := s.play(ctx, p, stackName, simulator)
		if err != nil {
			return fmt.Errorf("POLICY=%s: %w", p.Path, err)
		}
		report.Refused = s.refusedEverywhere(p)
		write := report.Text
		if asJSON {
			write = report.JSON
		} else if i > 0 {
			fmt.Fprintln(s.Out)
		}
		if err := write(s.Out); err != nil {
			return err
		}
		ok = ok && report.OK()
		recorded.Add(report)
	}
	if record != "" {
		if err := s.record(record, recorded.Format()); err != nil {
			return err
		}
	}
	if !ok {
		return ErrNotProven
	}
	return nil
}

// play plays the situations with a policy, and says that it does: it takes a second, or a minute where the machine is busy.
func (s *Session) play(ctx context.Context, p *policy.Policy, stackName string, simulator *check.Kyverno) (*check.Report, error) {
	if len(p.Kyverno()) == 0 { // it is read only
		return check.Run(ctx, p, stackName, simulator)
	}
	task := s.Log.Task("situations of make check with %s", p.Contract.Name)
	report, err := check.Run(ctx, p, stackName, simulator)
	return report, task.Done(err)
}

// refusedEverywhere is why no stack takes a policy: what is wrong with the one on which the least is, of those that have what its contract
// needs. Empty: one takes it.
func (s *Session) refusedEverywhere(p *policy.Policy) (why string) {
	made, err := p.Contract.MadeFor(s.Lock.Stacks)
	if err != nil {
		return err.Error()
	}
	if s.Stack != nil && slices.Contains(made, s.Stack.Name) { // of two alike, the one that would be tried first
		made = append([]string{s.Stack.Name}, made...)
	}
	unable := ""
	for _, name := range made {
		err := p.CheckStack(name, s.Lock.Stacks)
		if err == nil {
			return ""
		}
		switch text := err.Error(); {
		case p.Contract.CheckStack(name, s.Lock.Stacks) != nil:
			unable = cmp.Or(unable, text)
		case why == "" || strings.Count(text, "\n") < strings.Count(why, "\n"):
			why = text
		}
	}
	return cmp.Or(why, unable)
}

// loadToCheck loads policies, and refuses contracts that name what this suite does not have, before anything is compiled.
func (s *Session) loadToCheck(ctx context.Context, paths []string) ([]*policy.Policy, error) {
	var policies []*policy.Policy
	for _, path := range paths {
		p, err := policy.Load(path, s.Settings.S3Endpoint)
		if err != nil {
			return nil, err
		}
		if _, err := p.Contract.MadeFor(s.Lock.Stacks); err != nil {
			return nil, fmt.Errorf("POLICY=%s: %w", path, err)
		}
		policies = append(policies, p)
	}
	return policies, s.checkRequirements(ctx, policies...)
}

// record writes what was checked, and says so where it was not known.
func (s *Session) record(file string, verdicts []byte) error {
	before, err := os.ReadFile(file)
	if err == nil && bytes.Equal(before, verdicts) {
		return nil
	}
	fmt.Fprintf(s.Out, "\n%s is written anew: commit it\n", file)
	return os.WriteFile(file, verdicts, 0o644)
}

// CheckKnownBad is the check's own test: each policy that is known to be bad is caught by what a check sees of each requirement
// that must catch it, and its control is not. Of some of them it sees nothing, and says so.
func (s *Session) CheckKnownBad(ctx context.Context) error {
	specs, _, err := s.listSpecs(ctx, selection{})
	if err != nil {
		return err
	}
	suspects, err := s.loadKnownBad(nil, ids(specs))
	if err != nil {
		return err
	}
	simulator, stackName, err := s.readySimulator(ctx)
	if err != nil {
		return err
	}
	reports := map[*policy.Policy]*check.Report{} // a control may be that of many
	run := func(p *policy.Policy) (*check.Report, error) {
		if reports[p] != nil {
			return reports[p], nil
		}
		report, err := check.Run(ctx, p, stackName, simulator)
		if err != nil {
			return nil, fmt.Errorf("POLICY=%s: %w", p.Path, err)
		}
		reports[p] = report
		return report, nil
	}
	looksAt := check.Requirements()
	var catches []catch
	var unseen []string
	for _, p := range suspects {
		control, err := run(p.control)
		if err != nil {
			return err
		}
		report, err := run(p.Policy)
		if err != nil {
			return err
		}
		for _, id := range p.Contract.CaughtBy {
			onCluster := slices.Contains(p.Contract.OnlyOnCluster, id)
			c := catch{Policy: p.Contract.Name, Requirement: id}
			c.Text, c.Caught = finding(report, id)
			if !slices.Contains(looksAt, id) || onCluster && !c.Caught {
				unseen = append(unseen, p.Contract.Name+" by "+id)
				continue
			}
			switch _, already := finding(control, id); {
			case onCluster:
				c.Caught, c.Text = false, "the check finds it: take it out of onlyOnCluster"
			case !c.Caught:
				c.Text = "the check finds nothing of the kind"
			case already:
				c.Caught, c.Text = false, p.control.Path+" is caught by it, too, so it does not show what is patched: name another requirement"
			}
			catches = append(catches, c)
		}
	}
	missed := printCatches(s.Out, catches)
	if len(unseen) > 0 {
		fmt.Fprintf(s.Out, "only a cluster can catch %s\n", strings.Join(unseen, ", "))
	}
	if missed {
		return ErrNotProven
	}
	return nil
}

// finding is the first thing that a check found wrong about a requirement.
func finding(report *check.Report, requirement string) (text string, found bool) {
	for _, t := range report.Findings {
		if t.Requirement == requirement {
			return t.Text, true
		}
	}
	return "", false
}

// checkFirst says before a run what a check finds, where the simulator is there already: a finding now saves minutes. The run's
// verdict is its own.
func (s *Session) checkFirst(ctx context.Context, p *policy.Policy) {
	simulator, stackName, err := s.simulator()
	if err != nil || len(p.Kyverno()) > 0 && !simulator.Built() {
		return
	}
	report, err := check.Run(ctx, p, stackName, simulator)
	if err != nil {
		s.Log.Printf("check: %v", err)
		return
	}
	for _, t := range report.Findings {
		if t.Verdict == check.Finding && t.Follows == 0 {
			s.Log.Printf("check: %s: %s%s", t.Requirement, t.Where(), t.Text)
		}
	}
}
