// Package session is one invocation from settings to verdict: what `make e2e`, `make up` and the others do.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/cluster"
	"github.com/smart-restore/conformance/harness/engine"
	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/images"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/scripts"
)

// cleanupTimeout bounds clean-up, which goes on when the run was interrupted.
const cleanupTimeout = 2 * time.Minute

// StopTimeout bounds what an invocation takes to end that is interrupted: the specs stop, what was collected is written, the
// external cluster is left or the stack removed, and the managed engine is stopped.
const StopTimeout = interruptPatience + cleanupTimeout + max(leaveTimeout, cleanupTimeout) + cleanupTimeout

// Session is one invocation. Open it, call one of its methods, Close it.
type Session struct {
	Settings *settings.Settings
	Lock     *stack.Lock
	Stack    *stack.Stack
	Cache    *cache.Dir
	Log      *progress.Log
	Out      io.Writer // results; progress goes to Log

	suiteDir string // of Ginkgo and the compiled specs
	history  string // the file of a history that is to be played on the cluster; empty: the specs run
	pictured bool   // and pictures are to be taken after its events
	engine   *engine.Engine
	maker    *images.Maker
	phases   verdict.PhaseTimer
}

// Open reads settings and lock and refuses what is wrong with either. given are settings that beat the environment's.
func Open(out, progressOut io.Writer, given map[string]string) (*Session, error) {
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		return nil, err
	}
	var modes []string
	for _, mode := range images.Modes() {
		modes = append(modes, string(mode))
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	set, err := settings.FromEnvironment(root, given, lock.StackNames(), modes)
	if err != nil {
		return nil, err
	}
	timing.ScaleSetup(set.TimeScale)
	chosen, err := lock.Stack(set.Stack)
	if err != nil {
		return nil, err
	}
	dir, err := cache.Open()
	if err != nil {
		return nil, err
	}
	return &Session{Settings: set, Lock: lock, Stack: chosen, Cache: dir, Log: progress.New(progressOut), Out: out}, nil
}

func (s *Session) runsDir() string    { return s.Cache.Path("runs", "") }
func (s *Session) scriptsDir() string { return s.Cache.Path("scripts", "") }

// startEngine makes sure that an engine runs, and removes what dead runs left in it.
func (s *Session) startEngine(ctx context.Context) error {
	end := s.phases.Start("engine")
	err := func() (err error) {
		if s.engine, err = engine.Up(ctx, scripts.Files, s.scriptsDir(), os.Stderr); err != nil {
			return err
		}
		removed, err := runs.Reap(ctx, s.engine, s.runsDir())
		for _, name := range removed {
			s.Log.Printf("removed %s, left by a run that was killed", name)
		}
		if err != nil {
			return fmt.Errorf("clean up after earlier runs: %w", err)
		}
		return nil
	}()
	end(err)
	if err == nil {
		s.maker = images.New(s.Lock, images.Mode(s.Settings.Images), s.Cache, fixtures.Files, s.engine, s.Log)
	}
	return err
}

