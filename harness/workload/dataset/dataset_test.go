//go:build linux

package dataset

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// xattrsHere says whether the file system of the tests' temporary folders keeps user.* attributes; found out once.
var xattrsHere = sync.OnceValues(func() (bool, error) {
	dir, err := os.MkdirTemp("", "dataset")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	err = setXattr(dir, "user.probe", "1")
	if errors.Is(err, ErrXattrsUnsupported) {
		return false, nil
	}
	return err == nil, err
})

// testSpec is the default set as far as this user and this file system can hold it, with a shorter large file.
func testSpec(t *testing.T, seed string) Spec {
	t.Helper()
	spec := Default(seed)
	spec.LargeFileBytes = 3<<20 + 1
	spec.Owners = os.Geteuid() == 0
	xattrs, err := xattrsHere()
	if err != nil {
		t.Fatal(err)
	}
	spec.Xattrs = xattrs
	return spec
}

// volume is a temporary folder that can be removed with a data set in it: a read-only folder is in the way of all
// but root.
func volume(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(name, 0o700)
			}
			return err
		})
	})
	return root
}

func mustWrite(t *testing.T, root string, spec Spec) Manifest {
	t.Helper()
	if err := Write(root, spec); err != nil {
		t.Fatal(err)
	}
	return mustScan(t, root)
}

