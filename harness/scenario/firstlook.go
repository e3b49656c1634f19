package scenario

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/smart-restore/conformance/harness/workload/dataset"
)

const firstLook = "first-look"

// AppThatLooks starts a pod that, before anything else, lists what is on the claim, without waiting for it.
func (c *Claim) AppThatLooks(ctx context.Context) *App {
	pod := c.pod()
	looking := pod.Spec.Containers[0]
	looking.Name, looking.Command = firstLook, []string{c.sc.Testbed.AgentPath(), "manifest", "--dir", mountPath}
	pod.Spec.InitContainers = []corev1.Container{looking}
	return c.sc.startPod(ctx, pod)
}

// FirstLook is what the app found on its volume when it started.
func (a *App) FirstLook(ctx context.Context) dataset.Manifest {
	clientset, err := kubernetes.NewForConfig(a.sc.Config)
	a.sc.must(err)
	stream, err := clientset.CoreV1().Pods(a.sc.Namespace).GetLogs(a.pod, &corev1.PodLogOptions{Container: firstLook}).Stream(ctx)
	a.sc.must(err)
	defer func() { _ = stream.Close() }()
	raw, err := io.ReadAll(stream)
	a.sc.must(err)
	manifest, err := decode[dataset.Manifest](raw)
	a.sc.must(err)
	files, size := manifest.Totals()
	a.sc.Evidence("volume", fmt.Sprintf("at its start the app found %d files, %d bytes", files, size), map[string]any{"digest": manifest.Digest()})
	return manifest
}

// SawAtFirst fails the spec unless what the app found when it started was exactly this.
func (a *App) SawAtFirst(ctx context.Context, want dataset.Manifest) {
	a.sc.same(want, a.FirstLook(ctx), "what the app saw first")
}
