package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/images"
	"github.com/smart-restore/conformance/harness/observe"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/verdict"
)

const (
	// leakPatience is how long what was deleted may take to be gone.
	leakPatience = 30 * time.Second
)

// externalSuite is what leave needs of a scenario.Suite.
type externalSuite interface {
	EmptyBucket(ctx context.Context) (left []string, err error)
	LeftInBucket(ctx context.Context) (left []string, err error)
	Close() error
}

// externalCluster is a cluster that was there before, as a run uses it.
type externalCluster struct {
	*external.Plan
	kubeconfig string
	api        client.Client
	suite      externalSuite // nil: nothing was made in bucket and cluster
	made       []*unstructured.Unstructured
}

// onExternalCluster runs the selected specs on a cluster that is there. Nothing is made in it before the plan was shown, and
// nothing if anything speaks against it.
func (s *Session) onExternalCluster(ctx context.Context, specs []spec, sel selection, p *policy.Policy) error {
	chosen, err := external.ChosenBy(s.Settings.External)
	if err != nil {
		return err
	}
	run, err := runs.New(s.runsDir())
	if err != nil {
		return err
	}
	cluster, err := s.planFor(ctx, run, chosen, specs, p)
	if err == nil {
		fmt.Fprintf(s.Out, "\n%s\n\n", strings.Join(cluster.Lines(), "\n"))
		if n := len(cluster.Refusals); n > 0 {
			err = fmt.Errorf("the run is refused for the %d reasons above; nothing was made", n)
		}
	}
	if err != nil || s.Settings.External.PlanOnly {
		return errors.Join(err, run.Forget())
	}
	folder, err := s.newArtifacts()
	if err != nil {
		return errors.Join(err, run.Forget())
	}
	r := s.newE2E(p, sel, folder)
	r.run, r.external = run, cluster
	r.report.Run.ID = run.ID
	r.report.Run.Host = s.host("")
	r.report.Stack = verdict.Stack{Name: "external cluster " + chosen.Cluster, Endpoint: p.Endpoint.URL, Images: s.Settings.Images, ExternalCluster: verdict.ExternalCluster{
		Name: chosen.Cluster, Context: chosen.Context, BaseSecretFrom: s.Settings.External.BaseSecretFrom, Plan: cluster.Lines(),
	}}
	r.report.Partial = append(r.report.Partial, "it ran on a cluster that was there before: there is no audit log, so that something did not happen is known from a watch while each spec ran, and was not looked at again after all of them")
	r.redactor.Add(cluster.Credentials.Secrets()...)
	return r.toVerdict(ctx, p)
}

// planFor looks at the cluster and says what the run would do there.
func (s *Session) planFor(ctx context.Context, run *runs.Run, chosen *external.Chosen, specs []spec, p *policy.Policy) (*externalCluster, error) {
	cluster := &externalCluster{kubeconfig: filepath.Join(run.Dir, "kubeconfig")}
	if err := chosen.Write(cluster.kubeconfig); err != nil {
		return nil, err
	}
	kube, err := (&testbed.Testbed{Kubeconfig: cluster.kubeconfig, External: &testbed.External{}}).Client()
	if err != nil {
		return nil, err
	}
	cluster.api = kube.Resources().GetControllerRuntimeClient()
	request := external.Request{RunID: run.ID, Chosen: chosen, BaseSecretFrom: s.Settings.External.BaseSecretFrom, Policy: p}
	facts, err := external.Look(ctx, cluster.api, request)
	if err != nil {
		return nil, err
	}
	cluster.Plan = &external.Plan{Request: request, Facts: facts, Untestable: map[string][]string{}}
	for _, sp := range specs {
		if !sp.Selected {
			continue
		}
		lack := (&testbed.Testbed{External: &testbed.External{}}).Lacks(sp.needs()...)
		switch {
		case p.Contract.NotPromised(sp.Labels) != "":
			cluster.NotAsked = append(cluster.NotAsked, sp.ID)
		case lack != "":
			cluster.Untestable[lack] = append(cluster.Untestable[lack], sp.ID)
		default:
			cluster.Provable = append(cluster.Provable, sp.ID)
		}
	}
	return cluster, nil
}

// needs are the spec's labels that say what it needs of a testbed.
func (sp spec) needs() []string {
	return slices.DeleteFunc(slices.Clone(sp.Labels), func(label string) bool { return testbed.ExternalLacks[label] == "" })
}

// attach makes in the cluster what all specs share, and waits until the policy acts.
func (r *e2eRun) attach(ctx context.Context, p *policy.Policy) error {
	end := r.phases.Start("attach")
	err := r.makeExternal(ctx, p)
	end(err)
	if err != nil {
		return err
	}
	return r.testbed.SeePolicyAct(ctx)
}

