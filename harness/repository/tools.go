package repository

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient/wait"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

const (
	toolsPod   = "inspector"
	resticTool = "restic"
	agentTool  = "agent"
	// toolsSecret has the tools' credentials, under restic's own names.
	toolsSecret = "restic"
	// SeedContent is what the snapshot of the seed repository holds, in the file dataset.SentinelName.
	SeedContent = "from-the-backup"
)

// Tools is the pod that looks into repositories: restic as the mover has it, and the agent beside it.
type Tools struct{ suite *env.Suite }

// ToolsOf are a suite's tools.
func ToolsOf(s *env.Suite) Tools { return Tools{s} }

func (t Tools) namespace() string {
	if t.suite.Testbed.External != nil {
		return t.suite.Testbed.Namespace("tools")
	}
	return testbed.ToolsNamespace
}

// Agent is the container that has the agent.
func (t Tools) Agent() podexec.Container {
	return podexec.Container{Namespace: t.namespace(), Pod: toolsPod, Name: agentTool}
}

func (t Tools) restic() podexec.Container {
	return podexec.Container{Namespace: t.namespace(), Pod: toolsPod, Name: resticTool}
}

// Start starts the pod, and waits until it can be used. One that runs already stays.
func (t Tools) Start(ctx context.Context) error {
	err := t.suite.API.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: t.namespace(), Labels: map[string]string{runs.Label: t.suite.Testbed.RunID},
	}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if err := t.create(ctx); err != nil {
		return err
	}
	return t.running(ctx)
}

// create creates the pod, on a scratch folder of both containers. /data is what the seed's snapshot is taken of: movers restore
// snapshots of that path only.
//
// On a managed cluster the seed repository is made before, by a container that is kept slow: restic makes a password as
// costly to try as this machine is fast, a fifth of a second of a core's time, and all that movers did with copies of it
// was, by four fifths, that. On an external cluster this pod is what first looks whether anything is there.
func (t Tools) create(ctx context.Context) error {
	s := t.suite
	var now int64
	volume := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	}
	agent, agentVolumes := s.AgentContainer(agentTool)
	mounts := []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}, {Name: "data", MountPath: "/data"}, {Name: "tmp", MountPath: "/tmp"}}
	agent.VolumeMounts = append(agent.VolumeMounts, mounts...)
	err := s.API.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace(), Name: toolsSecret},
		StringData: map[string]string{
			"AWS_ACCESS_KEY_ID": s.Testbed.Credentials.AccessKey, "AWS_SECRET_ACCESS_KEY": s.Testbed.Credentials.SecretKey,
			"RESTIC_PASSWORD": s.Testbed.Credentials.ResticPassword,
		},
	})
	if err := client.IgnoreAlreadyExists(err); err != nil {
		return err
	}
	restic := func(name, script string, limits corev1.ResourceList) corev1.Container {
		return corev1.Container{
			Name: name, Image: s.Testbed.Images.Restic, ImagePullPolicy: corev1.PullIfNotPresent,
			Command:      []string{"/bin/bash", "-c", script},
			EnvFrom:      []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: toolsSecret}}}},
			Env:          s.Testbed.TrustEnv(),
			VolumeMounts: mounts,
			Resources:    corev1.ResourceRequirements{Limits: limits},
			// Of one that failed, its status has the last lines that it wrote.
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		}
	}
	var first []corev1.Container
	if s.Testbed.External == nil {
		first = append(first, restic("seed", t.initSeed(), corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}))
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace(), Name: toolsPod},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &now,
			Volumes:                       append(agentVolumes, volume("scratch"), volume("data"), volume("tmp")),
			InitContainers:                first,
			Containers:                    []corev1.Container{restic(resticTool, "trap 'exit 0' TERM; sleep infinity & wait", nil), agent},
		},
	}
	// A new namespace has no ServiceAccount yet, and takes no pod before; in a cluster that has just started for seconds.
	var refused error
	if err := t.wait(ctx, func(ctx context.Context) (bool, error) {
		refused = s.API.Create(ctx, pod.DeepCopy())
		switch {
		case refused == nil:
			return true, nil
		case apierrors.IsAlreadyExists(refused):
			return t.isOf(ctx, pod)
		case apierrors.IsForbidden(refused) && strings.Contains(refused.Error(), "service account"):
			return false, nil
		}
		return false, refused
	}); err != nil {
		return fmt.Errorf("the pod that looks into repositories (%s/%s) is not taken: %w", t.namespace(), toolsPod, cmp.Or(refused, err))
	}
	return nil
}

// isOf says whether the pod that is there has the images of this one. One of another version of the suite's, on a kept stack, is
// deleted.
func (t Tools) isOf(ctx context.Context, pod *corev1.Pod) (bool, error) {
	there := &corev1.Pod{}
	if err := t.suite.API.Get(ctx, client.ObjectKeyFromObject(pod), there); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	images := func(p *corev1.Pod) (images []string) {
		for _, container := range p.Spec.Containers {
			images = append(images, container.Image)
		}
		return images
	}
	if there.DeletionTimestamp == nil && slices.Equal(images(there), images(pod)) {
		return true, nil
	}
	return false, client.IgnoreNotFound(t.suite.API.Delete(ctx, there, client.GracePeriodSeconds(0), client.Preconditions{UID: &there.UID}))
}

// wait is for set-up, before there are specs: what it comes to is an error, and never a verdict.
func (t Tools) wait(ctx context.Context, done func(context.Context) (bool, error)) error {
	times := t.suite.Timing()
	return wait.For(done, wait.WithContext(ctx), wait.WithTimeout(times.Tools), wait.WithInterval(times.Poll), wait.WithImmediate())
}

