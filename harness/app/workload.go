package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// Workload is an app whose pod a Deployment or a StatefulSet makes, and makes again. Each of its pods lists what is on the volume
// before anything else, and then writes its own UID into the sentinel.
type Workload struct {
	env        *env.Env
	kind, name string
	App        *App // its present pod; nil: it has none
	uid        types.UID
	wrote      []string  // what its earlier pods wrote: a backup may hold the last of it
	since      time.Time // on the API server's clock: an earlier refusal was of an earlier pod
}

// controlledBy is the label by which a workload finds its pods.
const controlledBy = "conformance.smart-restore.io/app"

// Deploy creates the Deployment of a PVC.
func Deploy(ctx context.Context, e *env.Env, pvc string) *Workload {
	return start(ctx, e, Deployment(e, pvc))
}

// Deployed is the workload of a Deployment that is not created by the suite.
func Deployed(e *env.Env, deployment *appsv1.Deployment) *Workload {
	return &Workload{env: e, kind: deployment.Kind, name: deployment.Name}
}

// Deployment is that of a PVC.
func Deployment(e *env.Env, pvc string) *appsv1.Deployment {
	pod, labels := controlled(e, pvc)
	return deploymentOf(pod, labels, one)
}

// deploymentOf is a Deployment that has the name of its pods' model, of which it has so many.
func deploymentOf(pod *corev1.Pod, labels map[string]string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
		},
	}
}

var one = int32(1)

// StatefulSet creates a StatefulSet. It says the name of the PVC that is made from this template for its pod: before the pod, or, for an
// ephemeral volume, after it. Prepare is called before, with that name.
func StatefulSet(ctx context.Context, e *env.Env, name string, template *corev1.PersistentVolumeClaim, ephemeral bool, prepare func(pvc string)) (workload *Workload, pvc string) {
	pod, labels := controlled(e, name)
	spec := appsv1.StatefulSetSpec{
		Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
	}
	volumes := spec.Template.Spec.Volumes
	i := slices.IndexFunc(volumes, func(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil })
	volume := volumes[i].Name
	if ephemeral {
		pvc = pod.Name + "-0-" + volume
		volumes[i].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec,
		}}}
	} else {
		pvc = volume + "-" + pod.Name + "-0"
		spec.Template.Spec.Volumes = slices.Delete(volumes, i, i+1) // it adds its own
		spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: volume, Labels: template.Labels}, Spec: template.Spec}}
	}
	prepare(pvc)
	return start(ctx, e, &appsv1.StatefulSet{
		TypeMeta: metav1.TypeMeta{Kind: "StatefulSet"}, ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: pod.Name}, Spec: spec,
	}), pvc
}

// controlled is a workload's pod, and the labels by which its controller finds it.
func controlled(e *env.Env, pvc string) (*corev1.Pod, map[string]string) {
	pod := ThatLooks(e, pvc)
	writing := pod.Spec.InitContainers[0]
	writing.Name = "own-write"
	writing.Command = []string{e.Testbed.AgentPath(), "put", "--file", mountPath + "/" + dataset.SentinelName, "--content", "$(POD_UID)"}
	writing.Env = []corev1.EnvVar{{Name: "POD_UID", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}}}}
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, writing)
	return pod, map[string]string{controlledBy: pod.Name}
}

func start(ctx context.Context, e *env.Env, controller client.Object) *Workload {
	kind := controller.GetObjectKind().GroupVersionKind().Kind
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreAlreadyExists(e.API.Create(ctx, controller)) })
	return &Workload{env: e, kind: kind, name: controller.GetName()}
}

func (w *Workload) String() string { return w.kind + " " + w.name }

// Running waits until a pod of the workload runs: the first, or the one that Replace has found. A controller whose pod is held back waits twice
// as long each time before it asks for it again: so its pod may come when a restore has been over for as long as that took.
func (w *Workload) Running(ctx context.Context) *App {
	w.env.Eventually(ctx, "a pod of "+w.String(), 2*w.env.Times.Mover, func(ctx context.Context) (await.State, error) {
		found, refused, err := w.next(ctx, "")
		return await.ReachedIf(found, "none: %s", refused), err
	})
	w.App.Running(ctx)
	return w.App
}

