package app

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// Resting is a Deployment of a PVC whose pods write nothing by themselves. It is looked at within waits: its calls return errors.
type Resting struct {
	env       *env.Env
	pvc, name string
	there     bool
}

// RestingOf is the Deployment of a PVC, which need not be there. It is not created before it is scaled.
func RestingOf(e *env.Env, pvc string) *Resting {
	return &Resting{env: e, pvc: pvc, name: Of(e, pvc).Name}
}

// Scale has it have so many pods.
func (r *Resting) Scale(ctx context.Context, replicas int32) error {
	labels := map[string]string{controlledBy: r.name}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.env.Namespace, Name: r.name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: Of(r.env, r.pvc).Spec},
		},
	}
	if !r.there {
		err := client.IgnoreAlreadyExists(r.env.API.Create(ctx, deployment))
		r.there = err == nil
		return err
	}
	return r.env.API.Patch(ctx, deployment, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)))
}

// Pods are its pods that are not being deleted.
func (r *Resting) Pods(ctx context.Context) ([]corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := r.env.API.List(ctx, pods, client.InNamespace(r.env.Namespace), client.MatchingLabels{controlledBy: r.name})
	var living []corev1.Pod
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			living = append(living, pod)
		}
	}
	return living, err
}

// Content is that of the sentinel on the volume of its pod that runs, which is nil where none does. Empty: there is no sentinel.
func (r *Resting) Content(ctx context.Context) (pod *corev1.Pod, content string, err error) {
	pods, err := r.Pods(ctx)
	for i := range pods {
		if pods[i].Status.Phase != corev1.PodRunning {
			continue
		}
		// The agent says that there is no file by its exit code; what it cannot say is an error.
		result, err := r.env.Pods.Run(ctx, podexec.Container{Namespace: r.env.Namespace, Pod: pods[i].Name, Name: container},
			podexec.ByAgent(r.env.Testbed.AgentPath(), "get", "--file", mountPath+"/"+dataset.SentinelName))
		if err != nil {
			return nil, "", err
		}
		if result.ExitCode != 0 {
			return &pods[i], "", nil
		}
		return &pods[i], string(result.Stdout), nil
	}
	return nil, "", err
}

// Put writes the sentinel by the pod.
func (r *Resting) Put(ctx context.Context, pod *corev1.Pod, content string) error {
	result, err := r.env.Pods.Run(ctx, podexec.Container{Namespace: r.env.Namespace, Pod: pod.Name, Name: container},
		podexec.ByAgent(r.env.Testbed.AgentPath(), "put", "--file", mountPath+"/"+dataset.SentinelName, "--content", content))
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("pod %s cannot write: %s", pod.Name, result.Stderr)
	}
	return err
}
