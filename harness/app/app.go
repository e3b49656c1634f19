// Package app is the user's application: a pod that writes on volumes and reads them.
package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

const (
	mountPath = "/data"
	container = "app"
)

// App is a pod that uses volumes.
type App struct {
	env *env.Env
	pod string
}

// Of is the app of a PVC: its pod has the PVC's name in its own.
func Of(e *env.Env, pvc string) *corev1.Pod {
	return Pod(e, "app-"+pvc, map[string]string{mountPath: pvc})
}

// OfOn is the app of a PVC that can run on this node only.
func OfOn(e *env.Env, pvc, node string) *corev1.Pod {
	pod := Of(e, pvc)
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	return pod
}

// OfAll is one pod that mounts all the PVCs, each below mountPath under its own name.
func OfAll(e *env.Env, pvcs []string) *corev1.Pod {
	volumes := map[string]string{}
	for _, pvc := range pvcs {
		volumes[mountPath+"/"+pvc] = pvc
	}
	return Pod(e, "app-of-all", volumes)
}

// Pod is a pod of the agent with these volumes, mount path → PVC. Its name can be a host name, too.
func Pod(e *env.Env, name string, volumes map[string]string) *corev1.Pod {
	var now int64
	var no bool // it asks the API server nothing, and no service
	agent, agentVolumes := e.AgentContainer(container)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: hostName(name)},
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: &now, AutomountServiceAccountToken: &no, EnableServiceLinks: &no, Volumes: agentVolumes},
	}
	for i, path := range slices.Sorted(maps.Keys(volumes)) {
		volume := fmt.Sprintf("volume-%d", i)
		agent.VolumeMounts = append(agent.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: path})
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name:         volume,
			VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: volumes[path]}},
		})
	}
	pod.Spec.Containers = []corev1.Container{agent}
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

// Start creates the pod, and waits until it runs.
func Start(ctx context.Context, e *env.Env, pod *corev1.Pod) *App {
	app := Create(ctx, e, pod)
	app.Running(ctx)
	return app
}

// Create creates the pod. It tries again while one of Kyverno's webhooks refuses the pod, as the controllers do that make pods.
func Create(ctx context.Context, e *env.Env, pod *corev1.Pod) *App {
	return create(ctx, e, pod, e.Eventually)
}

func create(ctx context.Context, e *env.Env, pod *corev1.Pod, wait verb) *App {
	start, refusals := time.Now(), 0
	wait(ctx, fmt.Sprintf("pod %s admitted", pod.Name), e.Times.Mover, func(ctx context.Context) (await.State, error) {
		err := e.API.Create(ctx, pod.DeepCopy())
		switch {
		case err == nil, apierrors.IsAlreadyExists(err): // by a try whose answer was lost: its namespace is the spec's own
			return await.Reached(), nil
		case !env.RefusedByWebhook(err):
			return await.State{}, err
		}
		refusals++
		if refusals == 1 {
			e.Evidence("admission", fmt.Sprintf("pod %s is held back: %v", pod.Name, err), nil)
		}
		return await.NotYet("%v", err), nil
	})
	if refusals > 0 {
		e.Evidence("admission", fmt.Sprintf("pod %s was held back for %.1f s", pod.Name, time.Since(start).Seconds()), map[string]any{"seconds": time.Since(start).Seconds()})
	}
	return &App{env: e, pod: pod.Name}
}

// TakenAtOnce creates the pod, which is none of the policy's business, and waits until it runs. That one of Kyverno's webhooks refuses
// it, or cannot be asked and must be, fails the spec. It may take as long as webhooks are waited for.
func TakenAtOnce(ctx context.Context, e *env.Env, pod *corev1.Pod) *App {
	taken(ctx, e, pod)
	app := &App{env: e, pod: pod.Name}
	app.Running(ctx)
	return app
}

// CreateAtOnce is TakenAtOnce of a pod that cannot run yet: it does not wait until it runs.
func CreateAtOnce(ctx context.Context, e *env.Env, pod *corev1.Pod) *App {
	taken(ctx, e, pod)
	return &App{env: e, pod: pod.Name}
}

// WouldBeTaken is TakenAtOnce, and nothing is made.
func WouldBeTaken(ctx context.Context, e *env.Env, pod *corev1.Pod) {
	taken(ctx, e, pod, client.DryRunAll)
}

func taken(ctx context.Context, e *env.Env, pod *corev1.Pod, how ...client.CreateOption) {
	e.Eventually(ctx, fmt.Sprintf("pod %s admitted in namespace %s", pod.Name, pod.Namespace), e.Times.Gone, func(context.Context) (await.State, error) {
		err := e.API.Create(ctx, pod.DeepCopy(), how...) // without the time of a look: of a webhook that is waited for, the API server's answer is what is to be seen
		switch {
		case err == nil, apierrors.IsAlreadyExists(err):
			return await.Reached(), nil
		case env.RefusedByWebhook(err):
			return await.RuledOut("%v", err), nil
		}
		return await.State{}, err
	})
}