// Close stops the managed engine if nobody else needs it.
func (s *Session) Close() error {
	if err := s.Cache.Close(); err != nil {
		return err
	}
	if s.engine == nil || !s.engine.Managed || runs.Others(s.runsDir(), "") {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	return engine.Down(ctx, scripts.Files, s.scriptsDir(), io.Discard)
}

// Images shows what the stack consists of and where each piece would come from.
func (s *Session) Images(ctx context.Context) error {
	if err := s.startEngine(ctx); err != nil {
		return err
	}
	rows, err := s.maker.Plan(ctx, s.Stack)
	fmt.Fprintf(s.Out, "stack %s: %s\n\n", s.Stack.Name, s.Stack.Description)
	return errors.Join(images.WritePlan(s.Out, rows), err)
}

// Prebuild compiles what the images of the named stacks are made of, or of the chosen one, for later: it needs no engine.
func (s *Session) Prebuild(ctx context.Context, names []string) error {
	if len(names) == 0 {
		names = []string{s.Stack.Name}
	}
	for _, name := range names {
		if _, err := s.Lock.Stack(name); err != nil {
			return err
		}
	}
	maker := images.New(s.Lock, images.Build, s.Cache, fixtures.Files, &engine.Engine{}, s.Log)
	for _, name := range names {
		chosen, _ := s.Lock.Stack(name)
		if err := maker.Prebuild(ctx, chosen); err != nil {
			return fmt.Errorf("stack %s: %w", name, err)
		}
	}
	return nil
}

// loadPolicy reads the policy under test, and refuses what can be seen not to be one for this stack.
func (s *Session) loadPolicy() (*policy.Policy, error) {
	p, err := policy.Load(s.Settings.Policy, s.Settings.S3Endpoint)
	if err != nil {
		return nil, err
	}
	if s.Settings.Earlier != "" {
		if err := p.UpgradeFrom(s.Settings.Earlier); err != nil {
			return nil, fmt.Errorf("POLICY=%s: %w", p.Path, err)
		}
	}
	if err := s.chooseStack(p); err != nil {
		return nil, fmt.Errorf("POLICY=%s: %w", p.Path, err)
	}
	for _, warning := range p.Contract.Warnings() {
		s.Log.Printf("POLICY=%s: %v", p.Path, warning)
	}
	return p, p.Check()
}

// chooseStack takes, where no stack is set, the first one that the policy is made for. A cluster that is there is what it is.
func (s *Session) chooseStack(p *policy.Policy) error {
	if s.Settings.External.Context != "" {
		return nil
	}
	err := p.CheckStack(s.Stack.Name, s.Lock.Stacks)
	if err == nil || s.Settings.Stack != "" {
		return err
	}
	for _, name := range s.Lock.StackNames() {
		if p.CheckStack(name, s.Lock.Stacks) == nil {
			s.Log.Printf("STACK=%s, which the policy %s is made for", name, p.Contract.Name)
			s.Stack, err = s.Lock.Stack(name)
			return err
		}
	}
	return err
}

// makeReady refuses what cannot end well, and makes sure that an engine runs.
func (s *Session) makeReady(ctx context.Context) error {
	if err := s.preflight(); err != nil {
		return err
	}
	return s.startEngine(ctx)
}

// Up puts a stack up and keeps it.
func (s *Session) Up(ctx context.Context) error {
	if err := external.Refuse(s.Settings.External, "up"); err != nil {
		return err
	}
	p, err := s.loadPolicy()
	if err != nil {
		return err
	}
	if err := s.makeReady(ctx); err != nil {
		return err
	}
	var kept testbed.Testbed
	run, err := runs.Kept(s.runsDir(), &kept)
	if err != nil {
		return err
	}
	if run != nil {
		defer run.Release()
		s.take(run, &kept)
		if err := s.usable(ctx, &kept, p); err != nil {
			return err
		}
		if err := kept.ApplyPolicy(ctx, p); err != nil {
			return err
		}
		return s.describe(&kept)
	}
	run, err = runs.New(s.runsDir())
	if err != nil {
		return err
	}
	up, err := s.putUp(ctx, run, p, nil, nil)
	if err == nil {
		err = up.ApplyPolicy(ctx, p)
	}
	if err != nil {
		return errors.Join(err, s.tearDown(run))
	}
	defer run.Release()
	return errors.Join(run.Keep(up), s.describe(up))
}

func (s *Session) describe(up *testbed.Testbed) error {
	but := ""
	if up.PolicyState != testbed.PolicyActing {
		but = "\nThe policy " + up.Contract.Name + " was not seen to act on it."
	}
	_, err := fmt.Fprintf(s.Out, "\nThe stack is up and stays: make e2e uses it, make down removes it.%s\n\n  export KUBECONFIG=%s\n  export DOCKER_HOST=%s\n", but, up.Kubeconfig, up.EngineHost)
	return err
}

// Down removes the kept stack and whatever dead runs left, and stops the managed engine.
func (s *Session) Down(ctx context.Context) error {
	if !engine.Running(ctx, scripts.Files, s.scriptsDir()) {
		s.Log.Printf("no engine runs: nothing is up")
		return s.forgetKept()
	}
	if err := s.startEngine(ctx); err != nil {
		return err
	}
	run, err := runs.Kept(s.runsDir(), nil) // also one whose file cannot be read
	if err != nil {
		return err
	}
	if run == nil {
		s.Log.Printf("no stack is kept")
		return nil
	}
	return s.tearDown(run)
}

// forgetKept forgets kept stacks whose engine is gone, and their containers with it.
func (s *Session) forgetKept() error {
	run, err := runs.Kept(s.runsDir(), nil)
	if err != nil || run == nil {
		return err
	}
	return run.Forget()
}

// Prune removes the images that no stack of this version's lock is made of.
func (s *Session) Prune(ctx context.Context) error {
	if err := s.startEngine(ctx); err != nil {
		return err
	}
	task := s.Log.Task("removing images that no stack is made of")
	pruned, err := s.maker.Prune(ctx)
	if task.Done(err) != nil {
		return err
	}
	fmt.Fprintf(s.Out, "removed %d archives in the cache (%.1f GB) and %d images in the engine\n", len(pruned.Archives), float64(pruned.Bytes)/1e9, len(pruned.Images))
	for _, image := range pruned.InUse {
		fmt.Fprintf(s.Out, "kept, since a container uses it: %s\n", image)
	}
	return nil
}

// Clean removes the kept stack, everything built, and the managed engine's data.
func (s *Session) Clean(ctx context.Context) error {
	if err := s.Down(ctx); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	s.engine = nil
	return errors.Join(engine.RemoveData(ctx, scripts.Files, s.scriptsDir()), s.Cache.Clear())
}

// putUp makes the images and puts a testbed up for the run, as the policy needs it.
func (s *Session) putUp(ctx context.Context, run *runs.Run, p *policy.Policy, started func(*testbed.Testbed) error, prepare func(context.Context, *testbed.Testbed) error) (*testbed.Testbed, error) {
	end := s.phases.Start("images")
	set, err := s.maker.Make(ctx, s.Stack, run.ID)
	end(err)
	if err != nil {
		return nil, err
	}
	auditDir := filepath.Join(run.Dir, "audit")
	if err := os.MkdirAll(auditDir, 0o755); err != nil {
		return nil, err
	}
	return testbed.Up(ctx, testbed.Options{
		Run: run, Engine: s.engine, Lock: s.Lock, Stack: s.Stack, Images: set,
		Renderer: &install.Renderer{Cache: s.Cache, Fixtures: fixtures.Files, Modules: s.maker.Modules},
		Fixtures: fixtures.Files, Endpoint: p.Endpoint, Contract: p.Contract, AuditDir: auditDir,
		Phases: s.phases.Start, Log: s.Log, Started: started, Prepare: prepare,
	})
}

// usable repairs a kept testbed and brings it up to date, or says why it cannot be used for this policy. Its address of S3 is routed and
// listened at; anything else that a contract says can be made on a testbed that is up.
func (s *Session) usable(ctx context.Context, kept *testbed.Testbed, p *policy.Policy) error {
	if kept.Stack != s.Stack.Name || kept.Endpoint.URL != p.Endpoint.URL {
		return fmt.Errorf("the kept stack is %s with S3 at %s, but the policy needs %s with S3 at %s (policy %s): remove the kept stack with make down",
			kept.Stack, kept.Endpoint.URL, s.Stack.Name, p.Endpoint.URL, p.Contract.Name)
	}
	if p.Endpoint.HTTPS() && kept.Trust != p.Contract.S3.Trust {
		return fmt.Errorf("on the kept stack, the CA of %s is trusted by %s, and by the contract of policy %s it is by %s (s3.trust): remove the kept stack with make down",
			p.Endpoint.URL, kept.Trust, p.Contract.Name, p.Contract.S3.Trust)
	}
	if len(kept.Nodes) == 0 {
		return errors.New("another version of the suite put the kept stack up: make down removes it")
	}
	for _, container := range slices.Concat(kept.Nodes, kept.Store.Containers) {
		state, err := s.engine.Docker(ctx, "inspect", "--format", "{{.State.Running}}", container)
		if err != nil || state != "true" {
			return fmt.Errorf("the stack that is kept up does not run any more (container %s): make down removes it", container)
		}
	}
	if err := makeWhole(ctx, kept); err != nil {
		return err
	}
	return s.refresh(ctx, kept)
}

// refresh brings what is made from this checkout up to date in a kept testbed.
func (s *Session) refresh(ctx context.Context, kept *testbed.Testbed) error {
	reference, archive, err := s.maker.Agent(ctx)
	if err != nil {
		return err
	}
	if reference != kept.AgentImage {
		nodes := &cluster.Cluster{Nodes: kept.Nodes, Engine: s.engine}
		if err := nodes.ImportImage(ctx, reference, archive); err != nil {
			return err
		}
		kept.AgentImage = reference
	}
	gateway, err := s.maker.Gateway(ctx)
	if err != nil {
		return err
	}
	if gateway != kept.Images.Gateway {
		return errors.New("the stack that is kept up has a gateway of other sources than this checkout's: make down removes it")
	}
	return nil
}

// tearDown removes everything of a run. It has its own time: an interrupt must not stop it.
func (s *Session) tearDown(run *runs.Run) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	end := s.phases.Start("clean-up")
	task := s.Log.Task("cleaning up")
	_, err := runs.Remove(ctx, s.engine, run.ID)
	if err == nil {
		err = run.Forget()
	}
	end(err)
	return task.Done(err)
}
