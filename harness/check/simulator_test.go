package check

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/stack"
)

// The simulator is compiled among the modules of each Kyverno, and finds there what our packages in it import. Which Kyverno lacks
// one would else be known when a stack with that Kyverno is checked.
func TestEveryKyvernoHasWhatTheSimulatorImports(t *testing.T) {
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	kyverno := &Kyverno{Modules: &gomod.Builder{Fixtures: fixtures.Files}}
	program, err := kyverno.program()
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]string{} // package → the file that imports it
	for _, files := range program.Imports {
		importsOf(t, files, imported)
	}
	if len(imported) == 0 {
		t.Fatal("our packages import nothing: this test looks at the wrong place")
	}
	checked := map[string]bool{}
	for i := range lock.Stacks {
		build, err := BuildOf(lock, &lock.Stacks[i])
		if err != nil || checked[build.Name] {
			continue
		}
		checked[build.Name] = true
		graph, sum, err := kyverno.Modules.Graph(build, program)
		if err != nil {
			t.Fatal(err)
		}
		for pkg, file := range imported {
			if !provides(graph, string(sum), pkg) {
				t.Errorf("%s imports %s, which no module of fixtures/builds/%s.mod and simulator.mod, with a sum, has: the simulator cannot be built for that Kyverno", file, pkg, build.Name)
			}
		}
	}
	if len(checked) == 0 {
		t.Error("no stack has a Kyverno")
	}
}

// What the simulator adds to Kyverno's modules is what this project has. Modules of Kubernetes are of Kyverno's version.
func TestTheSimulatorNeedsWhatWeHave(t *testing.T) {
	requires := func(name string, content []byte, err error) map[string]string {
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := modfile.Parse(name, content, nil)
		if err != nil {
			t.Fatal(err)
		}
		versions := map[string]string{}
		for _, r := range parsed.Require {
			versions[r.Mod.Path] = r.Mod.Version
		}
		return versions
	}
	content, err := os.ReadFile("../../go.mod")
	ours := requires("go.mod", content, err)
	content, err = fs.ReadFile(fixtures.Files, "builds/simulator.mod")
	for module, version := range requires("simulator.mod", content, err) {
		if ours[module] == "" || ours[module] != version && !strings.HasPrefix(module, "k8s.io/") {
			t.Errorf("fixtures/builds/simulator.mod has %s %s, go.mod %q", module, version, ours[module])
		}
	}
}

// importsOf finds what a package's files import that is neither the standard library's nor ours.
func importsOf(t *testing.T, files fs.FS, imported map[string]string) {
	t.Helper()
	names, err := fs.Glob(files, "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			host, _, _ := strings.Cut(path, "/")
			if strings.Contains(host, ".") && !strings.HasPrefix(path, "github.com/smart-restore/conformance/") {
				imported[path] = name
			}
		}
	}
}

func provides(graph *modfile.File, sum, pkg string) bool {
	for _, r := range graph.Require {
		if strings.HasPrefix(pkg+"/", r.Mod.Path+"/") && strings.Contains(sum, fmt.Sprintf("%s %s h1:", r.Mod.Path, r.Mod.Version)) {
			return true
		}
	}
	return false
}
