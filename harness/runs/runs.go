// Package runs gives every run an identity: an ID that everything it makes carries, a lock that the kernel releases
// when the run's process ends however it ends, and a private folder. What a dead run left can so be told from what a
// living or kept one uses, and removed.
package runs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/images"
)

// Label marks every container and network of a run with the run's ID.
const Label = "smart-restore.run"

// Run is this process's run, or a kept one.
type Run struct {
	ID  string
	Dir string // private (0700): kubeconfig and credentials

	lock *flock.Flock
}

const (
	lockFile   = "lock"
	newPrefix  = "."     // of a folder that is being made; nobody looks into it
	keptPrefix = "stand" // begins the name of the file that says a run is kept, and how to use it
)

// SlotVariable names an environment variable by which several stacks can be kept side by side: a kept stack is found by
// those that have the same value in it.
const SlotVariable = "SMART_RESTORE_SLOT"

func keptFile() string {
	if slot := os.Getenv(SlotVariable); slot != "" {
		return keptPrefix + "-" + filepath.Base(slot) + ".json"
	}
	return keptPrefix + ".json"
}

// isKept says whether the run is kept, in whatever slot.
func (r *Run) isKept() bool {
	found, err := filepath.Glob(filepath.Join(r.Dir, keptPrefix+"*.json"))
	return err == nil && len(found) > 0
}

// The timings of this package, in one place.
var (
	// StaleAfter is how old a folder that is being made must be to count as one whose process was killed.
	StaleAfter = time.Hour
	// Removals is how often the engine is asked to remove something, RemovalInterval at which distance.
	Removals        = 10
	RemovalInterval = 500 * time.Millisecond
)

