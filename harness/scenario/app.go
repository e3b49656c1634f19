package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/workload/dataset"
)

const mountPath = "/data"

// App is a pod that uses a claim.
type App struct {
	sc  *Scenario
	pod string
}

// App starts a pod that mounts the claim and waits until it runs.
func (c *Claim) App(ctx context.Context) *App {
	app := c.sc.startPod(ctx, c.pod())
	app.Running(ctx)
	return app
}

// pod is a pod that uses the claim.
func (c *Claim) pod() *corev1.Pod {
	return c.sc.pod("app-"+c.Name, map[string]string{mountPath: c.Name})
}

// Observer starts a pod without a volume, to look at S3 from inside the cluster.
func (sc *Scenario) Observer(ctx context.Context) *App {
	app := sc.startPod(ctx, sc.pod("observer", nil))
	app.Running(ctx)
	return app
}

// AppOfAll starts one pod that mounts all the claims, each below mountPath under its own name, and waits until it runs.
func (sc *Scenario) AppOfAll(ctx context.Context, claims []*Claim) *App {
	volumes := map[string]string{}
	for _, claim := range claims {
		volumes[mountPath+"/"+claim.Name] = claim.Name
	}
	app := sc.startPod(ctx, sc.pod("app-of-all", volumes))
	app.Running(ctx)
	return app
}

// pod is a pod of the agent with these volumes, mount path → PVC. Its name can be a host name, too.
func (sc *Scenario) pod(name string, volumes map[string]string) *corev1.Pod {
	var now int64
	var no bool // it asks the API server nothing, and no service
	container, agentVolumes := sc.agentContainer("app")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: sc.Namespace, Name: hostName(name)},
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: &now, AutomountServiceAccountToken: &no, EnableServiceLinks: &no, Volumes: agentVolumes},
	}
	for i, path := range slices.Sorted(maps.Keys(volumes)) {
		volume := fmt.Sprintf("volume-%d", i)
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: path})
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name:         volume,
			VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: volumes[path]}},
		})
	}
	pod.Spec.Containers = []corev1.Container{container}
	return pod
}

