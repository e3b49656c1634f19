// Package cache keeps what was built, by the hash of its inputs, across runs and checkouts.
package cache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Dir is a cache folder. An entry is a file or folder that is whole once it is there.
type Dir struct {
	root string

	mu   sync.Mutex
	temp string       // this process's temporary folder, once it has one
	held *flock.Flock // its lock, which says that this process lives
}

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
	d.sweep()
	return d, nil
}

// What processes need while they run is in a folder for each below temporary. Its process holds a lock on a file in it: a
// process ID would say nothing, as processes of several containers may use one cache.
const (
	temporary     = "tmp"
	processPrefix = "process-"
	processLock   = "lock"
	gonePrefix    = "gone-" // a folder that is being removed: nobody looks for a lock in it
	// temporaryLock is held by whoever makes such a folder, or looks for those that no process holds.
	temporaryLock = "temporary-folders"
)

// lockTimeout bounds the wait for temporaryLock, which is held for moments.
const lockTimeout = time.Minute

// Temp makes a folder. It is removed by Close, or by a later process if this one ends without that.
func (d *Dir) Temp() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.temp == "" {
		if err := d.claim(); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(d.temp, "")
}

// claim makes this process's temporary folder.
func (d *Dir) claim() error {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	unlock, err := d.lock(ctx, temporaryLock)
	if err != nil {
		return err
	}
	defer unlock()
	temp, err := os.MkdirTemp(filepath.Join(d.root, temporary), processPrefix)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	held := flock.New(filepath.Join(temp, processLock))
	if ok, err := held.TryLock(); err != nil || !ok {
		return errors.Join(fmt.Errorf("cache: cannot lock the new folder %s: %w", temp, cmp.Or(err, errHeld)), os.RemoveAll(temp))
	}
	d.temp, d.held = temp, held
	return nil
}

var errHeld = errors.New("another process holds the lock")

// Close removes this process's temporary folders.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.temp == "" {
		return nil
	}
	err := removeTemporary(d.temp)
	err = errors.Join(err, d.held.Unlock())
	d.temp, d.held = "", nil
	return err
}

// sweep removes the temporary folders of processes that are gone. What it cannot remove, or does not know, stays: it is in
// nobody's way.
func (d *Dir) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	unlock, err := d.lock(ctx, temporaryLock)
	if err != nil {
		return
	}
	var gone []*flock.Flock
	entries, _ := os.ReadDir(filepath.Join(d.root, temporary))
	for _, entry := range entries {
		path := filepath.Join(d.root, temporary, entry.Name())
		switch {
		case !entry.IsDir():
		case strings.HasPrefix(entry.Name(), gonePrefix): // whoever removed it was killed, or is at it
			defer func() { _ = os.RemoveAll(path) }()
		case strings.HasPrefix(entry.Name(), processPrefix):
			held := flock.New(filepath.Join(path, processLock))
			if ok, err := held.TryLock(); err == nil && ok {
				gone = append(gone, held)
			}
		}
	}
	unlock()
	for _, held := range gone {
		_ = removeTemporary(filepath.Dir(held.Path()))
		_ = held.Unlock()
	}
}

// removeTemporary removes a process's folder, whose lock its caller holds.
func removeTemporary(path string) error {
	gone := filepath.Join(filepath.Dir(path), gonePrefix+filepath.Base(path))
	if err := os.Rename(path, gone); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return os.RemoveAll(gone)
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
	file := flock.New(filepath.Join(dir, name), flock.SetPermissions(0o644))
	if _, err := file.TryLockContext(ctx, lockPoll); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cache: another run is making %s: %w", name, err)
		}
		return nil, fmt.Errorf("cache: lock %s: %w", file.Path(), err)
	}
	return func() { _ = file.Unlock() }, nil
}

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 200 * time.Millisecond

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
