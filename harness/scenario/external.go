package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/observe"
	"github.com/smart-restore/conformance/harness/testbed"
)

// What is in this file makes up for what a cluster that is not ours does not have: an audit log, the agent's image, and an
// S3 server that can be reached from here.

// What a spec can need of a testbed; see testbed.Testbed.Lacks.
const (
	NeedsGateway    = testbed.NeedsGateway
	NeedsPlatform   = testbed.NeedsPlatform
	NeedsAgentImage = testbed.NeedsAgentImage
)

// errNotOurs is what comes of breaking what is not ours. Specs that would do so say that they need it, and do not run.
var errNotOurs = errors.New("not testable here: the cluster is not ours")

// attach connects to what an external testbed has.
func (s *Suite) attach() (err error) {
	if s.watch, err = observe.NewWatch(s.Config); err != nil {
		return err
	}
	s.Made = s.watch
	s.Testbed.Store.Dial = s.dialFromInside
	s.Gateway = fault.New("", "") // no address: every call is an error
	s.Firewall = &fault.Firewall{Exec: func(context.Context, ...string) (string, error) { return "", errNotOurs }}
	return nil
}

// witness is what is asked about what was made.
func (s *Suite) witness() string {
	if s.watch != nil {
		return "the watch of the namespace (there is no audit log)"
	}
	return "the API server's audit log"
}

// agentContainer is a container that does nothing until the agent is run in it, and the volumes that it needs.
func (s *Suite) agentContainer(name string) (corev1.Container, []corev1.Volume) {
	if s.Testbed.External == nil {
		return corev1.Container{Name: name, Image: s.Testbed.AgentImage, Command: []string{s.Testbed.AgentPath(), "idle"}, ImagePullPolicy: corev1.PullNever}, nil
	}
	const volume = "agent"
	var root int64 // as the agent's own image has it: data sets have files of several owners
	return corev1.Container{
		Name: name, Image: s.Testbed.AgentImage, ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/bin/bash", "-c", "trap 'exit 0' TERM; sleep infinity & wait"},
		SecurityContext: &corev1.SecurityContext{RunAsUser: &root},
		VolumeMounts:    []corev1.VolumeMount{{Name: volume, MountPath: path.Dir(s.Testbed.AgentPath())}},
	}, []corev1.Volume{{Name: volume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}

// bringAgent copies the agent into a container whose image does not have it.
func (s *Suite) bringAgent(ctx context.Context, namespace, pod, container string) error {
	if s.Testbed.External == nil {
		return nil
	}
	// Asked first, and apart: a command that ends without reading all of its input may not be seen to end.
	if _, err := s.execIn(ctx, namespace, pod, container, []string{"test", "-x", s.Testbed.AgentPath()}); err == nil {
		return nil
	}
	binary, err := os.ReadFile(s.Testbed.External.AgentBinary)
	if err != nil {
		return err
	}
	const script = `cat > "$0.new" && test "$(stat -c %s "$0.new")" = "$1" && chmod 755 "$0.new" && mv "$0.new" "$0"`
	command := []string{"/bin/bash", "-c", script, s.Testbed.AgentPath(), fmt.Sprint(len(binary))}
	var stderr bytes.Buffer
	if err := s.stream(ctx, namespace, pod, container, command, bytes.NewReader(binary), io.Discard, &stderr); err != nil {
		return fmt.Errorf("copy the agent into pod %s/%s: %w: %s", namespace, pod, err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// stream runs a command in a container with its input and output.
func (s *Suite) stream(ctx context.Context, namespace, pod, container string, command []string, in io.Reader, out, stderr io.Writer) error {
	clientset, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	request := clientset.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdin: true, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewSPDYExecutor(s.Config, "POST", request.URL())
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out, Stderr: stderr})
}

// dialFromInside connects to an address as the pod that looks into repositories does: by the agent's input and output. The
// S3 server of somebody's cluster need not be reachable from where this runs, and no port is opened for it.
func (s *Suite) dialFromInside(ctx context.Context, _, address string) (net.Conn, error) {
	near, far := net.Pipe()
	conn := &insideConn{Conn: near}
	// The connection outlives the request that it was made for.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer stop()
		var stderr bytes.Buffer
		err := s.stream(ctx, s.toolsNamespace(), inspectorPod, "agent", []string{s.Testbed.AgentPath(), "connect", "--address", address}, far, far, &stderr)
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

// PrepareExternal is Prepare, the first time on an external testbed: it refuses a bucket that is not empty where the run would
// write, and only of one that was is anything deleted afterwards.
func (s *Suite) PrepareExternal(ctx context.Context) error {
	if err := s.prepareTools(ctx); err != nil {
		return err
	}
	if err := s.bucketIsOurs(ctx); err != nil {
		return err
	}
	s.ownsBucket = true
	return s.prepareSeed(ctx)
}

// bucketIsOurs refuses a bucket in which there is anything where this run would write.
func (s *Suite) bucketIsOurs(ctx context.Context) error {
	left, err := s.inBucket(ctx)
	if err != nil {
		return fmt.Errorf("the bucket %s at %s cannot be looked at from inside the cluster with the base Secret's credentials: %w", s.Testbed.Store.Bucket, s.Testbed.Endpoint.URL, err)
	}
	if len(left) > 0 {
		return fmt.Errorf("the bucket %s is not empty where this run would write (%d objects, such as %s): nothing in it is overwritten", s.Testbed.Store.Bucket, len(left), left[0])
	}
	return nil
}

// inBucket lists the keys of the run's own prefixes of the bucket.
func (s *Suite) inBucket(ctx context.Context) ([]string, error) {
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

// LeftInBucket lists what is in the run's own prefixes of the bucket, where PrepareExternal found them empty.
func (s *Suite) LeftInBucket(ctx context.Context) ([]string, error) {
	if !s.ownsBucket {
		return nil, nil
	}
	return s.inBucket(ctx)
}

// EmptyBucket removes all that is in the run's own prefixes of the bucket, where PrepareExternal found them empty, and
// lists what is left.
func (s *Suite) EmptyBucket(ctx context.Context) (left []string, err error) {
	if !s.ownsBucket {
		return nil, nil
	}
	var problems []error
	for _, prefix := range s.Testbed.BucketPrefixes() {
		problems = append(problems, s.Testbed.Store.RemovePrefix(ctx, s.Testbed.Credentials, prefix))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return s.inBucket(ctx)
}
