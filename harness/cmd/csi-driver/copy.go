//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tick is longer than the step of any file system's clock: two changes that are further apart have different times.
	tick = 20 * time.Millisecond
	// tries is how often a volume that changes is copied before it is given up.
	tries = 10
)

// errMoving is a volume that never stood still: whoever asks may ask again.
var errMoving = errors.New("the volume was written to each time it was copied: stop the writers, or give --cgroups, and ask again")

// copyMoment copies a folder as it was at one moment, or not at all. What copies is copyTree, but for tests.
func copyMoment(from, to string, tree func(from, to string) error) error {
	for range tries {
		before, newest, err := fingerprint(from)
		if err != nil {
			return err
		}
		// A change in the same tick as the last one would not be seen.
		if time.Since(newest) < tick {
			time.Sleep(tick)
			continue
		}
		copied := tree(from, to)
		after, _, err := fingerprint(from)
		if err != nil {
			return err
		}
		if after == before {
			return copied
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return errMoving
}

// fingerprint tells whether anything changed, and when the last change was. A ctime can't be set back. What a program writes by mmap
// to pages that are dirty already is not seen: only --cgroups keeps it from writing.
func fingerprint(folder string) (sum string, newest time.Time, err error) {
	hash := sha256.New()
	err = filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) && path != folder {
			newest = time.Now() // it went while we looked
			return nil
		}
		if changed := time.Unix(st.Ctim.Unix()); changed.After(newest) {
			newest = changed
		}
		fmt.Fprintf(hash, "%q %d %d %d\n", path, st.Ino, st.Size, st.Ctim.Nano())
		return err
	})
	return string(hash.Sum(nil)), newest, err
}

// copyTree copies a folder with everything that tools for backups look at.
func copyTree(from, to string) error { return copier{}.copy(from, to) }

// copier knows the first copy of each file that has several names.
type copier map[[2]uint64]string

func (c copier) copy(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: from, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		inode := [2]uint64{st.Dev, st.Ino}
		if first, ok := c[inode]; ok {
			return os.Link(first, to)
		}
		c[inode] = to
	}
	var err error
	switch kind {
	case unix.S_IFDIR:
		err = c.copyFolder(from, to)
	case unix.S_IFREG:
		err = copyContent(from, to, st.Size)
	case unix.S_IFLNK:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	default:
		err = unix.Mknod(to, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	return copyAttributes(from, to, st)
}

func (c copier) copyFolder(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := c.copy(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyContent shares the blocks if the file system can, or copies all but the holes.
func copyContent(from, to string, size int64) (err error) {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	for end := int64(0); ; {
		start, err := in.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err == nil {
			end, err = in.Seek(start, unix.SEEK_HOLE)
		}
		for _, f := range []*os.File{in, out} {
			if err == nil {
				_, err = f.Seek(start, io.SeekStart)
			}
		}
		if err == nil {
			_, err = io.CopyN(out, in, end-start)
		}
		if err != nil {
			return err
		}
	}
}

// copyAttributes keeps the order that Linux wants: a new owner takes setuid and capabilities away, and everything sets times.
func copyAttributes(from, to string, st unix.Stat_t) error {
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, st.Mode&^unix.S_IFMT); err != nil {
			return &fs.PathError{Op: "chmod", Path: to, Err: err}
		}
	}
	buffer := make([]byte, 1<<16) // Linux' limit for a value, and for all names
	n, err := unix.Llistxattr(from, buffer)
	if errors.Is(err, unix.ENOTSUP) {
		n, err = 0, nil
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:max(n, 0)]), "\x00"), "\x00") {
		if err != nil || name == "" {
			break
		}
		if n, err = unix.Lgetxattr(from, name, buffer); err == nil {
			err = unix.Lsetxattr(to, name, buffer[:n], 0)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "copy extended attributes", Path: from, Err: err}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
