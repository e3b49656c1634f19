// Package platform changes what all specs share: the policy, Kyverno, VolSync, the node. Whoever takes something away registers at
// that moment how to put it back (env.Undo). Specs that use it run alone.
package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/volsync"
)

// Platform is what all specs share, as one spec changes it.
type Platform struct {
	env *env.Env
	controllers
}

// controllers is what is done with, and asked of, whatever runs on the cluster.
type controllers interface {
	apply(ctx context.Context, objects []*unstructured.Unstructured) error
	remove(ctx context.Context, objects []*unstructured.Unstructured) error
	// ready waits until all deployments of a namespace are.
	ready(ctx context.Context, namespace string) error
	// policyActs waits until Kyverno has the policy ready and acts on it.
	policyActs(ctx context.Context) error
	// earlierActs waits until Kyverno has the policy ready that this one replaces, and acts on it.
	earlierActs(ctx context.Context) error
	// volSyncAnswers waits until VolSync reconciles.
	volSyncAnswers(ctx context.Context) error
	// driverRegistered waits until the kubelet of each node knows the CSI driver.
	driverRegistered(ctx context.Context) error
}

// Of is the platform as a spec changes it.
func Of(e *env.Env) *Platform { return &Platform{e, installed{e}} }

// installed are the controllers of the testbed.
type installed struct{ env *env.Env }

func (i installed) apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	return install.Apply(ctx, i.env.API, objects, nil)
}

func (i installed) remove(ctx context.Context, objects []*unstructured.Unstructured) error {
	return install.Delete(ctx, i.env.API, objects)
}

func (i installed) ready(ctx context.Context, namespace string) error {
	return install.DeploymentsReady(ctx, i.env.API, namespace, i.env.Times.Platform)
}

func (i installed) policyActs(ctx context.Context) error {
	return i.env.Testbed.PolicyActs(ctx, i.env.API, func(string, ...any) {})
}

func (i installed) earlierActs(ctx context.Context) error {
	return i.env.Testbed.EarlierActs(ctx, i.env.API, func(string, ...any) {})
}

func (i installed) volSyncAnswers(ctx context.Context) error {
	return install.VolSyncAnswers(ctx, i.env.API, i.env.Times.Platform)
}

func (i installed) driverRegistered(ctx context.Context) error {
	return install.DriversRegistered(ctx, i.env.API, []string{Driver}, i.env.Times.Platform)
}

// needsKyverno ends the spec as unknown where the stack has no Kyverno: what is about it can be neither done nor seen.
func (p *Platform) needsKyverno() {
	if !p.env.Testbed.HasKyverno() {
		p.env.Unknownf("the stack %s has no Kyverno, which this is about", p.env.Testbed.Stack)
	}
}

// Back puts back what was taken away, and may be called again. It is done when the spec has ended, if the spec does not call it.
type Back func(context.Context)

var customResourceDefinition = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// reapply applies the policy as it is, over whatever there is of it, and waits until it acts.
func (p *Platform) reapply(ctx context.Context) error {
	if err := p.apply(ctx, p.env.Testbed.PolicyObjects()); err != nil {
		return err
	}
	return p.policyActs(ctx)
}

// Reapply applies the policy as it is, over whatever there is of it, and waits until it acts.
func (p *Platform) Reapply(ctx context.Context) {
	p.env.Must(p.reapply(ctx))
	p.env.Step("the policy is applied again")
}

