package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

const firstLook = "first-look"

// ThatLooks is the app of a PVC which, before anything else, lists what is on its volume.
func ThatLooks(e *env.Env, pvc string) *corev1.Pod {
	pod := Of(e, pvc)
	looking := pod.Spec.Containers[0]
	looking.Name, looking.Command = firstLook, []string{e.Testbed.AgentPath(), "framed", "manifest", "--dir", mountPath}
	pod.Spec.InitContainers = []corev1.Container{looking}
	return pod
}

// SawAtFirst fails the spec unless what the app found when it started was exactly this.
func (a *App) SawAtFirst(ctx context.Context, want dataset.Manifest) {
	repository.Same(a.env, want, a.sawAtFirst(ctx), "what the app saw first")
}

func (a *App) sawAtFirst(ctx context.Context) (manifest dataset.Manifest) {
	clientset, err := kubernetes.NewForConfig(a.env.Config)
	a.env.Must(err)
	a.env.Arrange(ctx, "what the app found at its start, whole", a.env.Times.Probe, func(ctx context.Context) (await.State, error) {
		stream, err := clientset.CoreV1().Pods(a.env.Namespace).GetLogs(a.pod, &corev1.PodLogOptions{Container: firstLook}).Stream(ctx)
		if err != nil {
			return await.State{}, err
		}
		defer func() { _ = stream.Close() }()
		raw, err := io.ReadAll(stream)
		if err != nil {
			return await.State{}, err
		}
		reply, err := frame.Read(raw)
		if err != nil {
			return await.State{}, err
		}
		return await.Reached(), json.Unmarshal(reply.Stdout, &manifest)
	})
	files, size := manifest.Totals()
	a.env.Evidence("volume", fmt.Sprintf("at its start the app found %d files, %d bytes", files, size), map[string]any{"digest": manifest.Digest()})
	return manifest
}