func (r *e2eRun) makeExternal(ctx context.Context, p *policy.Policy) error {
	agent, err := images.New(r.Lock, images.Mode(r.Settings.Images), r.Cache, fixtures.Files, nil, r.Log).AgentBinary(ctx)
	if err != nil {
		return err
	}
	r.testbed = testbed.Attach(testbed.AttachOptions{
		Run: r.run, Cluster: r.external.Chosen.Cluster, Kubeconfig: r.external.kubeconfig, Agent: agent, MoverImage: r.external.MoverImage,
		Credentials: r.external.Credentials, Policy: p, Phases: r.phases.Start, Log: r.Log,
	})
	kube, err := r.testbed.Client()
	if err != nil {
		return err
	}
	ours := func(namespace string) bool { return strings.HasPrefix(namespace, testbed.NamespacePrefix(r.run.ID)) }
	if r.collector, err = observe.StartCollector(ctx, kube.RESTConfig(), string(r.artifacts), observe.Options{Namespace: ours, Events: ours, Redact: r.redactor}); err != nil {
		return err
	}
	suite, err := scenario.Open(r.testbed, string(r.artifacts))
	if err != nil {
		return err
	}
	r.external.suite = suite
	task := r.Log.Task("a pod to look at %s from inside the cluster", r.testbed.Endpoint.URL)
	if err := task.Done(suite.PrepareExternal(ctx)); err != nil {
		return err
	}
	if !r.external.MakePolicy {
		return nil
	}
	if err := external.StillNobodys(ctx, r.external.api, r.external.Request); err != nil {
		return err
	}
	r.external.made, err = external.MakePolicy(ctx, r.external.api, p, r.run.ID)
	return err
}

// The budgets of the steps in which a run leaves an external cluster. Volumes and finalizers may take their time.
const (
	policyBudget     = 30 * time.Second
	namespacesBudget = 3 * time.Minute
	bucketBudget     = 2 * time.Minute
	bucketListBudget = 30 * time.Second
	toolsBudget      = time.Minute
	leaksBudget      = leakPatience + 30*time.Second

	// leaveTimeout bounds leave.
	leaveTimeout = policyBudget + namespacesBudget + bucketBudget + bucketListBudget + toolsBudget + leaksBudget + 6*external.Grace
)

// leaveSteps delete what the run made in an external cluster and its bucket, and look for what is left of it.
func (r *e2eRun) leaveSteps() []external.Step {
	on := r.external
	steps := []external.Step{{Name: "delete the policy", Budget: policyBudget, Do: func(ctx context.Context) ([]string, error) {
		return nil, external.DeletePolicy(ctx, on.api, on.made)
	}}}
	if on.suite != nil {
		// The bucket is reached through the tools' namespace, and movers write to it as long as they are there.
		steps = append(steps,
			external.Step{Name: "delete the namespaces of specs", Budget: namespacesBudget, Do: func(ctx context.Context) ([]string, error) {
				return nil, external.DeleteNamespaces(ctx, on.api, r.run.ID, testbed.NamespacePrefix(r.run.ID)+"tools")
			}},
			external.Step{Name: "empty the bucket", Budget: bucketBudget, Do: func(ctx context.Context) ([]string, error) {
				_, err := on.suite.EmptyBucket(ctx)
				return nil, err
			}},
			external.Step{Name: "list the bucket", Budget: bucketListBudget, Lists: "objects of this run in the bucket " + on.Policy.Contract.S3.Bucket, Do: func(ctx context.Context) ([]string, error) {
				keys, err := on.suite.LeftInBucket(ctx)
				for i := range keys {
					keys[i] = "object " + keys[i] + " of the bucket " + on.Policy.Contract.S3.Bucket
				}
				return keys, err
			}})
	}
	return append(steps,
		external.Step{Name: "delete the namespaces", Budget: toolsBudget, Do: func(ctx context.Context) ([]string, error) {
			return nil, external.DeleteNamespaces(ctx, on.api, r.run.ID)
		}},
		external.Step{Name: "look for what is left", Budget: leaksBudget, Lists: "objects of this run in the cluster " + on.Chosen.Cluster, Do: func(ctx context.Context) ([]string, error) {
			return external.Leaks(ctx, on.api, r.run.ID, on.Policy, leakPatience)
		}})
}

// leave cleans up in an external cluster and says what is left. It has a time of its own, and an interrupt does not stop it.
func (r *e2eRun) leave(ctx context.Context) []error {
	end := r.phases.Start("clean-up")
	task := r.Log.Task("cleaning up in the cluster %s", r.external.Chosen.Cluster)
	left, problems := external.CleanUp(context.WithoutCancel(ctx), r.leaveSteps(), func(step string) { task.Status("%s", step) })
	if r.external.suite != nil {
		problems = append(problems, r.external.suite.Close())
	}
	problems = append(problems, r.run.Forget())
	if len(left) > 0 {
		problems = append(problems, fmt.Errorf("%d things of this run are left in the cluster %s or its bucket; delete them yourself: %s", len(left), r.external.Chosen.Cluster, strings.Join(left, "; ")))
	}
	r.report.Stack.ExternalCluster.Left = left
	err := errors.Join(problems...)
	end(err)
	if err == nil {
		r.Log.Printf("nothing of this run is left in the cluster %s and the bucket %s", r.external.Chosen.Cluster, r.external.Policy.Contract.S3.Bucket)
	}
	_ = task.Done(err)
	return problems
}