// UpgradePolicy applies the policy again as it is, then with a change of its specs that changes nothing it does, and then
// as it was.
func (p *Platform) UpgradePolicy(ctx context.Context) {
	e := p.env
	upgraded, changed := e.Testbed.PolicyObjects(), 0
	for _, object := range upgraded {
		rules, hasRules, _ := unstructured.NestedSlice(object.Object, "spec", "rules")
		_, matches, _ := unstructured.NestedMap(object.Object, "spec", "matchConstraints")
		switch group := object.GroupVersionKind().Group; {
		case group == "policies.kyverno.io" && matches:
			changed++
			variables, _, _ := unstructured.NestedSlice(object.Object, "spec", "variables")
			variables = append(variables, map[string]any{"name": "upgradedByTheConformanceSuite", "expression": "true"})
			e.Must(unstructured.SetNestedSlice(object.Object, variables, "spec", "variables"))
		case group == "kyverno.io" && hasRules:
			changed++
			for _, rule := range rules {
				r, ok := rule.(map[string]any)
				if !ok {
					continue
				}
				if _, generates, _ := unstructured.NestedMap(r, "generate", "data"); generates {
					// Of a rule that generates, Kyverno takes no change but in what it generates.
					e.Must(unstructured.SetNestedField(r, "upgraded", "generate", "data", "metadata", "annotations", "conformance.smart-restore.io/upgraded"))
				} else {
					r["name"] = fmt.Sprint(r["name"], "-upgraded")
				}
			}
			e.Must(unstructured.SetNestedSlice(object.Object, rules, "spec", "rules"))
		}
	}
	if changed == 0 {
		e.Unknownf("there is no Kyverno policy of which something could be upgraded: none has rules or matchConstraints")
	}
	p.Reapply(ctx)
	back := e.Undo("the policy as it was", p.reapply)
	e.Do(ctx, func(ctx context.Context) error { return p.apply(ctx, upgraded) })
	e.Must(p.policyActs(ctx))
	e.Step("the policy is upgraded")
	back(ctx)
}

// RemovePolicy deletes the policy and waits until it is gone. What it returns applies it again.
func (p *Platform) RemovePolicy(ctx context.Context) Back {
	e, objects := p.env, p.env.Testbed.PolicyObjects()
	back := e.Undo("the policy", p.reapply)
	e.Do(ctx, func(ctx context.Context) error { return p.remove(ctx, objects) })
	for _, object := range objects {
		e.Arrange(ctx, object.GetKind()+" "+object.GetName()+" gone", e.Times.Gone, e.Gone(object.DeepCopy()))
	}
	return back
}

// TryPolicy applies the policy. That the API server or Kyverno refuses something of it is evidence, and what whoever applies
// it reads.
func (p *Platform) TryPolicy(ctx context.Context) {
	taken := true
	for _, object := range p.env.Testbed.PolicyObjects() {
		err := p.apply(ctx, []*unstructured.Unstructured{object})
		if env.Refused(err) || env.NotAllowed(err) {
			taken = false
			p.env.Evidence("admission", fmt.Sprintf("%s %s is refused: %v", object.GetKind(), object.GetName(), err), nil)
			continue
		}
		p.env.Must(err)
	}
	if taken {
		p.env.Evidence("admission", "the policy is taken, though VolSync's CRDs are not there", nil)
	}
}

// WithoutRights deletes the roles and bindings that belong to the policy. What it returns puts them back. A policy that brings
// none has nothing to take away: the spec is unknown.
func (p *Platform) WithoutRights(ctx context.Context) Back {
	e := p.env
	var rights []*unstructured.Unstructured
	for _, object := range e.Testbed.PolicyObjects() {
		if object.GroupVersionKind().Group == "rbac.authorization.k8s.io" {
			rights = append(rights, object)
		}
	}
	if len(rights) == 0 {
		e.Unknownf("the policy brings no roles with it, so none can be missing")
	}
	back := e.Undo("the policy's roles and bindings", func(ctx context.Context) error { return p.apply(ctx, rights) })
	e.Do(ctx, func(ctx context.Context) error { return p.remove(ctx, rights) })
	e.Step("%d roles and bindings of the policy are gone", len(rights))
	return back
}

