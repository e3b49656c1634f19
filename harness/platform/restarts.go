package platform

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/env"
)

// Restarts is what was seen of Kyverno's and VolSync's containers at a moment, by pod and container. Jobs are meant to end, and are none of them.
type Restarts map[string]restarts

type restarts struct {
	pod     types.UID
	read    bool // there was a state: what follows was seen
	count   int32
	running bool
	leaving bool // the pod is being deleted
}

// Restarts counts the restarts of Kyverno's and VolSync's containers.
func (p *Platform) Restarts(ctx context.Context) (seen Restarts) {
	p.env.Do(ctx, func(ctx context.Context) (err error) {
		seen, err = p.restarts(ctx)
		return err
	})
	return seen
}

func (p *Platform) restarts(ctx context.Context) (Restarts, error) {
	seen := Restarts{}
	for _, namespace := range []string{env.KyvernoNamespace, VolSync.Namespace} {
		pods := &corev1.PodList{}
		if err := p.env.API.List(ctx, pods, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for _, pod := range pods.Items {
			if pod.Spec.RestartPolicy == corev1.RestartPolicyNever || pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
				continue
			}
			for _, container := range pod.Spec.Containers {
				of := restarts{pod: pod.UID, leaving: pod.DeletionTimestamp != nil}
				for _, status := range pod.Status.ContainerStatuses {
					if status.Name == container.Name {
						of.read, of.count, of.running = true, status.RestartCount, status.State.Running != nil
					}
				}
				seen[pod.Name+"/"+container.Name] = of
			}
		}
	}
	return seen, nil
}

// SameRestarts fails the spec where one of the containers restarted since, also one of a pod that came since. Where a pod is gone, or the state of
// a container could not be read, the spec is unknown: nobody knows whether it restarted before.
func (p *Platform) SameRestarts(ctx context.Context, before Restarts) {
	restarted, unseen := p.Restarts(ctx).since(before)
	if len(restarted) > 0 {
		p.env.Failf("Kyverno or VolSync restarted: %s", strings.Join(restarted, "; "))
	}
	if len(before) == 0 {
		unseen = append(unseen, "there was no container of theirs")
	}
	if len(unseen) > 0 {
		p.env.Unknownf("whether Kyverno or VolSync restarted was not seen: %s", strings.Join(unseen, "; "))
	}
	p.env.Evidence("seen", fmt.Sprintf("none of the %d containers of Kyverno and VolSync restarted", len(before)), nil)
}

// KyvernoWasDown says why Kyverno may have been unable to act since an earlier moment: a container of its or VolSync's restarted, or is not what it was,
// or a deployment of its is not ready at this moment. Empty: it was able to.
func (p *Platform) KyvernoWasDown(ctx context.Context, before Restarts) string {
	restarted, unseen := p.Restarts(ctx).since(before)
	if changed := slices.Concat(restarted, unseen); len(changed) > 0 {
		return strings.Join(changed, "; ")
	}
	if err := p.ready(ctx, env.KyvernoNamespace); err != nil {
		return err.Error()
	}
	return ""
}

// since says which containers restarted since an earlier moment, and of which that was not seen.
func (r Restarts) since(before Restarts) (restarted, unseen []string) {
	all := maps.Clone(before)
	maps.Copy(all, r)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		was, wasThere := before[name]
		is, isThere := r[name]
		same := wasThere && isThere && was.pod == is.pod
		switch {
		case !isThere:
			unseen = append(unseen, name+" is gone, with its pod")
		case !is.read:
			unseen = append(unseen, name+" has no state")
		case same && !was.read && is.count > 0:
			unseen = append(unseen, fmt.Sprintf("%s has restarted %d times, and had no state before", name, is.count))
		case same && is.count > was.count:
			restarted = append(restarted, fmt.Sprintf("%s restarted %d times", name, is.count-was.count))
		case !same && is.count > 0:
			restarted = append(restarted, fmt.Sprintf("%s, of a pod that came since, restarted %d times", name, is.count))
		case wasThere && !same:
			unseen = append(unseen, name+" is of another pod than before")
		case is.leaving:
			unseen = append(unseen, name+" is being deleted, with its pod")
		case same && was.running && !is.running:
			restarted = append(restarted, name+" has ended")
		}
	}
	return restarted, unseen
}
