// Package gomod turns a pinned Go module graph (fixtures/builds/<name>.mod and .sum) into binaries and source files.
package gomod

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/stack"
)

// Builder compiles and finds the modules of the lock's builds.
type Builder struct {
	Cache    *cache.Dir
	Fixtures fs.FS

	once      sync.Once
	goVersion string
	onceErr   error
}

// Key identifies what a build would produce: its module graph, packages and flags, and the compiler.
func (b *Builder) Key(build *stack.Build) (string, error) {
	goVersion, err := b.compiler()
	if err != nil {
		return "", fmt.Errorf("build %s: %w", build.Name, err)
	}
	mod, sum, err := b.moduleFiles(build.Name)
	if err != nil {
		return "", err
	}
	return cache.Key("go-build/1", goVersion, build, mod, sum), nil
}

// compiler identifies the compiler and what it compiles for.
func (b *Builder) compiler() (string, error) {
	b.once.Do(func() {
		out, err := exec.Command("go", "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64").Output()
		b.goVersion, b.onceErr = string(out), err
	})
	if b.onceErr != nil {
		return "", fmt.Errorf("the go command is needed: %w", b.onceErr)
	}
	return b.goVersion, nil
}

func (b *Builder) moduleFiles(name string) (mod, sum []byte, err error) {
	if mod, err = fs.ReadFile(b.Fixtures, "builds/"+name+".mod"); err != nil {
		return nil, nil, err
	}
	sum, err = fs.ReadFile(b.Fixtures, "builds/"+name+".sum")
	return mod, sum, err
}

// Build compiles the build's packages, or finds them in the cache. It returns the folder of the binaries. compiled is
// told, while it runs, how many packages were compiled so far.
func (b *Builder) Build(ctx context.Context, build *stack.Build, compiled func(packages int)) (string, error) {
	key, err := b.Key(build)
	if err != nil {
		return "", err
	}
	return b.Cache.Make(ctx, "go", key, func(out string) error {
		module, err := b.materialize(ctx, build.Name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		var plain []string
		count := 0
		step := func() { count++; compiled(count) }
		for _, pkg := range build.Packages {
			name, renamed := build.Binaries[pkg]
			if !renamed {
				plain = append(plain, pkg)
				continue
			}
			if err := compile(ctx, module, build, filepath.Join(out, name), []string{pkg}, step); err != nil {
				return err
			}
		}
		if len(plain) == 0 {
			return nil
		}
		return compile(ctx, module, build, out+string(filepath.Separator), plain, step)
	})
}

// Has says whether the build's binaries are in the cache.
func (b *Builder) Has(build *stack.Build) bool {
	key, err := b.Key(build)
	return err == nil && b.Cache.Has("go", key)
}

func compile(ctx context.Context, module string, build *stack.Build, out string, packages []string, compiled func()) error {
	args := append([]string{"build", "-v", "-trimpath", "-ldflags", strings.TrimSpace("-s -w " + build.LDFlags), "-o", out}, packages...)
	return goCommand(ctx, module, build, compiled, args...)
}

// runLines runs cmd, calls each for every line of its stderr, and returns the last lines, for an error's text.
func runLines(cmd *exec.Cmd, each func(string)) (string, error) {
	reader, writer := io.Pipe()
	cmd.Stderr = writer
	var tail []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		scanner := bufio.NewScanner(reader)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			each(scanner.Text())
			tail = append(tail, scanner.Text())
			if len(tail) > 20 {
				tail = tail[1:]
			}
		}
		_, _ = io.Copy(io.Discard, reader)
	}()
	err := cmd.Run()
	_ = writer.Close()
	<-done
	return strings.Join(tail, "\n"), err
}

// materialize writes the module graph where the go command can work in it.
func (b *Builder) materialize(ctx context.Context, name string) (string, error) {
	mod, sum, err := b.moduleFiles(name)
	if err != nil {
		return "", err
	}
	return b.Cache.Make(ctx, "modules", cache.Key(name, mod, sum), func(dir string) error {
		return errors.Join(
			os.MkdirAll(dir, 0o755),
			os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o644),
			os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o644))
	})
}

// ModuleDir downloads one module of a build's graph, verified against the build's .sum, and returns its folder.
func (b *Builder) ModuleDir(ctx context.Context, buildName, module string) (string, error) {
	parsed, _, err := b.modules(buildName)
	if err != nil {
		return "", err
	}
	version := ""
	for _, r := range parsed.Require {
		if r.Mod.Path == module {
			version = r.Mod.Version
		}
	}
	if version == "" {
		return "", fmt.Errorf("fixtures/builds/%s.mod does not require %s", buildName, module)
	}
	work, err := b.materialize(ctx, buildName)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+version)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "GOTOOLCHAIN=local")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, runErr := cmd.Output()
	var info struct{ Dir, Error string }
	if err := json.Unmarshal(out, &info); err != nil || info.Dir == "" {
		why := errors.Join(runErr, err)
		if why == nil {
			why = errors.New("it has said no folder")
		}
		return "", fmt.Errorf("go mod download %s@%s: %w %s %s", module, version, why, info.Error, stderr.String())
	}
	return info.Dir, nil
}

// Program compiles a main package of this project (its path below the module's root) statically and returns the
// binary's path, in a temporary folder of the cache. The go command's own cache makes this quick.
func (b *Builder) Program(ctx context.Context, pkg string) (string, error) {
	source, err := FindSelf()
	if err != nil {
		return "", err
	}
	dir, err := b.Cache.Temp()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, filepath.Base(pkg))
	cmd := goIn(ctx, source.Dir, "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./"+pkg)
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build of %s: %w\n%s", pkg, err, text)
	}
	return out, nil
}
