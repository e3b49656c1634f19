package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/smart-restore/conformance/harness/blind"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/report/promises"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/timing"
	"github.com/smart-restore/conformance/harness/verdict"
)

const (
	// interruptPatience is how long the specs may take to stop: they end, save what there is to see, and put back what they took
	// from the platform.
	interruptPatience = 30*time.Second + 40*time.Second + 2*time.Minute
	// pipePatience is how long a process that a spec left behind may hold Ginkgo's output.
	pipePatience = 5 * time.Second
)

// spec is a spec as the suite lists it.
type spec struct {
	ID, Sentence string
	Labels       []string
	Selected     bool
}

// binaries are Ginkgo and the compiled specs: those that the Makefile built beside this program, else made now.
func (s *Session) binaries(ctx context.Context) (ginkgo, suite string, err error) {
	if s.suiteDir == "" {
		if s.suiteDir, err = s.compileSuite(ctx); err != nil {
			return "", "", err
		}
	}
	return filepath.Join(s.suiteDir, "ginkgo"), filepath.Join(s.suiteDir, "e2e.test"), nil
}

func (s *Session) compileSuite(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(self), "e2e.test")); err == nil {
		return filepath.Dir(self), nil
	}
	task := s.Log.Task("compiling the specs")
	modules := &gomod.Builder{Cache: s.Cache}
	dir, err := modules.Suite(ctx, func(packages int) { task.Status("%d packages compiled", packages) })
	return dir, task.Done(err)
}

func ids(specs []spec) (ids []string) {
	for _, sp := range specs {
		ids = append(ids, sp.ID)
	}
	return ids
}

