package verdict

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is read as a report: never a panic, always a reason, and what is taken can be written and is taken again.
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
		r, err := Parse(text)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Fatal("an error without a reason")
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
		if _, err := Parse(inYAML); err != nil {
			t.Fatalf("it was written and cannot be read: %v\n%s", err, inYAML)
		}
	})
}
