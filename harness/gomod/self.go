package gomod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/smart-restore/conformance/harness/cache"
)

// selfModule is this project's module.
const selfModule = "github.com/smart-restore/conformance"

// Self is this project's own source, which its images' programs and its specs are compiled from.
type Self struct {
	Dir     string
	Version string // "" in a checkout
	sum     string // of the module, as the go command verified it; "" in a checkout
}

var ownSource = sync.OnceValues(func() (*Self, error) {
	info, _ := debug.ReadBuildInfo()
	return findSelf(info)
})

// FindSelf finds the source that this program was compiled from: the module cache's, where the go command installed or
// ran it by its version (go run …@v1.2.3), else the checkout that it runs in.
func FindSelf() (*Self, error) { return ownSource() }

func findSelf(info *debug.BuildInfo) (*Self, error) {
	if info != nil && info.Main.Path == selfModule && info.Main.Sum != "" {
		return inModuleCache(info.Main)
	}
	cmd := exec.Command("go", "list", "-m", "-json", selfModule)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	var module struct {
		Dir  string
		Main bool
	}
	if err != nil || json.Unmarshal(out, &module) != nil || !module.Main {
		return nil, fmt.Errorf("this program was compiled from a checkout of %s, and needs it: run it inside that, or by its version, go run %s", selfModule, (&Self{Version: "<version>"}).Command())
	}
	return &Self{Dir: module.Dir}, nil
}

// inModuleCache has the go command put the module where it was when this program was compiled, and verify it.
func inModuleCache(main debug.Module) (*Self, error) {
	cmd := exec.Command("go", "mod", "download", "-json", main.Path+"@"+main.Version)
	cmd.Dir = os.TempDir() // of no module: another's go.mod has no say in this
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GO111MODULE=on")
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &module); jsonErr != nil || module.Dir == "" {
		return nil, fmt.Errorf("find the source of %s@%s: %w", main.Path, main.Version, errors.Join(err, jsonErr, errors.New(module.Error)))
	}
	if module.Sum != main.Sum {
		return nil, fmt.Errorf("the source of %s@%s has the sum %s, this program was compiled from one with %s", main.Path, main.Version, module.Sum, main.Sum)
	}
	return &Self{Dir: module.Dir, Version: main.Version, sum: main.Sum}, nil
}

// Revision names what was compiled: the version, or of a checkout its commit, with "+" where its files are not as they were
// committed. It is empty where git does not say.
func (s *Self) Revision() string {
	if s.Version != "" {
		return s.Version
	}
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", s.Dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return ""
	}
	if changes, err := git("status", "--porcelain"); err != nil || changes != "" {
		commit += "+"
	}
	return commit
}

// Command is this program as the go command runs it by its version.
func (s *Self) Command() string { return selfModule + "/harness/cmd/smart-restore@" + s.Version }

// Suite compiles Ginkgo and the specs, or finds them in the cache, and returns the folder that holds "ginkgo" and
// "e2e.test". Those of a checkout are made each time, in a temporary folder: the go command's own cache makes that quick.
func (b *Builder) Suite(ctx context.Context, compiled func(packages int)) (string, error) {
	source, err := FindSelf()
	if err != nil {
		return "", err
	}
	if source.Version == "" {
		dir, err := b.Cache.Temp()
		if err != nil {
			return "", err
		}
		return dir, compileSuite(ctx, source.Dir, dir, compiled)
	}
	version, err := b.compiler()
	if err != nil {
		return "", err
	}
	return b.Cache.Make(ctx, "suite", cache.Key("suite/1", version, source.Version, source.sum), func(out string) error {
		return errors.Join(os.MkdirAll(out, 0o755), compileSuite(ctx, source.Dir, out, compiled))
	})
}

func compileSuite(ctx context.Context, source, out string, compiled func(packages int)) error {
	count := 0
	for _, args := range [][]string{
		{"build", "-v", "-o", filepath.Join(out, "ginkgo"), "github.com/onsi/ginkgo/v2/ginkgo"},
		{"test", "-v", "-vet=off", "-c", "-o", filepath.Join(out, "e2e.test"), "./e2e"},
	} {
		cmd := goIn(ctx, source, args...)
		lines, err := runLines(cmd, func(line string) {
			if !strings.Contains(line, " ") {
				count++
				compiled(count)
			}
		})
		if err != nil {
			return fmt.Errorf("go %s of %s: %w\n%s", args[0], args[len(args)-1], err, lines)
		}
	}
	return nil
}

// goIn is the go command in this project's source, whatever module or workspace the user works in. The source may be
// read-only.
func goIn(ctx context.Context, source string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off", "GOTOOLCHAIN=local")
	return cmd
}
