package session

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/explain"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/report/promises"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
)

// Contracts and the check speak of requirements, and only the compiled specs know which there are.
func TestRequirementsAreThoseOfTheSpecs(t *testing.T) {
	t.Chdir("../..")
	lookAt(t, "e2e/*.go")
	t.Setenv("SMART_RESTORE_CACHE", t.TempDir())
	dir, err := cache.Open()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	of, err := lock.Stack("")
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Settings: &settings.Settings{}, Lock: lock, Stack: of, Cache: dir, Log: progress.New(io.Discard), Out: io.Discard}
	specs, _, err := s.listSpecs(t.Context(), selection{})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("policies known to be bad", func(t *testing.T) {
		if _, err := s.loadKnownBad(nil, ids(specs)); err != nil {
			t.Error(err)
		}
	})
	t.Run("requirements that a contract names", func(t *testing.T) {
		for id, wrong := range map[string]bool{specs[0].ID: false, policy.Acts: false, "safety/long-name": true} {
			for _, contract := range []policy.Contract{{ExpectedFailures: []policy.Expectation{{Requirement: id}}}, {CaughtBy: []string{id}}} {
				err := s.checkRequirements(t.Context(), &policy.Policy{Path: "p", Contract: contract})
				if wrong != (err != nil) || wrong && !strings.Contains(err.Error(), `POLICY=p: no spec has the requirement "safety/long-name"; those of the level safety are `) {
					t.Errorf("%s: %v", id, err)
				}
			}
		}
	})
	t.Run("situations of the check", func(t *testing.T) {
		known := ids(specs)
		for _, id := range check.Requirements() {
			if !slices.Contains(known, id) && !policy.IsFinding(id) {
				t.Errorf("a situation in harness/check/situations.go is of the requirement %q, which no spec has; there are %s", id, strings.Join(known, ", "))
			}
		}
	})
	t.Run("texts that explain them", func(t *testing.T) {
		for _, problem := range explain.Problems(ids(specs)) {
			t.Error(problem)
		}
	})
	t.Run("explain", func(t *testing.T) { checkExplain(t, s) })
	t.Run("the documentation", func(t *testing.T) { checkDocs(t, s) })
	t.Run("the gallery", func(t *testing.T) {
		folders, err := filepath.Glob("fixtures/gallery/*")
		if err != nil || len(folders) < 8 {
			t.Fatalf("%v, %v", folders, err)
		}
		const page = "policies/BRING-YOUR-OWN.md"
		text, err := s.gallery(t.Context(), folders, page)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := promises.GalleryBlock.Fill(string(raw), text); err != nil {
			t.Errorf("%s: %v", page, err)
		} else if want != string(raw) {
			t.Errorf("%s is out of date: make docs updates it", page)
		}
	})
	t.Run("events that lose data", func(t *testing.T) { // the table leaves out what no spec proves
		known, told := ids(specs), map[string]bool{}
		for _, e := range promises.Events {
			if !slices.Contains(known, e.Requirement) {
				t.Errorf("%q is about the requirement %q, which no spec has", e.Text, e.Requirement)
			}
			if told[e.Requirement] {
				t.Errorf("%s is there twice", e.Requirement)
			}
			told[e.Requirement] = true
		}
	})
	t.Run("the table of promises", func(t *testing.T) {
		paths, err := filepath.Glob("policies/*/conformance.yaml")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%v, %v", paths, err)
		}
		table, err := s.promises(t.Context(), paths)
		if err != nil {
			t.Fatal(err)
		}
		const page = "policies/README.md"
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := promises.Block.Fill(string(raw), table); err != nil {
			t.Errorf("%s: %v", page, err)
		} else if want != string(raw) {
			t.Errorf("%s is out of date: make promises updates it", page)
		}
	})
}

// lookAt makes files an input of the test: the go command takes a test for one that need not run again by the files that
// it looked at itself, not by those that it had compiled.
func lookAt(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
	}
}
