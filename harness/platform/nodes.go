package platform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
)

// disliked is a taint that makes the scheduler prefer another node. It keeps nothing away.
var disliked = corev1.Taint{Key: "conformance.smart-restore.io/disliked", Effect: corev1.TaintEffectPreferNoSchedule}

// DislikedNode makes the scheduler prefer any other node to the last one, until the spec has ended, and returns that one's name. Pods that
// must run there can.
func (p *Platform) DislikedNode(ctx context.Context) string {
	e, nodes := p.env, &corev1.NodeList{}
	e.Do(ctx, func(ctx context.Context) error { return e.API.List(ctx, nodes) })
	if len(nodes.Items) < 2 {
		e.Unknownf("the cluster has %d node: there is no other", len(nodes.Items))
	}
	name := nodes.Items[len(nodes.Items)-1].Name
	taint := func(is bool) func(context.Context) error {
		return func(ctx context.Context) error {
			node := &corev1.Node{}
			if err := e.API.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
				return err
			}
			before := node.DeepCopy()
			node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&disliked) })
			if is {
				node.Spec.Taints = append(node.Spec.Taints, disliked)
			}
			return e.API.Patch(ctx, node, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		}
	}
	e.Undo("node "+name+", as good as any other", taint(false))
	e.Do(ctx, taint(true))
	e.Step("the scheduler prefers any other node to %s", name)
	return name
}

// evictionGrace is how long an evicted pod has to end. VolSync's movers hear no SIGTERM, and would take all of their half minute.
const evictionGrace = int64(5)

// Drain cordons a node and evicts its pods, as kubectl drain does: those that a controller makes again, but no daemon set's, and all of
// the spec's namespace. It waits until they are gone, and the controllers of the stack are back on another node. What it returns lets
// the node take pods again.
func (p *Platform) Drain(ctx context.Context, node string) Back {
	e := p.env
	cordon := func(is bool) func(context.Context) error {
		return func(ctx context.Context) error {
			return e.API.Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}},
				client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, is)))
		}
	}
	back := e.Undo("node "+node, cordon(false))
	e.Do(ctx, cordon(true))
	evicted := map[types.UID]bool{}
	e.Arrange(ctx, "no pods on node "+node+" that can be evicted", e.Times.Platform, func(ctx context.Context) (await.State, error) {
		pods := &corev1.PodList{}
		if err := e.API.List(ctx, pods); err != nil {
			return await.State{}, err
		}
		var left []string
		var problems []error
		for i := range pods.Items {
			pod := &pods.Items[i]
			if pod.Spec.NodeName != node || !p.evictable(pod) {
				continue
			}
			left = append(left, pod.Namespace+"/"+pod.Name)
			if pod.DeletionTimestamp == nil {
				problems = append(problems, p.evict(ctx, pod))
				evicted[pod.UID] = true
			}
		}
		return await.ReachedIf(len(left) == 0, "%s", strings.Join(left, ", ")), errors.Join(problems...)
	})
	e.Step("node %s is drained: it takes no pods, and %d were evicted", node, len(evicted))
	p.controllersBack(ctx)
	return back
}

// evictable says whether a drain evicts a pod. One that has ended is in nobody's way. One that nobody makes again is the suite's own tool,
// unless it is in the spec's namespace.
func (p *Platform) evictable(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return pod.Namespace == p.env.Namespace
	}
	return owner.Kind != "DaemonSet" && owner.Kind != "Node" // a mirror of a static pod is its node's
}

func (p *Platform) evict(ctx context.Context, pod *corev1.Pod) error {
	grace := evictionGrace
	err := p.env.API.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &grace},
	})
	if apierrors.IsTooManyRequests(err) { // for now, by a PodDisruptionBudget
		return nil
	}
	return client.IgnoreNotFound(err)
}

// admissionLabels are those of the pods of Kyverno's admission controller.
var admissionLabels = client.MatchingLabels{"app.kubernetes.io/component": "admission-controller"}

// admissionPods are those of Kyverno's admission controller.
func (p *Platform) admissionPods(ctx context.Context) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := p.env.API.List(ctx, pods, client.InNamespace(env.KyvernoNamespace), admissionLabels)
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil }), err
}

// LostLeader is a replica of Kyverno's admission controller that is killed while it leads and somebody waits for its answer.
type LostLeader struct {
	platform *Platform
	pod      corev1.Pod
	stop     func()
	killed   bool
	seen     string // of whoever asked, if it was not killed
}

