package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
)

func open(t *testing.T) *Dir {
	t.Helper()
	t.Setenv("SMART_RESTORE_CACHE", t.TempDir())
	d, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMakeMakesOnceForManyAtATime(t *testing.T) {
	d := open(t)
	var made atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			path, err := d.Make(t.Context(), "k", "key", func(path string) error {
				made.Add(1)
				return os.WriteFile(path, []byte("whole"), 0o600)
			})
			if content, readErr := os.ReadFile(path); err != nil || readErr != nil || string(content) != "whole" {
				t.Errorf("got %q, %v, %v", content, err, readErr)
			}
		})
	}
	group.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times, wanted once", made.Load())
	}
}

func TestWhatFailedHalfWayIsNotTakenIn(t *testing.T) {
	d := open(t)
	boom := errors.New("boom")
	if _, err := d.Make(t.Context(), "k", "key", func(path string) error {
		return errors.Join(os.WriteFile(path, []byte("half"), 0o600), boom)
	}); !errors.Is(err, boom) {
		t.Fatalf("got %v, wanted boom", err)
	}
	if d.Has("k", "key") {
		t.Error("half an entry is there")
	}
	left, err := filepath.Glob(filepath.Join(d.Root(), "k", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestThePartOfAKilledRunIsReplaced(t *testing.T) {
	d := open(t)
	if err := os.MkdirAll(d.Path("k", "key.partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Make(t.Context(), "k", "key", func(path string) error { return os.WriteFile(path, nil, 0o600) }); err != nil {
		t.Error(err)
	}
}

func TestWaitingForAnotherRunEndsWithTheContext(t *testing.T) {
	d := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := d.Make(t.Context(), "k", "key", func(string) error {
		cancel()
		_, err := d.Make(ctx, "k", "key", func(string) error { return nil })
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, wanted the context's end", err)
	}
}

func TestTemporaryFoldersGoWithTheirProcess(t *testing.T) {
	d := open(t)
	mine, err := d.Temp()
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.Temp()
	if err != nil || again == mine || filepath.Dir(again) != filepath.Dir(mine) {
		t.Fatalf("got %s after %s, %v: want another folder beside it", again, mine, err)
	}
	tmp := filepath.Join(d.Root(), "tmp")
	// Nobody holds a lock in the first two; the others are not of this package.
	for _, name := range []string{"process-gone/sub", "process-killed-early", "gone-process-x", "no-number", "12", "process"} {
		if err := os.MkdirAll(filepath.Join(tmp, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tmp, "process-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "process-gone", "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := Open() // the cache of the same environment, as a second process opens it
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"12", "no-number", "process", filepath.Base(filepath.Dir(mine)), "process-file"}
	slices.Sort(want)
	if got := names(t, tmp); !slices.Equal(got, want) {
		t.Errorf("after the second one opened it: %v, want %v", got, want)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(again); err != nil {
		t.Errorf("the second one's end took what the first one uses: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(mine)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if _, err := d.Temp(); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// A folder that was made but is not locked yet must not be taken for one that was left.
func TestNobodySweepsANewbornFolder(t *testing.T) {
	t.Setenv("SMART_RESTORE_CACHE", t.TempDir())
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			d, err := Open()
			if err != nil {
				t.Error(err)
				return
			}
			for range 8 {
				temp, err := d.Temp()
				if err == nil {
					err = os.WriteFile(filepath.Join(temp, "x"), nil, 0o600)
				}
				if err := errors.Join(err, d.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestKeysTellPartsApart(t *testing.T) {
	if Key("a", "b") == Key("ab") || Key("a", "b") == Key("b", "a") {
		t.Error("keys do not identify their parts")
	}
}

func TestHashFSSeesNamesAndContents(t *testing.T) {
	hash := func(files fstest.MapFS) string {
		h, err := HashFS(files, "d")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	one := hash(fstest.MapFS{"d/a": {Data: []byte("x")}})
	if one == hash(fstest.MapFS{"d/b": {Data: []byte("x")}}) || one == hash(fstest.MapFS{"d/a": {Data: []byte("y")}}) {
		t.Error("a renamed or changed file has the same hash")
	}
	if _, err := HashFS(fstest.MapFS{}, "d"); err == nil {
		t.Error("a missing folder has a hash")
	}
}
