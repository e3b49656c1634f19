package env

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/smart-restore/conformance/harness/podexec"
)

// AgentContainer is a container that does nothing until the agent is run in it, and the volumes that it needs. On an external
// cluster, which does not have the agent's image, BringAgent copies the agent into it.
func (s *Suite) AgentContainer(name string) (corev1.Container, []corev1.Volume) {
	if s.Testbed.External == nil {
		return corev1.Container{Name: name, Image: s.Testbed.AgentImage, Command: []string{s.Testbed.AgentPath(), "idle"}, ImagePullPolicy: corev1.PullNever, Env: s.Testbed.TrustEnv()}, nil
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

// BringAgent copies the agent into a container whose image does not have it.
func (s *Suite) BringAgent(ctx context.Context, in podexec.Container) error {
	if s.Testbed.External == nil {
		return nil
	}
	// Asked first, and apart: a command that ends without reading all of its input may not be seen to end.
	if there, err := s.Pods.Run(ctx, in, podexec.ByShell("test", "-x", s.Testbed.AgentPath())); err == nil && there.ExitCode == 0 {
		return nil
	}
	binary, err := os.ReadFile(s.Testbed.External.AgentBinary)
	if err != nil {
		return err
	}
	const script = `cat > "$0.new" && test "$(stat -c %s "$0.new")" = "$1" && chmod 755 "$0.new" && mv "$0.new" "$0"`
	command := []string{"/bin/bash", "-c", script, s.Testbed.AgentPath(), fmt.Sprint(len(binary))}
	var stderr bytes.Buffer
	if err := s.Pods.Stream(ctx, in, command, bytes.NewReader(binary), io.Discard, &stderr); err != nil {
		return errors.Join(fmt.Errorf("copy the agent into container %s: %w", in, err), errors.New(strings.TrimSpace(stderr.String())))
	}
	return nil
}
