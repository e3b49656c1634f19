package runs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
	var stand map[string]string
	if run, err := Kept(root, &stand); run != nil || err != nil {
		t.Fatalf("nothing is kept, got %v, %v", run, err)
	}
	run, err := New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Keep(map[string]string{"cluster": "one"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Kept(root, &stand); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a kept run in use: %v", err)
	}
	run.Release()
	found, err := Kept(root, &stand)
	if err != nil || found == nil || found.ID != run.ID || stand["cluster"] != "one" {
		t.Fatalf("got %v, %v, %v", found, stand, err)
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
