package app

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
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
	deployment := deploymentOf(Of(r.env, r.pvc), map[string]string{controlledBy: r.name}, replicas)
	if !r.there {
		err := client.IgnoreAlreadyExists(r.env.API.Create(ctx, deployment))
		r.there = err == nil
		return err
	}
	return r.env.API.Patch(ctx, deployment, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)))
}

// Touch changes an annotation of it, which its ReplicaSet gets, too, and then makes what pods it lacks at once.
func (r *Resting) Touch(ctx context.Context, value string) error {
	o := deploymentOf(Of(r.env, r.pvc), map[string]string{controlledBy: r.name}, 0)
	return r.env.API.Patch(ctx, o, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"example.com/touched":%q}}}`, value)))
}

// Pods are its pods that are not being deleted.
func (r *Resting) Pods(ctx context.Context) ([]corev1.Pod, error) {
	return podsOf(ctx, r.env, r.name)
}

// Content is that of the sentinel on the volume of its pod that runs, which is nil where none does. Empty: there is no sentinel. That none runs
// for what is no policy's doing is an error.
func (r *Resting) Content(ctx context.Context) (pod *corev1.Pod, content string, err error) {
	pods, err := r.Pods(ctx)
	for i := range pods {
		if pods[i].Status.Phase != corev1.PodRunning {
			_, why := StateOf(&pods[i])
			err = cmp.Or(err, why)
			continue
		}
		result, err := sentinel(ctx, r.of(&pods[i]))
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

func (r *Resting) of(pod *corev1.Pod) *App { return &App{env: r.env, pod: pod.Name} }

// Put writes the sentinel by the pod.
func (r *Resting) Put(ctx context.Context, pod *corev1.Pod, content string) error {
	result, err := r.env.Pods.Run(ctx, ContainerOf(r.of(pod)),
		podexec.ByAgent(r.env.Testbed.AgentPath(), "put", "--file", mountPath+"/"+dataset.SentinelName, "--content", content))
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("pod %s cannot write: %s", pod.Name, result.Stderr)
	}
	return err
}
