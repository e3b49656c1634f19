package platform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/testbed"
)

func nodeNamed(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// podOn is a pod on a node; without an owner, nobody makes it again.
func podOn(node, namespace, name, owner string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)}, Spec: corev1.PodSpec{NodeName: node}}
	if yes := true; owner != "" {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: owner, Name: "its", UID: "its", Controller: &yes}}
	}
	return pod
}

func names(t *testing.T, api client.Client) (left []string) {
	t.Helper()
	pods := &corev1.PodList{}
	if err := api.List(t.Context(), pods); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		left = append(left, pod.Name)
	}
	slices.Sort(left)
	return left
}

func TestDrain(t *testing.T) {
	const cordon, uncordon = `patch one {"spec":{"unschedulable":true}}`, `patch one {"spec":{"unschedulable":false}}`
	ended := podOn("one", "ns", "ended", "Job")
	ended.Status.Phase = corev1.PodSucceeded
	pods := []client.Object{
		nodeNamed("one"), nodeNamed("two"), ended,
		podOn("one", "ns", "mover", "Job"), podOn("one", "ns", "app", ""), podOn("one", "volsync-system", "volsync", "ReplicaSet"),
		podOn("one", "csi-driver", "driver", "DaemonSet"), podOn("one", "kube-system", "static", "Node"), podOn("one", "conformance", "tools", ""),
		podOn("two", "ns", "elsewhere", "Job"),
	}
	for name, c := range map[string]struct {
		fail, want string
		did        []string
		left       []string
	}{
		"drained": {
			"", "pass", []string{"register: put back node one", cordon, "ready volsync-system", "answers", uncordon},
			[]string{"driver", "elsewhere", "ended", "static", "tools"},
		},
		"not cordoned": {
			cordon, "unknown", []string{"register: put back node one", uncordon},
			[]string{"app", "driver", "elsewhere", "ended", "mover", "static", "tools", "volsync"},
		},
		"VolSync does not come back": {
			"answers", "unknown", []string{"register: put back node one", cordon, "ready volsync-system", uncordon},
			[]string{"driver", "elsewhere", "ended", "static", "tools"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &log{fail: c.fail}
				p := platformWith(t, l, env.Parts{Testbed: &testbed.Testbed{Stack: "volsync-csi-2", Controllers: []string{"volsync-system"}}}, pods...)
				got := recorded.Outcome(func() { p.Drain(t.Context(), "one")(t.Context()) })
				if got.How != c.want {
					t.Errorf("%+v, wanted %s", got, c.want)
				}
				for _, cleanUp := range l.CleanUps {
					if err := cleanUp(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if !slices.Equal(l.did, c.did) {
					t.Errorf("did %q, wanted %q", l.did, c.did)
				}
				if left := names(t, l.api); !slices.Equal(left, c.left) {
					t.Errorf("left %q, wanted %q", left, c.left)
				}
			})
		})
	}
}

