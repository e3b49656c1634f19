package session

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
)

// A line for each setup, and what is wrong with it that its contract does not expect.
func TestTheGalleryIsChecked(t *testing.T) {
	t.Setenv("SMART_RESTORE_CACHE", t.TempDir())
	dir, err := cache.Open()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	// setup is a folder with the one that backs up only, under a name, whose contract is changed.
	setup := func(name, old, by string) string {
		folder := filepath.Join(t.TempDir(), name)
		if err := os.CopyFS(folder, os.DirFS(filepath.Join("..", "..", "fixtures", "gallery", "backup-only"))); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(folder, "conformance.yaml")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut(string(raw), "expectedFailures:") // which would have the specs be compiled
		if err := os.WriteFile(file, []byte(strings.Replace(text, old, by, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return folder
	}
	for name, c := range map[string]struct {
		folder string
		says   string
		err    string // empty: nothing is wrong
	}{
		"as it promises":       {setup("backup-only", "", ""), "ok      backup-only", ""},
		"a name that goes on":  {setup("backup", "", ""), "ok      backup-only", ""},
		"another schedule":     {setup("backup-only", "schedule: 0 * * * *", "schedule: 30 1 * * *"), "    core/backup: ", ErrNotProven.Error()},
		"restores, it says":    {setup("backup-only", "restores: never\n", ""), "    policy/restores: ", ErrNotProven.Error()},
		"another name":         {setup("other", "", ""), "", "the setup is called backup-only: call it other, as its folder is"},
		"no contract":          {t.TempDir(), "", "has no conformance.yaml"},
		"a contract of a typo": {setup("backup-only", "restores: never", "restore: never"), "", `there is no field "restore"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := &Session{Settings: &settings.Settings{}, Lock: lock, Cache: dir, Log: progress.New(io.Discard), Out: &out}
			err := s.Gallery(t.Context(), []string{c.folder})
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, wanted %q", err, c.err)
			}
			if errors.Is(err, ErrNotProven) && !strings.HasPrefix(out.String(), "fail  ") || !strings.Contains(out.String(), c.says) {
				t.Errorf("%q is not in what it says:\n%s", c.says, out.String())
			}
		})
	}
}
