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
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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

	lock *os.File
}

const (
	lockFile   = "lock"
	keptPrefix = "stand" // of the file that says a run is kept, and how to use it
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

// New starts a run below root.
func New(root string) (*Run, error) {
	id := strings.ToLower(rand.Text()[:8])
	r := &Run{ID: id, Dir: filepath.Join(root, id)}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	if ok, err := r.acquire(); err != nil || !ok {
		return nil, fmt.Errorf("run %s: cannot be locked: %w", id, err)
	}
	return r, nil
}

// acquire takes the run's lock; false where another process holds it.
func (r *Run) acquire() (bool, error) {
	file, err := os.OpenFile(filepath.Join(r.Dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, err
	}
	r.lock = file
	return true, nil
}

// Keep writes down what is needed to use the run's stack again, and that it is to stay.
func (r *Run) Keep(stand any) error {
	raw, err := json.MarshalIndent(stand, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.Dir, keptFile()), raw, 0o600)
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

// Kept finds the kept run below root, reads what Keep wrote into stand and takes the run's lock. It is nil where there
// is none; a kept run that another process is using is an error.
func Kept(root string, stand any) (*Run, error) {
	for _, id := range ids(root) {
		r := &Run{ID: id, Dir: filepath.Join(root, id)}
		raw, err := os.ReadFile(filepath.Join(r.Dir, keptFile()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ok, err := r.acquire()
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("the kept stack of run %s is in use by another process: wait for it to end", id)
		}
		if err := json.Unmarshal(raw, stand); err != nil {
			r.Release()
			return nil, fmt.Errorf("the kept stack of run %s cannot be read (%w): make down removes it", id, err)
		}
		return r, nil
	}
	return nil, nil
}

func ids(root string) []string {
	entries, _ := os.ReadDir(root)
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// inUse says whether a run is alive or kept.
func inUse(root, id string) bool {
	r := &Run{ID: id, Dir: filepath.Join(root, id)}
	if _, err := os.Stat(r.Dir); err != nil {
		return false
	}
	if r.isKept() {
		return true
	}
	ok, err := r.acquire()
	if err != nil || !ok {
		return true
	}
	r.Release()
	return false
}

// Others says whether any other run below root is alive or kept.
func Others(root, own string) bool {
	return slices.ContainsFunc(ids(root), func(id string) bool { return id != own && inUse(root, id) })
}

// Reap removes what runs that ended without cleaning up have left in the engine and below root: nothing of a living or
// kept run, and nothing that is not ours. It says what it removed.
func Reap(ctx context.Context, eng *engine.Engine, root string) ([]string, error) {
	left, err := leftovers(ctx, eng)
	if err != nil {
		return nil, err
	}
	for _, id := range ids(root) {
		left[id] = append(left[id], []thing{}...) // a folder without anything in the engine goes, too
	}
	var removed []string
	var problems []error
	for id, things := range left {
		if inUse(root, id) {
			continue
		}
		names, err := removeAll(ctx, eng, things)
		removed, problems = append(removed, names...), append(problems, err)
		if err == nil {
			problems = append(problems, os.RemoveAll(filepath.Join(root, id)))
		}
	}
	return removed, errors.Join(problems...)
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
	for range 10 {
		if err = remove(); err == nil || strings.Contains(err.Error(), "No such") || strings.Contains(err.Error(), "not found") {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
	return err
}