// WithoutVolSync takes VolSync away, its CRDs with everything that was made of them. What it returns installs it again.
func (p *Platform) WithoutVolSync(ctx context.Context) Back {
	e := p.env
	on := p.Off(ctx, VolSync)
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(customResourceDefinition)
	e.Do(ctx, func(ctx context.Context) error { return e.API.List(ctx, list) })
	var crds []*unstructured.Unstructured
	for i := range list.Items {
		crd := &list.Items[i]
		if group := volsync.Nested(crd, "spec", "group"); group != volsync.Source.Group {
			continue
		}
		crd.SetResourceVersion("")
		crd.SetUID("")
		crd.SetManagedFields(nil)
		crd.SetFinalizers(nil)
		unstructured.RemoveNestedField(crd.Object, "status")
		crds = append(crds, crd)
	}
	if len(crds) == 0 {
		e.Unknownf("there are no CRDs of %s to take away", volsync.Source.Group)
	}
	back := e.Undo("VolSync's CRDs", func(ctx context.Context) error { return p.apply(ctx, crds) })
	e.Do(ctx, func(ctx context.Context) error { return p.remove(ctx, crds) })
	for _, crd := range crds {
		e.Arrange(ctx, "CRD "+crd.GetName()+" gone", e.Times.Gone, e.Gone(crd.DeepCopy()))
	}
	e.Step("VolSync is gone, with its %d CRDs", len(crds))
	return func(ctx context.Context) {
		back(ctx)
		on(ctx)
		e.Must(p.volSyncAnswers(ctx))
		e.Step("VolSync is installed again")
	}
}

// The controllers that can be switched off.
var (
	KyvernoBackground = Controller{env.KyvernoNamespace, "kyverno-background-controller"}
	KyvernoAdmission  = Controller{env.KyvernoNamespace, "kyverno-admission-controller"}
	VolSync           = Controller{"volsync-system", ""} // whatever its deployment is called
)

// Controller is a deployment; without a name, each of the namespace's.
type Controller struct{ Namespace, Name string }

func deploymentOf(c Controller) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name}}
}

// scale has a controller have so many replicas.
func (p *Platform) scale(ctx context.Context, c Controller, replicas int32) error {
	return p.env.API.Patch(ctx, deploymentOf(c), client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)))
}

// Off scales a controller to nothing and waits until its pods are gone. What it returns scales it to what it was, and waits until
// it is ready.
func (p *Platform) Off(ctx context.Context, controller Controller) Back {
	e := p.env
	deployments := &appsv1.DeploymentList{}
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.List(ctx, deployments, client.InNamespace(controller.Namespace))
	})
	was := map[string]int32{}
	var scaled []*appsv1.Deployment
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if (controller.Name == "" || d.Name == controller.Name) && d.Spec.Replicas != nil && *d.Spec.Replicas > 0 {
			was[d.Name] = *d.Spec.Replicas
			scaled = append(scaled, d)
		}
	}
	if len(scaled) == 0 {
		e.Unknownf("there is no controller %s/%s to switch off", controller.Namespace, controller.Name)
	}
	back := e.Undo(controller.Namespace+"/"+strings.Join(slices.Sorted(maps.Keys(was)), ", "), func(ctx context.Context) error {
		for name, replicas := range was {
			if err := p.scale(ctx, Controller{controller.Namespace, name}, replicas); err != nil {
				return err
			}
		}
		return p.ready(ctx, controller.Namespace)
	})
	pods := make([]corev1.PodList, len(scaled))
	for i, d := range scaled {
		e.Do(ctx, func(ctx context.Context) error { return e.API.List(ctx, &pods[i], podsOf(d)...) })
		e.Do(ctx, func(ctx context.Context) error { return p.scale(ctx, Controller{d.Namespace, d.Name}, 0) })
	}
	for i, d := range scaled {
		e.Arrange(ctx, "pods of "+d.Name+" gone", e.Times.Gone, func(ctx context.Context) (await.State, error) {
			left := &corev1.PodList{}
			err := e.API.List(ctx, left, podsOf(d)...)
			return await.ReachedIf(len(left.Items) == 0, "%d pods", len(left.Items)), err
		})
		e.Do(ctx, func(ctx context.Context) error { return p.endLeadership(ctx, d.Namespace, pods[i].Items) })
	}
	e.Step("%s is switched off", controller.Namespace)
	return back
}

// podsOf selects the pods of a deployment.
func podsOf(d *appsv1.Deployment) []client.ListOption {
	return []client.ListOption{client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)}
}

