package app

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// Deployment is an app of a PVC whose pod a Deployment makes, and makes again. Each of its pods lists what is on the volume
// before anything else, and then writes its own UID into the sentinel.
type Deployment struct {
	env  *env.Env
	name string
	App  *App // its present pod; nil: it has none
	uid  types.UID
}

// controlledBy is the label by which a Deployment finds its pods.
const controlledBy = "conformance.smart-restore.io/app"

// Deploy creates the Deployment of a PVC.
func Deploy(ctx context.Context, e *env.Env, pvc string) *Deployment {
	pod := ThatLooks(e, pvc)
	writing := pod.Spec.InitContainers[0]
	writing.Name = "own-write"
	writing.Command = []string{e.Testbed.AgentPath(), "put", "--file", mountPath + "/" + dataset.SentinelName, "--content", "$(POD_UID)"}
	writing.Env = []corev1.EnvVar{{Name: "POD_UID", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}}}}
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, writing)
	one, labels := int32(1), map[string]string{controlledBy: pod.Name}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: pod.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
		},
	}
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreAlreadyExists(e.API.Create(ctx, deployment)) })
	return &Deployment{env: e, name: pod.Name}
}

// Running waits until a pod of the Deployment runs: the first, or the one that Replace has found.
func (d *Deployment) Running(ctx context.Context) *App {
	e := d.env
	e.Eventually(ctx, "a pod of Deployment "+d.name, e.Times.Mover, func(ctx context.Context) (await.State, error) {
		found, refused, err := d.next(ctx, "")
		return await.ReachedIf(found, "none: %s", refused), err
	})
	d.App.Running(ctx)
	return d.App
}

// Replace deletes the Deployment's pod, and waits until the next is there, or is held back. It says which.
func (d *Deployment) Replace(ctx context.Context) (there bool) {
	e, old := d.env, d.uid
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: d.App.pod}}
	d.App = nil
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(e.API.Delete(ctx, pod)) })
	e.Arrange(ctx, "the next pod of Deployment "+d.name+", or its refusal", e.Times.Pod, func(ctx context.Context) (await.State, error) {
		found, refused, err := d.next(ctx, old)
		if err == nil && refused != "" && !found {
			e.Evidence("admission", fmt.Sprintf("the next pod of Deployment %s is held back: %s", d.name, refused), nil)
		}
		there = found
		return await.ReachedIf(found || refused != "", "no pod"), err
	})
	return there
}

// next finds the Deployment's pod that is not the old one, or why there is none.
func (d *Deployment) next(ctx context.Context, old types.UID) (found bool, refused string, err error) {
	pods := &corev1.PodList{}
	if err := d.env.API.List(ctx, pods, client.InNamespace(d.env.Namespace), client.MatchingLabels{controlledBy: d.name}); err != nil {
		return false, "", err
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.UID != old && pod.DeletionTimestamp == nil {
			d.App, d.uid = &App{env: d.env, pod: pod.Name}, pod.UID
			return true, "", nil
		}
	}
	sets := &appsv1.ReplicaSetList{}
	if err := d.env.API.List(ctx, sets, client.InNamespace(d.env.Namespace), client.MatchingLabels{controlledBy: d.name}); err != nil {
		return false, "", err
	}
	for i := range sets.Items {
		for _, condition := range sets.Items[i].Status.Conditions {
			if condition.Type == appsv1.ReplicaSetReplicaFailure && condition.Status == corev1.ConditionTrue {
				return false, condition.Message, nil
			}
		}
	}
	return false, "", nil
}

// Waits ends the spec as unknown unless the Deployment's pod is there and has not started: it waits for its volume.
func (d *Deployment) Waits(ctx context.Context) {
	e, pod := d.env, &corev1.Pod{}
	e.Do(ctx, func(ctx context.Context) error { return e.API.Get(ctx, d.App.key(), pod) })
	if pod.UID != d.uid || pod.Status.Phase != corev1.PodPending || pod.Spec.NodeName != "" {
		e.Unknownf("pod %s does not wait for its volume: it is %s on node %q", pod.Name, pod.Status.Phase, pod.Spec.NodeName)
	}
	e.Evidence("seen", fmt.Sprintf("pod %s, of %s, is there and waits for its volume", pod.Name, pod.CreationTimestamp.UTC().Format("15:04:05")), nil)
}

// SawAllOrNothing fails the spec unless what the Deployment's pod found when it started was an empty volume, or the one file
// of the backup: a part of it would have been written while the pod waited.
func (d *Deployment) SawAllOrNothing(ctx context.Context) {
	switch found := d.App.sawAtFirst(ctx).Entries; {
	case len(found) == 0:
		d.env.Evidence("volume", "the app started on an empty volume", nil)
	case len(found) == 1 && found[0].Path == dataset.SentinelName:
		d.env.Evidence("volume", "the app found the backup when it started", nil)
	default:
		var paths []string
		for _, entry := range found {
			paths = append(paths, entry.Path)
		}
		d.env.Failf("the app found neither an empty volume nor the backup when it started, but %s", strings.Join(paths, ", "))
	}
}

// KeepsOwnWrite is a watch for what the Deployment's pod wrote at its start being gone.
func KeepsOwnWrite(d *Deployment) await.Watch { return Keeps(d.App, string(d.uid)) }
