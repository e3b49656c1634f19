package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/mutants"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/verdict"
)

// MutantsOf says what is asked of the mutants of a policy.
type MutantsOf struct {
	Since   string // only lines that changed since this commit
	All     bool   // every situation is played with every mutant
	Listing bool   // each line is printed with what protects it
	JSON    bool
	HTML    string // the file that the listing is written to
	State   string // the file of outcomes; empty: one below ARTIFACTS
	Record  string // the file in which what became of all is counted, by policy; empty: none
	// Histories is how long histories are played with each mutant that lives. 0: none are.
	Histories time.Duration
	Write     string // instead: the ID of the mutant that is printed as a manifest
}

// Mutants changes POLICY in one thing at a time, and finds which requirement catches each.
func (s *Session) Mutants(ctx context.Context, asked MutantsOf) error {
	path := s.Settings.Policy
	policies, err := s.loadToCheck(ctx, []string{path})
	if err != nil {
		return err
	}
	p := policies[0]
	all := mutants.Of(p)
	reasons, err := mutants.Reasons(path)
	if err != nil {
		return err
	}
	if asked.Write != "" {
		return s.writeMutant(p, all, asked.Write)
	}
	if asked.Since != "" {
		if all, err = s.changedSince(ctx, p, all, asked.Since); err != nil {
			return err
		}
	}
	outcomes, err := s.judgeMutants(ctx, p, all, asked)
	if err != nil {
		return err
	}
	report := mutants.NewReport(p, asked.Since, all, outcomes, reasons)
	if asked.Since == "" { // else most mutants were not made
		report.Wrong = mutants.Wrong(reasons, all, outcomes)
	}
	if err := s.writeMutants(report, asked); err != nil {
		return err
	}
	if asked.Record != "" {
		if err := recordMutants(report, asked); err != nil {
			return err
		}
	}
	if !report.OK() {
		return ErrNotProven
	}
	return nil
}

// changedSince are the mutants of lines that changed since a commit.
func (s *Session) changedSince(ctx context.Context, p *policy.Policy, all []mutants.Mutant, ref string) ([]mutants.Mutant, error) {
	folders := map[string]bool{}
	for _, d := range p.Documents {
		folders[filepath.Dir(d.File)] = true
	}
	changed := mutants.Changed{}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		more, err := mutants.Since(ctx, folder, ref)
		if err != nil {
			return nil, err
		}
		maps.Copy(changed, more)
	}
	return slices.DeleteFunc(all, func(m mutants.Mutant) bool { return !changed.Has(m) }), nil
}

// judgeMutants judges those that no earlier run has.
func (s *Session) judgeMutants(ctx context.Context, p *policy.Policy, all []mutants.Mutant, asked MutantsOf) (map[string]mutants.Outcome, error) {
	key, err := s.judgeKey(p, asked.All)
	if err != nil {
		return nil, err
	}
	file := asked.State
	if file == "" {
		file = filepath.Join(s.Settings.Artifacts, "mutants", p.Contract.Name+".jsonl")
	}
	state, err := mutants.OpenState(file, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = state.Close() }()
	outcomes := maps.Clone(state.Outcomes)
	rounds := []mutants.Round{mutants.Situations{Processes: runtime.NumCPU(), All: asked.All}}
	if asked.Histories > 0 {
		rounds = append(rounds, mutants.Histories{Processes: runtime.NumCPU(), For: asked.Histories, Seed: 1})
	}
	left := mutants.Left(all, rounds, outcomes)
	if len(left) == 0 {
		return outcomes, nil
	}
	simulator, _, err := s.readySimulator(ctx)
	if err != nil {
		return nil, err
	}
	for i := range rounds {
		switch round := rounds[i].(type) {
		case mutants.Situations:
			round.Simulator = simulator
			rounds[i] = round
		case mutants.Histories:
			round.Simulator = simulator
			rounds[i] = round
		}
	}
	if n := len(all) - len(left); n > 0 {
		s.Log.Printf("%d of %d mutants were judged by an earlier run (%s)", n, len(all), file)
	}
	task := s.Log.Task("judging %d mutants", len(left))
	judged, caught := map[string]int{}, 0
	err = mutants.Run(ctx, p, left, rounds, outcomes, func(m mutants.Mutant, o mutants.Outcome) error {
		judged[o.Round]++
		if o.Verdict == mutants.Caught {
			caught++
		}
		task.Status("%d of %d judged by %s, %d caught", judged[o.Round], len(left), o.Round, caught)
		return state.Add(m, o)
	})
	var unplayed check.ErrNotPlayed
	if errors.As(err, &unplayed) {
		err = fmt.Errorf("POLICY=%s: its mutants are unknown: %w", p.Path, err)
	}
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = fmt.Errorf("interrupted: what was judged is in %s, and the same command goes on from there: %w", file, ctx.Err())
	}
	return outcomes, task.Done(err)
}

// judgeKey tells outcomes of this policy, by this program, from others.
func (s *Session) judgeKey(p *policy.Policy, all bool) (string, error) {
	contract, err := json.Marshal(p.Contract)
	if err != nil {
		return "", err
	}
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	return cache.Key(p.SHA256, string(contract), p.Endpoint.URL, sha256.Sum256(raw), all), nil
}

// writeMutants writes a report as it is asked for.
func (s *Session) writeMutants(report *mutants.Report, asked MutantsOf) error {
	if asked.HTML != "" {
		var page bytes.Buffer
		err := report.HTML(&page)
		if err == nil {
			err = verdict.WriteFile(asked.HTML, page.Bytes())
		}
		if err != nil {
			return err
		}
	}
	if asked.JSON {
		return report.JSON(s.Out)
	}
	if err := report.Text(s.Out, asked.Listing); err != nil || !asked.All {
		return err
	}
	fmt.Fprintln(s.Out)
	return report.Requirements(s.Out)
}

// recordMutants writes the policy's line of the file in which mutants are counted.
func recordMutants(report *mutants.Report, asked MutantsOf) error {
	if asked.Since != "" {
		return errors.New("--record counts all mutants: it goes without --changed-since")
	}
	source, err := gomod.FindSelf()
	if err != nil {
		return err
	}
	recorded := mutants.Recorded{}
	raw, err := os.ReadFile(asked.Record)
	if err == nil {
		recorded, err = mutants.ParseRecorded(raw)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--record=%s: %w", asked.Record, err)
	}
	recorded[report.Name] = report.Tally(strings.TrimSuffix(time.Now().UTC().Format(time.DateOnly)+" at "+source.Revision(), " at "))
	return os.WriteFile(asked.Record, recorded.Format(), 0o644)
}

// writeMutant prints a mutant as a manifest, to be tested on a cluster.
func (s *Session) writeMutant(p *policy.Policy, all []mutants.Mutant, id string) error {
	i := slices.IndexFunc(all, func(m mutants.Mutant) bool { return m.ID == id })
	if i < 0 {
		return fmt.Errorf("--write=%s: %s has no such mutant: smart-restore mutants lists those that live", id, p.Path)
	}
	return all[i].Manifest(p, s.Out)
}