func TestDislikedNode(t *testing.T) {
	l := &log{}
	tainted := nodeNamed("two")
	tainted.Spec.Taints = []corev1.Taint{{Key: "its-own", Effect: corev1.TaintEffectNoSchedule}}
	p := platformWith(t, l, env.Parts{}, nodeNamed("one"), tainted)
	taints := func() (keys []string) {
		node := &corev1.Node{}
		if err := l.api.Get(t.Context(), client.ObjectKey{Name: "two"}, node); err != nil {
			t.Fatal(err)
		}
		for _, taint := range node.Spec.Taints {
			keys = append(keys, taint.Key+":"+string(taint.Effect))
		}
		return keys
	}
	if got := recorded.Outcome(func() { p.DislikedNode(t.Context()) }); got.How != "pass" {
		t.Fatalf("%+v", got)
	}
	if got, want := taints(), []string{"its-own:NoSchedule", disliked.Key + ":PreferNoSchedule"}; !slices.Equal(got, want) {
		t.Errorf("taints %q, wanted %q", got, want)
	}
	for range 2 { // once is as good as twice
		for _, cleanUp := range l.CleanUps {
			if err := cleanUp(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if got, want := taints(), []string{"its-own:NoSchedule"}; !slices.Equal(got, want) {
		t.Errorf("left %q, wanted %q", got, want)
	}
	alone := &log{}
	p = platformWith(t, alone, env.Parts{}, nodeNamed("one"))
	if got := recorded.Outcome(func() { p.DislikedNode(t.Context()) }); got.How != "unknown" || len(alone.did) > 0 {
		t.Errorf("one node: %+v, did %q", got, alone.did)
	}
}

func admission(name, ip string) *corev1.Pod {
	pod := podOn("one", env.KyvernoNamespace, name, "ReplicaSet")
	pod.Labels = map[string]string{"app.kubernetes.io/component": "admission-controller"}
	pod.Status.PodIP = ip
	return pod
}

func leaseOf(holder string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: env.KyvernoNamespace, Name: "kyverno"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}}
}

// The replica that leads is killed when it is the one that waits for S3, and nobody else.
func TestKillLeaderAsked(t *testing.T) {
	const killed = "killed\n"
	for name, c := range map[string]struct {
		asks       []string // who waits for S3, one look after the other
		failing    error
		out        string
		want, says string
		left       []string
	}{
		"it asks":                   {[]string{"", "10.0.0.1"}, nil, killed, "pass", "", []string{"kyverno-b"}},
		"the other one asks":        {[]string{"10.0.0.2"}, nil, killed, "unknown", "10.0.0.2 asked S3, and kyverno-a leads, at 10.0.0.1", []string{"kyverno-a", "kyverno-b"}},
		"nobody asks":               {[]string{""}, nil, killed, "unknown", "nobody asked S3", []string{"kyverno-a", "kyverno-b"}},
		"who asks cannot be seen":   {nil, errAPI, killed, "unknown", "connection refused", []string{"kyverno-a", "kyverno-b"}},
		"its process was not found": {[]string{"10.0.0.1"}, nil, "", "unknown", "no process of pod kyverno-a", []string{"kyverno-b"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &log{}
				p := platformWith(t, l, env.Parts{Node: func(ctx context.Context, args ...string) (string, error) {
					time.Sleep(2 * time.Second) // longer than the spec waits
					if ctx.Err() != nil {
						return "", ctx.Err()
					}
					if got := args[len(args)-1]; got != "uid-of-kyverno-a" {
						return "", fmt.Errorf("asked to kill %s", got)
					}
					return c.out, nil
				}}, admission("kyverno-a", "10.0.0.1"), admission("kyverno-b", "10.0.0.2"), leaseOf("kyverno-a"))
				looks := 0
				asks := func(context.Context) (string, error) {
					if c.failing != nil {
						return "", c.failing
					}
					looks++
					return c.asks[min(looks, len(c.asks))-1], nil
				}
				got := recorded.Outcome(func() {
					leader := p.KillLeaderAsked(t.Context(), asks)
					time.Sleep(time.Second)
					leader.WasKilled()
				})
				if got.How != c.want || !strings.Contains(got.Reason, c.says) {
					t.Errorf("%+v, wanted %s with %q", got, c.want, c.says)
				}
				for _, cleanUp := range l.CleanUps {
					if err := cleanUp(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if left := names(t, l.api); !slices.Equal(left, c.left) {
					t.Errorf("left %q, wanted %q", left, c.left)
				}
			})
		})
	}
}

func TestALeaderIsReplaced(t *testing.T) {
	for holder, want := range map[string]string{"kyverno-b": "pass", "kyverno-a": "unknown", "": "unknown"} {
		synctest.Test(t, func(t *testing.T) {
			l := &log{}
			p := platformWith(t, l, env.Parts{}, leaseOf(holder))
			lost := &LostLeader{platform: p, pod: *admission("kyverno-a", "10.0.0.1")}
			if got := recorded.Outcome(func() { lost.IsReplaced(t.Context()) }); got.How != want {
				t.Errorf("led by %q: %+v, wanted %s", holder, got, want)
			}
		})
	}
}

func TestTwoReplicas(t *testing.T) {
	const two, one = `patch kyverno-admission-controller {"spec":{"replicas":2}}`, `patch kyverno-admission-controller {"spec":{"replicas":1}}`
	for name, c := range map[string]struct {
		fail, holder, want string
		did                []string
	}{
		"scaled":          {"", "kyverno-a", "pass", []string{"register: put back the replicas of Kyverno's admission controller", two, "ready kyverno", one, "ready kyverno"}},
		"not scaled":      {two, "kyverno-a", "unknown", []string{"register: put back the replicas of Kyverno's admission controller", one, "ready kyverno"}},
		"nobody leads it": {"", "gone", "unknown", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &log{fail: c.fail}
				p := platformWith(t, l, env.Parts{}, deployment(env.KyvernoNamespace, KyvernoAdmission.Name, 1), admission("kyverno-a", "10.0.0.1"), leaseOf(c.holder))
				if got := recorded.Outcome(func() { p.TwoReplicas(t.Context()) }); got.How != c.want {
					t.Errorf("%+v, wanted %s", got, c.want)
				}
				var problems []error
				for _, cleanUp := range l.CleanUps {
					problems = append(problems, cleanUp(t.Context()))
				}
				if err := errors.Join(problems...); err != nil || !slices.Equal(l.did, c.did) {
					t.Errorf("%v, did %q, wanted %q", err, l.did, c.did)
				}
			})
		})
	}
}
