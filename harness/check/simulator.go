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

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/check/network"
	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/check/rights"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/fault/gateway"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/text"
)

// playTimeout ends a simulator that does not. It plays in seconds, and in minutes where all processors are busy with something else.
const playTimeout = 10 * time.Minute

// Kyverno is the simulator: Kyverno's own packages, compiled out of one of the lock's builds.
type Kyverno struct {
	Modules    *gomod.Builder
	Build      *stack.Build
	Kubernetes string // the version that its API server has, like v1.34.4
	// Roles finds the roles and bindings that are there before the policy.
	Roles func(context.Context) ([]map[string]any, error)
	Log   *progress.Log
}

// NewKyverno is the simulator of a stack's Kyverno and Kubernetes.
func NewKyverno(lock *stack.Lock, of *stack.Stack, modules *gomod.Builder, roles func(context.Context) ([]map[string]any, error), log *progress.Log) (*Kyverno, error) {
	build, err := BuildOf(lock, of)
	if err != nil {
		return nil, err
	}
	kubernetes := of.Versions["kubernetes"]
	if kubernetes == "" {
		return nil, fmt.Errorf("the stack %s names no version of Kubernetes", of.Name)
	}
	return &Kyverno{Modules: modules, Build: build, Kubernetes: kubernetes, Roles: roles, Log: log}, nil
}

// BuildOf is the build of a stack's Kyverno.
func BuildOf(lock *stack.Lock, of *stack.Stack) (*stack.Build, error) {
	for _, name := range of.Manifests {
		if manifest, ok := lock.Manifest(name); ok && manifest.Module == stack.KyvernoModule {
			if build, ok := lock.Build(manifest.Of); ok {
				return build, nil
			}
		}
	}
	return nil, fmt.Errorf("the stack %s has no build of Kyverno", of.Name)
}

func (k *Kyverno) program() (gomod.TestProgram, error) {
	simulator, err := fs.Sub(k.Modules.Fixtures, "_simulator")
	return gomod.TestProgram{Name: "simulator", Package: simulator, Imports: map[string]fs.FS{
		"harness/check/play":        play.Source,
		"harness/check/network":     network.Source,
		"harness/check/rights":      rights.Source,
		"harness/authority":         authority.Source,
		"harness/fault/gateway":     gateway.Source,
		"harness/fault/gateway/api": api.Source,
		"harness/explore/history":   history.Source,
		"harness/explore/picture":   picture.Source,
	}, Needs: "simulator"}, err
}

// Built says whether it can play at once, without compiling anything.
func (k *Kyverno) Built() bool {
	program, err := k.program()
	return err == nil && k.Modules.HasTest(k.Build, program)
}

// Prepare compiles the simulator where that has not been done: once, for a minute or so program packages that are compiled already.
func (k *Kyverno) Prepare(ctx context.Context) error {
	program, err := k.program()
	if err == nil {
		_, err = k.compiled(ctx, program)
	}
	if err != nil {
		return fmt.Errorf("the simulator cannot be built: %w", err)
	}
	return nil
}

// Examine vets, lints and tests the simulator itself. It is compiled among Kyverno's modules only, so go vet ./... and go test
// ./... of this project do not reach it.
func (k *Kyverno) Examine(ctx context.Context) error {
	if err := k.Prepare(ctx); err != nil {
		return err
	}
	program, err := k.program()
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"go vet of the simulator", func() error { return k.Modules.VetTest(ctx, k.Build, program) }},
		{"golangci-lint of the simulator", func() error { return k.Modules.LintTest(ctx, k.Build, program) }},
		{"unit tests of the simulator", func() error { return k.unitTests(ctx, program) }},
	} {
		if err := k.Log.Task("%s", step.what).Done(step.do()); err != nil {
			return err
		}
	}
	return nil
}

