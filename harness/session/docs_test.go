package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/report/docs"
)

// checkDocs holds the documentation pages to the specs, the fault table, the settings and the stacks.
func checkDocs(t *testing.T, s *Session) {
	facts, err := s.docsFacts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, pattern := range []string{"*.md", "policies/*.md", "policies/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	made := 0
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		want, err := docs.Fill(page, string(raw), facts)
		switch {
		case err != nil:
			t.Error(err)
		case want != string(raw):
			t.Errorf("%s is out of date: make docs updates it", page)
		}
		made += strings.Count(string(raw), "<!-- made by: smart-restore docs: ")
		if unknown := docs.UnknownRequirements(string(raw), facts.Specs); len(unknown) > 0 {
			t.Errorf("%s names requirements that no spec proves: %s", page, strings.Join(unknown, ", "))
		}
	}
	if made == 0 {
		t.Errorf("none of %v has a generated block", pages)
	}
}
