package session

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/smart-restore/conformance/harness/mutants"
	"github.com/smart-restore/conformance/harness/report/docs"
)

// Docs makes the generated blocks of documentation pages anew.
func (s *Session) Docs(ctx context.Context, pages []string) error {
	facts, err := s.docsFacts(ctx)
	if err != nil {
		return err
	}
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		text, err := docs.Fill(page, string(raw), facts)
		if err != nil {
			return err
		}
		if text == string(raw) {
			continue
		}
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// docsFacts are what the pages' blocks are made of.
func (s *Session) docsFacts(ctx context.Context) (docs.Facts, error) {
	all, _, err := s.listSpecs(ctx, selection{})
	if err != nil {
		return docs.Facts{}, err
	}
	facts := docs.Facts{Lock: s.Lock}
	for _, sp := range all {
		facts.Specs = append(facts.Specs, docs.Spec{ID: sp.ID, Sentence: sp.Sentence, Labels: sp.Labels})
	}
	facts.Mutants, err = recordedMutants(recordOfMutants)
	return facts, err
}

// recordOfMutants is the file in which what became of the mutants of the policies that ship is counted.
const recordOfMutants = "policies/mutants.txt"

func recordedMutants(file string) (all []docs.Mutants, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	recorded, err := mutants.ParseRecorded(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		t := recorded[name]
		all = append(all, docs.Mutants{
			Policy: name, All: t.All(), Caught: t.Fates[mutants.IsCaught], NotTaken: t.Fates[mutants.IsRefused], Equivalent: t.Fates[mutants.IsEquivalent],
			LeftToCluster: t.Fates[mutants.IsForCluster], Lived: t.Fates[mutants.IsAlive] + t.Fates[mutants.IsUnknown], Percent: t.Percent(), When: t.When,
		})
	}
	return all, nil
}