func mustScan(t *testing.T, root string) Manifest {
	t.Helper()
	m, err := Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func noDifference(t *testing.T, want, got Manifest) {
	t.Helper()
	if diffs := Diff(want, got); len(diffs) != 0 {
		t.Fatalf("%d differences:\n%s", len(diffs), Summary(diffs, 20))
	}
	if want.Digest() != got.Digest() {
		t.Fatalf("no difference, but digests %s and %s", want.Digest(), got.Digest())
	}
}

func TestManifestIsWhatThePlanSays(t *testing.T) {
	spec := testSpec(t, "run-1")
	items := plan(spec)
	m := mustWrite(t, volume(t), spec)
	if m.Seed != spec.Seed {
		t.Errorf("seed %q, want %q", m.Seed, spec.Seed)
	}
	if len(m.Entries) != len(items) {
		t.Errorf("%d entries, planned %d", len(m.Entries), len(items))
	}
	if !slices.IsSortedFunc(m.Entries, byPath) {
		t.Error("entries are not sorted by path")
	}
	entries := index(m)
	for _, it := range items {
		e, ok := entries[it.path]
		if !ok {
			t.Errorf("%q is not there", it.path)
			continue
		}
		if e.HardLink != it.linkTo {
			t.Errorf("%q: hard link to %q, want %q", it.path, e.HardLink, it.linkTo)
		}
		if it.linkTo != "" {
			continue
		}
		if e.Type != it.kind {
			t.Errorf("%q: type %s, want %s", it.path, e.Type, it.kind)
		}
		if it.kind != TypeSymlink {
			if want := octal(it.mode); e.Mode != want {
				t.Errorf("%q: mode %s, want %s", it.path, e.Mode, want)
			}
		}
		if want := it.size + int64(len(it.text)); e.Size != want {
			t.Errorf("%q: size %d, want %d", it.path, e.Size, want)
		}
		if e.Target != it.target {
			t.Errorf("%q: target %q, want %q", it.path, e.Target, it.target)
		}
		if want := it.mtime.UTC().Format(time.RFC3339Nano); e.MTime != want {
			t.Errorf("%q: mtime %s, want %s", it.path, e.MTime, want)
		}
		if spec.Owners && (int(e.UID) != it.owner.uid || int(e.GID) != it.owner.gid) {
			t.Errorf("%q: owner %d:%d, want %v", it.path, e.UID, e.GID, it.owner)
		}
		if len(e.Xattrs) != len(it.xattrs) {
			t.Errorf("%q: xattrs %v, want %v", it.path, e.Xattrs, it.xattrs)
		}
		for name, value := range it.xattrs {
			if got, ok := e.Xattrs[name]; !ok || got != base64.StdEncoding.EncodeToString([]byte(value)) {
				t.Errorf("%q: xattr %s is %q (%t), want %q", it.path, name, got, ok, value)
			}
		}
	}
}

func octal(mode uint32) string {
	const digits = "01234567"
	return string([]byte{digits[mode>>9&7], digits[mode>>6&7], digits[mode>>3&7], digits[mode&7]})
}

// The set must contain what the catalogue promises, whatever becomes of the plan.
func TestDefaultHoldsWhatTheCatalogueAsksFor(t *testing.T) {
	spec := Default("run-1")
	if spec.SmallFiles < 300 || spec.LargeFileBytes < 64<<20 || !spec.Owners || !spec.Xattrs {
		t.Fatalf("Default is %+v", spec)
	}
	items := plan(spec)
	modes, ownersSeen, times, paths := map[uint32]int{}, map[owner]int{}, map[time.Time]int{}, map[string]int{}
	kinds, sizes, depth := map[string]int{}, map[int64]int{}, 0
	var fileXattrs, folderXattrs, spaces, nonASCII int
	for _, it := range items {
		paths[it.path]++
		times[it.mtime]++
		kinds[it.kind]++
		ownersSeen[it.owner]++
		depth = max(depth, strings.Count(it.path, "/"))
		if it.kind == TypeFile && it.linkTo == "" {
			sizes[it.size]++
		}
		if it.kind != TypeSymlink && it.linkTo == "" {
			modes[it.mode]++
		}
		if len(it.xattrs) > 0 {
			if it.kind == TypeDir {
				folderXattrs++
			} else {
				fileXattrs++
			}
		}
		if strings.Contains(it.path, " ") {
			spaces++
		}
		if strings.ContainsFunc(it.path, func(r rune) bool { return r > 127 }) {
			nonASCII++
		}
		if !it.mtime.Before(time.Now().Add(-24 * time.Hour)) {
			t.Errorf("%q: mtime %s is not well in the past", it.path, it.mtime)
		}
		if it.mtime.Nanosecond()%1000 == 0 {
			t.Errorf("%q: mtime %s has no nanoseconds", it.path, it.mtime)
		}
	}
	for path, n := range paths {
		if n != 1 {
			t.Errorf("%q is planned %d times", path, n)
		}
	}
	for at, n := range times {
		if n != 1 {
			t.Errorf("%d items share mtime %s", n, at)
		}
	}
	for _, mode := range []uint32{0o600, 0o640, 0o644, 0o755, 0o444, 0o2775, 0o1777, 0o4755, 0o555} {
		if modes[mode] == 0 {
			t.Errorf("nothing has mode %04o", mode)
		}
	}
	for _, own := range []owner{{0, 0}, {1000, 1000}, {2000, 3000}} {
		if ownersSeen[own] < 50 {
			t.Errorf("only %d items belong to %v", ownersSeen[own], own)
		}
	}
	if sizes[0] == 0 || sizes[maxSmallFileBytes] == 0 || sizes[64<<20] != 1 || len(sizes) < 100 {
		t.Errorf("sizes are not mixed: %d of 0 B, %d of 64 KiB, %d of 64 MiB, %d kinds",
			sizes[0], sizes[maxSmallFileBytes], sizes[64<<20], len(sizes))
	}
	if kinds[TypeSymlink] < 3 || kinds[TypeDir] < 30 || depth < 10 {
		t.Errorf("%v, depth %d", kinds, depth)
	}
	if fileXattrs == 0 || folderXattrs == 0 || spaces == 0 || nonASCII == 0 {
		t.Errorf("xattrs on %d files and %d folders, %d names with a space, %d not ASCII",
			fileXattrs, folderXattrs, spaces, nonASCII)
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	spec := testSpec(t, "run-1")
	a := mustWrite(t, volume(t), spec)
	b := mustWrite(t, volume(t), spec)
	noDifference(t, a, b)

	spec.Seed = "run-2"
	diffs := Diff(a, mustWrite(t, volume(t), spec))
	if len(diffs) == 0 || diffs[0].Field != "seed" || diffs[0].Want != "run-1" || diffs[0].Got != "run-2" {
		t.Errorf("first difference is %v, want the seed", diffs[0])
	}
	changed := map[string]bool{}
	for _, d := range diffs {
		if d.Field == "sha256" {
			changed[d.Path] = true
		}
	}
	for _, e := range a.Entries {
		if e.Type == TypeFile && e.Size > 64 && !changed[e.Path] {
			t.Errorf("%q has the same content under another seed", e.Path)
		}
	}
}

func TestNoTwoFilesShareContent(t *testing.T) {
	m := mustWrite(t, volume(t), testSpec(t, "run-1"))
	seen := map[string]string{}
	for _, e := range m.Entries {
		// Up to a few bytes two files may be equal by chance.
		if e.Type != TypeFile || e.Size < 16 || e.HardLink != "" {
			continue
		}
		if other, ok := seen[e.SHA256]; ok {
			t.Errorf("%q and %q have the same content", other, e.Path)
		}
		seen[e.SHA256] = e.Path
	}
}

func TestWriteReplacesAnEarlierSet(t *testing.T) {
	spec := testSpec(t, "run-1")
	root := volume(t)
	mustWrite(t, root, spec)
	spec.Seed = "run-2"
	got := mustWrite(t, root, spec)
	noDifference(t, mustWrite(t, volume(t), spec), got)
}

func TestWriteLeavesOtherPathsAlone(t *testing.T) {
	root := volume(t)
	mine := filepath.Join(root, "mine")
	if err := os.WriteFile(mine, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, root, testSpec(t, "run-1"))
	if raw, err := os.ReadFile(mine); err != nil || string(raw) != "x" {
		t.Errorf("read %q, %v", raw, err)
	}
}

func TestWriteErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	blocked := t.TempDir()
	if err := os.MkdirAll(filepath.Join(blocked, SentinelName, "not empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	good := Spec{Seed: "run-1"}
	for name, tc := range map[string]struct {
		root string
		spec Spec
		want string // in the error
	}{
		"no seed":               {t.TempDir(), Spec{}, "seed is empty"},
		"seed of two lines":     {t.TempDir(), Spec{Seed: "a\nb"}, "not one line"},
		"long seed":             {t.TempDir(), Spec{Seed: strings.Repeat("a", 257)}, "257 bytes"},
		"negative files":        {t.TempDir(), Spec{Seed: "a", SmallFiles: -1}, "smallFiles is -1"},
		"negative size":         {t.TempDir(), Spec{Seed: "a", LargeFileBytes: -1}, "largeFileBytes is -1"},
		"setgid, no owners":     {t.TempDir(), Spec{Seed: "a", ForeignSetgid: true}, "needs owners"},
		"root does not exist":   {filepath.Join(blocked, "no"), good, "no such file"},
		"root is a file":        {file, good, "not a directory"},
		"a folder in the way":   {blocked, good, "not empty"},
		"read-only file system": {"/proc", good, "/proc/" + SentinelName},
	} {
		t.Run(name, func(t *testing.T) {
			err := Write(tc.root, tc.spec)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestWriteSaysThatTheVolumeKeepsNoXattrs(t *testing.T) {
	// A symlink keeps no user.* attributes on any file system (EPERM), procfs none at all.
	err := setXattr("/proc/self/stat", "user.x", "1")
	if os.Geteuid() == 0 && !errors.Is(err, ErrXattrsUnsupported) {
		t.Errorf("error is %v, want ErrXattrsUnsupported", err)
	}
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || pathErr.Path != "/proc/self/stat" {
		t.Errorf("error is %v, want one that names the file", err)
	}
}

func TestSpecJSON(t *testing.T) {
	spec := Default("a")
	if err := json.Unmarshal([]byte(`{"seed":"b","largeFileBytes":0,"owners":false}`), &spec); err != nil {
		t.Fatal(err)
	}
	if want := (Spec{Seed: "b", SmallFiles: DefaultSmallFiles, Xattrs: true}); spec != want {
		t.Errorf("decoded %+v, want %+v", spec, want)
	}
}

func TestSmallSpecs(t *testing.T) {
	for _, n := range []int{0, 1, 7} {
		root := volume(t)
		m := mustWrite(t, root, Spec{Seed: "s", SmallFiles: n})
		small := 0
		for _, e := range m.Entries {
			if strings.HasPrefix(e.Path, "tree/") && e.Type == TypeFile {
				small++
			}
			if e.Path == "large.bin" {
				t.Error("there is a large file that nobody asked for")
			}
		}
		if small != n {
			t.Errorf("%d small files, want %d", small, n)
		}
	}
}

func TestScanLeavesOutTheFileSystemsOwn(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"lost+found/inode", "sub/lost+found"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m := mustScan(t, root)
	var paths []string
	for _, e := range m.Entries {
		paths = append(paths, e.Path)
	}
	if want := []string{"sub", "sub/lost+found"}; !slices.Equal(paths, want) {
		t.Errorf("entries %q, want %q", paths, want)
	}
	if m.Seed != "" {
		t.Errorf("seed %q out of nothing", m.Seed)
	}
	// The same volume, mounted elsewhere by another provisioner.
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	noDifference(t, m, mustScan(t, link))
}

func TestScanOtherTypes(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "latin1-\xfc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "latin1-\xe4"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("\xff", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	m := mustScan(t, root)
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Manifest
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	noDifference(t, m, back)
	entries := index(back)
	if e := entries["fifo"]; e.Type != TypeOther || e.SHA256 != "" {
		t.Errorf("FIFO is %+v", e)
	}
	for _, path := range []string{`"latin1-\xfc"`, `"latin1-\xe4"`} {
		if _, ok := entries[path]; !ok {
			t.Errorf("no entry %s", path)
		}
	}
	if got := entries["link"].Target; got != `"\xff"` {
		t.Errorf("target is %s", got)
	}
}

func TestScanErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, filepath.Join(t.TempDir(), "no")} {
		if m, err := Scan(root); err == nil || len(m.Entries) != 0 {
			t.Errorf("Scan(%q) gave %d entries, %v", root, len(m.Entries), err)
		}
	}
}

func TestScanSeesAFileThatChanges(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	var before unix.Stat_t
	if err := unix.Lstat(name, &before); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("abcd"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := scanner{buffer: make([]byte, 10)}
	if _, err := s.hash(name, before); err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("error is %v", err)
	}
}

// Each way in which a restore can fail is seen, at the right path, and nothing else is.
func TestMutations(t *testing.T) {
	keepMTime := func(t *testing.T, name string, change func() error) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	setMTime := func(name string, change func(unix.Timespec) unix.Timespec) error {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		ts := change(st.Mtim)
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	nanosecond := func(ts unix.Timespec) unix.Timespec { ts.Nsec ^= 1; return ts }
	relink := func(name, target string) func() error {
		return func() error { return errors.Join(os.Remove(name), os.Symlink(target, name)) }
	}
	xattrs, err := xattrsHere()
	if err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		path     string
		mutate   func(t *testing.T, name string)
		want     []string // "path field"
		needRoot bool
		xattrs   bool
	}{
		"one byte of the large file": {path: "large.bin", mutate: func(t *testing.T, name string) {
			keepMTime(t, name, func() error {
				f, err := os.OpenFile(name, os.O_RDWR, 0)
				if err != nil {
					return err
				}
				b := []byte{0}
				_, err = f.ReadAt(b, 2<<20)
				b[0] ^= 1
				_, err2 := f.WriteAt(b, 2<<20)
				return errors.Join(err, err2, f.Close())
			})
		}, want: []string{"large.bin sha256"}},
		"cut off": {path: "large.bin", mutate: func(t *testing.T, name string) {
			keepMTime(t, name, func() error { return os.Truncate(name, 1<<20) })
		}, want: []string{"large.bin size", "large.bin sha256"}},
		"mode of a file": {path: "empty-file", mutate: func(t *testing.T, name string) {
			keepMTime(t, name, func() error { return os.Chmod(name, 0o600) })
		}, want: []string{"empty-file mode"}},
		"setgid lost": {path: "modes/setgid-folder", mutate: func(t *testing.T, name string) {
			keepMTime(t, name, func() error { return os.Chmod(name, 0o775) })
		}, want: []string{"modes/setgid-folder mode"}},
		"uid": {path: "empty-file", mutate: func(t *testing.T, name string) {
			keepMTime(t, name, func() error { return os.Lchown(name, 1001, -1) })
		}, want: []string{"empty-file uid"}, needRoot: true},
		"gid of a symlink": {path: "links/dangling", mutate: func(t *testing.T, name string) {
			keepMTime(t, name, func() error { return os.Lchown(name, -1, 1001) })
		}, want: []string{"links/dangling gid"}, needRoot: true},
		"one nanosecond of a file": {path: "empty-file", mutate: func(t *testing.T, name string) {
			if err := setMTime(name, nanosecond); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"empty-file mtime"}},
		"one nanosecond of a folder": {path: "empty-folder", mutate: func(t *testing.T, name string) {
			if err := setMTime(name, nanosecond); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"empty-folder mtime"}},
		"one nanosecond of a dangling symlink": {path: "links/dangling", mutate: func(t *testing.T, name string) {
			if err := setMTime(name, nanosecond); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"links/dangling mtime"}},
		"symlink's target": {path: "links/relative", mutate: func(t *testing.T, name string) {
			var st unix.Stat_t
			if err := unix.Lstat(name, &st); err != nil {
				t.Fatal(err)
			}
			keepMTime(t, filepath.Dir(name), relink(name, "../large.bin"))
			if err := setMTime(name, func(unix.Timespec) unix.Timespec { return st.Mtim }); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"links/relative target"}},
		"symlink became a file": {path: "links/relative", mutate: func(t *testing.T, name string) {
			keepMTime(t, filepath.Dir(name), func() error {
				return errors.Join(os.Remove(name), os.WriteFile(name, nil, 0o600))
			})
		}, want: []string{"links/relative type"}},
		"hard link became a copy": {path: "links/hard-b", mutate: func(t *testing.T, name string) {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Lstat(name, &st); err != nil {
				t.Fatal(err)
			}
			keepMTime(t, filepath.Dir(name), func() error {
				return errors.Join(os.Remove(name), os.WriteFile(name, raw, 0o600), os.Chown(name, int(st.Uid), int(st.Gid)),
					os.Chmod(name, fs.FileMode(st.Mode&0o777)),
					setMTime(name, func(unix.Timespec) unix.Timespec { return st.Mtim }))
			})
		}, want: []string{"links/hard-b hardLink"}},
		"missing file": {path: "empty-file", mutate: func(t *testing.T, name string) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"empty-file entry"}},
		"missing empty folder": {path: "empty-folder", mutate: func(t *testing.T, name string) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"empty-folder entry"}},
		"extra file": {path: "extra", mutate: func(t *testing.T, name string) {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"extra entry"}},
		"another seed": {path: SentinelName, mutate: func(t *testing.T, name string) {
			keepMTime(t, name, func() error { return os.WriteFile(name, []byte("run-0\n"), 0) })
		}, want: []string{"SENTINEL seed", "SENTINEL sha256"}},
		"xattr's value": {path: "xattrs/text", mutate: func(t *testing.T, name string) {
			if err := setXattr(name, "user.mime_type", "text/html"); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"xattrs/text xattr user.mime_type"}, xattrs: true},
		"missing xattr of a folder": {path: "xattrs", mutate: func(t *testing.T, name string) {
			if err := unix.Lremovexattr(name, "user.folder"); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"xattrs xattr user.folder"}, xattrs: true},
		"missing empty xattr": {path: "xattrs/empty-value", mutate: func(t *testing.T, name string) {
			if err := unix.Lremovexattr(name, "user.empty"); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"xattrs/empty-value xattr user.empty"}, xattrs: true},
		"extra empty xattr": {path: "large.bin", mutate: func(t *testing.T, name string) {
			if err := setXattr(name, "user.extra", ""); err != nil {
				t.Fatal(err)
			}
		}, want: []string{"large.bin xattr user.extra"}, xattrs: true},
	} {
		if tc.needRoot && os.Geteuid() != 0 || tc.xattrs && !xattrs {
			continue // nothing here could make such a change
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := testSpec(t, "run-1")
			spec.SmallFiles = 5
			root := volume(t)
			want := mustWrite(t, root, spec)
			tc.mutate(t, filepath.Join(root, tc.path))
			got := mustScan(t, root)
			var fields []string
			for _, d := range Diff(want, got) {
				fields = append(fields, d.Path+" "+d.Field)
			}
			if !slices.Equal(fields, tc.want) {
				t.Errorf("differences %q, want %q", fields, tc.want)
			}
			if want.Digest() == got.Digest() {
				t.Error("the digest is the same")
			}
		})
	}
}

func BenchmarkWriteScan(b *testing.B) {
	spec := Default("bench")
	spec.Owners = os.Geteuid() == 0
	if ok, err := xattrsHere(); err != nil {
		b.Fatal(err)
	} else if !ok {
		spec.Xattrs = false
	}
	root := volume(b)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := Write(root, spec); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		for b.Loop() {
			if _, err := Scan(root); err != nil {
				b.Fatal(err)
			}
		}
	})
}
