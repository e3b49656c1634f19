// Package gitops is what Argo CD deploys: the suite commits to the git server beside it, makes an Application of the commit as a user
// has it, and judges by what Argo CD says, by the API server's audit log, and by what is on the volumes.
package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/claim"
	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/platform"
	"github.com/smart-restore/conformance/harness/policy"
)

// GitOps is what a spec has Argo CD deploy.
type GitOps struct {
	env      *env.Env
	claims   *claim.Claims
	platform *platform.Platform
}

// Of is what a spec has Argo CD deploy.
func Of(e *env.Env, claims *claim.Claims, p *platform.Platform) *GitOps { return &GitOps{e, claims, p} }

// wave is the annotation by which Argo CD deploys one thing after another: those of a wave are Healthy before it begins the next.
const wave = "argocd.argoproj.io/sync-wave"

// The waves. An app is in wave 0, as what has no annotation is.
const (
	controllersWave = "-2"
	policyWave      = "-1"
)

// PolicyFromGit has Argo CD deploy the policy, in place of the suite, and waits until it acts. When the spec has ended, the suite's is back.
func (g *GitOps) PolicyFromGit(ctx context.Context) *Application {
	g.withoutPolicy(ctx)
	a := g.application("policy")
	a.commit(ctx, annotated(g.env.Testbed.PolicyObjects(), wave, policyWave))
	a.deploy(ctx)
	a.Synced(ctx)
	g.acts(ctx)
	return a
}

// acts waits until the policy acts. That one which the suite has seen acting does not, once Argo CD has deployed it, fails the spec, unless it is
// Kyverno that cannot act: where its controllers are not all ready then, or one of them restarted meanwhile.
func (g *GitOps) acts(ctx context.Context) {
	e := g.env
	before := g.platform.Restarts(ctx)
	err := e.Testbed.PolicyActs(ctx, e.API, func(string, ...any) {})
	if errors.Is(err, install.ErrIdle) || errors.Is(err, install.ErrRefuses) || errors.Is(err, install.ErrNotReady) {
		if down := g.platform.KyvernoWasDown(ctx, before); down != "" {
			e.Unknownf("the policy does not act, and nor does Kyverno, whoever has deployed it: %s: %v", down, err)
		}
		e.Failf("the policy acts when the suite applies it, and not when Argo CD has deployed it: %v", err)
	}
	e.Must(err)
}

// withoutPolicy takes the policy away. Before the suite's is put back, what Argo CD has made of it is deleted.
func (g *GitOps) withoutPolicy(ctx context.Context) {
	e, objects := g.env, g.env.Testbed.PolicyObjects()
	g.platform.RemovePolicy(ctx)
	e.Must(install.NoPolicyActs(ctx, e.API))
	e.Undo("the cluster without the policy of Argo CD", func(ctx context.Context) error { return install.Remove(ctx, e.API, objects) })
}

// AppsFromGit has Argo CD deploy an app for each of these PVCs: the PVC, labelled, and a Deployment that uses it.
func (g *GitOps) AppsFromGit(ctx context.Context, pvcs ...string) *Application {
	a := g.application("apps")
	a.commit(ctx, g.apps(pvcs...))
	a.deploy(ctx)
	return a
}

// EverythingFromGit has Argo CD deploy everything at once, in its own order: Kyverno and VolSync, which are switched off by then, the
// policy, which is gone by then, and the apps.
func (g *GitOps) EverythingFromGit(ctx context.Context, pvcs ...string) *Application {
	g.withoutPolicy(ctx)
	objects := slices.Concat(
		annotated(g.controllers(), wave, controllersWave),
		annotated(g.env.Testbed.PolicyObjects(), wave, policyWave),
		g.apps(pvcs...))
	g.platform.Off(ctx, platform.Controller{Namespace: env.KyvernoNamespace})
	g.platform.Off(ctx, platform.VolSync)
	a := g.application("everything")
	a.within = g.env.Times.Storm
	a.commit(ctx, objects)
	a.deploy(ctx)
	return a
}

func (g *GitOps) application(name string) *Application {
	return &Application{of: g, name: g.env.Namespace + "-" + name, within: g.env.Times.Mover}
}

