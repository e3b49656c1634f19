package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// modeBits is the part of st_mode that chmod sets.
const modeBits = 0o7777

// Scan reads everything below root into a Manifest. It follows no symlink but root itself.
//
// Left out are root itself, whose mode and mtime are the provisioner's, and a folder lost+found at the top, which is
// the file system's. What cannot be read and what changes while it is read are errors: a manifest says all or
// nothing, so the volume must be at rest.
func Scan(root string) (Manifest, error) {
	m, err := scan(root)
	if err != nil {
		return Manifest{}, fmt.Errorf("dataset: scan %s: %w", root, err)
	}
	return m, nil
}

func scan(root string) (Manifest, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return Manifest{}, err
	}
	s := scanner{root: root, buffer: make([]byte, 256<<10)}
	if err := filepath.WalkDir(root, s.visit); err != nil {
		return Manifest{}, err
	}
	slices.SortFunc(s.entries, byPath)
	s.markHardLinks()
	seed, err := readSeed(filepath.Join(root, SentinelName))
	if err != nil {
		return Manifest{}, err
	}
	return Manifest{Seed: seed, Entries: s.entries}, nil
}

type inode struct{ dev, ino uint64 }

type scanner struct {
	root    string
	buffer  []byte
	entries []Entry
	linked  map[string]inode // by Path, files with more than one name
}

func (s *scanner) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if name == s.root {
		if !d.IsDir() {
			return &fs.PathError{Op: "scan", Path: name, Err: unix.ENOTDIR}
		}
		return nil
	}
	rel, err := filepath.Rel(s.root, name)
	if err != nil {
		return err
	}
	if rel == "lost+found" && d.IsDir() {
		return fs.SkipDir
	}
	e, err := s.entry(name, rel)
	if err != nil {
		return err
	}
	s.entries = append(s.entries, e)
	return nil
}

func (s *scanner) entry(name, rel string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return Entry{}, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	e := Entry{
		Path:  text(rel),
		Mode:  fmt.Sprintf("%04o", st.Mode&modeBits),
		UID:   st.Uid,
		GID:   st.Gid,
		MTime: time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano),
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = TypeFile, st.Size
		e.SHA256, err = s.hash(name, st)
		if st.Nlink > 1 {
			if s.linked == nil {
				s.linked = map[string]inode{}
			}
			s.linked[e.Path] = inode{st.Dev, st.Ino}
		}
	case unix.S_IFDIR:
		e.Type = TypeDir
	case unix.S_IFLNK:
		e.Type, e.Mode = TypeSymlink, "" // 0777 always, and chmod cannot change it
		e.Target, err = os.Readlink(name)
		e.Target = text(e.Target)
	default:
		e.Type = TypeOther
	}
	if err != nil {
		return Entry{}, err
	}
	e.Xattrs, err = userXattrs(name)
	return e, err
}

// hash is the SHA-256 of the file that st describes, in hex.
func (s *scanner) hash(name string, st unix.Stat_t) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	// Without the wrapper File.WriteTo would bypass the buffer.
	n, err := io.CopyBuffer(h, struct{ io.Reader }{f}, s.buffer)
	if err != nil {
		return "", err
	}
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return "", &fs.PathError{Op: "fstat", Path: name, Err: err}
	}
	if n != st.Size || after.Size != st.Size || after.Mtim != st.Mtim || after.Ino != st.Ino {
		return "", fmt.Errorf("%s changed while it was read", name)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// markHardLinks names, at each further name of a file, its first one. The entries must be sorted.
func (s *scanner) markHardLinks() {
	first := map[inode]string{}
	for i, e := range s.entries {
		id, ok := s.linked[e.Path]
		if !ok {
			continue
		}
		if name, seen := first[id]; seen {
			s.entries[i].HardLink = name
		} else {
			first[id] = e.Path
		}
	}
}

// userXattrs reads the user.* attributes of name itself, values in base64; nil where there are none or the file
// system has no such thing.
func userXattrs(name string) (map[string]string, error) {
	list, err := readXattr(func(buf []byte) (int, error) { return unix.Llistxattr(name, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	var attrs map[string]string
	for attr := range strings.SplitSeq(string(list), "\x00") {
		if !strings.HasPrefix(attr, "user.") {
			continue
		}
		value, err := readXattr(func(buf []byte) (int, error) { return unix.Lgetxattr(name, attr, buf) })
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + attr, Path: name, Err: err}
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[text(attr)] = base64.StdEncoding.EncodeToString(value)
	}
	return attrs, nil
}

// readXattr asks for the size, then for the value, and again if it grew in between.
func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := get(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		buf := make([]byte, size)
		n, err := get(buf)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

// readSeed is the first line of the sentinel; empty if it is not there or cannot be one.
func readSeed(name string) (string, error) {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() > maxSeedBytes+1) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	return text(string(line)), nil
}

// text makes a string of any bytes fit for JSON, which would replace what is not UTF-8 and so make two names one.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strconv.Quote(s)
}
