package gomod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/stack"
)

// self is this project's module.
const self = "github.com/smart-restore/conformance"

// Beside is a test binary of ours that is compiled among a build's modules: it uses them as packages, and the project's own
// module need not require them.
type Beside struct {
	Name    string
	Package fs.FS            // its package, files in the root
	Imports map[string]fs.FS // packages of this project that it imports, path below the module's root → files
	// Needs names a module graph (fixtures/builds/<name>.mod and .sum) of what all these import and the build's does not
	// have. Empty: nothing.
	Needs string
}

// Test compiles a test binary beside a build's modules, or finds it in the cache, and returns its path. What it compiles of
// them is what Build compiles, so the go command's cache serves both. compiled is told of its progress, as Build's.
func (b *Builder) Test(ctx context.Context, build *stack.Build, beside Beside, compiled func(packages int)) (string, error) {
	key, err := b.testKey(build, beside)
	if err != nil {
		return "", err
	}
	return b.Cache.Make(ctx, beside.Name, key, func(out string) error {
		module, err := b.materializeBeside(build, beside)
		if err != nil {
			return err
		}
		count := 0
		if err := goCommand(ctx, module, build, func() { count++; compiled(count) }, "build", "-v", "-trimpath", "./"+beside.Name); err != nil {
			return err
		}
		ldflags := strings.TrimSpace("-s -w " + build.LDFlags)
		return goCommand(ctx, module, build, func() {}, "test", "-c", "-vet=off", "-trimpath", "-ldflags", ldflags, "-o", out, "./"+beside.Name)
	})
}

// HasTest says whether the test binary is in the cache.
func (b *Builder) HasTest(build *stack.Build, beside Beside) bool {
	key, err := b.testKey(build, beside)
	return err == nil && b.Cache.Has(beside.Name, key)
}

func (b *Builder) testKey(build *stack.Build, beside Beside) (string, error) {
	key, err := b.Key(build)
	if err != nil {
		return "", err
	}
	parts := []any{"beside/1", key}
	if beside.Needs != "" {
		mod, sum, err := b.moduleFiles(beside.Needs)
		if err != nil {
			return "", err
		}
		parts = append(parts, mod, sum)
	}
	for _, path := range append([]string{""}, beside.paths()...) {
		files := beside.Package
		if path != "" {
			files = beside.Imports[path]
		}
		hash, err := cache.HashFS(files, ".")
		if err != nil {
			return "", err
		}
		parts = append(parts, path, hash)
	}
	return cache.Key(parts...), nil
}

func (b Beside) paths() []string {
	var paths []string
	for path := range b.Imports {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// Graph is the modules that the test binary is compiled among, and their checksums: the build's, and what it needs beyond.
func (b *Builder) Graph(build *stack.Build, beside Beside) (*modfile.File, []byte, error) {
	graph, sum, err := b.modules(build.Name)
	if err != nil || beside.Needs == "" {
		return graph, sum, err
	}
	needs, needsSum, err := b.modules(beside.Needs)
	if err != nil {
		return nil, nil, err
	}
	for _, need := range needs.Require {
		if err := graph.AddRequire(need.Mod.Path, need.Mod.Version); err != nil {
			return nil, nil, err
		}
	}
	return graph, slices.Concat(sum, needsSum), nil
}

func (b *Builder) modules(name string) (*modfile.File, []byte, error) {
	mod, sum, err := b.moduleFiles(name)
	if err != nil {
		return nil, nil, err
	}
	graph, err := modfile.Parse(name+".mod", mod, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("fixtures/builds/%s.mod: %w", name, err)
	}
	return graph, sum, nil
}

// materializeBeside writes the build's module graph with the package in it, and this project as a module of the packages that
// it imports, in a folder that goes with this process.
func (b *Builder) materializeBeside(build *stack.Build, beside Beside) (string, error) {
	graph, sum, err := b.Graph(build, beside)
	if err != nil {
		return "", err
	}
	if err := errors.Join(graph.AddRequire(self, "v0.0.0"), graph.AddReplace(self, "", "./own", "")); err != nil {
		return "", err
	}
	mod, err := graph.Format()
	if err != nil {
		return "", err
	}
	dir, err := b.Cache.Temp()
	if err != nil {
		return "", err
	}
	problems := []error{
		os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o644),
		os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o644),
		copyPackage(filepath.Join(dir, beside.Name), beside.Package, true),
		os.MkdirAll(filepath.Join(dir, "own"), 0o755),
		os.WriteFile(filepath.Join(dir, "own", "go.mod"), []byte("module "+self+"\n\ngo "+graph.Go.Version+"\n"), 0o644),
	}
	for _, path := range beside.paths() {
		problems = append(problems, copyPackage(filepath.Join(dir, "own", path), beside.Imports[path], false))
	}
	return dir, errors.Join(problems...)
}

// copyPackage writes a package's files, with or without its tests.
func copyPackage(dir string, files fs.FS, tests bool) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !tests && strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		content, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, entry.Name()), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goCommand runs the go command in a build's module, with the settings that all builds have.
func goCommand(ctx context.Context, module string, build *stack.Build, compiled func(), args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off", "GOTOOLCHAIN=local")
	lines, err := runLines(cmd, func(line string) {
		if !strings.Contains(line, " ") {
			compiled()
		}
	})
	if err != nil {
		return fmt.Errorf("go %s of %s: %w\n%s", args[0], build.Name, err, lines)
	}
	return nil
}
