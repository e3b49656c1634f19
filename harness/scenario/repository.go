package scenario

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient/wait"

	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

const (
	inspectorPod = "inspector"
	// inspectorSecret has the inspector's credentials, under restic's own names.
	inspectorSecret = "restic"
	// SeedContent is what the snapshot of the seed repository holds, in the file dataset.SentinelName.
	SeedContent = "from-the-backup"
	// inspectorTimeout bounds how long the pod may take to run after it was created.
	inspectorTimeout = 60 * time.Second
)

// createInspector starts the pod that looks into repositories: restic as the mover has it, and the agent beside it, on
// a scratch folder of both. /data is what the seed's snapshot is taken of: movers restore snapshots of that path only.
//
// On a testbed of our own the seed repository is made before, by a container that is kept slow: restic makes a password as
// costly to try as this machine is fast, a fifth of a second of a core's time, and all that movers did with copies of it
// was, by four fifths, that. On somebody's cluster this pod is what first looks whether anything is there.
func (s *Suite) createInspector(ctx context.Context) error {
	var now int64
	volume := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	}
	agent, agentVolumes := s.agentContainer("agent")
	mounts := []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}, {Name: "data", MountPath: "/data"}, {Name: "tmp", MountPath: "/tmp"}}
	agent.VolumeMounts = append(agent.VolumeMounts, mounts...)
	err := s.API.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.toolsNamespace(), Name: inspectorSecret},
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
			EnvFrom:      []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: inspectorSecret}}}},
			VolumeMounts: mounts,
			Resources:    corev1.ResourceRequirements{Limits: limits},
			// Of one that failed, its status has the last lines that it wrote.
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		}
	}
	var first []corev1.Container
	if s.Testbed.External == nil {
		first = append(first, restic("seed", s.initSeed(), corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}))
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.toolsNamespace(), Name: inspectorPod},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &now,
			Volumes:                       append(agentVolumes, volume("scratch"), volume("data"), volume("tmp")),
			InitContainers:                first,
			Containers:                    []corev1.Container{restic("restic", "trap 'exit 0' TERM; sleep infinity & wait", nil), agent},
		},
	}
	// A new namespace has no ServiceAccount yet, and takes no pod before; in a cluster that has just started for seconds.
	var refused error
	if err := wait.For(func(ctx context.Context) (bool, error) {
		refused = s.API.Create(ctx, pod.DeepCopy())
		switch {
		case refused == nil, apierrors.IsAlreadyExists(refused):
			return true, nil
		case apierrors.IsForbidden(refused) && strings.Contains(refused.Error(), "service account"):
			return false, nil
		}
		return false, refused
	}, wait.WithContext(ctx), wait.WithTimeout(inspectorTimeout), wait.WithInterval(pollInterval), wait.WithImmediate()); err != nil {
		return fmt.Errorf("the pod that looks into repositories (%s/%s) is not taken: %w", s.toolsNamespace(), inspectorPod, refused)
	}
	return nil
}

// inspectorRuns waits until the pod that looks into repositories can be used.
func (s *Suite) inspectorRuns(ctx context.Context) error {
	var seed string
	if err := wait.For(func(ctx context.Context) (bool, error) {
		pod := &corev1.Pod{}
		if err := s.API.Get(ctx, client.ObjectKey{Namespace: s.toolsNamespace(), Name: inspectorPod}, pod); err != nil {
			return false, nil
		}
		for _, container := range pod.Status.InitContainerStatuses {
			if ended := cmp.Or(container.State.Terminated, container.LastTerminationState.Terminated); ended != nil && ended.ExitCode != 0 {
				seed = ": making the seed repository: " + s.Redactor.String(strings.TrimSpace(ended.Message))
			}
		}
		return pod.Status.Phase == corev1.PodRunning, nil
	}, wait.WithContext(ctx), wait.WithTimeout(inspectorTimeout), wait.WithInterval(pollInterval), wait.WithImmediate()); err != nil {
		return fmt.Errorf("the pod that looks into repositories (%s/%s) does not run after %s%s", s.toolsNamespace(), inspectorPod, inspectorTimeout, seed)
	}
	return s.bringAgent(ctx, s.toolsNamespace(), inspectorPod, "agent")
}

// prepareSeed makes the seed repository, where it is not there yet.
func (s *Suite) prepareSeed(ctx context.Context) error {
	existing, err := s.Testbed.Store.List(ctx, s.Testbed.Credentials, s.Testbed.SeedPrefix()+"snapshots/")
	if err != nil || len(existing) > 0 {
		return err
	}
	if _, err := s.execIn(ctx, s.toolsNamespace(), inspectorPod, "agent", []string{s.Testbed.AgentPath(), "put", "--file", "/data/" + dataset.SentinelName, "--content", SeedContent}); err != nil {
		return err
	}
	script := fmt.Sprintf("{ %s; } && cd /data && restic -q backup -r %s --no-cache --host volsync .", s.initSeed(), s.repository(s.Testbed.SeedPrefix()))
	_, err = s.execIn(ctx, s.toolsNamespace(), inspectorPod, "restic", []string{"/bin/bash", "-c", script})
	return err
}

