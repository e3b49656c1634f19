package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
)

// What is in this file changes what all specs share. Specs that use it run alone.

// platformTimeout bounds how long a controller may take to come back; some 10 s are usual.
const platformTimeout = 2 * time.Minute

// PolicyActs waits until Kyverno has the policy ready and acts on it.
func (sc *Scenario) PolicyActs(ctx context.Context) {
	sc.must(sc.Testbed.PolicyActs(ctx, sc.API, func(string, ...any) {}))
}

// ReapplyPolicy applies the policy as it is, over whatever there is of it, and waits until it acts.
func (sc *Scenario) ReapplyPolicy(ctx context.Context) {
	sc.must(install.Apply(ctx, sc.API, sc.Testbed.PolicyObjects(), nil))
	sc.PolicyActs(ctx)
	sc.Step("the policy is applied again")
}

// UpgradePolicy applies the policy again as it is, then with a change of its specs that changes nothing it does, and then
// as it was.
func (sc *Scenario) UpgradePolicy(ctx context.Context) {
	sc.ReapplyPolicy(ctx)
	upgraded := sc.Testbed.PolicyObjects()
	for _, object := range upgraded {
		switch object.GroupVersionKind().Group {
		case "policies.kyverno.io":
			variables, _, _ := unstructured.NestedSlice(object.Object, "spec", "variables")
			variables = append(variables, map[string]any{"name": "upgradedByTheConformanceSuite", "expression": "true"})
			sc.must(unstructured.SetNestedSlice(object.Object, variables, "spec", "variables"))
		case "kyverno.io":
			rules, _, _ := unstructured.NestedSlice(object.Object, "spec", "rules")
			for _, rule := range rules {
				r, ok := rule.(map[string]any)
				if !ok {
					continue
				}
				if _, generates, _ := unstructured.NestedMap(r, "generate", "data"); generates {
					// Of a rule that generates, Kyverno takes no change but in what it generates.
					sc.must(unstructured.SetNestedField(r, "upgraded", "generate", "data", "metadata", "annotations", "conformance.smart-restore.io/upgraded"))
				} else {
					r["name"] = fmt.Sprint(r["name"], "-upgraded")
				}
			}
			sc.must(unstructured.SetNestedSlice(object.Object, rules, "spec", "rules"))
		}
	}
	sc.must(install.Apply(ctx, sc.API, upgraded, nil))
	sc.PolicyActs(ctx)
	sc.Step("the policy is upgraded")
	sc.ReapplyPolicy(ctx)
}

// RemovePolicy deletes the policy and waits until it is gone. The returned function applies it again, once.
func (sc *Scenario) RemovePolicy(ctx context.Context) (reapply func(context.Context)) {
	objects := sc.Testbed.PolicyObjects()
	sc.must(install.Delete(ctx, sc.API, objects))
	for _, object := range objects {
		sc.eventually(ctx, object.GetKind()+" "+object.GetName()+" gone", goneTimeout, func(ctx context.Context) (bool, string, error) {
			err := sc.API.Get(ctx, client.ObjectKeyFromObject(object), object.DeepCopy())
			return apierrors.IsNotFound(err), "it is there", nil
		})
	}
	return once(sc.ReapplyPolicy)
}

// once is what puts something back that a spec took away: it does so when it is first called, also where the spec was
// interrupted, and nothing after that.
func once(back func(context.Context)) func(context.Context) {
	var once sync.Once
	return func(ctx context.Context) {
		once.Do(func() { back(context.WithoutCancel(ctx)) })
	}
}

// RestartKyverno kills all of Kyverno's pods and waits until new ones act on the policy.
func (sc *Scenario) RestartKyverno(ctx context.Context) {
	sc.replaceKyverno(ctx, nil)
	sc.Step("all of Kyverno's pods are killed")
	sc.KyvernoBack(ctx)
}

// replaceKyverno has those of Kyverno's pods made anew that have the labels.
func (sc *Scenario) replaceKyverno(ctx context.Context, labels client.MatchingLabels) {
	pods := &corev1.PodList{}
	sc.must(sc.API.List(ctx, pods, client.InNamespace(kyvernoNamespace), labels))
	sc.must(sc.API.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(kyvernoNamespace), labels, client.GracePeriodSeconds(0)))
	sc.endLeadership(ctx, kyvernoNamespace, pods.Items)
}

// ObjectsOfTheirs are the ReplicationSources, ReplicationDestinations and Secrets that the policy made for the claims:
// kind and name → UID.
func (sc *Scenario) ObjectsOfTheirs(ctx context.Context, claims ...*Claim) map[string]string {
	found := map[string]string{}
	for _, claim := range claims {
		secret := claim.secret(ctx)
		found["Secret "+secret.Name] = string(secret.UID)
	}
	made, err := sc.replicationUIDs(ctx)
	sc.must(err)
	maps.Copy(found, made)
	return found
}

// SameObjects fails the spec where, as long as Kyverno may take to react, one of the objects is deleted or replaced, or
// one is added.
func (sc *Scenario) SameObjects(ctx context.Context, before map[string]string, when string) {
	until := time.Now().Add(2 * reactionTime)
	sc.eventually(ctx, "all objects still there after "+when, 4*reactionTime, func(ctx context.Context) (bool, string, error) {
		now, err := sc.replicationUIDs(ctx)
		if err != nil {
			return blind(err)
		}
		secrets := &metav1.PartialObjectMetadataList{}
		secrets.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "SecretList"})
		if err := sc.API.List(ctx, secrets, client.InNamespace(sc.Namespace)); err != nil {
			return blind(err)
		}
		for _, secret := range secrets.Items {
			if _, ours := before["Secret "+secret.Name]; ours {
				now["Secret "+secret.Name] = string(secret.UID)
			}
		}
		if !maps.Equal(before, now) {
			return false, "", fmt.Errorf("there were %v, there are %v", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(now)))
		}
		return time.Now().After(until), "", nil
	})
}

