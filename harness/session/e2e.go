package session

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/observe"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/redact"
	"github.com/smart-restore/conformance/harness/report/github"
	"github.com/smart-restore/conformance/harness/report/page"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
	"github.com/smart-restore/conformance/harness/verdict"
)

// ErrNotProven is the result of a run that came to its end and whose verdict is not good.
var ErrNotProven = errors.New("not every selected requirement was proven")

// e2eRun is the state of one E2E.
type e2eRun struct {
	*Session
	selection selection
	out       io.Writer
	phases    *verdict.PhaseTimer // the session's, unless it has several runs
	run       *runs.Run
	testbed   *testbed.Testbed
	kept      bool // the testbed was up before
	external  *externalCluster
	artifacts artifacts.Dir
	blind     string // a row of package blind; empty: nothing is broken
	auditFrom int64  // where in a kept stack's audit log this run begins
	report    *verdict.Report
	redactor  *redact.Redactor
	collector *observe.Collector
	followers sync.WaitGroup
	stopLogs  context.CancelFunc
}

// E2E runs the selected specs: on the kept stack, where there is one, else on one of its own. From when it has an
// artifacts folder it writes the report whatever happens. It returns nil only if every selected requirement was proven.
func (s *Session) E2E(ctx context.Context) error {
	if _, err := external.ChosenBy(s.Settings.External); err != nil { // before anything is compiled
		return err
	}
	specs, sel, err := s.listSpecs(ctx, s.selected())
	if err != nil {
		return err
	}
	p, err := s.policyFor(specs, sel)
	if err != nil {
		return err
	}
	return s.e2e(ctx, specs, sel, p)
}

// policyFor reads the policy for specs that were listed, and refuses a selection or a policy that cannot be run.
func (s *Session) policyFor(specs []spec, sel selection) (*policy.Policy, error) {
	if err := sel.check(specs); err != nil {
		return nil, err
	}
	p, err := s.loadPolicy()
	if err != nil {
		return nil, errors.Join(err, s.annotate(p, err))
	}
	if err := p.Contract.CheckRequirements(ids(specs)); err != nil {
		return nil, fmt.Errorf("POLICY=%s: %w", p.Path, err)
	}
	return p, nil
}

// e2e is E2E of what was read already.
func (s *Session) e2e(ctx context.Context, specs []spec, sel selection, p *policy.Policy) error {
	if s.Settings.External.Context != "" {
		return s.onExternalCluster(ctx, specs, sel, p)
	}
	if err := s.preflight(); err != nil {
		return err
	}
	s.checkFirst(ctx, p)
	folder, err := s.newArtifacts()
	if err != nil {
		return err
	}
	return s.newE2E(p, sel, folder).toVerdict(ctx, p)
}

func onGitHub() bool { return os.Getenv("GITHUB_ACTIONS") == "true" }

// annotate shows what was found in a policy where GitHub shows it.
func (s *Session) annotate(p *policy.Policy, found error) error {
	var problems []error
	for _, finding := range policy.FindingsIn(found) {
		if onGitHub() {
			problems = append(problems, github.Finding(s.Out, p, finding.Requirement, finding.Text))
		}
	}
	return errors.Join(problems...)
}

// newE2E begins a report on a policy.
func (s *Session) newE2E(p *policy.Policy, sel selection, folder string) *e2eRun {
	r := &e2eRun{Session: s, selection: sel, out: s.Out, phases: &s.phases, artifacts: artifacts.Dir(folder), redactor: redact.NewRedactor(), report: &verdict.Report{
		Run: verdict.Run{Suite: SuiteRevision()},
		Implementation: verdict.Implementation{
			Policy: policy.Shown(p.Path), Name: p.Contract.Name, Description: p.Contract.Description, SHA256: p.SHA256, Objects: p.Describe(),
			Features: verdict.FeatureSupport{Declared: p.Contract.Features},
		},
		Stack: verdict.Stack{Name: s.Stack.Name, Endpoint: p.Endpoint.URL, Images: s.Settings.Images, Requested: s.Stack.Versions},
		Selection: verdict.Selection{
			Focus: sel.focus, Labels: sel.labels, Whole: sel.whole, EndpointSetting: s.Settings.S3Endpoint.URL, Procs: s.Settings.Procs, Keep: string(s.Settings.Keep), RerunOf: sel.rerunOf,
		},
	}}
	if s.Stack.Nodes > 1 {
		r.report.Stack.Nodes = s.Stack.Nodes
	}
	r.report.Redact = r.redactor.Bytes
	times := timing.Default().Scaled(s.Settings.TimeScale)
	r.report.Timings = verdict.Timings{Scale: s.Settings.TimeScale, Seconds: timing.All(times)}
	r.report.Run.Started = time.Now().UTC()
	return r
}