// listSpecs asks the suite for its specs, and which of them are selected, without running any. The selection that it
// returns is of one spec alone where the focus is its ID.
func (s *Session) listSpecs(ctx context.Context, sel selection) ([]spec, selection, error) {
	ginkgo, suite, err := s.binaries(ctx)
	if err != nil {
		return nil, sel, err
	}
	dir, err := s.Cache.Temp()
	if err != nil {
		return nil, sel, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args := slices.Concat([]string{"--dry-run", "--silence-skips", "--output-dir=" + dir, "--json-report=list.json"}, sel.args(), []string{suite})
	cmd := exec.CommandContext(ctx, ginkgo, args...)
	cmd.Env = append(os.Environ(), scenario.HistoryVariable+"="+s.history)
	out, runErr := cmd.CombinedOutput()
	raw, err := os.ReadFile(filepath.Join(dir, "list.json"))
	if err != nil {
		return nil, sel, fmt.Errorf("list the specs: %w\n%s", errors.Join(runErr, err), out)
	}
	specs, err := specsIn(raw)
	if err != nil {
		return nil, sel, fmt.Errorf("list the specs: %w", err)
	}
	return specs, sel.onID(specs), nil
}

// specsIn are the specs in Ginkgo's JSON report of a dry run, by ID.
func specsIn(raw []byte) ([]spec, error) {
	var reports []types.Report
	if err := json.Unmarshal(raw, &reports); err != nil {
		return nil, fmt.Errorf("the report of Ginkgo cannot be read: %w", err)
	}
	if len(reports) != 1 {
		return nil, fmt.Errorf("the report of Ginkgo is of %d suites, want 1", len(reports))
	}
	var specs []spec
	for _, r := range reports[0].SpecReports {
		if !r.LeafNodeType.Is(types.NodeTypeIt) {
			continue
		}
		id, sentence, _ := strings.Cut(r.LeafNodeText, " ")
		specs = append(specs, spec{ID: id, Sentence: sentence, Labels: r.Labels(), Selected: r.State.Is(types.SpecStatePassed)})
	}
	slices.SortFunc(specs, func(a, b spec) int { return strings.Compare(a.ID, b.ID) })
	return specs, nil
}

// checkRequirements refuses policies of which a contract names requirements that no spec has. The specs are listed once, and only for a
// contract that names any.
func (s *Session) checkRequirements(ctx context.Context, policies ...*policy.Policy) error {
	if !slices.ContainsFunc(policies, func(p *policy.Policy) bool { return p.Contract.NamesRequirements() }) {
		return nil
	}
	specs, _, err := s.listSpecs(ctx, selection{})
	if err != nil {
		return err
	}
	for _, p := range policies {
		if err := p.Contract.CheckRequirements(ids(specs)); err != nil {
			return fmt.Errorf("POLICY=%s: %w", policy.Shown(p.Path), err)
		}
	}
	return nil
}

// List shows every spec with its requirement, and whether the settings select it.
func (s *Session) List(ctx context.Context) error {
	specs, sel, err := s.listSpecs(ctx, s.selected())
	if err != nil {
		return err
	}
	if err := sel.check(specs); err != nil {
		return err
	}
	for _, sp := range specs {
		mark := " "
		if !sp.Selected {
			mark = "-"
		}
		fmt.Fprintf(s.Out, "%s %-28s [%s]\n      %s\n", mark, sp.ID, strings.Join(sp.Labels, ", "), sp.Sentence)
		if f := verdict.FeatureOf(sp.Labels); f != "" {
			fmt.Fprintf(s.Out, "      only where the policy promises %s\n", f)
		}
	}
	return nil
}

// Promises puts policies beside each other by what their contracts say of the specs' requirements: those named, or POLICY. The
// table goes into a Markdown file, where one is named.
func (s *Session) Promises(ctx context.Context, paths []string, file string) error {
	if len(paths) == 0 {
		paths = []string{s.Settings.Policy}
	}
	table, err := s.promises(ctx, paths)
	if err != nil {
		return err
	}
	if file != "" {
		return promises.Block.WriteInto(file, table)
	}
	_, err = io.WriteString(s.Out, table)
	return err
}

func (s *Session) promises(ctx context.Context, paths []string) (string, error) {
	var contracts []policy.Contract
	for _, path := range paths {
		p, err := policy.Load(path, endpoint.Endpoint{})
		if err != nil {
			return "", err
		}
		contracts = append(contracts, p.Contract)
	}
	specs, err := s.promisable(ctx)
	if err != nil {
		return "", err
	}
	return promises.Table(contracts, specs, s.Lock.Stacks)
}

// promisable are the specs whose requirements a contract promises, or does not.
func (s *Session) promisable(ctx context.Context) (specs []promises.Spec, err error) {
	all, _, err := s.listSpecs(ctx, selection{})
	for _, sp := range all {
		specs = append(specs, promises.Spec{ID: sp.ID, Labels: sp.Labels})
	}
	return specs, err
}

// runSpecs runs the selected specs in Ginkgo's parallel processes. It returns Ginkgo's JSON report, also where specs
// failed; the error is about specs that could not be run.
func (r *e2eRun) runSpecs(ctx context.Context, testbedFile string) ([]byte, error) {
	ginkgo, suite, err := r.binaries(ctx)
	if err != nil {
		return nil, err
	}
	file, err := os.Create(r.artifacts.GinkgoLog())
	if err != nil {
		return nil, err
	}
	output := r.redactor.Writer(file)
	defer func() { _ = errors.Join(output.Close(), file.Close()) }()
	args := slices.Concat([]string{
		"--procs=" + strconv.Itoa(r.Settings.Procs), "--no-color", "-v", "--timeout=" + timing.Setup.Suite.String(), "--grace-period=" + timing.Setup.Grace.String(),
		"--output-dir=" + string(r.artifacts), "--json-report=" + filepath.Base(r.artifacts.GinkgoJSON()), "--junit-report=" + filepath.Base(r.artifacts.GinkgoJUnit()),
	}, r.selection.args(), []string{suite})
	cmd := exec.Command(ginkgo, args...)
	cmd.Env = append(os.Environ(), env.TestbedVariable+"="+testbedFile, env.ArtifactsVariable+"="+string(r.artifacts),
		env.ScaleVariable+"="+strconv.FormatFloat(r.Settings.TimeScale, 'g', -1, 64), blind.Variable+"="+r.blind,
		scenario.HistoryVariable+"="+r.history, scenario.PicturesVariable+"="+map[bool]string{true: "1"}[r.pictured])
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = pipePatience
	// A group of its own: a Ctrl-C at the terminal reaches us alone, and we pass it on once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stopTail := r.tailProgress(r.artifacts.Progress())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var runErr error
	select {
	case runErr = <-done:
	case <-ctx.Done():
		r.Log.Printf("interrupted: stopping the specs")
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) // the whole group, as a terminal would: Ginkgo counts on that
		select {
		case runErr = <-done:
		case <-time.After(interruptPatience):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			runErr = <-done
		}
		runErr = errors.Join(ctx.Err(), runErr)
	}
	stopTail()
	raw, err := os.ReadFile(r.artifacts.GinkgoJSON())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the specs left no report (what Ginkgo said is in %s)", file.Name()), runErr)
	}
	return raw, nil
}

// tailProgress shows what specs write to the progress file, as they write it, until the returned function is called.
func (s *Session) tailProgress(path string) (stop func()) {
	quit, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		var offset int64
		show := func() { offset += s.showProgress(path, offset) }
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				show()
				return
			case <-ticker.C:
				show()
			}
		}
	}()
	return func() { close(quit); <-finished }
}

func (s *Session) showProgress(path string, offset int64) (read int64) {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return 0
	}
	raw, err := io.ReadAll(file)
	if err != nil {
		return 0
	}
	whole := bytes.LastIndexByte(raw, '\n') + 1
	for line := range bytes.Lines(raw[:whole]) {
		var p env.ProgressLine
		if json.Unmarshal(line, &p) == nil {
			s.Log.Printf("%-24s %s", p.Spec, p.Text)
		}
	}
	return int64(whole)
}