// Replace deletes the workload's pod, and waits until the next is there, or is held back. It says which.
func (w *Workload) Replace(ctx context.Context) (there bool) {
	e, old := w.env, w.uid
	w.wrote = append(w.wrote, string(old))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: w.App.pod}}
	w.App, w.since = nil, e.Now().Truncate(time.Second)
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(e.API.Delete(ctx, pod)) })
	e.Arrange(ctx, "the next pod of "+w.String()+", or its refusal", e.Times.Pod, func(ctx context.Context) (await.State, error) {
		found, refused, err := w.next(ctx, old)
		if err == nil && refused != "" && !found {
			e.Evidence("admission", fmt.Sprintf("the next pod of %s is held back: %s", w, refused), nil)
		}
		there = found
		return await.ReachedIf(found || refused != "", "no pod"), err
	})
	return there
}

// next finds the workload's pod that is not the old one, or why there is none.
func (w *Workload) next(ctx context.Context, old types.UID) (found bool, refused string, err error) {
	pods, err := podsOf(ctx, w.env, w.name)
	if err != nil {
		return false, "", err
	}
	for _, pod := range pods {
		if pod.UID != old {
			w.App, w.uid = &App{env: w.env, pod: pod.Name}, pod.UID
			return true, "", nil
		}
	}
	events := &corev1.EventList{}
	if err := w.env.API.List(ctx, events, client.InNamespace(w.env.Namespace), client.MatchingFields{"reason": "FailedCreate"}); err != nil {
		return false, "", err
	}
	for _, event := range events.Items {
		of := event.InvolvedObject
		ours := of.Kind == w.kind && of.Name == w.name || of.Kind == "ReplicaSet" && strings.HasPrefix(of.Name, w.name+"-")
		if ours && !event.LastTimestamp.Time.Before(w.since) {
			return false, event.Message, nil
		}
	}
	return false, "", nil
}

// podsOf are the pods that the workload of this name controls, without those that are being deleted.
func podsOf(ctx context.Context, e *env.Env, name string) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := e.API.List(ctx, pods, client.InNamespace(e.Namespace), client.MatchingLabels{controlledBy: name})
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil }), err
}

// Waits ends the spec as unknown unless the workload's pod is there and has not started: it waits for its volume.
func (w *Workload) Waits(ctx context.Context) {
	e, pod := w.env, &corev1.Pod{}
	e.Do(ctx, func(ctx context.Context) error { return e.API.Get(ctx, w.App.key(), pod) })
	if pod.UID != w.uid || pod.Status.Phase != corev1.PodPending || pod.Spec.NodeName != "" {
		e.Unknownf("pod %s does not wait for its volume: it is %s on node %q", pod.Name, pod.Status.Phase, pod.Spec.NodeName)
	}
	e.Evidence("seen", fmt.Sprintf("pod %s, of %s, is there and waits for its volume", pod.Name, pod.CreationTimestamp.UTC().Format("15:04:05")), nil)
}

// SawAllOrNothing fails the spec unless what the workload's pod found when it started was an empty volume, or the one file
// of the backup: a part of it would have been written while the pod waited.
func (w *Workload) SawAllOrNothing(ctx context.Context) {
	switch found := w.App.sawAtFirst(ctx).Entries; {
	case len(found) == 0:
		w.env.Evidence("volume", "the app started on an empty volume", nil)
	case len(found) == 1 && found[0].Path == dataset.SentinelName:
		w.env.Evidence("volume", "the app found the backup when it started", nil)
	default:
		w.env.Failf("the app found neither an empty volume nor the backup when it started, but %s", pathsOf(found))
	}
}

// SawTheBackup fails the spec unless what the workload's pod found when it started was the good backup, or one of what its earlier pods
// wrote.
func (w *Workload) SawTheBackup(ctx context.Context) {
	w.App.SawTheBackup(ctx, append([]string{repository.SeedContent}, w.wrote...)...)
}

// StartedEmpty says whether the volume was empty when the workload's pod started.
func (w *Workload) StartedEmpty(ctx context.Context) bool {
	return len(w.App.sawAtFirst(ctx).Entries) == 0
}

// FoundTheBackup says whether what the workload's pod found when it started was the good backup, whole. What else it found is evidence.
func (w *Workload) FoundTheBackup(ctx context.Context) bool {
	found := notTheBackup(w.App.sawAtFirst(ctx), []string{repository.SeedContent})
	if found != "" {
		w.env.Evidence("volume", fmt.Sprintf("when the pod of %s started, it found %s", w, found), nil)
	}
	return found == ""
}

// KeepsOwnWrite is a watch for what the workload's pod wrote at its start being gone.
func KeepsOwnWrite(w *Workload) await.Watch { return Keeps(w.App, string(w.uid)) }
