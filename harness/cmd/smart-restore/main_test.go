package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/smart-restore/conformance/harness/verdict"
)

// use is what a command does with the external cluster of KUBE_CONTEXT.
type use int

const (
	none    use = iota // it touches no cluster to test on
	honours            // it runs there
	refuses            // it says that it does not, before anything is done
)

// clusterUse is every command's. One that is new needs a row.
var clusterUse = map[string]use{
	"e2e": honours, "test": honours, "rerun": honours, "soak": honours, "compare": honours,
	"up": refuses, "known-bad": refuses, "blind": refuses, "matrix run": refuses, "explore-calibrate": refuses,
	"down": none, "list": none, "explain": none, "images": none, "prune": none, "clean": none, "bench": none, "prebuild": none, "matrix": none, "matrix table": none,
	"report": none, "history": none, "diff": none, "check": none, "explore": none, "gallery": none, "mutants": none, "promises": none, "docs": none, "settings": none, "schema": none,
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: theirs, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: me, user: {}}]
contexts: [{name: home, context: {cluster: theirs, user: me}}]
`

func TestEveryCommandHonoursOrRefusesAnExternalCluster(t *testing.T) {
	var paths []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && c.HasParent() {
			paths = append(paths, strings.TrimPrefix(c.CommandPath(), "smart-restore "))
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
	for _, path := range paths {
		if _, ok := clusterUse[path]; !ok {
			t.Errorf("%s: say in clusterUse what it does with KUBE_CONTEXT", path)
		}
	}
	for path := range clusterUse {
		if !slices.Contains(paths, path) {
			t.Errorf("there is no command %s", path)
		}
	}

	t.Setenv("SMART_RESTORE_CACHE", t.TempDir())
	dir := t.TempDir()
	config := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(config, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	// What a command needs beside the settings.
	report := &verdict.Report{SetupError: "no engine", Stack: verdict.Stack{ExternalCluster: verdict.ExternalCluster{Name: "theirs", Context: "home"}}}
	if err := report.Write(dir); err != nil {
		t.Fatal(err)
	}
	arguments := map[string][]string{"compare": {"--base", dir}, "rerun": {dir}}

	const allow = "if that is the one, set ALLOW_CLUSTER=theirs"
	refused := func(path string) string { return "KUBE_CONTEXT=home: " + path + " creates a cluster of its own" }
	several := func(path string) string { return "PLAN=1: " + path + " has several runs" }
	for path, uses := range clusterUse {
		if uses == none {
			continue
		}
		for _, c := range []struct {
			name  string
			flags []string
			want  string // of a command that honours
		}{
			{"a context", []string{"--context", "home"}, allow},
			{"a context that is none", []string{"--context", "nowhere"}, "KUBE_CONTEXT=nowhere is no context of"},
			{"another cluster", []string{"--context", "home", "--allow-cluster", "ours"}, "the cluster ours, which ALLOW_CLUSTER names"},
			{"a base Secret", []string{"--context", "home", "--base-secret-from", "a/b"}, allow},
			{"a plan", []string{"--context", "home", "--plan"}, allow},
			{"a stack", []string{"--context", "home", "--stack", "kyverno-1.19"}, "STACK=kyverno-1.19"},
			{"no context", []string{"--allow-cluster", "theirs"}, "ALLOW_CLUSTER=theirs is for an existing cluster: set KUBE_CONTEXT, too"},
		} {
			t.Run(path+" with "+c.name, func(t *testing.T) {
				want := c.want
				switch {
				case c.name == "no context" && path == "rerun":
					want = "the cluster nobody's, which ALLOW_CLUSTER names" // its report has the context
					c.flags = []string{"--allow-cluster", "nobody's"}
				case c.name == "a stack" || c.name == "no context":
				case uses == refuses:
					want = refused(path)
					if c.name == "a context that is none" {
						want = "KUBE_CONTEXT=nowhere: " + path + " creates a cluster of its own"
					}
				case c.name == "a plan" && (path == "soak" || path == "compare"):
					want = several(path)
				}
				command := root()
				command.SetOut(io.Discard)
				command.SetArgs(slices.Concat(strings.Fields(path), arguments[path], c.flags, []string{"--kubeconfig", config}))
				err := command.ExecuteContext(t.Context())
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			})
		}
	}
}