// unitTests runs all tests of the simulator, but for those that are programs.
func (k *Kyverno) unitTests(ctx context.Context, program gomod.TestProgram) error {
	binary, err := k.compiled(ctx, program)
	if err != nil {
		return err
	}
	dir, err := k.Modules.Cache.Temp()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	said, err := k.command(ctx, dir, binary, "-test.v", "-test.skip="+strings.Join([]string{playTest, exploreTest, takesTest}, "|"), "-test.timeout="+playTimeout.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the simulator's unit tests: %w\n%s", err, said)
	}
	if ran := strings.Count(string(said), "\n--- PASS: "); ran == 0 {
		return fmt.Errorf("the simulator has no unit tests, or does not say so:\n%s", text.FirstLines(string(said), 20))
	}
	return nil
}

// playTest is the test that is the program.
const playTest = "^TestPlay$"

// command calls the compiled simulator. None of the settings of whoever checks is Kyverno's.
func (k *Kyverno) command(ctx context.Context, dir, binary string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	return cmd
}

// Play plays situations, with what Prepare has compiled.
func (k *Kyverno) Play(ctx context.Context, given play.Play) (*play.Record, error) {
	dir, command, err := k.begin(ctx, &given)
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
	cmd := command(ctx, playTest, file)
	cmd.Stdin = bytes.NewReader(input)
	if said, err := cmd.CombinedOutput(); errors.Is(ctx.Err(), context.Canceled) {
		return nil, interrupted(ctx)
	} else if err != nil {
		return nil, fmt.Errorf("the simulator: %w\n%s", errors.Join(err, ctx.Err()), text.FirstLines(string(said), 20))
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	record := &play.Record{}
	return record, json.Unmarshal(raw, record)
}

// interrupted is the error of a simulator that was ended from outside: what it said then is of no use.
func interrupted(ctx context.Context) error { return fmt.Errorf("interrupted: %w", ctx.Err()) }

// begin makes a folder, which is the caller's to remove, for a program of the simulator, with what Prepare has compiled, and adds to what is
// given what the stack has. The command is that of one of its tests, which writes to a file.
func (k *Kyverno) begin(ctx context.Context, given *play.Play) (dir string, command func(ctx context.Context, test, file string) *exec.Cmd, err error) {
	program, err := k.program()
	if err != nil {
		return "", nil, err
	}
	binary, err := k.compiled(ctx, program)
	if err != nil {
		return "", nil, err
	}
	given.Kubernetes = k.Kubernetes
	if given.Roles, err = k.Roles(ctx); err != nil {
		return "", nil, err
	}
	if dir, err = k.Modules.Cache.Temp(); err != nil {
		return "", nil, err
	}
	trust, err := trustIn(dir, *given)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, func(ctx context.Context, test, file string) *exec.Cmd {
		cmd := k.command(ctx, dir, binary, "-test.run="+test, "-test.timeout=0", "-record="+file)
		cmd.Env = append(cmd.Env, trust...)
		return cmd
	}, nil
}

// trustIn is the environment by which Kyverno trusts the CA of an https endpoint, and nobody else, as if it were in its image.
func trustIn(dir string, given play.Play) (env []string, err error) {
	if given.Certificates == nil {
		return nil, nil
	}
	file, ca := filepath.Join(dir, "ca.crt"), ""
	if given.Trusted {
		ca = given.Certificates.CA
	}
	return []string{"SSL_CERT_FILE=" + file, "SSL_CERT_DIR=" + dir}, os.WriteFile(file, []byte(ca), 0o600)
}

func (k *Kyverno) compiled(ctx context.Context, program gomod.TestProgram) (string, error) {
	if k.Modules.HasTest(k.Build, program) {
		return k.Modules.Test(ctx, k.Build, program, func(int) {})
	}
	task := k.Log.Task("compiling the simulator out of %s, once", k.Build.Name)
	binary, err := k.Modules.Test(ctx, k.Build, program, func(packages int) { task.Status("%d packages compiled", packages) })
	return binary, task.Done(err)
}