// FewUpdateRequests has Kyverno take no more than this many requests for its background controller, and drop others, until what it
// returns is called.
func (p *Platform) FewUpdateRequests(ctx context.Context, limit int) Back {
	p.needsKyverno()
	const key = "updateRequestThreshold"
	set := func(value string) func(context.Context) error {
		return func(ctx context.Context) error {
			config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: env.KyvernoNamespace, Name: "kyverno"}}
			return p.env.API.Patch(ctx, config, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"data":{%q:%s}}`, key, value)))
		}
	}
	was := "null"
	config := &corev1.ConfigMap{}
	p.env.Do(ctx, func(ctx context.Context) error {
		return p.env.API.Get(ctx, client.ObjectKey{Namespace: env.KyvernoNamespace, Name: "kyverno"}, config)
	})
	if value, ok := config.Data[key]; ok {
		was = strconv.Quote(value)
	}
	back := p.env.Undo("Kyverno's limit of requests", set(was))
	p.env.Do(ctx, set(strconv.Quote(strconv.Itoa(limit))))
	p.env.Step("Kyverno keeps no more than %d requests for its background controller", limit)
	return back
}

// SomeDropped ends the spec as unknown unless, when the time is over that Kyverno may take, its background controller has no request
// for one of these PVCs of the spec's namespace.
func (p *Platform) SomeDropped(ctx context.Context, pvcs ...string) {
	p.needsKyverno()
	e, until := p.env, time.Now().Add(p.env.Times.Reaction)
	var seen string
	e.Arrange(ctx, "a request that Kyverno has dropped", 2*e.Times.Reaction, func(ctx context.Context) (await.State, error) {
		requests := &unstructured.UnstructuredList{}
		requests.SetGroupVersionKind(schema.GroupVersionKind{Group: "kyverno.io", Version: "v2", Kind: "UpdateRequest"})
		if err := e.API.List(ctx, requests, client.InNamespace(env.KyvernoNamespace)); err != nil {
			return await.State{}, err
		}
		var without []string
		for _, pvc := range pvcs {
			asked := false
			for i := range requests.Items {
				raw, err := json.Marshal(requests.Items[i].Object)
				if err != nil {
					return await.State{}, err
				}
				asked = asked || bytes.Contains(raw, []byte(strconv.Quote(e.Namespace))) && bytes.Contains(raw, []byte(strconv.Quote(e.PVC(pvc))))
			}
			if !asked {
				without = append(without, pvc)
			}
		}
		seen = fmt.Sprintf("there are %d requests for Kyverno's background controller, and none for %v", len(requests.Items), without)
		if len(without) == 0 {
			return await.RuledOut("Kyverno has dropped none: there are %d requests, for each of %v", len(requests.Items), pvcs), nil
		}
		return await.ReachedIf(time.Now().After(until), "%s", seen), nil
	})
	e.Evidence("seen", seen, nil)
}

// endLeadership deletes the leases of a namespace's pods that are gone: Kyverno and VolSync leave theirs, and a new pod would
// wait until it runs out, some 15 seconds.
func (p *Platform) endLeadership(ctx context.Context, namespace string, gone []corev1.Pod) error {
	leases := &coordinationv1.LeaseList{}
	if err := p.env.API.List(ctx, leases, client.InNamespace(namespace)); err != nil {
		return err
	}
	var problems []error
	for i := range leases.Items {
		holder := leases.Items[i].Spec.HolderIdentity
		if holder != nil && slices.ContainsFunc(gone, func(pod corev1.Pod) bool { return leads(pod, *holder) }) {
			problems = append(problems, client.IgnoreNotFound(p.env.API.Delete(ctx, &leases.Items[i])))
		}
	}
	return errors.Join(problems...)
}

// leads says whether a lease's holder is this pod. A holder may have more in its name.
func leads(pod corev1.Pod, holder string) bool { return strings.HasPrefix(holder, pod.Name) }

// leaseHolder is who leads Kyverno's admission controller; empty: nobody.
func (p *Platform) leaseHolder(ctx context.Context) (string, error) {
	lease := &coordinationv1.Lease{}
	err := client.IgnoreNotFound(p.env.API.Get(ctx, client.ObjectKey{Namespace: env.KyvernoNamespace, Name: "kyverno"}, lease))
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", err
	}
	return *lease.Spec.HolderIdentity, nil
}

// RestartKyverno kills all of Kyverno's pods and waits until new ones act on the policy.
func (p *Platform) RestartKyverno(ctx context.Context) {
	p.replaceKyverno(ctx, nil)
	p.env.Step("all of Kyverno's pods are killed")
	p.KyvernoBack(ctx)
}

// SkipBackOff replaces the pods of Kyverno's admission controller: after kills the kubelet waits ever longer before it starts
// their containers again, which is nothing that a spec is about.
func (p *Platform) SkipBackOff(ctx context.Context) {
	p.replaceKyverno(ctx, admissionLabels)
}

// replaceKyverno has those of Kyverno's pods made anew that have the labels.
func (p *Platform) replaceKyverno(ctx context.Context, labels client.MatchingLabels) {
	p.needsKyverno()
	e, pods := p.env, &corev1.PodList{}
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.List(ctx, pods, client.InNamespace(env.KyvernoNamespace), labels)
	})
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(env.KyvernoNamespace), labels, client.GracePeriodSeconds(0))
	})
	e.Do(ctx, func(ctx context.Context) error { return p.endLeadership(ctx, env.KyvernoNamespace, pods.Items) })
}

// NoKyvernoWebhooks waits until none of Kyverno's webhooks is left that is asked about PVCs, pods or Jobs: a Kyverno that is scaled to
// zero takes them away.
func (p *Platform) NoKyvernoWebhooks(ctx context.Context) {
	p.needsKyverno()
	e := p.env
	e.Arrange(ctx, "Kyverno's webhooks for resources gone", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		validating, mutating := &admissionv1.ValidatingWebhookConfigurationList{}, &admissionv1.MutatingWebhookConfigurationList{}
		if err := errors.Join(e.API.List(ctx, validating), e.API.List(ctx, mutating)); err != nil {
			return await.State{}, err
		}
		var left []string
		for _, c := range validating.Items {
			for _, w := range c.Webhooks {
				left = append(left, asked(w.Name, w.ClientConfig, w.Rules)...)
			}
		}
		for _, c := range mutating.Items {
			for _, w := range c.Webhooks {
				left = append(left, asked(w.Name, w.ClientConfig, w.Rules)...)
			}
		}
		return await.ReachedIf(len(left) == 0, "%s", strings.Join(left, ", ")), nil
	})
}

// asked is the name of a webhook of Kyverno's that is asked about what people create.
func asked(name string, where admissionv1.WebhookClientConfig, rules []admissionv1.RuleWithOperations) []string {
	if where.Service == nil || where.Service.Namespace != env.KyvernoNamespace {
		return nil
	}
	about := []string{"pods", "persistentvolumeclaims", "jobs", "*", "*/*"}
	if !slices.ContainsFunc(rules, func(r admissionv1.RuleWithOperations) bool {
		return slices.ContainsFunc(r.Resources, func(resource string) bool { return slices.Contains(about, resource) })
	}) {
		return nil
	}
	return []string{name}
}

// KyvernoBack waits until Kyverno acts on the policy again.
func (p *Platform) KyvernoBack(ctx context.Context) {
	p.needsKyverno()
	e := p.env
	e.Must(p.ready(ctx, env.KyvernoNamespace))
	e.Must(p.policyActs(ctx))
	e.Step("Kyverno acts on the policy again")
}

// APIServerBack waits until the API server answers again.
func (p *Platform) APIServerBack(ctx context.Context) {
	e := p.env
	e.Arrange(ctx, "the API server answering again", e.Times.Platform, func(ctx context.Context) (await.State, error) {
		return await.Reached(), e.API.List(ctx, &corev1.NamespaceList{})
	})
}

// Kills is a process that is killed again and again.
type Kills struct {
	platform *Platform
	process  string
	stop     func()
	failed   error // of the last kill that could not be tried
}

// KillAgainAndAgain kills every process of this name on the nodes, and again whenever there is one, until Stop is called or the spec
// has ended. It waits until the first was killed.
func (p *Platform) KillAgainAndAgain(ctx context.Context, process string) *Kills {
	if process == "kyverno" {
		p.needsKyverno()
	}
	e := p.env
	k := &Kills{platform: p, process: process, stop: func() {}}
	// That there is none just now is no failure. Docker's own failures have the exit code that pkill has then, so the answer is text.
	kill := func(ctx context.Context) (killed bool, err error) {
		out, err := e.Node(ctx, "bash", "-c", `pkill -KILL -x "$0" && echo killed || test $? = 1`, process)
		return strings.Contains(out, "killed"), err // on any node
	}
	e.Undo("process "+process, func(ctx context.Context) error {
		k.stop()
		return p.runs(ctx, process)
	})
	if killed, err := kill(ctx); err != nil || !killed {
		e.Unknownf("no process %s could be killed on a node: %v", process, err)
	}
	k.stop = meanwhile(ctx, e.Times.Poll, func(ctx context.Context) (done bool) {
		if _, err := kill(ctx); err != nil && ctx.Err() == nil {
			k.failed = err
		}
		return false
	})
	e.Step("%s is killed, and again whenever it starts", process)
	return k
}

// meanwhile does something again and again beside the spec, until it says that it is done, or the returned function is called, which waits
// until it is over.
func meanwhile(ctx context.Context, pause time.Duration, do func(context.Context) (done bool)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil && !do(ctx) {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}()
	return func() { cancel(); <-over }
}

// runs waits until a process runs that was killed again and again. The kubelet would wait ever longer before it starts Kyverno again,
// and the next spec would find it down.
func (p *Platform) runs(ctx context.Context, process string) error {
	if process != "kyverno" {
		return p.env.API.List(ctx, &corev1.NamespaceList{}, client.Limit(1))
	}
	pods := &corev1.PodList{}
	if err := p.env.API.List(ctx, pods, client.InNamespace(env.KyvernoNamespace)); err != nil {
		return err
	}
	for i := range pods.Items {
		for _, status := range pods.Items[i].Status.ContainerStatuses {
			if w := status.State.Waiting; w != nil && w.Reason == "CrashLoopBackOff" {
				if err := client.IgnoreNotFound(p.env.API.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0))); err != nil {
					return err
				}
			}
		}
	}
	return p.ready(ctx, env.KyvernoNamespace)
}

// Stop ends the killing. The spec is unknown if the process could not be killed all the time.
func (k *Kills) Stop() {
	k.stop()
	if k.failed != nil {
		k.platform.env.Unknownf("%s could not be kept down: %v", k.process, k.failed)
	}
}

// youngest is how old a process of Kyverno's admission controller may be that serves nothing yet: it needs some seconds.
const youngest = 2 * time.Second

// KyvernoIsDown ends the spec as unknown if a process of Kyverno's admission controller is so old that it may serve: that Kyverno
// was down while something happened must be seen.
func (p *Platform) KyvernoIsDown(ctx context.Context) {
	p.needsKyverno()
	e := p.env
	ages, err := e.Node(ctx, "bash", "-c", "ps -C kyverno -o etimes= || test $? = 1") // 1: there is none; anything else: it was not seen
	e.Must(err)
	for _, age := range strings.Fields(ages) {
		seconds, err := strconv.Atoi(age)
		e.Must(err)
		if time.Duration(seconds)*time.Second > youngest {
			e.Unknownf("a process of Kyverno's admission controller has been running for %d s, so Kyverno was not down", seconds)
		}
	}
	e.Evidence("seen", "no process of Kyverno's admission controller is old enough to serve", nil)
}

// KyvernoStaysDown is KyvernoIsDown, now and when the time is over that the API server would wait for the slowest of Kyverno's
// webhooks that validate.
func (p *Platform) KyvernoStaysDown(ctx context.Context) {
	e := p.env
	p.KyvernoIsDown(ctx)
	configurations := &admissionv1.ValidatingWebhookConfigurationList{}
	e.Do(ctx, func(ctx context.Context) error { return e.API.List(ctx, configurations) })
	var slowest int32
	for _, c := range configurations.Items {
		for _, w := range c.Webhooks {
			if len(asked(w.Name, w.ClientConfig, w.Rules)) > 0 && w.TimeoutSeconds != nil {
				slowest = max(slowest, *w.TimeoutSeconds)
			}
		}
	}
	until := time.Now().Add(time.Duration(slowest) * time.Second)
	e.Arrange(ctx, fmt.Sprintf("Kyverno down for %d s", slowest), time.Duration(slowest)*time.Second+e.Times.Nothing, func(context.Context) (await.State, error) {
		return await.ReachedIf(time.Now().After(until), "not so long yet"), nil
	})
	p.KyvernoIsDown(ctx)
}

// powerCut kills every container of a node and then what runs them, and starts that again. The node's own network stays
// as it is: a node that boots anew would have its way out of the run's network open for a moment.
const powerCut = `systemctl stop kubelet
for id in $(ctr --namespace k8s.io tasks list --quiet); do
  ctr --namespace k8s.io tasks kill --all --signal SIGKILL "$id" &
done
wait
systemctl kill --signal=KILL containerd
systemctl stop containerd
systemctl start containerd kubelet`

// NodeRestart kills everything that runs on the nodes, all at once, the control plane included, without a word of warning, and waits
// until all of it is back.
func (p *Platform) NodeRestart(ctx context.Context) {
	e := p.env
	before := p.Restarts(ctx)
	back := e.Undo("the nodes' kubelet and containerd", func(ctx context.Context) error {
		_, err := e.Node(ctx, "systemctl", "start", "containerd", "kubelet")
		return err
	})
	if _, err := e.Node(ctx, "bash", "-c", powerCut); err != nil {
		e.Unknownf("the nodes could not be restarted: %v", err)
	}
	back(ctx)
	e.Step("every container of the nodes was killed, and the kubelet starts them again")
	p.APIServerBack(ctx)
	e.Arrange(ctx, "Kyverno and VolSync started again", e.Times.Platform, func(ctx context.Context) (await.State, error) {
		now, err := p.restarts(ctx)
		if err != nil {
			return await.State{}, err
		}
		for container, was := range before {
			if now[container].count <= was.count {
				return await.NotYet("%s was not started again", container), nil
			}
		}
		return await.Reached(), nil
	})
	p.controllersBack(ctx)
	if !e.Testbed.HasKyverno() {
		e.Must(p.policyActs(ctx))
	}
}

// controllersBack waits until all that was installed is ready, VolSync answers, and Kyverno, where there is one, is back.
func (p *Platform) controllersBack(ctx context.Context) {
	e := p.env
	for _, namespace := range e.Testbed.Controllers {
		if namespace != VolSync.Namespace && namespace != env.KyvernoNamespace {
			e.Must(p.ready(ctx, namespace))
		}
	}
	e.Must(p.ready(ctx, VolSync.Namespace))
	e.Must(p.volSyncAnswers(ctx))
	if e.Testbed.HasKyverno() {
		p.KyvernoBack(ctx)
	}
}

// WithoutBaseSecret takes the base Secret out of the namespace. What it returns puts it back.
func (p *Platform) WithoutBaseSecret(ctx context.Context) Back {
	e := p.env
	e.Do(ctx, func(ctx context.Context) error {
		return client.IgnoreNotFound(e.API.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Testbed.Contract.BaseSecret.Name}}))
	})
	e.Step("there is no base Secret in the namespace")
	return func(ctx context.Context) {
		e.Must(e.ApplyBaseSecret(ctx, e.Namespace))
		e.Step("the base Secret arrives")
	}
}

// PartOfBaseSecret makes the base Secret, which is not there, with one of its values only, as a person does who forgets the others.
func (p *Platform) PartOfBaseSecret(ctx context.Context) {
	e := p.env
	secret := e.Testbed.BaseSecret()
	secret.Namespace = e.Namespace
	key := e.Testbed.Contract.BaseSecret.Keys.AccessKey
	secret.StringData = map[string]string{key: secret.StringData[key]}
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreAlreadyExists(e.API.Create(ctx, secret)) })
	e.Step("the base Secret is there, with %s only", key)
}

// WrongResticPassword changes the password in the namespace's base Secret.
func (p *Platform) WrongResticPassword(ctx context.Context) {
	p.setResticPassword(ctx, "not-the-one")
	p.env.Step("the base Secret has another restic password")
}

// ResticPasswordMistaken changes the password in the namespace's base Secret to wrong ones, one after the other, and puts
// it right at last.
func (p *Platform) ResticPasswordMistaken(ctx context.Context, times int) {
	for n := range times {
		p.setResticPassword(ctx, fmt.Sprint("not-the-one-", n))
	}
	p.setResticPassword(ctx, p.env.Testbed.Credentials.ResticPassword)
	p.env.Step("the base Secret had %d wrong restic passwords, and has the right one again", times)
}

func (p *Platform) setResticPassword(ctx context.Context, password string) {
	contract := p.env.Testbed.Contract.BaseSecret
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.env.Namespace, Name: contract.Name}}
	patch := fmt.Appendf(nil, `{"stringData":{%q:%q}}`, contract.Keys.ResticPassword, password)
	p.env.Must(p.env.API.Patch(ctx, secret, client.RawPatch(types.MergePatchType, patch)))
}

// Driver is the CSI driver of the stacks that have one.
const Driver = "csi.smart-restore.io"

// PruneVolumes removes what earlier runs on this cluster left of their volumes, where the storage class keeps them: the
// folders on the nodes, and the PVs; and of their snapshots, where the class of these keeps them. One that was killed may have left the
// CSI driver without room.
func PruneVolumes(ctx context.Context, s *env.Suite) error {
	volumes := &corev1.PersistentVolumeList{}
	if err := s.API.List(ctx, volumes); err != nil {
		return err
	}
	var released []*corev1.PersistentVolume
	remove := []string{"rm", "-rf", "--"}
	for i := range volumes.Items {
		volume := &volumes.Items[i]
		if volume.Status.Phase != corev1.VolumeReleased || volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
			continue
		}
		if volume.Spec.CSI != nil && volume.Spec.CSI.Driver == Driver {
			// The driver has the folder: its provisioner deletes it, and the PV.
			patch := []byte(`{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)
			if err := s.API.Patch(ctx, volume, client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("remove the volumes of earlier runs: %w", err)
			}
			continue
		}
		if volume.Spec.HostPath == nil || !strings.HasSuffix(volume.Spec.HostPath.Path, "_"+claimOf(volume)) {
			continue // none of the provisioner's folders: /var/local-path-provisioner/<PV>_<namespace>_<PVC>
		}
		released = append(released, volume)
		remove = append(remove, volume.Spec.HostPath.Path)
	}
	if s.Testbed != nil && s.Testbed.HasSnapshots() {
		if err := makeRoom(ctx, s); err != nil {
			return fmt.Errorf("make room for volumes: %w", err)
		}
	}
	if err := pruneSnapshots(ctx, s); err != nil {
		return fmt.Errorf("remove the snapshots of earlier runs: %w", err)
	}
	if len(released) == 0 {
		return nil
	}
	if out, err := s.Node(ctx, remove...); err != nil {
		return fmt.Errorf("remove the volumes of earlier runs: %w %s", err, out)
	}
	for _, volume := range released {
		if err := s.API.Delete(ctx, volume); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("remove the volumes of earlier runs: %w", err)
		}
	}
	return nil
}

// pruneSnapshots removes the VolumeSnapshotContents, with the driver's copies, whose VolumeSnapshot is gone with its namespace.
func pruneSnapshots(ctx context.Context, s *env.Suite) error {
	contents := &unstructured.UnstructuredList{}
	contents.SetGroupVersionKind(schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotContent"})
	if err := s.API.List(ctx, contents); err != nil {
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	for i := range contents.Items {
		content := &contents.Items[i]
		if volsync.Nested(content, "spec", "driver") != Driver || volsync.Nested(content, "spec", "deletionPolicy") != "Retain" {
			continue
		}
		namespace := volsync.Nested(content, "spec", "volumeSnapshotRef", "namespace")
		if err := s.API.Get(ctx, client.ObjectKey{Name: namespace}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
			if err != nil {
				return err
			}
			continue
		}
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"deletionPolicy":"Delete"}}`))
		err := s.API.Patch(ctx, content, patch)
		if err == nil {
			err = s.API.Delete(ctx, content)
		}
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

func claimOf(volume *corev1.PersistentVolume) string {
	if volume.Spec.ClaimRef == nil {
		return ""
	}
	return volume.Spec.ClaimRef.Namespace + "_" + volume.Spec.ClaimRef.Name
}