// toVerdict proves what can be proven and writes the report whatever happens.
func (r *e2eRun) toVerdict(ctx context.Context, p *policy.Policy) error {
	setupErr := r.prove(ctx, p)
	if setupErr != nil {
		r.report.SetupError = setupErr.Error()
	}
	if ctx.Err() != nil {
		r.report.SuiteErrors = append(r.report.SuiteErrors, "the run was interrupted")
	}
	if err := r.finish(ctx); setupErr == nil || !errors.Is(err, ErrNotProven) {
		return err
	}
	return setupErr
}

// newArtifacts makes a folder for a run, and lets artifacts/latest point at it.
func (s *Session) newArtifacts() (string, error) {
	name := time.Now().UTC().Format("20060102T150405.000Z")
	folder := filepath.Join(s.Settings.Artifacts, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("ARTIFACTS=%s: %w", s.Settings.Artifacts, err)
	}
	latest := filepath.Join(s.Settings.Artifacts, "latest")
	_ = os.Remove(latest)
	_ = os.Symlink(name, latest) // a convenience
	return folder, nil
}

// getReady gets the testbed with the policy acting on it.
func (r *e2eRun) getReady(ctx context.Context, p *policy.Policy) error {
	if r.external != nil {
		return r.attach(ctx, p)
	}
	if r.engine == nil {
		if err := r.startEngine(ctx); err != nil {
			return err
		}
	}
	version, _ := r.engine.Version(ctx)
	r.report.Run.Host = r.host(version)
	if err := r.getTestbed(ctx, p); err != nil {
		return err
	}
	return r.testbed.ApplyPolicy(ctx, p)
}

// prove gets the testbed, runs the specs and takes their results. Its error is about what kept it from doing so.
func (r *e2eRun) prove(ctx context.Context, p *policy.Policy) error {
	if err := r.getReady(ctx, p); err != nil {
		return err
	}
	r.report.Stack.Observed = r.observed(ctx)
	testbedFile := artifacts.Private(r.run.Dir).Testbed()
	raw, err := json.Marshal(r.testbed)
	if err != nil {
		return err
	}
	if err := os.WriteFile(testbedFile, raw, 0o600); err != nil {
		return err
	}
	end := r.phases.Start("specs")
	ginkgoReport, err := r.runSpecs(ctx, testbedFile)
	end(err)
	if err != nil {
		return err
	}
	results, info, err := verdict.FromGinkgo(bytes.NewReader(ginkgoReport))
	if err != nil {
		return err
	}
	r.report.Add(results, info)
	r.report.Partial = r.selection.inWords(r.report.Partial)
	r.report.Expect(p.Contract.Reasons())
	if err := r.recheckAbsences(ctx); err != nil {
		r.report.SuiteErrors = append(r.report.SuiteErrors, "rechecking, after all specs, what must not have happened: "+err.Error())
		absences, _ := os.ReadFile(r.artifacts.Absences())
		unseen(r.report, absences, err)
	}
	for i := range r.report.Requirements {
		r.report.Requirements[i].Rerun = r.rerunLine(r.report.Requirements[i].ID)
	}
	return nil
}

// rerunLine is the command that runs one spec alone, on the same policy and stack.
func (r *e2eRun) rerunLine(id string) string {
	line := verdict.RerunLine(id)
	if r.history != "" {
		line = "make e2e REPLAY=" + verdict.Quote(policy.Shown(r.history))
	}
	for _, setting := range settings.All() {
		value := r.Settings.Value(setting.Name)
		switch setting.Name {
		case "FOCUS", "LABELS", "PROCS", "KEEP", "ARTIFACTS", "PLAN":
			continue // how it was run, not on what
		case "STACK":
			value = r.Stack.Name
			if r.Settings.External.Context != "" {
				value = ""
			}
		case "POLICY":
			value = r.report.Implementation.Policy
		case "KUBECONFIG":
			if r.Settings.External.Context == "" {
				value = ""
			}
		}
		if value != "" && value != cmp.Or(setting.Default, r.Lock.DefaultStack) {
			line += " " + setting.Name + "=" + verdict.Quote(value)
		}
	}
	if source, err := gomod.FindSelf(); err == nil && source.Version != "" { // there is no Makefile
		line = strings.TrimPrefix(line, "make e2e ") + " go run " + source.Command() + " test"
	}
	return line
}

