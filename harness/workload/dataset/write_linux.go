package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// fsyncFrom is the size in bytes from which a file is synced as soon as it is written, to meet a full or failing
// volume at the file that it hit.
const fsyncFrom = 1 << 20

// Write writes the data set below root, an existing folder, and returns once it is on the volume (syncfs).
//
// What it finds at its own paths, such as an earlier data set, it replaces; other paths it leaves alone. Root itself
// keeps its mode and owner. A volume or a container that cannot keep what was asked for is an error, because the set
// would prove less than it says: a chown that is not permitted, a mode bit that is dropped, no room for xattrs
// ([ErrXattrsUnsupported]), or no space. The set is then incomplete.
//
// The kubelet changes groups and modes behind the app's back where the pod has an fsGroup: scan under the same pod
// spec that wrote.
func Write(root string, spec Spec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	if err := write(root, spec); err != nil {
		return fmt.Errorf("dataset: write %s: %w", root, err)
	}
	return nil
}

func write(root string, spec Spec) error {
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()

	w := writer{root: root, spec: spec}
	items := plan(spec)
	for _, it := range items {
		if err := w.create(it); err != nil {
			return err
		}
		if it.kind == TypeDir || it.linkTo != "" {
			continue
		}
		if err := w.setMetadata(it); err != nil {
			return err
		}
	}
	// Folders get theirs once their content is there, deepest first: adding an entry sets the mtime, and may be
	// forbidden by the mode.
	for _, it := range slices.Backward(items) {
		if it.kind != TypeDir {
			continue
		}
		if err := w.setMetadata(it); err != nil {
			return err
		}
	}
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: root, Err: err}
	}
	return nil
}

type writer struct {
	root   string
	spec   Spec
	buffer []byte
}

func (w *writer) abs(path string) string { return filepath.Join(w.root, filepath.FromSlash(path)) }

// create makes the inode and a file's content, with a mode that lets the writer go on.
func (w *writer) create(it item) error {
	name := w.abs(it.path)
	if it.kind == TypeDir {
		err := os.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			if info, statErr := os.Lstat(name); statErr == nil && info.IsDir() {
				return os.Chmod(name, 0o700)
			}
		}
		return err
	}
	// Removed, not truncated: what is there may be read-only, a symlink, or have another name.
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case it.kind == TypeSymlink:
		return os.Symlink(it.target, name)
	case it.linkTo != "":
		return os.Link(w.abs(it.linkTo), name)
	default:
		return w.createFile(name, it)
	}
}

func (w *writer) createFile(name string, it item) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	if it.text != "" {
		_, err := f.WriteString(it.text)
		return err
	}
	if err := w.fill(f, generator(w.spec.Seed, "content", it.path), it.size); err != nil {
		return err
	}
	if it.size >= fsyncFrom {
		return f.Sync()
	}
	return nil
}

// fill writes size bytes of the stream.
func (w *writer) fill(f *os.File, stream *rand.ChaCha8, size int64) error {
	if w.buffer == nil {
		w.buffer = make([]byte, 256<<10)
	}
	for size > 0 {
		chunk := w.buffer[:min(size, int64(len(w.buffer)))]
		_, _ = stream.Read(chunk) // never fails
		if _, err := f.Write(chunk); err != nil {
			return err
		}
		size -= int64(len(chunk))
	}
	return nil
}

// setMetadata sets what does not come with the content, in the order in which one undoes no other: chown clears
// setuid and setgid, and everything but utimensat may set the mtime.
func (w *writer) setMetadata(it item) error {
	name := w.abs(it.path)
	if w.spec.Owners {
		if err := os.Lchown(name, it.owner.uid, it.owner.gid); err != nil {
			return err
		}
	}
	if it.kind != TypeSymlink {
		if err := setMode(name, it.mode); err != nil {
			return err
		}
	}
	for _, attr := range slices.Sorted(maps.Keys(it.xattrs)) {
		if err := setXattr(name, attr, it.xattrs[attr]); err != nil {
			return err
		}
	}
	stamp, err := unix.TimeToTimespec(it.mtime)
	if err != nil {
		return &fs.PathError{Op: "utimensat", Path: name, Err: err}
	}
	times := []unix.Timespec{stamp, stamp}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}

// setMode is chmod that fails where the kernel drops a bit without an error, as it does with setgid without
// CAP_FSETID.
func setMode(name string, mode uint32) error {
	if err := unix.Chmod(name, mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	if got := st.Mode & modeBits; got != mode {
		return fmt.Errorf("chmod %s: asked for mode %04o, the volume has %04o", name, mode, got)
	}
	return nil
}

func setXattr(name, attr, value string) error {
	err := unix.Lsetxattr(name, attr, []byte(value), 0)
	if err == nil {
		return nil
	}
	pathErr := &fs.PathError{Op: "setxattr " + attr, Path: name, Err: err}
	if errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("%w: %w", ErrXattrsUnsupported, pathErr)
	}
	return pathErr
}
