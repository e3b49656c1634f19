package markdown

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/verdict"
)

// A family shares a row where its cells are alike; levels keep their order, and nothing else is joined.
func TestRowsOfRequirements(t *testing.T) {
	cells := map[string]string{"core/b": "1", "core/s3-down/y": "1", "core/s3-down/x": "1", "core/s3-down/z": "2", "core/other/x": "1", "safety/a": "1", "scale/c": "1", "resilience/d": "1"}
	var all []verdict.Requirement
	for id := range cells {
		level, _, _ := strings.Cut(id, "/")
		all = append(all, verdict.Requirement{ID: id, Level: level})
	}
	var got []string
	for _, row := range Requirements(all, func(r verdict.Requirement) []string { return []string{cells[r.ID]} }) {
		got = append(got, row.Label+" "+row.Cells[0])
	}
	want := []string{"`core/b` 1", "`core/other/x` 1", "`core/s3-down/…`: `x`, `y` 1", "`core/s3-down/z` 2", "`safety/a` 1", "`resilience/d` 1", "`scale/c` 1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestWriteIntoReplacesWhatStandsBetweenTheLines(t *testing.T) {
	file, place := filepath.Join(t.TempDir(), "README.md"), MadeBy("x")
	if err := os.WriteFile(file, []byte("before\n"+place.Begin+"\nold\n"+place.End+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, over its own work
		if err := place.WriteInto(file, "new\n"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if want := "before\n" + place.Begin + "\nnew\n" + place.End + "\nafter\n"; err != nil || string(got) != want {
			t.Errorf("got %q, %v, wanted %q", got, err, want)
		}
	}
	for _, text := range []string{"no lines\n", place.Begin + "\n", place.End + "\n" + place.Begin + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := place.WriteInto(file, "x"); err == nil || !strings.Contains(err.Error(), "README.md: marker lines") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