// initSeed is a script that makes the seed repository, where there is none.
func (s *Suite) initSeed() string {
	return fmt.Sprintf("restic -q cat config -r %[1]s >/dev/null 2>&1 || restic -q init -r %[1]s", s.repository(s.Testbed.SeedPrefix()))
}

// repository is the restic address of a prefix of the bucket.
func (s *Suite) repository(prefix string) string {
	return "s3:" + s.Testbed.Endpoint.URL + "/" + s.Testbed.Store.Bucket + "/" + strings.TrimSuffix(prefix, "/")
}

// prefix is where in the bucket the repository of a PVC of this name is, by the contract; it ends with a slash.
func (sc *Scenario) prefix(name string) string {
	return sc.Testbed.Contract.S3.Prefix(sc.Namespace, name)
}

// path is the path of a URL of the bucket.
func (s *Suite) path(key string) string { return "/" + s.Testbed.Store.Bucket + "/" + key }

// namespacePath begins the paths of the URLs of all that is the namespace's.
func (sc *Scenario) namespacePath() string {
	return sc.path(sc.Testbed.Contract.S3.NamespacePrefix(sc.Namespace))
}

// GoodBackup puts a restic repository with one good snapshot where the backup of a PVC of this name would be.
func (sc *Scenario) GoodBackup(ctx context.Context, name string) objectstore.Listing {
	s3, err := sc.Testbed.Store.S3(sc.Testbed.Credentials)
	sc.must(err)
	seed, err := sc.Testbed.Store.List(ctx, sc.Testbed.Credentials, sc.Testbed.SeedPrefix())
	sc.must(err)
	if len(seed) == 0 {
		sc.Unknownf("there is no seed repository to copy from")
	}
	bucket := sc.Testbed.Store.Bucket
	for key := range seed {
		if strings.Contains(key, "/locks/") {
			continue
		}
		_, err := s3.CopyObject(ctx,
			minio.CopyDestOptions{Bucket: bucket, Object: sc.prefix(name) + strings.TrimPrefix(key, sc.Testbed.SeedPrefix())},
			minio.CopySrcOptions{Bucket: bucket, Object: key})
		sc.must(err)
	}
	return sc.Backup(ctx, name)
}

// Backup lists what the bucket holds for a PVC of this name.
func (sc *Scenario) Backup(ctx context.Context, name string) objectstore.Listing {
	listing, err := sc.Testbed.Store.List(ctx, sc.Testbed.Credentials, sc.prefix(name))
	sc.must(err)
	return listing
}

// Snapshot is a restic snapshot, as restic lists it.
type Snapshot struct {
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`
	Paths []string  `json:"paths"`
	Host  string    `json:"hostname"`
}

// Snapshots asks restic for the snapshots in the claim's repository, oldest first.
func (c *Claim) Snapshots(ctx context.Context) []Snapshot {
	out := c.restic(ctx, "snapshots", "--json")
	snapshots, err := decode[[]Snapshot](out)
	c.sc.must(err)
	c.sc.Evidence("restic", fmt.Sprintf("restic lists %d snapshots for PVC %s", len(snapshots), c.Name), map[string]any{"snapshots": snapshots})
	return snapshots
}

// BackupIsExactly fails the spec unless the latest snapshot, restored with restic itself, is what was written.
func (c *Claim) BackupIsExactly(ctx context.Context, want dataset.Manifest) {
	target := "/scratch/" + c.sc.Namespace + "-" + c.Name
	c.restic(ctx, "restore", "latest", "--target", target, "--quiet")
	out, err := c.sc.execIn(ctx, c.sc.toolsNamespace(), inspectorPod, "agent", []string{c.sc.Testbed.AgentPath(), "manifest", "--dir", target})
	c.sc.must(err)
	got, err := decode[dataset.Manifest](out)
	c.sc.must(err)
	c.sc.same(want, got, "the latest snapshot, restored with restic,")
}

func (c *Claim) restic(ctx context.Context, args ...string) []byte {
	command := append([]string{"restic", "-r", c.sc.repository(c.Prefix()), "--no-cache", "--no-lock"}, args...)
	out, err := c.sc.execIn(ctx, c.sc.toolsNamespace(), inspectorPod, "restic", command)
	if err != nil {
		if ctx.Err() != nil {
			c.sc.Unknownf("interrupted while restic looked at the backup of PVC %s", c.Name)
		}
		c.sc.Failf("restic cannot read the backup of PVC %s: %v", c.Name, err)
	}
	return out
}
