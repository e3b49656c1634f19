package session

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/verdict"
)

// knownBadFolder holds policies that are known to be bad, a folder each, from the root of the checkout.
const (
	knownBadFolder = "fixtures/known-bad"
	knownBadBase   = "base" // the good policy that the others are patches of
)

// catch is what became of one requirement that must catch a policy.
type catch struct {
	Policy, Requirement string
	Caught              bool
	Text                string // why it was caught, or what was found instead
}

// suspect is a policy that is known to be bad, and the good one that must pass what catches it.
type suspect struct {
	*policy.Policy
	control *policy.Policy
}

// trial is what a policy came to.
type trial struct {
	found       error // findings, before any spec ran
	results     []verdict.Result
	suiteErrors []string
}

// KnownBad is the suite's own test: each policy that is known to be bad is caught by every requirement that its contract
// names, and the base policy, of which it is a patch, is caught by none of them. All of them, or those named, are tried
// on the kept stack, or on one for each address of S3, which is kept for as long as this takes.
func (s *Session) KnownBad(ctx context.Context, names []string) error {
	if err := external.Refuse(s.Settings.External, "known-bad"); err != nil {
		return err
	}
	specs, _, err := s.listSpecs(ctx, selection{})
	if err != nil {
		return err
	}
	suspects, err := s.loadKnownBad(names, ids(specs))
	if err != nil {
		return err
	}
	if suspects, err = s.madeForStack(suspects, len(names) > 0); err != nil {
		return err
	}
	if err := s.makeReady(ctx); err != nil {
		return err
	}
	artifacts, err := s.newArtifacts()
	if err != nil {
		return err
	}
	var catches []catch
	var problems []error
	for _, round := range rounds(suspects) {
		found, err := s.catchRound(ctx, round, artifacts)
		catches, problems = append(catches, found...), append(problems, err)
		if ctx.Err() != nil {
			break
		}
	}
	var table bytes.Buffer
	missed := printCatches(&table, catches)
	return errors.Join(append(problems, s.conclude(filepath.Join(artifacts, "known-bad.txt"), table.Bytes(), !missed))...)
}

// rounds are the suspects by the address of S3 that they are tried with: a testbed serves one.
func rounds(suspects []suspect) (all [][]suspect) {
	for _, one := range suspects {
		i := slices.IndexFunc(all, func(round []suspect) bool { return round[0].control.Endpoint.URL == one.control.Endpoint.URL })
		if i < 0 {
			all = append(all, []suspect{one})
			continue
		}
		all[i] = append(all[i], one)
	}
	return all
}

// catchRound tries the suspects of a round, on the kept stack or on one that is kept for as long as this takes.
func (s *Session) catchRound(ctx context.Context, round []suspect, artifacts string) (_ []catch, problem error) {
	if i := slices.IndexFunc(round, func(one suspect) bool { return one.Check() == nil }); i >= 0 {
		down, err := s.keepOne(ctx, round[i].control)
		if err != nil {
			return nil, err
		}
		defer func() { problem = errors.Join(problem, down()) }()
	}
	return s.catchAll(ctx, round, func(p *policy.Policy, only []string) (trial, error) {
		return s.tryKnownBad(ctx, p, only, filepath.Join(artifacts, p.Contract.Name))
	})
}

// madeForStack are the suspects that are made for the stack, with their controls. One of another stack is left out, and said, or refused
// where it was asked for by name.
func (s *Session) madeForStack(suspects []suspect, named bool) (made []suspect, err error) {
	for _, one := range suspects {
		var problem error
		for _, p := range []*policy.Policy{one.Policy, one.control} {
			if err := p.CheckStack(s.Stack.Name, s.Lock.Stacks); err != nil {
				problem = errors.Join(problem, fmt.Errorf("POLICY=%s: %w", p.Path, err))
			}
		}
		switch {
		case problem == nil:
			made = append(made, one)
		case named:
			return nil, problem
		default:
			s.Log.Printf("not tried here: %s", verdict.FirstLine(problem.Error()))
		}
	}
	if len(made) == 0 {
		return nil, fmt.Errorf("none of the policies that are known to be bad is made for the stack %s", s.Stack.Name)
	}
	return made, nil
}

// conclude writes what a test of the suite itself came to into a file of its artifacts, and prints it.
func (s *Session) conclude(file string, table []byte, proven bool) error {
	if err := os.WriteFile(file, table, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "\nreports, logs and events: %s\n\n%s", filepath.Dir(file), table)
	if !proven {
		return ErrNotProven
	}
	return nil
}