// hostName shortens a name to what can be a host name, and keeps it different from others.
func hostName(name string) string {
	short := strings.ReplaceAll(name, ".", "-")
	if len(short) <= 50 && short == name {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimRight(short[:min(len(short), 50)], "-") + "-" + hex.EncodeToString(sum[:4])
}

func (sc *Scenario) startPod(ctx context.Context, pod *corev1.Pod) *App {
	sc.create(ctx, pod)
	return &App{sc: sc, pod: pod.Name}
}

// refusedByWebhook says whether an admission webhook said no, or could not be asked.
func refusedByWebhook(err error) bool {
	return strings.Contains(err.Error(), "admission webhook") || strings.Contains(err.Error(), "failed calling webhook")
}

// create creates a pod, and tries again where an admission webhook refuses it, as the controllers do that make pods.
func (sc *Scenario) create(ctx context.Context, pod *corev1.Pod) {
	start, refusals := time.Now(), 0
	sc.eventually(ctx, fmt.Sprintf("pod %s admitted", pod.Name), moverTimeout, func(ctx context.Context) (bool, string, error) {
		err := sc.API.Create(ctx, pod)
		if err == nil {
			return true, "", nil
		}
		if apierrors.IsAlreadyExists(err) || apierrors.IsInvalid(err) {
			sc.must(err)
		}
		if !refusedByWebhook(err) {
			return blind(err)
		}
		refusals++
		if refusals == 1 {
			sc.Evidence("admission", fmt.Sprintf("pod %s is held back: %v", pod.Name, err), nil)
		}
		return false, err.Error(), nil
	})
	if refusals > 0 {
		sc.Evidence("admission", fmt.Sprintf("pod %s was held back for %.1f s", pod.Name, time.Since(start).Seconds()), map[string]any{"seconds": time.Since(start).Seconds()})
	}
}

// Running waits until the app runs.
func (a *App) Running(ctx context.Context) {
	a.sc.eventually(ctx, fmt.Sprintf("pod %s running", a.pod), podTimeout, func(ctx context.Context) (bool, string, error) {
		pod := &corev1.Pod{}
		if err := a.sc.API.Get(ctx, client.ObjectKey{Namespace: a.sc.Namespace, Name: a.pod}, pod); err != nil {
			return blind(err)
		}
		seen := "phase " + string(pod.Status.Phase)
		for _, status := range pod.Status.ContainerStatuses {
			if w := status.State.Waiting; w != nil {
				seen += ", " + w.Reason + " " + w.Message
				if strings.Contains(w.Reason, "ErrImage") || w.Reason == "InvalidImageName" {
					return false, "", errors.New(seen)
				}
			}
		}
		return pod.Status.Phase == corev1.PodRunning, seen, nil
	})
	a.sc.must(a.sc.bringAgent(ctx, a.sc.Namespace, a.pod, "app"))
}

// Write lets the app write the data set to its volume, and returns what is there then.
func (a *App) Write(ctx context.Context, spec dataset.Spec) dataset.Manifest {
	manifest := a.manifest(ctx, "write", "--dir", mountPath, "--seed", spec.Seed,
		fmt.Sprintf("--small=%d", spec.SmallFiles), fmt.Sprintf("--large=%d", spec.LargeFileBytes))
	files, size := manifest.Totals()
	a.sc.Evidence("volume", fmt.Sprintf("the app wrote %d files, %d bytes", files, size), map[string]any{"digest": manifest.Digest()})
	return manifest
}

// Reads lets the app read everything on its volume.
func (a *App) Reads(ctx context.Context) dataset.Manifest {
	manifest := a.manifest(ctx, "manifest", "--dir", mountPath)
	files, size := manifest.Totals()
	a.sc.Evidence("volume", fmt.Sprintf("the app reads %d files, %d bytes", files, size), map[string]any{"digest": manifest.Digest()})
	return manifest
}

// SeesExactly fails the spec unless everything on the volume is as in want: every byte, mode, owner, mtime, symlink
// and user.* attribute, and nothing else.
func (a *App) SeesExactly(ctx context.Context, want dataset.Manifest) {
	a.sc.same(want, a.Reads(ctx), "the app's volume")
}

func (sc *Scenario) same(want, got dataset.Manifest, where string) {
	if differences := dataset.Diff(want, got); len(differences) > 0 {
		sc.Failf("%s is not what was written: %d differences\n%s", where, len(differences), dataset.Summary(differences, 10))
	}
	sc.Evidence("volume", fmt.Sprintf("%s is as it was written, all %d entries", where, len(want.Entries)), map[string]any{"digest": got.Digest()})
}

// Put lets the app write one small file.
func (a *App) Put(ctx context.Context, name, content string) {
	a.exec(ctx, "put", "--file", mountPath+"/"+name, "--content", content)
	a.sc.Evidence("volume", "the app wrote "+name, nil)
}

// Get lets the app read one small file.
func (a *App) Get(ctx context.Context, name string) string {
	return string(a.exec(ctx, "get", "--file", mountPath+"/"+name))
}

// Mark writes a file that says whose volume this is.
func (a *App) Mark(ctx context.Context) {
	a.Put(ctx, dataset.SentinelName, a.sc.Namespace)
}

// KeepsMark fails the spec where the file of Mark is gone or another.
func (a *App) KeepsMark(ctx context.Context) {
	if got := a.Get(ctx, dataset.SentinelName); got != a.sc.Namespace {
		a.sc.Failf("the app wrote %q and reads %q", a.sc.Namespace, got)
	}
}

// IP is the pod's address.
func (a *App) IP(ctx context.Context) string {
	pod := &corev1.Pod{}
	a.sc.must(a.sc.API.Get(ctx, client.ObjectKey{Namespace: a.sc.Namespace, Name: a.pod}, pod))
	return pod.Status.PodIP
}

// Delete deletes the pod and waits until it is gone.
func (a *App) Delete(ctx context.Context) {
	a.sc.must(a.sc.API.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: a.sc.Namespace, Name: a.pod}}))
	a.sc.eventually(ctx, fmt.Sprintf("pod %s gone", a.pod), goneTimeout, func(ctx context.Context) (bool, string, error) {
		err := a.sc.API.Get(ctx, client.ObjectKey{Namespace: a.sc.Namespace, Name: a.pod}, &corev1.Pod{})
		return apierrors.IsNotFound(err), "it is there", nil
	})
}

func (a *App) manifest(ctx context.Context, args ...string) dataset.Manifest {
	manifest, err := decode[dataset.Manifest](a.exec(ctx, args...))
	a.sc.must(err)
	return manifest
}

// exec runs the agent in the app's pod. That it cannot be run is the harness's failure; what it cannot do is the
// app's, and fails the spec.
func (a *App) exec(ctx context.Context, args ...string) []byte {
	out, err := a.sc.execIn(ctx, a.sc.Namespace, a.pod, "app", append([]string{a.sc.Testbed.AgentPath()}, args...))
	if err != nil {
		if ctx.Err() != nil {
			a.sc.Unknownf("interrupted while the app in pod %s did: agent %s", a.pod, args[0])
		}
		a.sc.Failf("the app in pod %s could not: agent %s: %v", a.pod, strings.Join(args, " "), err)
	}
	return out
}

// execIn runs a command in a container and returns its standard output.
func (s *Suite) execIn(ctx context.Context, namespace, pod, container string, command []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	err := s.Kube.Resources().ExecInPod(ctx, namespace, pod, container, command, &stdout, &stderr)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(s.Redactor.String(stderr.String())))
	}
	return stdout.Bytes(), nil
}
