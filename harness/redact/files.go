package redact

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Files replaces the secrets in files that somebody else wrote. Each is replaced whole or stays as it was; one that is not
// there is none to replace.
func Files(r *Redactor, paths ...string) error {
	var problems []error
	for _, path := range paths {
		if err := file(r, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("redact %s: %w", path, err))
		}
	}
	return errors.Join(problems...)
}

func file(r *Redactor, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	w := r.Writer(out)
	_, err = io.Copy(w, in)
	if err = errors.Join(err, w.Close(), out.Chmod(info.Mode().Perm()), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// Leak is a secret that an artifact holds. It says where, and never what.
type Leak struct {
	File string // below the folder that was scanned
	Line int    // of the first one, from 1
	Kind Kind
}

func (l Leak) String() string {
	return fmt.Sprintf("%s:%d holds a secret as %s", filepath.ToSlash(l.File), l.Line, l.Kind)
}

// Scan looks for secrets, in each of their forms, in all files below a folder, and in the files' names. It returns the
// first leak of each kind in each file. An error means that something could not be looked at, so that nothing is proven.
func Scan(dir string, secrets []string) ([]Leak, error) {
	kinds := map[string]Kind{}
	for _, secret := range secrets {
		for form, kind := range forms(secret) {
			if _, known := kinds[form]; !known || kind == Plain {
				kinds[form] = kind
			}
		}
	}
	if len(kinds) == 0 {
		return nil, nil
	}
	s := scan{kinds: kinds}
	for form := range kinds {
		s.longest = max(s.longest, len(form))
	}
	s.set = newPatternSet(sortedKeys(kinds))
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		// A name that holds a secret is not repeated.
		if kind, found := s.inName(entry.Name()); found && path != dir {
			s.leaks = append(s.leaks, Leak{File: filepath.Join(filepath.Dir(name), Redacted), Kind: kind})
			name = filepath.Join(filepath.Dir(name), Redacted)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		return s.file(path, name)
	})
	if err != nil {
		err = fmt.Errorf("look for secrets in %s: %w", dir, err)
	}
	return s.leaks, err
}

func sortedKeys(kinds map[string]Kind) []string {
	var all []string
	for form := range kinds {
		all = append(all, form)
	}
	slices.Sort(all)
	return all
}

type scan struct {
	kinds   map[string]Kind
	set     *patternSet
	longest int
	leaks   []Leak
}

func (s *scan) inName(name string) (Kind, bool) {
	for i := range name {
		if p, _ := s.set.at([]byte(name[i:]), true); p != nil {
			return s.kinds[string(p)], true
		}
	}
	return "", false
}

// file looks through one file, a chunk at a time; what may be the beginning of a secret is looked at again with the next.
func (s *scan) file(path, name string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	found := map[Kind]bool{}
	line, held := 1, 0
	chunk := make([]byte, 1<<20+s.longest)
	for {
		n, err := io.ReadFull(in, chunk[held:])
		final := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !final {
			return err
		}
		b := chunk[:held+n]
		counted, i := 0, 0
		for i < len(b) {
			p, more := s.set.at(b[i:], final)
			if more {
				break
			}
			if p == nil {
				i++
				continue
			}
			if kind := s.kinds[string(p)]; !found[kind] {
				found[kind] = true
				line += bytes.Count(b[counted:i], []byte{'\n'})
				counted = i
				s.leaks = append(s.leaks, Leak{File: name, Line: line, Kind: kind})
			}
			i += len(p)
		}
		if final {
			return nil
		}
		line += bytes.Count(b[counted:i], []byte{'\n'})
		held = copy(chunk, b[i:])
	}
}
