// Package cache keeps what was built, by the hash of its inputs, across runs and checkouts.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is a cache folder. An entry is a file or folder that is whole once it is there.
type Dir struct{ root string }

// Open is the suite's cache folder: SMART_RESTORE_CACHE, else smart-restore in the user's cache folder.
func Open() (*Dir, error) {
	root := os.Getenv("SMART_RESTORE_CACHE")
	if root == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cache: set SMART_RESTORE_CACHE to a folder: %w", err)
		}
		root = filepath.Join(base, "smart-restore")
	}
	if err := os.MkdirAll(filepath.Join(root, temporary), 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w (SMART_RESTORE_CACHE names another folder)", err)
	}
	d := &Dir{root: root}
	return d, d.sweep()
}

// temporary is the folder of what processes need while they run, by process ID.
const temporary = "tmp"

// Temp makes a folder that goes when this process removes it, or when a later one finds that this one is gone.
func (d *Dir) Temp() (string, error) {
	own := filepath.Join(d.root, temporary, strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(own, 0o755); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	return os.MkdirTemp(own, "")
}

// Close removes this process's temporary folders.
func (d *Dir) Close() error {
	return os.RemoveAll(filepath.Join(d.root, temporary, strconv.Itoa(os.Getpid())))
}

// sweep removes the temporary folders of processes that are gone.
func (d *Dir) sweep() error {
	entries, err := os.ReadDir(filepath.Join(d.root, temporary))
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			err = os.RemoveAll(filepath.Join(d.root, temporary, entry.Name()))
		}
		if err != nil {
			return fmt.Errorf("cache: %w", err)
		}
	}
	return nil
}

// Root is the cache's folder.
func (d *Dir) Root() string { return d.root }

// Path is where the entry of a kind and key is, or would be.
func (d *Dir) Path(kind, key string) string { return filepath.Join(d.root, kind, key) }

// Has says whether the entry is there.
func (d *Dir) Has(kind, key string) bool {
	_, err := os.Lstat(d.Path(kind, key))
	return err == nil
}

// Make returns the entry's path, calling create for it first where it is not there. create is given a path of its own
// to write a file or folder at; only what it finished is taken in. Concurrent calls, also of other processes, wait.
func (d *Dir) Make(ctx context.Context, kind, key string, create func(path string) error) (string, error) {
	path := d.Path(kind, key)
	if d.Has(kind, key) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	unlock, err := d.lock(ctx, kind+"-"+key)
	if err != nil {
		return "", err
	}
	defer unlock()
	if d.Has(kind, key) {
		return path, nil
	}
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil { // of a killed run
		return "", fmt.Errorf("cache: %w", err)
	}
	if err := create(partial); err != nil {
		return "", errors.Join(err, os.RemoveAll(partial))
	}
	if err := os.Rename(partial, path); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	return path, nil
}

// Clear removes the whole cache.
func (d *Dir) Clear() error { return os.RemoveAll(d.root) }

// lock waits for an exclusive lock, which the kernel releases when this process ends, however it does. The file stays:
// removed, it could be locked by one process and made anew by another.
func (d *Dir) lock(ctx context.Context, name string) (unlock func(), err error) {
	dir := filepath.Join(d.root, "locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("cache: lock %s: %w", name, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("cache: another run is making %s: %w", name, ctx.Err()), file.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Key hashes its parts, each as JSON, into a cache key of 64 hex digits.
func Key(parts ...any) string {
	sum := sha256.New()
	encoder := json.NewEncoder(sum)
	for _, part := range parts {
		if err := encoder.Encode(part); err != nil {
			panic(fmt.Sprintf("cache: a key part that JSON cannot hold: %v", err))
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// HashFS hashes every regular file below root of files, with its path.
func HashFS(files fs.FS, root string) (string, error) {
	var parts []any
	err := fs.WalkDir(files, root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		parts = append(parts, path, content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash %s: %w", root, err)
	}
	return Key(parts...), nil
}