// catchAll tries each policy, and before it its control with all that is to catch any policy of that control. One that could not be tried is
// a part of the error, and the others are tried all the same.
func (s *Session) catchAll(ctx context.Context, suspects []suspect, try func(p *policy.Policy, only []string) (trial, error)) ([]catch, error) {
	controls, untried := map[*policy.Policy]trial{}, map[*policy.Policy]bool{}
	var catches []catch
	var problems []error
	for i, p := range suspects {
		control, known := controls[p.control]
		if !known {
			var err error
			if control, err = s.tryControl(p.control, suspects, try); err != nil {
				problems, untried[p.control] = append(problems, err), true
			}
			controls[p.control] = control
		}
		if ctx.Err() != nil {
			return catches, errors.Join(problems...)
		}
		if untried[p.control] {
			problems = append(problems, fmt.Errorf("%s was not tried, because its control was not", p.Contract.Name))
			continue
		}
		s.Log.Printf("%d of %d: %s must be caught by %s", i+1, len(suspects), p.Contract.Name, strings.Join(p.Contract.CaughtBy, ", "))
		tried := trial{found: p.Check()}
		if tried.found == nil {
			var err error
			if tried, err = try(p.Policy, p.Contract.CaughtBy); err != nil {
				problems = append(problems, fmt.Errorf("%s could not be tried: %w", p.Contract.Name, err))
				continue
			}
		}
		rated := rateCatches(p.Contract, tried, control)
		for _, one := range rated {
			s.Log.Printf("%s is caught by %s: %t", one.Policy, one.Requirement, one.Caught)
		}
		catches = append(catches, rated...)
	}
	return catches, errors.Join(problems...)
}