// controllers are the Deployments of Kyverno and VolSync, as they were installed.
func (g *GitOps) controllers() (deployments []*unstructured.Unstructured) {
	e := g.env
	if e.Testbed.Platform == nil {
		e.Unknownf("nobody has written down what was installed, which this deploys")
	}
	deployments, err := e.Testbed.Platform.InstalledObjects(func(o *unstructured.Unstructured) bool {
		return o.GetKind() == "Deployment" && slices.Contains([]string{env.KyvernoNamespace, platform.VolSync.Namespace}, o.GetNamespace())
	})
	e.Must(err)
	return deployments
}

// apps are PVCs and the Deployments that use them, as they are in git.
func (g *GitOps) apps(pvcs ...string) (objects []*unstructured.Unstructured) {
	for _, name := range pvcs {
		pvc := claim.Manifest(g.claims, name)
		objects = append(objects, g.manifest(pvc), g.manifest(g.deployment(pvc.Name)))
	}
	return objects
}

func (g *GitOps) deployment(pvc string) *appsv1.Deployment { return app.Deployment(g.env, pvc) }

// manifest is an object as a person writes it: without what the API server adds.
func (g *GitOps) manifest(object any) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	g.env.Must(err)
	delete(content, "status")
	clean(content)
	return &unstructured.Unstructured{Object: content}
}

// clean takes away what Go's types write for what is not set.
func clean(content map[string]any) {
	for key, value := range content {
		switch inner := value.(type) {
		case nil:
			delete(content, key)
		case map[string]any:
			clean(inner)
		}
	}
}

// annotated are copies of objects with one annotation more.
func annotated(objects []*unstructured.Unstructured, key, value string) (copies []*unstructured.Unstructured) {
	for _, object := range objects {
		object = object.DeepCopy()
		annotations := object.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[key] = value
		object.SetAnnotations(annotations)
		copies = append(copies, object)
	}
	return copies
}

// Claim is the app's PVC that Argo CD has made, and not an earlier one; nil: there was none.
func (a *Application) Claim(ctx context.Context, pvc string, earlier *claim.Claim) *claim.Claim {
	return claim.MadeFromGit(ctx, a.of.claims, pvc, earlier)
}

// Workload is the Deployment of a PVC.
func (a *Application) Workload(pvc string) *app.Workload {
	return app.Deployed(a.of.env, a.of.deployment(a.of.env.PVC(pvc)))
}

// Without commits that there is no such app, and waits until its PVC is gone.
func (a *Application) Without(ctx context.Context, pvc *claim.Claim) {
	e := a.of.env
	gone := a.of.apps(pvc.Name)
	a.commit(ctx, slices.DeleteFunc(slices.Clone(a.objects), func(o *unstructured.Unstructured) bool {
		return slices.ContainsFunc(gone, func(g *unstructured.Unstructured) bool {
			return g.GetKind() == o.GetKind() && g.GetName() == o.GetName()
		})
	}))
	for _, object := range gone {
		e.Arrange(ctx, object.GetKind()+" "+object.GetName()+" pruned", e.Times.Mover, e.Gone(object))
	}
}

// Again commits that there are these apps, too.
func (a *Application) Again(ctx context.Context, pvcs ...string) {
	a.commit(ctx, append(slices.Clone(a.objects), a.of.apps(pvcs...)...))
}

// SyncOptions commits the PVCs with these options of Argo CD's, and with another label, so that there is something to deploy.
func (a *Application) SyncOptions(ctx context.Context, options string) {
	a.commit(ctx, withOptions(a.objects, options, a.commits+1))
}

func withOptions(objects []*unstructured.Unstructured, options string, commit int) []*unstructured.Unstructured {
	changed := annotated(objects, "argocd.argoproj.io/sync-options", options)
	for i, object := range changed {
		if object.GetKind() != "PersistentVolumeClaim" {
			changed[i] = objects[i]
			continue
		}
		labels := object.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["example.com/commit"] = fmt.Sprint(commit)
		object.SetLabels(labels)
	}
	return changed
}

