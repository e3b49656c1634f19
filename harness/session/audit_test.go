package session

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

type unchanged struct{ io.Writer }

func (unchanged) Close() error { return nil }

func TestTheAuditLogOfThisRunIsSaved(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	plain := func(w io.Writer) io.WriteCloser { return unchanged{w} }
	if err := saveAudit(from, 0, to, plain); err != nil {
		t.Errorf("without a log: %v", err)
	}
	if err := os.WriteFile(from, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int64]string{
		0: "one\ntwo\nthree\n", 4: "two\nthree\n", 5: "three\n", 8: "three\n", 14: "", 99: "one\ntwo\nthree\n",
	} {
		if err := saveAudit(from, offset, to, plain); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(to); err != nil || string(got) != want {
			t.Errorf("from byte %d: %q, %v, want %q", offset, got, err, want)
		}
	}
}