// tryControl tries a control with all that is to catch one of its policies.
func (s *Session) tryControl(control *policy.Policy, suspects []suspect, try func(p *policy.Policy, only []string) (trial, error)) (trial, error) {
	var all []string
	onCluster := false
	for _, p := range suspects {
		if p.control == control {
			all = append(all, p.Contract.CaughtBy...)
			onCluster = onCluster || p.Check() == nil
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	tried := trial{found: control.Check()}
	if !onCluster || tried.found != nil {
		return tried, nil
	}
	s.Log.Printf("the control: %s must pass all of %s", control.Contract.Name, strings.Join(all, ", "))
	tried, err := try(control, all)
	if err != nil {
		return trial{}, fmt.Errorf("the control, %s, could not be tried: %w", control.Contract.Name, err)
	}
	return tried, nil
}

// loadKnownBad loads the policies of these names, or all, with their controls, and checks their contracts against the specs. Policies
// with the same control share one.
func (s *Session) loadKnownBad(names, specs []string) (suspects []suspect, err error) {
	entries, err := os.ReadDir(knownBadFolder)
	if err != nil {
		return nil, fmt.Errorf("the policies that are known to be bad: %w", err)
	}
	var known []string
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != knownBadBase {
			known = append(known, entry.Name())
		}
	}
	if len(names) == 0 {
		names = known
	}
	controls := map[string]*policy.Policy{}
	var problems []error
	for _, name := range names {
		if !slices.Contains(known, name) {
			problems = append(problems, fmt.Errorf("%s has no %q; there are %s", knownBadFolder, name, strings.Join(known, ", ")))
			continue
		}
		p, err := policy.Load(filepath.Join(knownBadFolder, name), s.Settings.S3Endpoint)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if err := p.Contract.CheckKnownBad(name, specs); err != nil {
			problems = append(problems, fmt.Errorf("POLICY=%s: %w", p.Path, err))
		}
		path := filepath.Join(knownBadFolder, name, cmp.Or(p.Contract.Control, "../"+knownBadBase))
		if controls[path] == nil {
			if controls[path], err = policy.Load(path, s.Settings.S3Endpoint); err != nil {
				problems = append(problems, fmt.Errorf("the control of %s: %w", p.Path, err))
				continue
			}
		}
		suspects = append(suspects, suspect{p, controls[path]})
	}
	return suspects, errors.Join(problems...)
}

// keepOne makes sure that a stack is kept. One that was put up for that, for this policy first, is taken down by what it returns. One that
// a killed run leaves is kept on: make down removes it.
func (s *Session) keepOne(ctx context.Context, p *policy.Policy) (down func() error, err error) {
	run, err := runs.Kept(s.runsDir(), &testbed.Testbed{})
	if err != nil {
		return nil, err
	}
	if run != nil {
		run.Release()
		return func() error { return nil }, nil
	}
	if run, err = runs.New(s.runsDir()); err != nil {
		return nil, err
	}
	down = func() error { return s.Down(context.WithoutCancel(ctx)) }
	up, err := s.putUp(ctx, run, p, nil, nil)
	if err != nil {
		return nil, errors.Join(err, s.tearDown(run))
	}
	defer run.Release()
	return down, run.Keep(up)
}

// judge runs the specs of these requirements on a policy, on the kept stack, and prints nothing. Its artifacts are in a folder of their own. The
// sense of that name, if any, is broken meanwhile.
func (s *Session) judge(ctx context.Context, p *policy.Policy, only []string, sense, folder string) (*verdict.Report, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	r := s.newE2E(p, selection{only: only}, folder)
	r.blind, r.out, r.phases = sense, io.Discard, &verdict.PhaseTimer{}
	err := r.toVerdict(ctx, p)
	return r.report, cmp.Or(ctx.Err(), err)
}

// noSpec is the ID of no spec. A selection of it selects nothing, where one of no IDs would select everything.
const noSpec = "policy/none"

// tryKnownBad runs the specs among these requirements on a policy, on the kept stack. Findings are a part of the trial; the
// error is about what kept it from being tried.
func (s *Session) tryKnownBad(ctx context.Context, p *policy.Policy, only []string, artifacts string) (trial, error) {
	only = slices.DeleteFunc(slices.Clone(only), policy.IsFinding)
	if len(only) == 0 {
		only = []string{noSpec}
	}
	report, err := s.judge(ctx, p, only, "", artifacts)
	switch {
	case len(policy.FindingsIn(err)) > 0:
		return trial{found: err, suiteErrors: report.SuiteErrors}, nil
	case err != nil && !errors.Is(err, ErrNotProven):
		return trial{}, err
	case report.SetupError != "":
		return trial{}, errors.New(report.SetupError)
	}
	return trial{results: report.Requirements, suiteErrors: report.SuiteErrors}, nil
}

// rateCatches says of each requirement that must catch a policy whether it did. A finding catches it, and so does a spec whose
// verdict is fail; unknown does not. A catch is worthless where anything went wrong outside the specs, and where the control,
// the good policy, is caught as well: something else than the policy was seen then.
func rateCatches(contract policy.Contract, tried, control trial) []catch {
	var catches []catch
	for _, id := range contract.CaughtBy {
		c := catch{Policy: contract.Name, Requirement: id}
		c.Caught, c.Text = tried.caughtBy(id)
		if c.Caught {
			if reason := control.spoils(id); reason != "" {
				c.Caught, c.Text = false, reason
			}
		}
		catches = append(catches, c)
	}
	return catches
}

// caughtBy says whether a requirement has caught the policy that was tried, and why or why not, in a line.
func (t trial) caughtBy(id string) (caught bool, text string) {
	if len(t.suiteErrors) > 0 {
		return false, "does not count, because something went wrong outside the specs: " + verdict.FirstLine(t.suiteErrors[0])
	}
	for _, finding := range policy.FindingsIn(t.found) {
		if finding.Requirement == id {
			return true, verdict.FirstLine(finding.Error())
		}
	}
	if t.found != nil {
		return false, verdict.FirstLine(t.found.Error())
	}
	if policy.IsFinding(id) {
		return false, "nothing of the kind was found before specs ran"
	}
	result, ran := t.result(id)
	switch caught = result.Verdict == verdict.Fail; {
	case !ran:
		return false, "no spec of that name ran"
	case result.Message == "":
		return caught, string(result.Verdict)
	case caught:
		return true, verdict.FirstLine(result.Message)
	}
	return false, string(result.Verdict) + ": " + verdict.FirstLine(result.Message)
}

// spoils is why what the control came to makes a catch by a requirement worthless; empty: it does not.
func (t trial) spoils(id string) string {
	caught, text := t.caughtBy(id)
	result, ran := t.result(id)
	switch {
	case len(t.suiteErrors) > 0:
		return "worthless: the control, the good policy, " + text
	case caught:
		return "worthless: the control, the good policy, is caught by it, too: " + text
	case t.found != nil:
		return "worthless: the control, the good policy, is not tried: " + text
	case policy.IsFinding(id):
		return ""
	case !ran || result.Verdict != verdict.Pass:
		return "worthless: the control, the good policy, does not pass it: " + text
	}
	return ""
}

func (t trial) result(id string) (verdict.Result, bool) {
	i := slices.IndexFunc(t.results, func(r verdict.Result) bool { return r.ID == id })
	if i < 0 {
		return verdict.Result{}, false
	}
	return t.results[i], true
}

// printCatches prints a table, and reports whether anything was missed.
func printCatches(w io.Writer, catches []catch) (missed bool) {
	var rows []rated
	for _, c := range catches {
		rows = append(rows, rated{c.Caught, []string{c.Policy, c.Requirement, c.Text}})
	}
	return printRated(w, "caught", "NOT CAUGHT", "not caught", rows)
}