// Deleted deletes one of the policy's own objects by hand, and waits until Argo CD has made it again and the policy acts.
func (a *Application) Deleted(ctx context.Context) {
	e := a.of.env
	policies := policy.Kyverno(a.objects)
	if len(policies) == 0 {
		e.Unknownf("the policy has no object of Kyverno's that could be deleted")
	}
	current := policies[0].DeepCopy()
	e.Do(ctx, func(ctx context.Context) error { return e.API.Get(ctx, client.ObjectKeyFromObject(current), current) })
	deleted := current.GetUID()
	e.Do(ctx, func(ctx context.Context) error {
		return client.IgnoreNotFound(e.API.Delete(ctx, policies[0].DeepCopy()))
	})
	what := current.GetKind() + " " + current.GetName()
	e.Step("%s is deleted by hand", what)
	e.Arrange(ctx, what+" made again by Argo CD", e.Times.Platform, func(ctx context.Context) (await.State, error) {
		again := policies[0].DeepCopy()
		err := client.IgnoreNotFound(e.API.Get(ctx, client.ObjectKeyFromObject(again), again))
		return await.ReachedIf(again.GetUID() != "" && again.GetUID() != deleted && again.GetResourceVersion() != "", "it is not there"), err
	})
	a.of.acts(ctx)
}

// resync is how often Argo CD reconciles (fixtures/manifests/argo-cd).
const resync = 10 * time.Second

// StaySynced watches these Applications, while Argo CD reconciles each of them this often, and fails the spec as soon as one of them is not
// Synced and Healthy, or has a warning.
func (g *GitOps) StaySynced(ctx context.Context, times int, applications ...*Application) {
	since := g.env.Now()
	g.reconciled(ctx, times, applications...)
	g.noFight(ctx, since)
}

func (g *GitOps) reconciled(ctx context.Context, times int, applications ...*Application) {
	e, since := g.env, g.env.Now()
	reconciled, last := make([]int, len(applications)), make([]string, len(applications))
	watch := func(ctx context.Context) (string, error) {
		for i, a := range applications {
			now, err := a.status(ctx)
			if err != nil {
				return "", err
			}
			if wrong, err := now.wrong(a.revision); wrong != "" || err != nil {
				return a.String() + ": " + wrong, err
			}
			if last[i] != "" && last[i] != now.ReconciledAt {
				reconciled[i]++
			}
			last[i] = now.ReconciledAt
		}
		return "", nil
	}
	what := fmt.Sprintf("%v Synced and Healthy, without a warning", applications)
	e.Throughout(ctx, what, time.Duration(times)*resync, watch)
	for range times { // on a busy machine it takes Argo CD longer
		if slices.Min(reconciled) < times {
			e.Throughout(ctx, what, resync, watch)
		}
	}
	if slices.Min(reconciled) < times {
		e.Unknownf("Argo CD has reconciled %v %v times in %s, wanted %d", applications, reconciled, e.Now().Sub(since).Round(time.Second), times)
	}
	e.Evidence("seen", fmt.Sprintf("Argo CD has reconciled %v %v times", applications, reconciled), nil)
}

// mostWrites is how many writes of an object in a minute are no fight. Who fights at each of Argo CD's reconciliations makes six.
const mostWrites = 3

// noFight fails the spec where, since then, an object of the policy's or of the app's was written again and again.
func (g *GitOps) noFight(ctx context.Context, since time.Time) {
	e, until := g.env, g.env.Now()
	policies := map[string]bool{}
	for _, object := range e.Testbed.PolicyObjects() {
		policies[object.GetName()] = true
	}
	claim.AuditIsCurrent(ctx, g.claims)
	log := creations.OpenAudit(e.Testbed.AuditLog)
	defer func() { _ = log.Close() }()
	events, err := log.Events(ctx, creations.Query{Since: since, Until: until})
	e.Must(err)
	writes := writesOf(events, func(ref creations.ObjectRef) bool {
		return ref.Namespace == e.Namespace || ref.Namespace == "" && policies[ref.Name]
	})
	data := map[string]any{}
	for object, w := range writes {
		data[object] = w.String()
	}
	lasted := until.Sub(since)
	e.Evidence("audit", fmt.Sprintf("in %s, %d objects were written", lasted.Round(time.Second), len(writes)), data)
	if found := fights(writes, lasted); len(found) > 0 {
		e.Failf("in %s in which nothing changed in git, objects were written again and again: %s", lasted.Round(time.Second), strings.Join(found, "; "))
	}
}

