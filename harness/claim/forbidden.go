package claim

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
)

// podSecurity is the namespace's label by which Kubernetes itself refuses pods.
const podSecurity = "pod-security.kubernetes.io/enforce"

// RestrictedPods lets the namespace take no pod that asks for more than the Pod Security standard restricted, as movers do, until
// the returned function is called.
func (c *Claims) RestrictedPods(ctx context.Context) (back func(context.Context)) {
	set := func(ctx context.Context, value string) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.env.Namespace}}
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, podSecurity, value)
		c.env.Do(ctx, func(ctx context.Context) error {
			return c.env.API.Patch(ctx, namespace, client.RawPatch("application/merge-patch+json", patch))
		})
	}
	set(ctx, `"restricted"`)
	c.env.Step("namespace %s takes restricted pods only", c.env.Namespace)
	return func(ctx context.Context) {
		set(ctx, "null")
		c.env.Step("namespace %s takes any pod again", c.env.Namespace)
	}
}

// NoPods gives the namespace a quota of no pod, until the returned function is called.
func (c *Claims) NoPods(ctx context.Context) (back func(context.Context)) {
	quota := c.quota(ctx, "no-pods", corev1.ResourcePods)
	c.env.Step("namespace %s has a quota of no pod", c.env.Namespace)
	return func(ctx context.Context) {
		c.env.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(c.env.API.Delete(ctx, quota)) })
		c.env.Step("namespace %s has no quota any more", c.env.Namespace)
	}
}

// quota makes a quota of none of these, and waits until it is in force.
func (c *Claims) quota(ctx context.Context, name string, of corev1.ResourceName) *corev1.ResourceQuota {
	e := c.env
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: name},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{of: resource.MustParse("0")}},
	}
	e.Do(ctx, func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(e.API.Create(ctx, quota.DeepCopy()))
	})
	e.Arrange(ctx, "the quota "+name+" in force", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		err := e.API.Get(ctx, client.ObjectKeyFromObject(quota), quota)
		return await.ReachedIf(len(quota.Status.Hard) > 0, "it has no status"), err
	})
	return quota
}

// SaysThatSomethingIsWrong waits until whoever looks at the claim is told: by what is written on it, in other words than on a PVC that
// nothing is wrong with, or by a warning about it.
func (c *Claim) SaysThatSomethingIsWrong(ctx context.Context, other *Claim) {
	e := c.env()
	var told string
	e.Eventually(ctx, "PVC "+c.Name+" says that something is wrong", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		said, differs, err := c.says(ctx, other)
		if err != nil {
			return await.State{}, err
		}
		if differs {
			told = "it says: " + said
			return await.Reached(), nil
		}
		events := &corev1.EventList{}
		if err := e.API.List(ctx, events, client.InNamespace(e.Namespace)); err != nil {
			return await.State{}, err
		}
		for _, event := range events.Items {
			if of := event.InvolvedObject; event.Type == corev1.EventTypeWarning && of.Kind == "PersistentVolumeClaim" && of.Name == c.Name {
				told = fmt.Sprintf("a warning: %s: %s", event.Reason, event.Message)
				return await.Reached(), nil
			}
		}
		return await.NotYet("it says %s, as PVC %s does, and there is no warning", other.said, other.Name), nil
	})
	e.Evidence("decision", fmt.Sprintf("of PVC %s, whoever looks is told: %s", c.Name, told), nil)
}

// NoMoverRan ends the spec as unknown if a mover of the claim was taken: nothing was wrong then.
func (c *Claim) NoMoverRan(ctx context.Context) {
	var movers []corev1.Pod
	c.env().Do(ctx, func(ctx context.Context) (err error) {
		movers, err = c.movers(ctx, "volsync-")
		return err
	})
	if len(movers) > 0 {
		c.env().Unknownf("the namespace took the mover %s: nothing kept it from running", movers[0].Name)
	}
}