// StartTool starts a pod of the suite's own, which uses no volume: that it does not run is no policy's doing.
func StartTool(ctx context.Context, e *env.Env, pod *corev1.Pod) *App {
	app := create(ctx, e, pod, e.Arrange)
	app.running(ctx, e.Arrange)
	return app
}

// verb is Arrange or Eventually: whose doing it is that something does not come about.
type verb func(ctx context.Context, want string, within time.Duration, look await.Look)

// Try creates the pod, once. Held says that it is refused for now. That a webhook could not be asked says neither: a moment later the pod
// would be let in.
func Try(ctx context.Context, e *env.Env, pod *corev1.Pod) (app *App, held bool) {
	return try(ctx, e, pod, env.Denied)
}

// TryNow is Try for who wants to know whether the pod is let in at this moment: a webhook that cannot be asked, and must be, holds it, too.
func TryNow(ctx context.Context, e *env.Env, pod *corev1.Pod) (app *App, held bool) {
	return try(ctx, e, pod, env.RefusedByWebhook)
}

func try(ctx context.Context, e *env.Env, pod *corev1.Pod, holds func(error) bool) (app *App, held bool) {
	e.Arrange(ctx, fmt.Sprintf("pod %s admitted or refused", pod.Name), e.Times.Pod, func(ctx context.Context) (await.State, error) {
		err := e.API.Create(ctx, pod.DeepCopy())
		switch {
		case err == nil, apierrors.IsAlreadyExists(err):
			return await.Reached(), nil
		case holds(err):
			e.Evidence("admission", fmt.Sprintf("pod %s is held back: %v", pod.Name, err), nil)
			held = true
			return await.Reached(), nil
		}
		return await.State{}, err
	})
	if held {
		return nil, true
	}
	return &App{env: e, pod: pod.Name}, false
}

// Running waits until the app runs.
func (a *App) Running(ctx context.Context) { a.running(ctx, a.env.Eventually) }

func (a *App) running(ctx context.Context, wait verb) {
	e := a.env
	wait(ctx, fmt.Sprintf("pod %s running", a.pod), e.Times.Pod, func(ctx context.Context) (await.State, error) {
		pod := &corev1.Pod{}
		if err := e.API.Get(ctx, a.key(), pod); err != nil {
			return await.State{}, err
		}
		seen, err := StateOf(pod)
		return await.ReachedIf(pod.Status.Phase == corev1.PodRunning, "%s", seen), err
	})
	e.Must(e.BringAgent(ctx, podexec.Container{Namespace: e.Namespace, Pod: a.pod, Name: container}))
}

// StateOf says how far a pod is. The error is why it does not run that is no policy's doing.
func StateOf(pod *corev1.Pod) (seen string, err error) {
	seen = "phase " + string(pod.Status.Phase)
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := status.State.Waiting; w != nil {
			seen += ", " + w.Reason + " " + w.Message
			if imageIsMissing(w.Reason) {
				return seen, fmt.Errorf("the suite's own image is not there: %s", seen)
			}
		}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type != corev1.PodScheduled || condition.Status != corev1.ConditionFalse {
			continue
		}
		if nodeIsFull.MatchString(condition.Message) {
			return seen, fmt.Errorf("the node does not take the pod: %s", condition.Message)
		}
		seen += ", " + condition.Message
	}
	if pod.Status.Phase == corev1.PodFailed { // what the suite runs in it does not end by itself
		return seen, fmt.Errorf("the pod was ended: %s %s", pod.Status.Reason, pod.Status.Message)
	}
	return seen, nil
}

// nodeIsFull matches the scheduler's words for a node that has no room, or is not well.
var nodeIsFull = regexp.MustCompile(`Insufficient |Too many pods|untolerated taint|node\(s\) were unschedulable`)

// imageIsMissing says whether a container waits, by this reason, for an image that cannot be had. The kubelet says in turn that it
// failed and that it waits before it tries again.
func imageIsMissing(reason string) bool {
	return strings.Contains(reason, "ErrImage") || reason == "ImagePullBackOff" || reason == "InvalidImageName" || reason == "ImageInspectError" || reason == "RegistryUnavailable"
}

func (a *App) key() client.ObjectKey {
	return client.ObjectKey{Namespace: a.env.Namespace, Name: a.pod}
}

// Write lets the app write the data set to its volume, and returns what is there then.
func (a *App) Write(ctx context.Context, spec dataset.Spec) dataset.Manifest {
	// Once: to write over what is there is another thing.
	reply := a.agent(ctx, a.env.Pods.Once, spec.Arguments(mountPath)...)
	manifest := a.decode(reply)
	files, size := manifest.Totals()
	a.env.Evidence("volume", fmt.Sprintf("the app wrote %d files, %d bytes", files, size), map[string]any{"digest": manifest.Digest()})
	return manifest
}