// fights are the objects that were written more often than may be.
func fights(writes map[string]written, lasted time.Duration) (found []string) {
	for object, w := range writes {
		if float64(w.count) > mostWrites*lasted.Minutes() {
			found = append(found, object+" "+w.String())
		}
	}
	slices.Sort(found)
	return found
}

// written is how often an object was written, and by whom.
type written struct {
	count int
	users []string
}

func (w written) String() string {
	return fmt.Sprintf("%d times, by %s", w.count, strings.Join(w.users, " and "))
}

// writesOf counts the writes of each object, but for those of its status.
func writesOf(events []creations.AuditEvent, of func(creations.ObjectRef) bool) map[string]written {
	found := map[string]written{}
	for _, event := range events {
		ref := event.ObjectRef
		if ref.Subresource != "" || !event.Succeeded() || !of(ref) || !slices.Contains([]string{"create", "update", "patch", "delete"}, event.Verb) || event.DryRun() {
			continue
		}
		key := ref.Resource + " " + ref.Name
		w := found[key]
		w.count++
		if !slices.Contains(w.users, event.User.Username) {
			w.users = append(w.users, event.User.Username)
		}
		found[key] = w
	}
	return found
}

// RestoredOrSaySo fails the spec unless each of these apps found its backup, whole, when it first started. Where one did not, its PVC must
// not look like one that was restored, and nothing may be restored under the app.
func (a *Application) RestoredOrSaySo(ctx context.Context, pvcs ...string) {
	e := a.of.env
	var restored *claim.Claim
	var empty []*claim.Claim
	var workloads []*app.Workload
	for _, pvc := range pvcs {
		c, workload := a.Claim(ctx, pvc, nil), a.Workload(pvc)
		workload.Running(ctx)
		if workload.FoundTheBackup(ctx) {
			restored = c
			continue
		}
		empty, workloads = append(empty, c), append(workloads, workload)
	}
	e.Evidence("volume", fmt.Sprintf("%d of %d apps found their backup when they first started", len(pvcs)-len(empty), len(pvcs)), nil)
	if restored == nil {
		e.Failf("none of %d apps found its backup when it first started, though S3 holds one for each", len(pvcs))
	}
	if len(empty) == 0 {
		return
	}
	a.of.claims.NothingRestoredUnder(ctx, workloads...)
	for _, c := range empty {
		c.LooksUnlike(ctx, restored, "the app of PVC "+c.Name+" started without its backup, and nobody can see it")
	}
}

// WarnsOfEndpoints is a positive control: of a Service and its Endpoints for S3, as the plan first had it, Argo CD does warn.
func (a *Application) WarnsOfEndpoints(ctx context.Context) {
	e, before := a.of.env, a.objects
	var objects []*unstructured.Unstructured
	endpoint := e.Testbed.Endpoint.Addr
	for _, text := range []string{
		`{"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": %[1]q, "name": "s3"}, "spec": {"clusterIP": "None", "ports": [{"port": %[3]d}]}}`,
		`{"apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": %[1]q, "name": "s3"}, "subsets": [{"addresses": [{"ip": %[2]q}], "ports": [{"port": %[3]d}]}]}`,
	} {
		object := &unstructured.Unstructured{}
		e.Must(json.Unmarshal(fmt.Appendf(nil, text, e.Namespace, endpoint.Addr(), endpoint.Port()), &object.Object))
		objects = append(objects, object)
	}
	a.commit(ctx, append(slices.Clone(before), objects...))
	e.Arrange(ctx, a.String()+" with a warning of the Endpoints", e.Times.Platform, func(ctx context.Context) (await.State, error) {
		now, err := a.status(ctx)
		for _, c := range now.Conditions {
			if c.Type == excluded {
				return await.Reached(), err
			}
		}
		return await.NotYet("its conditions are %v", now.Conditions), err
	})
	e.Evidence("seen", "with a Service and Endpoints for S3 in git, Argo CD says "+excluded, nil)
	a.commit(ctx, before)
}
