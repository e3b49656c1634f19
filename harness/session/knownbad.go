package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/verdict"
)

// knownBadFolder holds policies that are known to be bad, a folder each, from the root of the checkout.
const (
	knownBadFolder = "fixtures/known-bad"
	knownBadBase   = "base" // what the others are patches of
)

// catch is what became of one requirement that must catch a policy.
type catch struct {
	Policy, Requirement string
	Caught              bool
	Text                string // why it was caught, or what was found instead
}

// KnownBad is the suite's own test: each policy that is known to be bad is caught by every requirement that its contract
// names. All of them, or those named, are tried on one stack: the kept one, or one that is kept for as long as this takes.
func (s *Session) KnownBad(ctx context.Context, names []string) (err error) {
	specs, _, err := s.listSpecs(ctx, selection{})
	if err != nil {
		return err
	}
	policies, err := s.loadKnownBad(names, ids(specs))
	if err != nil {
		return err
	}
	if err := s.makeReady(ctx); err != nil {
		return err
	}
	artifacts, err := s.newArtifacts()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(policies, func(p *policy.Policy) bool { return p.Check() == nil }); i >= 0 {
		own, err := s.keepOne(ctx, policies[i])
		if err != nil {
			return err
		}
		if own {
			defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx))) }()
		}
	}
	var catches []catch
	for i, p := range policies {
		s.Log.Printf("%d of %d: %s is to be caught by %s", i+1, len(policies), p.Contract.Name, strings.Join(p.Contract.CaughtBy, ", "))
		found := p.Check()
		var results []verdict.Result
		if found == nil {
			if results, found = s.tryKnownBad(ctx, p, filepath.Join(artifacts, p.Contract.Name)); ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if found != nil && len(policy.FindingsIn(found)) == 0 {
			return fmt.Errorf("%s could not be tried: %w", p.Contract.Name, found)
		}
		catches = append(catches, rateCatches(p.Contract, results, found)...)
	}
	var table bytes.Buffer
	missed := printCatches(&table, catches)
	if err := os.WriteFile(filepath.Join(artifacts, "known-bad.txt"), table.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "\nreports, logs and events: %s\n\n%s", artifacts, table.Bytes())
	if missed {
		return ErrNotProven
	}
	return nil
}

// loadKnownBad loads the policies of these names, or all, and checks their contracts against the specs that are to run.
func (s *Session) loadKnownBad(names, specs []string) ([]*policy.Policy, error) {
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
	var policies []*policy.Policy
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
		if specs == nil { // nobody runs any
			policies = append(policies, p)
			continue
		}
		if err := errors.Join(p.Contract.CheckRequirements(specs), p.Contract.CheckStack(s.Stack.Name, s.Lock.StackNames())); err != nil {
			problems = append(problems, fmt.Errorf("POLICY=%s: %w", p.Path, err))
		}
		if len(p.Contract.CaughtBy) == 0 {
			problems = append(problems, fmt.Errorf("POLICY=%s: its conformance.yaml does not say what it is caughtBy", p.Path))
		}
		policies = append(policies, p)
	}
	return policies, errors.Join(problems...)
}

// keepOne makes sure that a stack is kept, and says whether it was put up for that, for this policy first. One that a killed
// run leaves is kept on: make down removes it.
func (s *Session) keepOne(ctx context.Context, p *policy.Policy) (own bool, err error) {
	run, err := runs.Kept(s.runsDir(), &testbed.Testbed{})
	if err != nil {
		return false, err
	}
	if run != nil {
		run.Release()
		return false, nil
	}
	if run, err = runs.New(s.runsDir()); err != nil {
		return false, err
	}
	up, err := s.putUp(ctx, run, p, nil, nil)
	if err != nil {
		return false, errors.Join(err, s.tearDown(run))
	}
	defer run.Release()
	return true, run.Keep(up)
}

// tryKnownBad runs the specs that must catch a policy, on the kept stack. The error is about what kept them from running.
func (s *Session) tryKnownBad(ctx context.Context, p *policy.Policy, artifacts string) ([]verdict.Result, error) {
	if err := os.MkdirAll(artifacts, 0o755); err != nil {
		return nil, err
	}
	r := s.newE2E(p, selection{only: slices.DeleteFunc(slices.Clone(p.Contract.CaughtBy), policy.IsFinding)}, artifacts)
	r.out, r.phases = io.Discard, &verdict.PhaseTimer{}
	if err := r.toVerdict(ctx, p); err != nil && !errors.Is(err, ErrNotProven) {
		return nil, err
	}
	if r.report.SetupError != "" {
		return nil, errors.New(r.report.SetupError)
	}
	return r.report.Requirements, nil
}

// rateCatches says of each requirement that must catch a policy whether it did. A finding catches it, and so does a spec whose
// verdict is fail; one that is unknown does not.
func rateCatches(contract policy.Contract, results []verdict.Result, found error) []catch {
	var catches []catch
	for _, id := range contract.CaughtBy {
		c := catch{Policy: contract.Name, Requirement: id, Text: "no spec of that name ran"}
		if found != nil {
			c.Text = verdict.FirstLine(found.Error())
		} else if policy.IsFinding(id) {
			c.Text = "nothing of the kind was found before specs ran"
		}
		for _, finding := range policy.FindingsIn(found) {
			if finding.Requirement == id {
				c.Caught, c.Text = true, verdict.FirstLine(finding.Error())
			}
		}
		for _, result := range results {
			if result.ID != id {
				continue
			}
			c.Caught = result.Verdict == verdict.Fail
			c.Text = string(result.Verdict)
			if result.Message != "" {
				c.Text = verdict.FirstLine(result.Message)
			}
			if !c.Caught && result.Message != "" {
				c.Text = string(result.Verdict) + ": " + c.Text
			}
		}
		catches = append(catches, c)
	}
	return catches
}

// printCatches prints a table, and reports whether anything was missed.
func printCatches(w io.Writer, catches []catch) (missed bool) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	caught := 0
	for _, c := range catches {
		word := "NOT CAUGHT"
		if c.Caught {
			word = "caught"
			caught++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", word, c.Policy, c.Requirement, c.Text)
	}
	_ = table.Flush() // to memory or a terminal
	fmt.Fprintf(w, "%d caught, %d not caught\n", caught, len(catches)-caught)
	return caught < len(catches)
}