// Reads lets the app read everything on its volume.
func (a *App) Reads(ctx context.Context) dataset.Manifest {
	manifest := a.decode(a.agent(ctx, a.env.Pods.Run, "manifest", "--dir", mountPath))
	files, size := manifest.Totals()
	a.env.Evidence("volume", fmt.Sprintf("the app reads %d files, %d bytes", files, size), map[string]any{"digest": manifest.Digest()})
	return manifest
}

// SeesExactly fails the spec unless everything on the volume is as in want: every byte, mode, owner, mtime, symlink
// and user.* attribute, and nothing else.
func (a *App) SeesExactly(ctx context.Context, want dataset.Manifest) {
	repository.Same(a.env, want, a.Reads(ctx), "the app's volume")
}

// HoldsAllOfOne fails the spec unless every file of one of these is on the volume, with every byte. Whose the files are is not asked:
// not every mover can give files away.
func (a *App) HoldsAllOfOne(ctx context.Context, wanted ...dataset.Manifest) {
	found := map[string]string{}
	for _, entry := range a.Reads(ctx).Entries {
		found[entry.Path] = entry.SHA256
	}
	var missing []string
	for _, want := range wanted {
		var lacks []string
		for _, entry := range want.Entries {
			if entry.Type == dataset.TypeFile && found[entry.Path] != entry.SHA256 {
				lacks = append(lacks, entry.Path)
			}
		}
		if len(lacks) == 0 {
			a.env.Evidence("volume", fmt.Sprintf("all %d entries of what the app had written are on the volume", len(want.Entries)), nil)
			return
		}
		missing = append(missing, fmt.Sprintf("%d of %d entries, such as %s", len(lacks), len(want.Entries), lacks[0]))
	}
	a.env.Failf("the volume holds nothing that the app had written whole: of each it lacks %s", strings.Join(missing, "; "))
}

// Put lets the app write one small file.
func (a *App) Put(ctx context.Context, name, content string) {
	a.agent(ctx, a.env.Pods.Run, "put", "--file", mountPath+"/"+name, "--content", content)
	a.env.Evidence("volume", "the app wrote "+name, nil)
}

// PutPrivate lets the app write one small file that only another user may read.
func (a *App) PutPrivate(ctx context.Context, name, content string) {
	a.agent(ctx, a.env.Pods.Run, "put", "--file", mountPath+"/"+name, "--content", content, "--private-of", "1001")
	a.env.Evidence("volume", "the app wrote "+name+", which only user 1001 may read", nil)
}

// PutSentinel lets the app write the volume's sentinel.
func (a *App) PutSentinel(ctx context.Context, content string) {
	a.Put(ctx, dataset.SentinelName, content)
}

// Holds fails the spec unless the sentinel on the volume has this content. Why completes the failure; it may be empty.
func (a *App) Holds(ctx context.Context, want, why string) {
	if violation := a.violation(ctx, want); violation != "" {
		if why != "" {
			violation += ": " + why
		}
		a.env.Failf("%s", violation)
	}
	a.env.Evidence("volume", fmt.Sprintf("the volume holds %q", want), nil)
}

func (a *App) violation(ctx context.Context, want string) string {
	if got := string(a.agent(ctx, a.env.Pods.Run, "get", "--file", mountPath+"/"+dataset.SentinelName)); got != want {
		return fmt.Sprintf("the volume in pod %s holds %q, wanted %q", a.pod, got, want)
	}
	return ""
}

// sentinel asks the agent for the content of the sentinel. Its exit code says where there is none.
func sentinel(ctx context.Context, a *App) (podexec.Result, error) {
	reply, err := a.env.Pods.Run(ctx, ContainerOf(a), podexec.ByAgent(a.env.Testbed.AgentPath(), "get", "--file", mountPath+"/"+dataset.SentinelName))
	if err == nil && reply.ExitCode == usage {
		err = fmt.Errorf("the agent in pod %s does not know what it is asked for: %s", a.pod, reply.Stderr)
	}
	return reply, err
}

// Keeps is a watch for the sentinel on an app's volume having another content.
func Keeps(a *App, want string) await.Watch {
	return func(ctx context.Context) (string, error) {
		reply, err := sentinel(ctx, a)
		switch {
		case err != nil:
			return "", err
		case reply.ExitCode != 0:
			return "the sentinel cannot be read any more: " + reply.Stderr, nil
		case string(reply.Stdout) != want:
			return fmt.Sprintf("the app had written %q and reads %q", want, reply.Stdout), nil
		}
		return "", nil
	}
}