// running waits until the pod can be used.
func (t Tools) running(ctx context.Context) error {
	s := t.suite
	var seed string
	var unseen error
	if err := t.wait(ctx, func(ctx context.Context) (bool, error) {
		pod := &corev1.Pod{}
		if unseen = s.API.Get(ctx, client.ObjectKey{Namespace: t.namespace(), Name: toolsPod}, pod); unseen != nil {
			return false, nil
		}
		for _, container := range pod.Status.InitContainerStatuses {
			if ended := cmp.Or(container.State.Terminated, container.LastTerminationState.Terminated); ended != nil && ended.ExitCode != 0 {
				seed = ": making the seed repository: " + s.Redactor.String(strings.TrimSpace(ended.Message))
			}
		}
		return pod.Status.Phase == corev1.PodRunning, nil
	}); err != nil {
		return errors.Join(fmt.Errorf("the pod that looks into repositories (%s/%s) does not run after %s%s", t.namespace(), toolsPod, s.Timing().Tools, seed), unseen)
	}
	return s.BringAgent(ctx, t.Agent())
}

// PrepareSeed makes the seed repository, where it is not there yet.
func (t Tools) PrepareSeed(ctx context.Context) error {
	s := t.suite
	existing, err := s.Testbed.Store.List(ctx, s.Testbed.Credentials, s.Testbed.SeedPrefix()+"snapshots/")
	if err != nil || len(existing) > 0 {
		return err
	}
	put := podexec.ByAgent(s.Testbed.AgentPath(), "put", "--file", "/data/"+dataset.SentinelName, "--content", SeedContent)
	if err := succeeded(s.Pods.Run(ctx, t.Agent(), put)); err != nil {
		return err
	}
	script := fmt.Sprintf("{ %s; } && cd /data && restic -q backup -r %s --no-cache --host volsync .", t.initSeed(), address(s, s.Testbed.SeedPrefix()))
	return succeeded(s.Pods.Once(ctx, t.restic(), podexec.ByShell("/bin/bash", "-c", script)))
}

// succeeded is the error of a command that must succeed.
func succeeded(result podexec.Result, err error) error {
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", result.ExitCode, result.Stderr)
	}
	return err
}

// initSeed is a script that makes the seed repository, where there is none.
func (t Tools) initSeed() string {
	return fmt.Sprintf("restic -q cat config -r %[1]s >/dev/null 2>&1 || restic -q init -r %[1]s", address(t.suite, t.suite.Testbed.SeedPrefix()))
}

// address is the restic address of a prefix of the bucket.
func address(s *env.Suite, prefix string) string {
	return "s3:" + s.Testbed.Endpoint.URL + "/" + s.Testbed.Store.Bucket + "/" + strings.TrimSuffix(prefix, "/")
}

// DialFromInside connects to an address as the tools' pod does: by the agent's input and output. The S3 server of an external
// cluster need not be reachable from where this runs, and no port is opened for it.
func (t Tools) DialFromInside(ctx context.Context, _, address string) (net.Conn, error) {
	near, far := net.Pipe()
	conn := &insideConn{Conn: near}
	// The connection outlives the request that it was made for.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer stop()
		var stderr bytes.Buffer
		err := t.suite.Pods.Stream(ctx, t.Agent(), []string{t.suite.Testbed.AgentPath(), "connect", "--address", address}, far, far, &stderr)
		if err != nil {
			conn.failure.Store(&failure{fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))})
		}
		_ = far.Close()
	}()
	return conn, nil
}

// insideConn says, where it ends because it could not be made or was lost, why.
type insideConn struct {
	net.Conn
	failure atomic.Pointer[failure]
}

type failure struct{ error }

func (c *insideConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if f := c.failure.Load(); f != nil && errors.Is(err, io.EOF) {
		return n, f.error
	}
	return n, err
}

// BucketIsOurs refuses a bucket in which there is anything where this run would write, or in which the policy's marker is not: the
// bucket is its owner's, and so is what says that it is the right one.
func (t Tools) BucketIsOurs(ctx context.Context) error {
	s := t.suite
	left, err := t.InBucket(ctx)
	if err != nil {
		return fmt.Errorf("the bucket %s at %s cannot be looked at from inside the cluster with the base Secret's credentials: %w", s.Testbed.Store.Bucket, s.Testbed.Endpoint.URL, err)
	}
	if len(left) > 0 {
		return fmt.Errorf("the bucket %s is not empty where this run would write (%d objects, such as %s): nothing in it is overwritten", s.Testbed.Store.Bucket, len(left), left[0])
	}
	marker := s.Testbed.Contract.S3.Marker
	if marker == "" {
		return nil
	}
	there, err := s.Testbed.Store.List(ctx, s.Testbed.Credentials, marker)
	if _, is := there[marker]; err == nil && !is {
		err = fmt.Errorf("the bucket %s has no object %s, which the contract names as s3.marker: put it there", s.Testbed.Store.Bucket, marker)
	}
	return err
}

// InBucket lists the keys of the run's own prefixes of the bucket.
func (t Tools) InBucket(ctx context.Context) ([]string, error) {
	s := t.suite
	var keys []string
	for _, prefix := range s.Testbed.BucketPrefixes() {
		listing, err := s.Testbed.Store.List(ctx, s.Testbed.Credentials, prefix)
		if err != nil {
			return nil, err
		}
		for key := range listing {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// EmptyBucket removes all that is in the run's own prefixes of the bucket, and lists what is left.
func (t Tools) EmptyBucket(ctx context.Context) (left []string, err error) {
	s := t.suite
	var problems []error
	for _, prefix := range s.Testbed.BucketPrefixes() {
		problems = append(problems, s.Testbed.Store.RemovePrefix(ctx, s.Testbed.Credentials, prefix))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return t.InBucket(ctx)
}
