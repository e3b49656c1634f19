package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/engine"
)

// fakeDocker puts a docker command in front of PATH that answers listings from files and writes down removals.
func fakeDocker(t *testing.T, containers, bakes, nodes, networks string) (removals func() []string) {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
case "$*" in
*label=io.x-k8s.kind.cluster*) printf '%s' "$NODES" ;;
"network ls"*) printf '%s' "$NETWORKS" ;;
*name=^smart-restore-bake-*) printf '%s' "$BAKES" ;;
"ps "*) printf '%s' "$CONTAINERS" ;;
*) echo "$*" >> ` + filepath.Join(dir, "removed") + ` ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("CONTAINERS", containers)
	t.Setenv("BAKES", bakes)
	t.Setenv("NODES", nodes)
	t.Setenv("NETWORKS", networks)
	return func() []string {
		raw, err := os.ReadFile(filepath.Join(dir, "removed"))
		if err != nil {
			return nil
		}
		lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
		slices.Sort(lines)
		return lines
	}
}

func TestReapRemovesWhatDeadRunsLeftAndNothingElse(t *testing.T) {
	root := t.TempDir()
	living, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Release()
	kept, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Keep(map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	kept.Release()
	dead, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	dead.Release()
	containers := "living-s3 " + living.ID + "\nkept-s3 " + kept.ID + "\ndead-s3 " + dead.ID + "\ngone-s3 gone\n"
	nodes := "mine smart-restore-" + dead.ID + "\ntheirs kind\nliving smart-restore-" + living.ID + "\nkept smart-restore-" + kept.ID + "\n"
	removals := fakeDocker(t, containers, "smart-restore-bake-gone smart-restore-bake-gone\n", nodes, "dead-net "+dead.ID+"\nkept-net "+kept.ID+"\n")

	removed, err := Reap(context.Background(), &engine.Engine{}, root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"network rm dead-net", "rm --force --volumes dead-s3", "rm --force --volumes gone-s3",
		"rm --force --volumes mine", "rm --force --volumes smart-restore-bake-gone",
	}
	if got := removals(); !slices.Equal(got, want) {
		t.Errorf("removed %q, wanted %q", got, want)
	}
	if len(removed) != len(want) {
		t.Errorf("said %q", removed)
	}
	for id, there := range map[string]bool{living.ID: true, kept.ID: true, dead.ID: false} {
		if _, err := os.Stat(filepath.Join(root, id)); (err == nil) != there {
			t.Errorf("the folder of run %s: %v", id, err)
		}
	}
}

func TestAKeptRunIsFoundOnceAndNotShared(t *testing.T) {
	root := t.TempDir()
	var testbed map[string]string
	if run, err := Kept(root, &testbed); run != nil || err != nil {
		t.Fatalf("nothing is kept, got %v, %v", run, err)
	}
	run, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Keep(map[string]string{"cluster": "one"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Kept(root, &testbed); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a kept run in use: %v", err)
	}
	run.Release()
	found, err := Kept(root, &testbed)
	if err != nil || found == nil || found.ID != run.ID || testbed["cluster"] != "one" {
		t.Fatalf("got %v, %v, %v", found, testbed, err)
	}
	if !Others(root, "") || Others(root, run.ID) {
		t.Error("a kept run counts as one that needs the engine, for others than itself")
	}
	if err := found.Forget(); err != nil {
		t.Fatal(err)
	}
	if Others(root, "") {
		t.Error("a forgotten run still counts")
	}
}

func TestFoldersOfRunsArePrivate(t *testing.T) {
	run, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer run.Release()
	info, err := os.Stat(run.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestAFolderOfARunHasNoNameBeforeItsLockIsHeld(t *testing.T) {
	root := t.TempDir()
	halfMade, stale := filepath.Join(root, newPrefix+"justnow1"), filepath.Join(root, newPrefix+"longago1")
	for _, dir := range []string{halfMade, stale} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-2 * StaleAfter)
	if err := os.Chtimes(stale, before, before); err != nil {
		t.Fatal(err)
	}
	fakeDocker(t, "", "", "", "")
	if _, err := Reap(t.Context(), &engine.Engine{}, root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(halfMade); err != nil {
		t.Errorf("a run that is just being started was reaped: %v", err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("what a run left that was killed while it was started is still there: %v", err)
	}
	run, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Release()
	if claim(root, run.ID) != nil {
		t.Error("the run is alive, and can be claimed as dead")
	}
}

func TestADeadRunIsNobodyElsesWhileItIsReaped(t *testing.T) {
	root := t.TempDir()
	dead, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	dead.Release()
	held := claim(root, dead.ID)
	if held == nil {
		t.Fatal("the run is dead, and cannot be claimed")
	}
	if claim(root, dead.ID) != nil {
		t.Error("two processes hold the same dead run")
	}
	// The folder goes while another process waits for its lock.
	if err := held.Forget(); err != nil {
		t.Fatal(err)
	}
	if ok, err := (&Run{ID: dead.ID, Dir: dead.Dir}).acquire(); ok || err != nil {
		t.Errorf("the lock of a folder that is gone: %v, %v", ok, err)
	}
}

func TestAKeptFileIsReadUnderTheLockAndWrittenWhole(t *testing.T) {
	root := t.TempDir()
	run, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"applying", "applied"} {
		if err := run.Keep(map[string]string{"state": state}); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(run.Dir, ".kept-*")); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	info, err := os.Stat(filepath.Join(run.Dir, keptFile()))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file holds credentials: mode %v, %v", info.Mode(), err)
	}
	run.Release()
	if err := os.WriteFile(filepath.Join(run.Dir, keptFile()), []byte(`{"state":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Kept(root, &map[string]string{}); err == nil || !strings.Contains(err.Error(), "make down removes the stack") {
		t.Errorf("a file that is cut off: %v", err)
	}
	// make down does not read it.
	found, err := Kept(root, nil)
	if err != nil || found == nil {
		t.Fatalf("a stack whose file cannot be read cannot be removed: %v, %v", found, err)
	}
	found.Release()
}

func TestOnlyTheEngineSaysThatSomethingIsGone(t *testing.T) {
	defer func(interval time.Duration) { RemovalInterval = interval }(RemovalInterval)
	RemovalInterval = time.Nanosecond
	for text, gone := range map[string]bool{
		"docker rm: exit status 1: Error response from daemon: No such container: a":                                true,
		"docker network rm: exit status 1: Error response from daemon: network smart-restore-a not found":           true,
		`docker rm --force: exec: "docker": executable file not found in $PATH`:                                     false,
		"docker rm: exit status 1: Error response from daemon: driver failed: device not found while unmounting it": false,
		"docker rm: exit status 1: Cannot connect to the Docker daemon: no such file or directory":                  false,
	} {
		err := retry(t.Context(), func() error { return errors.New(text) })
		if (err == nil) != gone {
			t.Errorf("%s: found %v, wanted gone: %v", text, err, gone)
		}
	}
	tries := 0
	missing := &exec.Error{Name: "docker", Err: exec.ErrNotFound}
	if err := retry(t.Context(), func() error { tries++; return fmt.Errorf("docker rm: %w", missing) }); !errors.Is(err, exec.ErrNotFound) || tries != 1 {
		t.Errorf("no docker command: found %v after %d tries", err, tries)
	}
}

func TestRunsThatCannotBeListedAreNotTakenForNone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(root, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if run, err := Kept(root, nil); err == nil {
		t.Errorf("found %v, and no error", run)
	}
	if !Others(root, "") {
		t.Error("an engine that somebody may use would be stopped")
	}
	if none := filepath.Join(t.TempDir(), "none"); Others(none, "") {
		t.Error("where there is no folder, there is no run")
	}
}
