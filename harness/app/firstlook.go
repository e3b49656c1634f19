package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

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

// SawTheBackup fails the spec unless what the app found when it started was one of these backups: the volume's sentinel, with that
// content, and nothing else. Without any, it is the good backup.
func (a *App) SawTheBackup(ctx context.Context, contents ...string) {
	if len(contents) == 0 {
		contents = []string{repository.SeedContent}
	}
	if violation := notTheBackup(a.sawAtFirst(ctx), contents); violation != "" {
		a.env.Failf("when pod %s started, it found %s: it must find the backup, whole", a.pod, violation)
	}
	a.env.Evidence("volume", "the app found the backup when it started", nil)
}

// notTheBackup is what a volume holds that is not exactly one of these sentinels; empty: it is.
func notTheBackup(found dataset.Manifest, contents []string) string {
	entries := found.Entries
	switch {
	case slices.ContainsFunc(contents, func(content string) bool { return onlySentinel(entries, content) }):
		return ""
	case len(entries) == 0:
		return "an empty volume"
	case len(entries) == 1 && entries[0].Path == dataset.SentinelName:
		return fmt.Sprintf("a %s with another content", dataset.SentinelName)
	}
	return pathsOf(entries)
}

// pathsOf are the paths of entries, in words.
func pathsOf(entries []dataset.Entry) string {
	var paths []string
	for _, entry := range entries {
		paths = append(paths, entry.Path)
	}
	return strings.Join(paths, ", ")
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
