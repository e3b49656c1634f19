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

// TestProgram is a test binary of this project that is compiled among a build's modules: it uses them as packages, and the
// project's own module need not require them.
type TestProgram struct {
	Name    string
	Package fs.FS            // its package, files in the root
	Imports map[string]fs.FS // packages of this project that it imports, path below the module's root → files
	// Needs names a module graph (fixtures/builds/<name>.mod and .sum) of what all these import and the build's modules do
	// not have. Empty: nothing.
	Needs string
}

// Test compiles a test program among a build's modules, or finds it in the cache, and returns its path. What it compiles of
// them is what Build compiles, so the go command's cache serves both. compiled is told of its progress, as Build's.
func (b *Builder) Test(ctx context.Context, build *stack.Build, program TestProgram, compiled func(packages int)) (string, error) {
	key, err := b.testKey(build, program)
	if err != nil {
		return "", err
	}
	return b.Cache.Make(ctx, program.Name, key, func(out string) error {
		module, err := b.materializeProgram(build, program)
		if err != nil {
			return err
		}
		count := 0
		if err := goCommand(ctx, module, build, func() { count++; compiled(count) }, "build", "-v", "-trimpath", "./"+program.Name); err != nil {
			return err
		}
		ldflags := strings.TrimSpace("-s -w " + build.LDFlags)
		return goCommand(ctx, module, build, func() {}, "test", "-c", "-vet=off", "-trimpath", "-ldflags", ldflags, "-o", out, "./"+program.Name)
	})
}

// HasTest says whether the test program is in the cache.
func (b *Builder) HasTest(build *stack.Build, program TestProgram) bool {
	key, err := b.testKey(build, program)
	return err == nil && b.Cache.Has(program.Name, key)
}

// VetTest runs go vet on a test program. The go command's cache has what Test compiled for it.
func (b *Builder) VetTest(ctx context.Context, build *stack.Build, program TestProgram) error {
	module, err := b.materializeProgram(build, program)
	if err != nil {
		return err
	}
	return goCommand(ctx, module, build, func() {}, "vet", "-trimpath", "./"+program.Name)
}

// LintTest runs golangci-lint on a test program, pinned and configured as for the rest of this checkout.
func (b *Builder) LintTest(ctx context.Context, build *stack.Build, program TestProgram) error {
	source, err := FindSelf()
	if err != nil {
		return err
	}
	if source.Version != "" {
		return errors.New("only in a checkout of this project is there a linter for it")
	}
	module, err := b.materializeProgram(build, program)
	if err != nil {
		return err
	}
	// The linter loads packages by the go command, with the flags that Test compiled them with: else all are compiled anew.
	linter := filepath.Join(module, "golangci-lint")
	compile := goIn(ctx, source.Dir, "build", "-o", linter, "-modfile="+filepath.Join(source.Dir, "scripts", "lint.mod"), "github.com/golangci/golangci-lint/v2/cmd/golangci-lint")
	if text, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("golangci-lint cannot be built: %w\n%s", err, text)
	}
	run := exec.CommandContext(ctx, linter, "run", "--config", filepath.Join(source.Dir, ".golangci.yml"), "./"+program.Name)
	run.Dir = module
	run.Env = goEnvironment("-trimpath")
	if text, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("golangci-lint of %s: %w\n%s", program.Name, err, text)
	}
	return nil
}

func (b *Builder) testKey(build *stack.Build, program TestProgram) (string, error) {
	key, err := b.Key(build)
	if err != nil {
		return "", err
	}
	parts := []any{"beside/1", key}
	if program.Needs != "" {
		mod, sum, err := b.moduleFiles(program.Needs)
		if err != nil {
			return "", err
		}
		parts = append(parts, mod, sum)
	}
	for _, path := range append([]string{""}, program.paths()...) {
		files := program.Package
		if path != "" {
			files = program.Imports[path]
		}
		hash, err := cache.HashFS(files, ".")
		if err != nil {
			return "", err
		}
		parts = append(parts, path, hash)
	}
	return cache.Key(parts...), nil
}

func (b TestProgram) paths() []string {
	var paths []string
	for path := range b.Imports {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// Graph is the modules that a test program is compiled among, and their checksums: the build's, and what it needs beyond.
func (b *Builder) Graph(build *stack.Build, program TestProgram) (*modfile.File, []byte, error) {
	graph, sum, err := b.modules(build.Name)
	if err != nil || program.Needs == "" {
		return graph, sum, err
	}
	needs, needsSum, err := b.modules(program.Needs)
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

// materializeProgram writes the build's module graph with the package in it, and this project as a module of the packages that
// it imports, in a folder that goes with this process.
func (b *Builder) materializeProgram(build *stack.Build, program TestProgram) (string, error) {
	graph, sum, err := b.Graph(build, program)
	if err != nil {
		return "", err
	}
	if err := errors.Join(graph.AddRequire(selfModule, "v0.0.0"), graph.AddReplace(selfModule, "", "./own", "")); err != nil {
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
		copyPackage(filepath.Join(dir, program.Name), program.Package, true),
		os.MkdirAll(filepath.Join(dir, "own"), 0o755),
		os.WriteFile(filepath.Join(dir, "own", "go.mod"), []byte("module "+selfModule+"\n\ngo "+graph.Go.Version+"\n"), 0o644),
	}
	for _, path := range program.paths() {
		problems = append(problems, copyPackage(filepath.Join(dir, "own", path), program.Imports[path], false))
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

// goEnvironment has the settings that all builds have, with more flags for the go command.
func goEnvironment(flags ...string) []string {
	all := strings.Join(append([]string{"-mod=readonly", "-buildvcs=false"}, flags...), " ")
	return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+all, "GOWORK=off", "GOTOOLCHAIN=local")
}

// goCommand runs the go command in a build's module, with the settings that all builds have.
func goCommand(ctx context.Context, module string, build *stack.Build, compiled func(), args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = goEnvironment()
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