// TwoReplicas has Kyverno's admission controller have two replicas until the spec has ended. The one that was there leads.
func (p *Platform) TwoReplicas(ctx context.Context) {
	p.needsKyverno()
	e := p.env
	p.leader(ctx) // else the new one might
	now := deploymentOf(KyvernoAdmission)
	e.Do(ctx, func(ctx context.Context) error { return e.API.Get(ctx, client.ObjectKeyFromObject(now), now) })
	was := int32(1) // the API server's default
	if now.Spec.Replicas != nil {
		was = *now.Spec.Replicas
	}
	scale := func(replicas int32) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := p.scale(ctx, KyvernoAdmission, replicas); err != nil {
				return err
			}
			return p.ready(ctx, KyvernoAdmission.Namespace)
		}
	}
	e.Undo("the replicas of Kyverno's admission controller", scale(was))
	e.Must(scale(2)(ctx))
	e.Step("Kyverno's admission controller has two replicas")
}

// leader waits until a replica of Kyverno's admission controller leads, by its lease, and returns its pod.
func (p *Platform) leader(ctx context.Context) (leader corev1.Pod) {
	p.env.Arrange(ctx, "a replica of Kyverno's admission controller that leads", p.env.Times.Platform, func(ctx context.Context) (await.State, error) {
		pods, err := p.admissionPods(ctx)
		if err != nil {
			return await.State{}, err
		}
		holder, err := p.leaseHolder(ctx)
		for _, pod := range pods {
			if leads(pod, holder) {
				leader = pod
				return await.Reached(), err
			}
		}
		return await.NotYet("the lease is held by %q", holder), err
	})
	return leader
}

// KillLeaderAsked kills the replica of Kyverno's admission controller that leads, as soon as it is the one that has asked S3 and waits for
// the answer: so, in the middle of a request of the API server's. Asks is the address of whoever waits for an answer of S3; empty: nobody does.
func (p *Platform) KillLeaderAsked(ctx context.Context, asks func(context.Context) (string, error)) *LostLeader {
	p.needsKyverno()
	e, l := p.env, &LostLeader{platform: p, pod: p.leader(ctx), seen: "nobody asked S3"}
	l.stop = meanwhile(ctx, e.Times.Poll/4, func(ctx context.Context) (done bool) {
		switch address, err := asks(ctx); {
		case err != nil && ctx.Err() == nil:
			l.seen = err.Error()
		case err == nil && address == l.pod.Status.PodIP:
			// The PVC may be admitted, and the spec go on, as soon as it is killed, and before that is known.
			if err := p.kill(context.WithoutCancel(ctx), &l.pod); err != nil {
				l.seen = err.Error()
				return true
			}
			l.killed = true
		case err == nil && address != "":
			l.seen = fmt.Sprintf("%s asked S3, and %s leads, at %s", address, l.pod.Name, l.pod.Status.PodIP)
		}
		return l.killed
	})
	e.Undo("Kyverno's admission controller", func(ctx context.Context) error {
		l.stop()
		return p.ready(ctx, KyvernoAdmission.Namespace)
	})
	return l
}

// killPod kills what runs in the pod with this UID, wherever that is. A cgroup's name has the UID with either sign.
const killPod = `for p in $(pgrep -x kyverno); do if grep -q -e "$0" -e "${0//-/_}" "/proc/$p/cgroup"; then kill -KILL "$p" && echo killed; fi; done`

// kill kills a pod's process, without a word, and then deletes the pod: its lease stays as it is.
func (p *Platform) kill(ctx context.Context, pod *corev1.Pod) error {
	out, err := p.env.Node(ctx, "bash", "-c", killPod, string(pod.UID))
	if err == nil && !strings.Contains(out, "killed") {
		err = fmt.Errorf("no process of pod %s was found on a node", pod.Name)
	}
	return errors.Join(err, client.IgnoreNotFound(p.env.API.Delete(ctx, pod.DeepCopy(), client.GracePeriodSeconds(0))))
}

// WasKilled ends the spec as unknown unless the leader was killed while somebody waited for it.
func (l *LostLeader) WasKilled() {
	l.stop()
	e := l.platform.env
	if !l.killed {
		e.Unknownf("Kyverno's leader was not killed in the middle of a request: %s", l.seen)
	}
	e.Evidence("seen", fmt.Sprintf("pod %s, which led, was killed while it waited for S3 and the API server for it", l.pod.Name), nil)
}

// IsReplaced waits until another replica leads.
func (l *LostLeader) IsReplaced(ctx context.Context) {
	e := l.platform.env
	var holder string
	e.Arrange(ctx, "another replica that leads", e.Times.Platform, func(ctx context.Context) (_ await.State, err error) {
		holder, err = l.platform.leaseHolder(ctx)
		return await.ReachedIf(holder != "" && !leads(l.pod, holder), "the lease is held by %q", holder), err
	})
	e.Evidence("seen", "Kyverno's admission controller is led by "+holder, nil)
}
