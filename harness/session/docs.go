package session

import (
	"context"
	"os"

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
	return facts, nil
}