// getTestbed uses the kept testbed or puts one up for the policy, and begins to collect what happens.
func (r *e2eRun) getTestbed(ctx context.Context, p *policy.Policy) (err error) {
	kept := &testbed.Testbed{}
	if r.run, err = runs.Kept(r.runsDir(), kept); err != nil {
		return err
	}
	if r.run != nil {
		r.take(r.run, kept)
		if err := r.usable(ctx, kept, p); err != nil {
			r.run.Release()
			r.run = nil
			return err
		}
		age := time.Since(kept.CreatedAt).Round(time.Second)
		r.Log.Printf("using the stack that is kept up (run %s, %s old); make down removes it", kept.RunID, age)
		r.kept, r.testbed = true, kept
		r.report.Run.ID = r.run.ID
		r.report.Selection.KeptStack = true
		r.report.Partial = append(r.report.Partial, fmt.Sprintf("it ran on a stack that had been up for %s", age))
		return r.observe(kept)
	}
	if r.run, err = runs.New(r.runsDir()); err != nil {
		return err
	}
	r.report.Run.ID = r.run.ID
	r.testbed, err = r.putUp(ctx, r.run, p, r.observe, r.prepare)
	return err
}

// prepare makes what all specs share, while Kyverno is still starting.
func (r *e2eRun) prepare(ctx context.Context, up *testbed.Testbed) error {
	suite, err := scenario.Open(up, string(r.artifacts))
	if err != nil {
		return err
	}
	return errors.Join(suite.Prepare(ctx), suite.Close())
}

// observe begins to collect logs and events of the testbed, from now on.
func (r *e2eRun) observe(up *testbed.Testbed) error {
	r.redactor.Add(up.Credentials.Secrets()...)
	if info, err := os.Stat(up.AuditLog); err == nil && r.kept {
		r.auditFrom = info.Size()
	}
	client, err := up.Client()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stopLogs = stop
	for _, container := range up.Store.Containers {
		if err := r.followContainer(ctx, container); err != nil {
			return err
		}
	}
	r.collector, err = observe.StartCollector(ctx, client.RESTConfig(), string(r.artifacts), observe.Options{
		Namespace: func(namespace string) bool {
			return namespace != "kube-system" && namespace != "kube-public" && namespace != "kube-node-lease" && namespace != "local-path-storage"
		},
		Redact: r.redactor,
	})
	return err
}

// followContainer streams a container's log into the artifacts until ctx ends.
func (r *e2eRun) followContainer(ctx context.Context, container string) error {
	if err := os.MkdirAll(r.artifacts.S3Logs(), 0o755); err != nil {
		return err
	}
	file, err := os.Create(r.artifacts.S3Log(container))
	if err != nil {
		return err
	}
	args := []string{"logs", "--follow"}
	if r.kept {
		args = append(args, "--since", r.report.Run.Started.Format(time.RFC3339))
	}
	cmd := exec.CommandContext(ctx, "docker", append(args, container)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+r.engine.Host)
	out := r.redactor.Writer(file)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	r.followers.Go(func() {
		_ = cmd.Wait() // ends with ctx or with the container
		_ = errors.Join(out.Close(), file.Close())
	})
	return nil
}

// observed asks the cluster for the versions that run in it.
func (r *e2eRun) observed(ctx context.Context) map[string]verdict.Component {
	components := map[string]verdict.Component{}
	client, err := r.testbed.Client()
	if err != nil {
		return components
	}
	api := client.Resources().GetControllerRuntimeClient()
	nodes, pods := &corev1.NodeList{}, &corev1.PodList{}
	if err := api.List(ctx, nodes); err == nil && len(nodes.Items) > 0 {
		info := nodes.Items[0].Status.NodeInfo
		components["kubernetes"] = verdict.Component{Version: info.KubeletVersion}
		components["container runtime"] = verdict.Component{Version: info.ContainerRuntimeVersion}
	}
	if err := api.List(ctx, pods); err == nil {
		for _, pod := range pods.Items {
			if !slices.Contains(r.platform(), pod.Namespace) {
				continue
			}
			for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
				components[pod.Namespace+"/"+status.Name] = verdict.Component{Version: tagOf(status.Image), Image: status.Image, ImageID: status.ImageID}
			}
		}
	}
	for _, container := range r.testbed.Store.Containers {
		if out, err := r.engine.Docker(ctx, "inspect", "--format", "{{.Config.Image}} {{.Image}}", container); err == nil {
			image, id, _ := strings.Cut(out, " ")
			components["s3/"+container[strings.LastIndexByte(container, '-')+1:]] = verdict.Component{Version: tagOf(image), Image: image, ImageID: id}
		}
	}
	return components
}

// platform are the namespaces of what the policy runs on.
func (r *e2eRun) platform() []string {
	if r.external != nil {
		return r.external.Platform
	}
	return r.testbed.SystemNamespaces()
}