// New starts a run below root. The folder gets its name once its lock is held: nobody can take it for a dead run's.
func New(root string) (*Run, error) {
	id := strings.ToLower(rand.Text()[:8])
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	r := &Run{ID: id, Dir: filepath.Join(root, newPrefix+id)}
	if err := os.Mkdir(r.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	ok, err := r.acquire()
	if err == nil && !ok {
		err = errors.New("another process holds its lock")
	}
	if err == nil {
		err = os.Rename(r.Dir, filepath.Join(root, id))
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: wanted to lock its folder: %w", id, errors.Join(err, r.Forget()))
	}
	r.Dir = filepath.Join(root, id)
	return r, nil
}

// acquire takes the run's lock; false where another process holds it, or the run's folder is gone.
func (r *Run) acquire() (bool, error) {
	lock := flock.New(filepath.Join(r.Dir, lockFile), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil || !ok {
		return false, errors.Join(err, lock.Close())
	}
	// Whoever held it before may have removed the folder, and the lock with it.
	held, err := lock.Stat()
	if err != nil {
		return false, errors.Join(err, lock.Close())
	}
	if now, err := os.Stat(lock.Path()); err != nil || !os.SameFile(held, now) {
		return false, lock.Close()
	}
	r.lock = lock
	return true, nil
}

// Keep writes down what is needed to use the run's stack again, and that it is to stay. Whoever reads it finds what was
// written now or before, whole, also after a crash of the machine.
func (r *Run) Keep(testbed any) error {
	raw, err := json.MarshalIndent(testbed, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(r.Dir, ".kept-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(raw)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), filepath.Join(r.Dir, keptFile())); err != nil {
		return err
	}
	dir, err := os.Open(r.Dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Release gives the lock up; the folder stays.
func (r *Run) Release() {
	if r.lock != nil {
		_ = r.lock.Close()
		r.lock = nil
	}
}

// Forget removes the run's folder and gives the lock up.
func (r *Run) Forget() error {
	err := os.RemoveAll(r.Dir)
	r.Release()
	return err
}

// Kept finds the kept run below root, takes its lock and reads what Keep wrote into testbed, where that is not nil. It is nil
// where there is none; a kept run that another process is using is an error.
func Kept(root string, testbed any) (*Run, error) {
	all, err := ids(root)
	if err != nil {
		return nil, err
	}
	for _, id := range all {
		r := &Run{ID: id, Dir: filepath.Join(root, id)}
		path := filepath.Join(r.Dir, keptFile())
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		ok, err := r.acquire()
		if err != nil {
			return nil, err
		}
		if !ok {
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				continue // removed just now
			}
			return nil, fmt.Errorf("the kept stack of run %s is in use by another process: wait for it to end", id)
		}
		// Read under the lock: whoever held it before may have changed the stack, and the file with it.
		raw, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			r.Release()
			continue
		}
		if err == nil && testbed != nil {
			err = json.Unmarshal(raw, testbed)
		}
		if err != nil {
			r.Release()
			return nil, fmt.Errorf("the file of the kept stack of run %s cannot be read (%w): make down removes the stack", id, err)
		}
		return r, nil
	}
	return nil, nil
}

// ids are those of all runs below root, which need not be there.
func ids(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list the runs: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && !strings.HasPrefix(entry.Name(), newPrefix) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// claim takes the lock of a run that is neither alive nor kept. It is nil where the run is either; where there is no folder
// of it, nothing need be locked.
func claim(root, id string) *Run {
	r := &Run{ID: id, Dir: filepath.Join(root, id)}
	if _, err := os.Stat(r.Dir); err != nil {
		return r
	}
	if ok, err := r.acquire(); err != nil || !ok {
		return nil
	}
	if r.isKept() { // asked under the lock: whoever held it before may have kept it
		r.Release()
		return nil
	}
	return r
}

// Others says whether any other run below root is alive or kept. Where that cannot be seen, there may be one.
func Others(root, except string) bool {
	all, err := ids(root)
	return err != nil || slices.ContainsFunc(all, func(id string) bool {
		if id == except {
			return false
		}
		r := claim(root, id)
		if r != nil {
			r.Release()
		}
		return r == nil
	})
}

// Reap removes what runs that ended without cleaning up have left in the engine and below root: nothing of a living or
// kept run, and nothing that is not ours. It says what it removed.
func Reap(ctx context.Context, eng *engine.Engine, root string) ([]string, error) {
	left, err := leftovers(ctx, eng)
	if err != nil {
		return nil, err
	}
	all, err := ids(root)
	if err != nil {
		return nil, err
	}
	for _, id := range all {
		left[id] = append(left[id], []thing{}...) // a folder without anything in the engine goes, too
	}
	var removed []string
	problems := []error{reapHalfMade(root)}
	for id, things := range left {
		dead := claim(root, id) // its lock is held until nothing of it is left
		if dead == nil {
			continue
		}
		names, err := removeAll(ctx, eng, things)
		removed, problems = append(removed, names...), append(problems, err)
		if err != nil {
			dead.Release()
			continue
		}
		problems = append(problems, dead.Forget())
	}
	return removed, errors.Join(problems...)
}

// reapHalfMade removes the folders of runs that were killed before they had a name.
func reapHalfMade(root string) error {
	entries, _ := os.ReadDir(root)
	var problems []error
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && strings.HasPrefix(entry.Name(), newPrefix) && time.Since(info.ModTime()) > StaleAfter {
			problems = append(problems, os.RemoveAll(filepath.Join(root, entry.Name())))
		}
	}
	return errors.Join(problems...)
}

// ours are the ways to find what a run made: a listing of the engine, and what stands before the run's ID in its lines.
// kind's nodes cannot be given labels, and a container that an image is made of must not: the image would inherit them.
var ours = []struct {
	listing []string
	prefix  string
	remove  []string
	kind    string
}{
	{[]string{"ps", "--all", "--filter", "label=" + Label, "--format", `{{.Names}} {{.Label "` + Label + `"}}`}, "", []string{"rm", "--force", "--volumes"}, "container"},
	{[]string{"ps", "--all", "--filter", "name=^" + images.BakePrefix, "--format", "{{.Names}} {{.Names}}"}, images.BakePrefix, []string{"rm", "--force", "--volumes"}, "container"},
	{[]string{"ps", "--all", "--filter", "label=" + kindLabel, "--format", `{{.Names}} {{.Label "` + kindLabel + `"}}`}, cluster.ContainerPrefix, []string{"rm", "--force", "--volumes"}, "container"},
	{[]string{"network", "ls", "--filter", "label=" + Label, "--format", `{{.Name}} {{.Label "` + Label + `"}}`}, "", []string{"network", "rm"}, "network"},
}

const kindLabel = "io.x-k8s.kind.cluster"

// thing is a container or network of a run.
type thing struct {
	kind, name string
	remove     []string
}

// leftovers lists the engine's containers and networks of ours by run ID, containers first.
func leftovers(ctx context.Context, eng *engine.Engine) (map[string][]thing, error) {
	byRun := map[string][]thing{}
	for _, way := range ours {
		out, err := eng.Docker(ctx, way.listing...)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			name, owner, _ := strings.Cut(strings.TrimSpace(line), " ")
			id, ok := strings.CutPrefix(owner, way.prefix)
			if !ok || id == "" {
				continue // somebody else's cluster
			}
			byRun[id] = append(byRun[id], thing{kind: way.kind, name: name, remove: append(slices.Clone(way.remove), name)})
		}
	}
	return byRun, nil
}

// Remove removes every container and network of one run and says which.
func Remove(ctx context.Context, eng *engine.Engine, id string) ([]string, error) {
	left, err := leftovers(ctx, eng)
	if err != nil {
		return nil, err
	}
	return removeAll(ctx, eng, left[id])
}

func removeAll(ctx context.Context, eng *engine.Engine, things []thing) ([]string, error) {
	var removed []string
	for _, t := range things {
		if err := retry(ctx, func() error {
			_, err := eng.Docker(ctx, t.remove...)
			return err
		}); err != nil {
			return removed, err
		}
		removed = append(removed, t.kind+" "+t.name)
	}
	return removed, nil
}

// retry tries a removal again for some seconds: an engine that is still tearing a container down answers with errors.
func retry(ctx context.Context, remove func() error) error {
	var err error
	for range Removals {
		if err = remove(); err == nil || isGone(err) {
			return nil
		}
		if errors.Is(err, exec.ErrNotFound) {
			return err // there is no docker command
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(RemovalInterval):
		}
	}
	return err
}

// isGone says of the engine's refusal that what was to be removed is not there.
func isGone(err error) bool {
	return gone.MatchString(err.Error())
}

var gone = regexp.MustCompile(`No such (container|network)|network \S+ not found`)
