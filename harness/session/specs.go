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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/report/promises"
	"github.com/smart-restore/conformance/harness/verdict"
)

// interruptPatience is how long the specs may take to stop: they heal faults and dump what there is to see.
const interruptPatience = 45 * time.Second

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

// ginkgoArgs are the arguments that select specs.
func (s *Session) ginkgoArgs() []string {
	var args []string
	switch {
	case len(s.only) > 0:
		args = append(args, "--focus="+exactly(s.only))
	case s.Settings.Focus != "":
		args = append(args, "--focus="+s.Settings.Focus)
	}
	if s.Settings.Labels != "" {
		args = append(args, "--label-filter="+s.Settings.Labels)
	}
	return args
}

// exactly is a regular expression that matches the texts of the specs with these IDs, and no others'.
func exactly(ids []string) string {
	var quoted []string
	for _, id := range ids {
		quoted = append(quoted, regexp.QuoteMeta(id))
	}
	return "(^| )(" + strings.Join(quoted, "|") + ") "
}

// listSpecs asks the suite for its specs, and which of them are selected, without running any. A FOCUS that is the ID of
// a spec selects that one alone, not those whose IDs begin with it.
func (s *Session) listSpecs(ctx context.Context) ([]spec, error) {
	ginkgo, suite, err := s.binaries(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := s.Cache.Temp()
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args := slices.Concat([]string{"--dry-run", "--silence-skips", "--output-dir=" + dir, "--json-report=list.json"}, s.ginkgoArgs(), []string{suite})
	out, runErr := exec.CommandContext(ctx, ginkgo, args...).CombinedOutput()
	raw, err := os.ReadFile(filepath.Join(dir, "list.json"))
	if err != nil {
		return nil, fmt.Errorf("list the specs: %w\n%s", errors.Join(runErr, err), out)
	}
	var reports []types.Report
	if err := json.Unmarshal(raw, &reports); err != nil || len(reports) == 0 {
		return nil, fmt.Errorf("list the specs: Ginkgo's report cannot be read: %w", err)
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
	s.focusOnID(specs)
	return specs, nil
}

func (s *Session) focusOnID(specs []spec) {
	if !slices.Contains(ids(specs), s.Settings.Focus) {
		return
	}
	s.only = []string{s.Settings.Focus}
	for i := range specs {
		specs[i].Selected = specs[i].Selected && specs[i].ID == s.Settings.Focus
	}
}

var labelWords = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9-]*`)

// checkSelection refuses labels that no spec has, and a selection that selects nothing.
func (s *Session) checkSelection(specs []spec) error {
	var known []string
	selected := 0
	for _, sp := range specs {
		known = append(known, sp.Labels...)
		if sp.Selected {
			selected++
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	if !strings.Contains(s.Settings.Labels, "/") { // a regular expression in the filter has words of its own
		for _, word := range labelWords.FindAllString(s.Settings.Labels, -1) {
			if !slices.Contains(known, word) {
				return fmt.Errorf("LABELS=%s: no spec has the label %q; there are %s", s.Settings.Labels, word, strings.Join(known, ", "))
			}
		}
	}
	if selected == 0 {
		return fmt.Errorf("FOCUS=%q LABELS=%q select none of the %d specs: make list shows them", s.Settings.Focus, s.Settings.Labels, len(specs))
	}
	return nil
}

// List shows every spec with its requirement, and whether the settings select it.
func (s *Session) List(ctx context.Context) error {
	specs, err := s.listSpecs(ctx)
	if err != nil {
		return err
	}
	if err := s.checkSelection(specs); err != nil {
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
		return promises.Place.WriteInto(file, table)
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
	all, err := s.listSpecs(ctx)
	if err != nil {
		return "", err
	}
	var specs []promises.Spec
	for _, sp := range all {
		specs = append(specs, promises.Spec{ID: sp.ID, Labels: sp.Labels})
	}
	return promises.Table(contracts, specs, s.Lock.StackNames())
}

// runSpecs runs the selected specs in Ginkgo's parallel processes. It returns Ginkgo's JSON report, also where specs
// failed; the error is about specs that could not be run.
func (s *Session) runSpecs(ctx context.Context, testbedFile, artifacts string) ([]byte, error) {
	ginkgo, suite, err := s.binaries(ctx)
	if err != nil {
		return nil, err
	}
	output, err := os.Create(filepath.Join(artifacts, "ginkgo.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	args := slices.Concat([]string{
		"--procs=" + strconv.Itoa(s.Settings.Procs), "--no-color", "-v", "--timeout=60m", "--grace-period=30s",
		"--output-dir=" + artifacts, "--json-report=ginkgo.json", "--junit-report=ginkgo-junit.xml",
	}, s.ginkgoArgs(), []string{suite})
	cmd := exec.Command(ginkgo, args...)
	cmd.Env = append(os.Environ(), env.TestbedVariable+"="+testbedFile, env.ArtifactsVariable+"="+artifacts)
	cmd.Stdout, cmd.Stderr = output, output
	// A group of its own: a Ctrl-C at the terminal reaches us alone, and we pass it on once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stopTail := s.tailProgress(filepath.Join(artifacts, "progress.jsonl"))
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var runErr error
	select {
	case runErr = <-done:
	case <-ctx.Done():
		s.Log.Printf("interrupted: stopping the specs")
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
	raw, err := os.ReadFile(filepath.Join(artifacts, "ginkgo.json"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the specs left no report (what Ginkgo said is in %s)", output.Name()), runErr)
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
