package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/stack"
)

// playTimeout ends a simulator that does not: it plays in about a second.
const playTimeout = 2 * time.Minute

// kyvernoModule is what a build is Kyverno's by.
const kyvernoModule = "github.com/kyverno/kyverno"

// Kyverno is the simulator: Kyverno's own packages, compiled out of one of the lock's builds.
type Kyverno struct {
	Modules *gomod.Builder
	Build   *stack.Build
	Log     *progress.Log
}

// BuildOf is the build of a stack's Kyverno.
func BuildOf(lock *stack.Lock, of *stack.Stack) (*stack.Build, error) {
	for _, name := range of.Manifests {
		if manifest, ok := lock.Manifest(name); ok && manifest.Module == kyvernoModule {
			if build, ok := lock.Build(manifest.Of); ok {
				return build, nil
			}
		}
	}
	return nil, fmt.Errorf("the stack %s has no build of Kyverno", of.Name)
}

func (k *Kyverno) beside() (gomod.Beside, error) {
	simulator, err := fs.Sub(k.Modules.Fixtures, "_simulator")
	return gomod.Beside{Name: "simulator", Package: simulator, Imports: map[string]fs.FS{
		"harness/check/play":    play.Source,
		"harness/fault/gateway": gateway.Source,
	}, Needs: "simulator"}, err
}

// Built says whether it can judge at once.
func (k *Kyverno) Built() bool {
	beside, err := k.beside()
	return err == nil && k.Modules.HasTest(k.Build, beside)
}

// Prepare compiles the simulator where that has not been done: once, for a minute or so beside packages that are compiled already.
func (k *Kyverno) Prepare(ctx context.Context) error {
	beside, err := k.beside()
	if err == nil {
		_, err = k.compiled(ctx, beside)
	}
	if err != nil {
		return fmt.Errorf("the simulator cannot be built: %w", err)
	}
	return nil
}

// Play plays situations, with what Prepare has compiled.
func (k *Kyverno) Play(ctx context.Context, given play.Play) (*play.Record, error) {
	beside, err := k.beside()
	if err != nil {
		return nil, err
	}
	binary, err := k.compiled(ctx, beside)
	if err != nil {
		return nil, err
	}
	dir, err := k.Modules.Cache.Temp()
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	input, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "record.json")
	ctx, cancel := context.WithTimeout(ctx, playTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^TestJudge$", "-test.timeout=0", "-record="+file)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(input)
	// None of the settings of whoever checks is Kyverno's.
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the simulator: %w\n%s", errors.Join(err, ctx.Err()), firstLines(string(said), 20))
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	record := &play.Record{}
	return record, json.Unmarshal(raw, record)
}

func (k *Kyverno) compiled(ctx context.Context, beside gomod.Beside) (string, error) {
	if k.Modules.HasTest(k.Build, beside) {
		return k.Modules.Test(ctx, k.Build, beside, func(int) {})
	}
	task := k.Log.Task("compiling the simulator out of %s, once", k.Build.Name)
	binary, err := k.Modules.Test(ctx, k.Build, beside, func(packages int) { task.Status("%d packages compiled", packages) })
	return binary, task.Done(err)
}

func firstLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[:min(n, len(lines))], "\n")
}
