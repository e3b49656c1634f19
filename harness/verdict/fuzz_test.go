package verdict

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var position = regexp.MustCompile(`^report\.yaml:[1-9][0-9]*:[1-9][0-9]*: \S`)

// Whatever is read as a report: never a panic, always a position and a reason, and what is taken can be written and is taken again.
func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	if err := sample().Write(dir); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"report.yaml", "report.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		"", "{}", "[]", "null", "1", "a: [", "kind: Report\napiVersion: x", "requirements: 3", "requirements: [null]",
		"a: &a [*a]", "? {a: b}\n: c", "run: {started: yesterday}", "levels: {core: 1}", "---\n---\n", "\xff\xfe", "<<: {kind: Report}",
		"requirements:\n- {id: a, verdict: pass}\n- {id: a, verdict: pass}", "summary: {pass: 99999999999999999999}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse("report.yaml", text)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !position.MatchString(line) {
					t.Fatalf("no position or no reason: %q", line)
				}
			}
			return
		}
		var b bytes.Buffer
		if err := r.Summary(&b, false); err != nil {
			t.Fatal(err)
		}
		if err := r.Markdown(&b); err != nil {
			t.Fatal(err)
		}
		inYAML, _, err := r.encode()
		if err != nil {
			t.Fatalf("it was read and cannot be written: %v", err)
		}
		if _, err := Parse("report.yaml", inYAML); err != nil {
			t.Fatalf("it was written and cannot be read: %v\n%s", err, inYAML)
		}
	})
}
