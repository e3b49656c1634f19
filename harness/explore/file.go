package explore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/strict"
)

// The version and the kind of files of histories. A change in what an event means is another version.
const (
	fileVersion = "conformance.smart-restore.io/history/v1"
	fileKind    = "History"
)

// File is a history in a file: what was found, and all that it takes to see it again.
type File struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Policy is the one that it was found with, and Seed what the history was drawn with.
	Policy string `json:"policy"`
	Seed   int64  `json:"seed,omitempty"`
	// Invariant is the one that does not hold in this history, and Found what was seen. Empty: all hold.
	Invariant string          `json:"invariant,omitempty"`
	Found     string          `json:"found,omitempty"`
	Events    []history.Event `json:"events"`
}

// Read reads a history that is to be played with these faults.
func Read(file string, faults []history.Fault) (*File, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("REPLAY=%s: %w", file, err)
	}
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(raw, &head); err == nil && (head.APIVersion != fileVersion || head.Kind != fileKind) {
		return nil, fmt.Errorf("REPLAY=%s: wanted apiVersion %s and kind %s, found %q and %q: make explore writes such files, and a file of another version is played by the suite of that version",
			file, fileVersion, fileKind, head.APIVersion, head.Kind)
	}
	f := &File{}
	if _, err := strict.Read(file, raw, f); err != nil {
		return nil, fmt.Errorf("REPLAY=%s: %w", file, err)
	}
	if len(f.Events) == 0 {
		return nil, fmt.Errorf("REPLAY=%s: it has no events", file)
	}
	var problems []error
	for i, e := range f.Events {
		if err := e.Check(faults); err != nil {
			problems = append(problems, fmt.Errorf("REPLAY=%s: event %d: %w", file, i+1, err))
		}
	}
	return f, errors.Join(problems...)
}

// Write writes a history into a file, with what happens in it in words.
func (f File) Write(file string) error {
	f.APIVersion, f.Kind = fileVersion, fileKind
	raw, err := yaml.Marshal(f)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, line := range words(f.Events, 0) {
		fmt.Fprintf(&text, "# %s\n", line)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text.Bytes(), raw...), 0o644)
}

// words are the events in words, numbered. The one of this number, from 1, is marked.
func words(events []history.Event, marked int) (lines []string) {
	for i, e := range events {
		line := fmt.Sprintf("%2d. %s", i+1, e.Words())
		if i+1 == marked {
			line += "   ← here"
		}
		lines = append(lines, line)
	}
	return lines
}

// fileName is that of a finding's file.
func fileName(policy, invariant string) string {
	return fmt.Sprintf("%s-%s.yaml", policy, strings.ReplaceAll(invariant, "/", "-"))
}
