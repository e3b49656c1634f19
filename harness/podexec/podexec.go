// Package podexec runs commands in containers and tells what a command came to from not having heard of it. Replies are
// framed: the command's exit code, length and checksum come with its output, so that an empty reply is told from a lost one
// and a whole one from one that was cut.
package podexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/smart-restore/conformance/harness/frame"

	corev1 "k8s.io/api/core/v1"
)

// Container is where a command runs.
type Container struct{ Namespace, Pod, Name string }

func (c Container) String() string { return c.Namespace + "/" + c.Pod + "/" + c.Name }

// Result is what a command came to.
type Result struct {
	frame.Reply
	Stderr string // for messages only: it is not framed
}

// Streamer runs a command in a container with its input and output.
type Streamer interface {
	Stream(ctx context.Context, in Container, command []string, stdin io.Reader, stdout, stderr io.Writer) error
}

// Runner runs commands. Its errors are blindness: what the command did, or whether it did anything, is not known.
type Runner struct {
	Streamer
	// Redact takes secrets out of what a command wrote to stderr; nil: there are none.
	Redact func(string) string
}

// tries is how often a command is run whose reply was lost.
const tries = 3

// Framed is a command that frames its reply.
type Framed []string

// ByShell frames the reply of any command in a container with bash and coreutils. The reply is held in a file of the container's
// /tmp until it is whole.
func ByShell(command ...string) Framed {
	const script = `reply=$(mktemp) || exit 1; trap 'rm -f "$reply"' EXIT; "$@" >"$reply"; code=$?
sum=$(sha256sum <"$reply") && printf '` + frame.Header + ` exit=%d bytes=%d sha256=%s\n' "$code" "$(stat -c %s "$reply")" "${sum%% *}" && cat "$reply"`
	return append(Framed{"/bin/bash", "-c", script, "bash"}, command...)
}

// ByAgent frames the reply of a command of the agent, whose binary is at path.
func ByAgent(path string, args ...string) Framed {
	return append(Framed{path, "framed"}, args...)
}

// Exit codes of what could not be run at all.
const (
	notExecutable = 126
	notFound      = 127
)

// signalled is the exit code of a process that a signal ended: 128 and the signal's number.
const signalled = 128

// Once runs a command once: one that must not be run twice.
func (r Runner) Once(ctx context.Context, in Container, command Framed) (Result, error) {
	return r.once(ctx, in, nil, command)
}

func (r Runner) once(ctx context.Context, in Container, stdin io.Reader, command Framed) (Result, error) {
	var stdout, stderr bytes.Buffer
	err := r.Stream(ctx, in, command, stdin, &stdout, &stderr)
	said := strings.TrimSpace(stderr.String())
	if r.Redact != nil {
		said = r.Redact(said)
	}
	// What frames ends with 0 whatever the command does. Any error is one of the way to it, but a whole frame is whole.
	reply, frameErr := frame.Read(stdout.Bytes())
	switch {
	case frameErr != nil:
		return Result{}, fmt.Errorf("no reply from container %s: %w", in, errors.Join(frameErr, err, sayIf(said)))
	case reply.ExitCode == notExecutable, reply.ExitCode == notFound:
		return Result{}, fmt.Errorf("there is no such command in container %s: exit code %d: %s", in, reply.ExitCode, said)
	case reply.ExitCode > signalled:
		return Result{}, fmt.Errorf("the command in container %s was killed by signal %d: %s", in, reply.ExitCode-signalled, said)
	}
	return Result{reply, said}, nil
}

func sayIf(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

// Run runs a command that may be run twice, and runs it again if its reply was lost.
func (r Runner) Run(ctx context.Context, in Container, command Framed) (Result, error) {
	return r.again(ctx, func() (Result, error) { return r.once(ctx, in, nil, command) })
}

// RunWith is Run of a command that reads all of this input. One that ends before may not be seen to end.
func (r Runner) RunWith(ctx context.Context, in Container, stdin []byte, command Framed) (Result, error) {
	return r.again(ctx, func() (Result, error) { return r.once(ctx, in, bytes.NewReader(stdin), command) })
}

func (r Runner) again(ctx context.Context, once func() (Result, error)) (result Result, err error) {
	for range tries {
		if result, err = once(); err == nil || ctx.Err() != nil {
			break
		}
	}
	return result, err
}

// Kubernetes streams through the API server.
type Kubernetes struct{ Config *rest.Config }

// Stream implements Streamer.
func (k Kubernetes) Stream(ctx context.Context, in Container, command []string, stdin io.Reader, stdout, stderr io.Writer) error {
	clientset, err := kubernetes.NewForConfig(k.Config)
	if err != nil {
		return err
	}
	request := clientset.CoreV1().RESTClient().Post().Namespace(in.Namespace).Resource("pods").Name(in.Pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: in.Name, Command: command, Stdin: stdin != nil, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewSPDYExecutor(k.Config, "POST", request.URL())
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: stderr})
}
