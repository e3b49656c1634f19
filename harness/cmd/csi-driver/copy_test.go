//go:build linux

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lstat is a file's state, without what a copy may change.
func lstat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// tree makes one of everything. What was made first has its time set last.
func tree(t *testing.T, root string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.MkdirAll(in("folder/deep"), 0o755), os.WriteFile(in("folder/deep/file"), []byte("words"), 0o640),
		os.WriteFile(in("empty"), nil, 0o600), os.WriteFile(in("secret"), []byte("x"), 0o000), os.WriteFile(in("name"), []byte("two names"), 0o644),
		os.Link(in("name"), in("folder/other-name")), os.Symlink("folder/deep", in("link")), os.Symlink("/nowhere", in("broken")),
		unix.Mkfifo(in("fifo"), 0o620), os.WriteFile(in("setuid"), []byte("#!"), 0o755))
	sparse, err := os.Create(in("sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("middle"), 8<<20)
	must(t, err, sparse.Truncate(32<<20), sparse.Close())
	for _, name := range []string{"name", "folder"} {
		must(t, unix.Lsetxattr(in(name), "user.origin", []byte("here\x00there"), 0), unix.Lsetxattr(in(name), "user.empty", nil, 0))
	}
	if os.Getuid() == 0 && ownersMapped(t) {
		must(t, os.Lchown(in("link"), 1001, 1002), os.Lchown(in("setuid"), 1001, 1002), os.Lchown(in("folder"), 1003, 1004))
	}
	must(t, unix.Chmod(in("setuid"), unix.S_ISUID|0o755), unix.Chmod(in("folder"), unix.S_ISVTX|unix.S_ISGID|0o770))
	old := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 123_456_000}, {Sec: 1_100_000_000, Nsec: 654_321_000}}
	for _, name := range []string{"folder/deep/file", "folder/deep", "folder", "link", "broken", "fifo", "name", "sparse", "."} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, in(name), old, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// ownersMapped is false in the user namespace of a tester who is not root: there is no other owner there.
func ownersMapped(t *testing.T) bool {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/uid_map")
	must(t, err)
	return !bytes.HasSuffix(bytes.TrimSpace(raw), []byte(" 1"))
}

func TestACopyKeepsEverything(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	tree(t, from)
	must(t, copyMoment(from, to, copyTree))

	seen := 0
	must(t, filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		name, _ := filepath.Rel(from, path)
		a, b := lstat(t, path), lstat(t, filepath.Join(to, name))
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Nlink != b.Nlink || a.Rdev != b.Rdev || a.Mtim != b.Mtim {
			t.Errorf("%s: found %+v, want %+v", name, b, a)
		}
		for _, attribute := range []string{"user.origin", "user.empty"} {
			x, y := make([]byte, 64), make([]byte, 64)
			n, errA := unix.Lgetxattr(path, attribute, x)
			m, errB := unix.Lgetxattr(filepath.Join(to, name), attribute, y)
			if !errors.Is(errB, errA) || n != m || !bytes.Equal(x, y) {
				t.Errorf("%s: %s is %q (%v), want %q (%v)", name, attribute, y[:max(m, 0)], errB, x[:max(n, 0)], errA)
			}
		}
		switch entry.Type() {
		case fs.ModeSymlink:
			x, _ := os.Readlink(path)
			if y, err := os.Readlink(filepath.Join(to, name)); err != nil || x != y {
				t.Errorf("%s: leads to %q (%v), want %q", name, y, err, x)
			}
		case 0:
			x, errA := os.ReadFile(path)
			y, errB := os.ReadFile(filepath.Join(to, name))
			if must(t, errA, errB); !bytes.Equal(x, y) || a.Size != b.Size {
				t.Errorf("%s: other content", name)
			}
		}
		return nil
	}))
	if seen != 13 {
		t.Errorf("%d files were compared, want 13", seen)
	}
	if sparse := lstat(t, filepath.Join(to, "sparse")); sparse.Blocks*512 > 1<<20 {
		t.Errorf("the holes are filled: %d bytes on disk", sparse.Blocks*512)
	}
	if a, b := lstat(t, filepath.Join(to, "name")), lstat(t, filepath.Join(to, "folder/other-name")); a.Ino != b.Ino {
		t.Error("two names of a file became two files")
	}
	if a, b := lstat(t, filepath.Join(to, "name")), lstat(t, filepath.Join(from, "name")); a.Ino == b.Ino {
		t.Error("the copy is the file itself: what is written there changes the source")
	}
}