// tagOf is the tag of an image's reference.
func tagOf(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	return reference[strings.LastIndexByte(reference, ':')+1:]
}

// recheckAbsences asks the audit log, after all specs, once more for what a spec has proven not to have happened while it ran.
func (r *e2eRun) recheckAbsences(ctx context.Context) error {
	if r.external != nil {
		return nil // a watch knows of nothing after its end
	}
	raw, err := os.ReadFile(r.artifacts.Absences())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	audit := creations.OpenAudit(r.testbed.AuditLog)
	defer func() { _ = audit.Close() }()
	if err := auditIsCurrent(ctx, r.markAudit, audit.Covers); err != nil {
		return err
	}
	scanner := bufio.NewScanner(bytes.NewReader(raw))
	for scanner.Scan() {
		var absence absence.Absence
		if err := json.Unmarshal(scanner.Bytes(), &absence); err != nil {
			return err
		}
		found, err := absence.Violations(ctx, audit)
		if err != nil {
			return err
		}
		for i := range r.report.Requirements {
			result := &r.report.Requirements[i]
			if result.ID != absence.Spec || len(found) == 0 || result.Verdict != verdict.Pass {
				continue
			}
			result.Verdict = verdict.Fail
			result.Message = "after the spec was done, what must not be was made: " + strings.Join(found, "; ")
		}
	}
	return scanner.Err()
}

// finish ends the collection, decides whether the stack stays, writes the reports and says how it went. They are written
// twice: before clean-up, should that be killed, and after it, with its time.
func (r *e2eRun) finish(ctx context.Context) error {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var problems []error
	if r.collector != nil {
		closing, cancel := context.WithTimeout(cleanup, 20*time.Second)
		problems = append(problems, r.collector.Close(closing))
		cancel()
	}
	if r.stopLogs != nil {
		r.stopLogs()
		r.followers.Wait()
	}
	if r.testbed != nil && r.external == nil {
		problems = append(problems, saveAudit(r.testbed.AuditLog, r.auditFrom, r.artifacts.AuditLog(), r.redactor.Writer))
	}
	// Ginkgo's own files were read as they are; from here on they are redacted.
	problems = append(problems, redact.Files(r.redactor, r.artifacts.OfGinkgo()...))
	problems = append(problems, r.writeReport())
	if r.external != nil {
		problems = append(problems, r.leave(ctx)...)
	} else if r.run != nil {
		problems = append(problems, r.keepOrRemove(cleanup))
	}
	for _, err := range problems {
		if err != nil {
			r.report.SuiteErrors = append(r.report.SuiteErrors, err.Error())
		}
	}
	r.report.Run.Ended = time.Now().UTC()
	if err := r.writeReport(); err != nil {
		return err
	}
	if err := r.noSecretIn(r.artifacts); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "\nreport, logs and events: %s\nopen in a browser:       %s\n\n", r.artifacts, r.artifacts.Page())
	if err := r.report.Summary(r.out, false); err != nil {
		return err
	}
	if onGitHub() {
		if err := github.Annotate(r.out, r.report); err != nil {
			return err
		}
	}
	if !r.report.OK() {
		return ErrNotProven
	}
	return nil
}

// keepOrRemove keeps the stack where that is wanted, and removes it otherwise.
func (r *e2eRun) keepOrRemove(ctx context.Context) error {
	_ = os.Remove(artifacts.Private(r.run.Dir).Testbed())
	if r.wantsKeeping() {
		return r.keep(ctx)
	}
	return r.tearDown(r.run)
}

// noSecretIn looks for the run's secrets in all that it has written. One that is found is an error of the suite's, which the
// report then says.
func (r *e2eRun) noSecretIn(dir artifacts.Dir) error {
	if r.testbed == nil {
		return nil
	}
	leaks, err := redact.Scan(string(dir), r.testbed.Credentials.Secrets())
	if err != nil {
		r.report.SuiteErrors = append(r.report.SuiteErrors, "the artifacts could not be searched for secrets: "+err.Error())
	}
	for _, leak := range leaks {
		r.report.SuiteErrors = append(r.report.SuiteErrors, leak.String())
	}
	if err == nil && len(leaks) == 0 {
		return nil
	}
	return r.writeReport()
}

func (r *e2eRun) writeReport() error {
	r.report.Phases = r.phases.Phases()
	err := errors.Join(r.report.Write(string(r.artifacts)), r.report.WriteJUnit(r.artifacts.JUnit()), page.Write(string(r.artifacts), r.report))
	if !r.report.Run.Ended.IsZero() {
		err = errors.Join(err, ToStepSummary(r.report.Markdown))
	}
	return err
}