// Violation is what a watch of an app finds at last. It waits for an answer.
func Violation(ctx context.Context, a *App, watch await.Watch) (violation string) {
	a.env.Arrange(ctx, "a last look at the volume in pod "+a.pod, a.env.Times.Pod, func(ctx context.Context) (_ await.State, err error) {
		violation, err = watch(ctx)
		return await.Reached(), err
	})
	return violation
}

// Mark writes a file that says whose volume this is.
func (a *App) Mark(ctx context.Context) { a.Put(ctx, dataset.SentinelName, a.env.Namespace) }

// KeepsMark fails the spec where the file of Mark is gone or another.
func (a *App) KeepsMark(ctx context.Context) { a.Holds(ctx, a.env.Namespace, "the app wrote it") }

// IP is the pod's address.
func (a *App) IP(ctx context.Context) netip.Addr {
	pod := &corev1.Pod{}
	a.env.Do(ctx, func(ctx context.Context) error { return a.env.API.Get(ctx, a.key(), pod) })
	address, err := netip.ParseAddr(pod.Status.PodIP)
	a.env.Must(err)
	return address
}

// Delete deletes the pod and waits until it is gone.
func (a *App) Delete(ctx context.Context) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: a.env.Namespace, Name: a.pod}}
	a.env.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(a.env.API.Delete(ctx, pod)) })
	a.env.Arrange(ctx, fmt.Sprintf("pod %s gone", a.pod), a.env.Times.Gone, a.env.Gone(pod))
}

// SeesGoodBackup fails the spec unless the volume holds what the seed repository's snapshot does, and nothing else.
func (a *App) SeesGoodBackup(ctx context.Context) {
	found := a.Reads(ctx)
	if !asInGoodBackup(found.Entries) {
		a.env.Failf("the volume is not as in the backup: wanted the one file %s with %q, found %d entries and %q", dataset.SentinelName, repository.SeedContent, len(found.Entries), found.Seed)
	}
	a.env.Evidence("volume", "the volume is as in the backup", nil)
}

// SeesGoodBackups fails the spec unless the volume of each PVC, in a pod of OfAll, holds what the seed repository's snapshot
// does, and nothing else.
func (a *App) SeesGoodBackups(ctx context.Context, pvcs []string) {
	held := map[string][]dataset.Entry{}
	for _, entry := range a.Reads(ctx).Entries {
		if volume, below, ok := strings.Cut(entry.Path, "/"); ok {
			entry.Path = below
			held[volume] = append(held[volume], entry)
		}
	}
	for _, pvc := range pvcs {
		if on := held[pvc]; !asInGoodBackup(on) {
			a.env.Failf("PVC %s is not as in the backup: wanted the one file %s with %q, found %d entries: %+v", pvc, dataset.SentinelName, repository.SeedContent, len(on), on)
		}
	}
	a.env.Evidence("volume", fmt.Sprintf("all %d volumes are as in the backup", len(pvcs)), nil)
}

// asInGoodBackup says whether these entries, by their paths on the volume, are what the seed repository's snapshot holds.
func asInGoodBackup(entries []dataset.Entry) bool {
	return onlySentinel(entries, repository.SeedContent)
}

// onlySentinel says whether these entries are a sentinel with this content, and nothing else.
func onlySentinel(entries []dataset.Entry, content string) bool {
	sum := sha256.Sum256([]byte(content))
	return len(entries) == 1 && entries[0].Path == dataset.SentinelName && entries[0].SHA256 == hex.EncodeToString(sum[:])
}

func (a *App) decode(raw []byte) dataset.Manifest {
	var manifest dataset.Manifest
	a.env.Must(json.Unmarshal(raw, &manifest))
	return manifest
}

// ContainerOf is where an app's commands run.
func ContainerOf(a *App) podexec.Container {
	return podexec.Container{Namespace: a.env.Namespace, Pod: a.pod, Name: container}
}

// usage is the agent's exit code if it was called wrongly: by the suite.
const usage = 2

// agent runs the agent in the app's pod. What it cannot do is the app's, and fails the spec; that its reply did not arrive is
// not.
func (a *App) agent(ctx context.Context, run func(context.Context, podexec.Container, podexec.Framed) (podexec.Result, error), args ...string) []byte {
	result, err := run(ctx, ContainerOf(a), podexec.ByAgent(a.env.Testbed.AgentPath(), args...))
	a.env.Must(err)
	if result.ExitCode == usage || strings.Contains(result.Stderr, "no space left on device") {
		a.env.Unknownf("the suite itself failed: agent %s in pod %s: %s", strings.Join(args, " "), a.pod, result.Stderr)
	}
	if result.ExitCode != 0 {
		a.env.Failf("the app in pod %s could not: agent %s: %s", a.pod, strings.Join(args, " "), result.Stderr)
	}
	return result.Stdout
}