// KillAgainAndAgain kills every process of this name on the node, and again whenever there is one, until the returned
// function is called. It waits until the first was killed.
func (sc *Scenario) KillAgainAndAgain(ctx context.Context, process string) (stop func()) {
	kill := func(ctx context.Context) error {
		_, err := sc.Firewall.Exec(ctx, "pkill", "-KILL", "-x", process)
		return err
	}
	if err := kill(ctx); err != nil {
		sc.Unknownf("no process %s could be killed on the node: %v", process, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = kill(ctx) // there may be none just now
			select {
			case <-ctx.Done():
			case <-time.After(pollInterval):
			}
		}
	}()
	sc.Step("%s is killed, and again whenever it starts", process)
	return func() { cancel(); <-done }
}

// SkipBackOff replaces the pods of Kyverno's admission controller: after kills the kubelet waits ever longer before it starts
// their containers again, which is nothing that a spec is about.
func (sc *Scenario) SkipBackOff(ctx context.Context) {
	sc.replaceKyverno(ctx, client.MatchingLabels{"app.kubernetes.io/component": "admission-controller"})
}

// KyvernoBack waits until Kyverno acts on the policy again.
func (sc *Scenario) KyvernoBack(ctx context.Context) {
	sc.must(install.DeploymentsReady(ctx, sc.API, kyvernoNamespace, platformTimeout))
	sc.PolicyActs(ctx)
	sc.Step("Kyverno acts on the policy again")
}

// APIServerBack waits until the API server answers again.
func (sc *Scenario) APIServerBack(ctx context.Context) {
	sc.eventually(ctx, "the API server answering again", platformTimeout, func(ctx context.Context) (bool, string, error) {
		if err := sc.API.List(ctx, &corev1.NamespaceList{}); err != nil {
			return blind(err)
		}
		return true, "", nil
	})
}

// The controllers that can be switched off.
var (
	KyvernoBackground = client.ObjectKey{Namespace: kyvernoNamespace, Name: "kyverno-background-controller"}
	VolSync           = client.ObjectKey{Namespace: "volsync-system"} // whatever its deployment is called
)

// Off scales a controller to nothing and waits until its pods are gone. The returned function, which can be called again,
// brings it back and waits until it is ready.
func (sc *Scenario) Off(ctx context.Context, controller client.ObjectKey) (on func(context.Context)) {
	deployments := &appsv1.DeploymentList{}
	sc.must(sc.API.List(ctx, deployments, client.InNamespace(controller.Namespace)))
	var scaled []*appsv1.Deployment
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if (controller.Name == "" || d.Name == controller.Name) && d.Spec.Replicas != nil && *d.Spec.Replicas > 0 {
			scaled = append(scaled, d)
		}
	}
	if len(scaled) == 0 {
		sc.Unknownf("there is no controller %s to switch off", controller)
	}
	replicas := func(ctx context.Context, d *appsv1.Deployment, n int32) {
		sc.must(sc.API.Patch(ctx, d, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))))
	}
	for _, d := range scaled {
		pods := &corev1.PodList{}
		ofController := []client.ListOption{client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)}
		sc.must(sc.API.List(ctx, pods, ofController...))
		replicas(ctx, d, 0)
		sc.eventually(ctx, "pods of "+d.Name+" gone", goneTimeout, func(ctx context.Context) (bool, string, error) {
			left := &corev1.PodList{}
			if err := sc.API.List(ctx, left, ofController...); err != nil {
				return blind(err)
			}
			return len(left.Items) == 0, fmt.Sprintf("%d pods", len(left.Items)), nil
		})
		sc.endLeadership(ctx, d.Namespace, pods.Items)
	}
	return once(func(ctx context.Context) {
		for _, d := range scaled {
			replicas(ctx, d, 1)
		}
		sc.must(install.DeploymentsReady(ctx, sc.API, controller.Namespace, platformTimeout))
		sc.Step("%s is back", controller.Namespace)
	})
}

// endLeadership deletes the leases of a namespace's pods that are gone: Kyverno and VolSync leave theirs, and a new pod would
// wait until it runs out, some 15 seconds.
func (sc *Scenario) endLeadership(ctx context.Context, namespace string, gone []corev1.Pod) {
	leases := &coordinationv1.LeaseList{}
	sc.must(sc.API.List(ctx, leases, client.InNamespace(namespace)))
	for i := range leases.Items {
		holder := leases.Items[i].Spec.HolderIdentity
		if holder != nil && slices.ContainsFunc(gone, func(pod corev1.Pod) bool { return strings.HasPrefix(*holder, pod.Name) }) {
			sc.must(client.IgnoreNotFound(sc.API.Delete(ctx, &leases.Items[i])))
		}
	}
}

// HasObjects fails the spec where one of the objects is gone or another one.
func (sc *Scenario) HasObjects(ctx context.Context, before map[string]string) {
	now, err := sc.replicationUIDs(ctx)
	sc.must(err)
	for name, uid := range before {
		if !strings.HasPrefix(name, "Secret ") && now[name] != uid {
			sc.Failf("%s is not as before", name)
		}
	}
}