func TestAFingerprintSeesEachChange(t *testing.T) {
	for name, change := range map[string]func(root string) error{
		"other content of the same size": func(root string) error {
			return os.WriteFile(filepath.Join(root, "folder/deep/file"), []byte("sword"), 0)
		},
		"a new file":   func(root string) error { return os.WriteFile(filepath.Join(root, "new"), nil, 0o600) },
		"a file less":  func(root string) error { return os.Remove(filepath.Join(root, "empty")) },
		"another name": func(root string) error { return os.Rename(filepath.Join(root, "fifo"), filepath.Join(root, "tube")) },
		"another mode": func(root string) error { return os.Chmod(filepath.Join(root, "empty"), 0o644) },
		"an attribute": func(root string) error { return unix.Lsetxattr(filepath.Join(root, "empty"), "user.a", []byte("b"), 0) },
		"one that set its time back": func(root string) error {
			return errors.Join(os.WriteFile(filepath.Join(root, "name"), []byte("2nd names"), 0),
				os.Chtimes(filepath.Join(root, "name"), time.Time{}, time.Unix(1_100_000_000, 654_321_000)))
		},
	} {
		root := t.TempDir()
		tree(t, root)
		before, newest, err := fingerprint(root)
		must(t, err)
		if again, _, err := fingerprint(root); err != nil || again != before {
			t.Errorf("%s: nothing changed, and the fingerprint did: %v", name, err)
		}
		for probe := filepath.Join(t.TempDir(), "probe"); ; { // until the file system's clock has gone on
			must(t, os.WriteFile(probe, nil, 0o600))
			if st := lstat(t, probe); time.Unix(st.Ctim.Unix()).After(newest) {
				break
			}
		}
		must(t, change(root))
		if after, last, err := fingerprint(root); err != nil || after == before || !last.After(newest) {
			t.Errorf("%s: not seen (%v)", name, err)
		}
	}
}

// A copy during which something changed is none.
func TestACopyIsOfOneMoment(t *testing.T) {
	for name, c := range map[string]struct {
		changes int // how many copies are disturbed
		want    error
	}{
		"nothing changes":        {0, nil},
		"a change at first":      {1, nil},
		"changes without an end": {tries, errMoving},
	} {
		from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
		log := filepath.Join(from, "log")
		must(t, os.WriteFile(log, []byte{0}, 0o600))
		copies := 0
		err := copyMoment(from, to, func(from, to string) error {
			if st := lstat(t, log); time.Since(time.Unix(st.Ctim.Unix())) < tick {
				t.Errorf("%s: copied so soon after a change that another one may have the same time", name)
			}
			err := copyTree(from, to)
			if copies++; copies <= c.changes {
				err = errors.Join(err, os.WriteFile(log, []byte{byte(copies)}, 0))
			}
			return err
		})
		if !errors.Is(err, c.want) || exists(to) != (c.want == nil) {
			t.Errorf("%s: found %v and a copy: %t, want %v", name, err, exists(to), c.want)
		}
		if c.want != nil {
			continue
		}
		if got, err := os.ReadFile(filepath.Join(to, "log")); err != nil || copies != c.changes+1 || !bytes.Equal(got, []byte{byte(c.changes)}) {
			t.Errorf("%s: found %v (%v) after %d copies", name, got, err, copies)
		}
	}
	// What can't be copied is told, not tried again.
	broken, copies := errors.New("broken"), 0
	if err := copyMoment(t.TempDir(), "", func(string, string) error { copies++; return broken }); !errors.Is(err, broken) || copies != 1 {
		t.Errorf("found %v after %d copies", err, copies)
	}
}
