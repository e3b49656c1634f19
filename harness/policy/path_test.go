package policy

import (
	"path/filepath"
	"testing"
)

func TestShown(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	outside := filepath.Join(filepath.Dir(folder), "elsewhere")
	for path, want := range map[string]string{
		filepath.Join(folder, "a", "b"): filepath.Join("a", "b"),
		filepath.Join("a", "..", "b"):   "b",
		filepath.Join(folder, "..b"):    "..b",
		outside:                         outside,
	} {
		if got := Shown(path); got != want {
			t.Errorf("Shown(%s) = %s, want %s", path, got, want)
		}
	}
	if _, ok := Below(folder, outside); ok {
		t.Errorf("%s is said to be below %s", outside, folder)
	}
}
