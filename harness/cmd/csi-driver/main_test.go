//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// inside is set in the mount namespace of the tests.
const inside = "CSI_DRIVER_TEST_NAMESPACE"

// TestMain runs the tests in a mount namespace of their own, so that mounts are real and none stays behind. Who is not root gets a
// user namespace, too. Without either nothing is judged, and that is a failure.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			noNamespace(err)
		}
		os.Exit(m.Run())
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), inside+"=yes")
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := again.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		noNamespace(err)
	}
	os.Exit(again.ProcessState.ExitCode())
}

func noNamespace(err error) {
	fmt.Fprintf(os.Stderr, "want a mount namespace for the tests, found %v: run them as root, "+
		"or allow user namespaces, on Ubuntu by sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n", err)
	os.Exit(1)
}

// output is what the driver writes, which tests read while it runs.
type output struct {
	lock  sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if strings.HasPrefix(string(b), "csi-driver: ready on ") {
		close(o.ready)
	}
	return o.text.Write(b)
}

// process is a driver that runs as its process would.
type process struct {
	*grpc.ClientConn
	csi.ControllerClient
	csi.NodeClient
	root, registration string
	ended              chan error
	end                func()
}

// start runs a driver of a node in a folder, until the test ends it or ends.
func start(t *testing.T, node, folder string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{root: filepath.Join(folder, "root"), registration: filepath.Join(folder, "reg.sock"), ended: make(chan error, 1)}
	socket := filepath.Join(folder, "csi.sock")
	status := &output{ready: make(chan struct{})}
	args = append([]string{"--node=" + node, "--root=" + p.root, "--socket=" + socket, "--registration=" + p.registration}, args...)
	go func() { p.ended <- run(ctx, args, status) }()
	select {
	case <-status.ready:
	case err := <-p.ended:
		cancel()
		t.Fatalf("want a driver that is ready, found one that ended: %v", err)
	}
	var err error
	if p.ClientConn, err = grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost")); err != nil {
		t.Fatal(err)
	}
	p.ControllerClient, p.NodeClient = csi.NewControllerClient(p), csi.NewNodeClient(p)
	p.end = sync.OnceFunc(func() {
		_ = p.Close()
		cancel()
		if err := <-p.ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(p.end)
	return p
}

func TestUsage(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no node":            {nil, "--node: want the node's name"},
		"a node that is two": {[]string{"--node=a_b"}, "--node: want the node's name"},
		"no size":            {[]string{"--node=a", "--capacity=much"}, "--capacity: want a size"},
		"an argument":        {[]string{"--node=a", "b"}, "want flags only"},
		"an unknown flag":    {[]string{"--nodes=a"}, "not defined"},
	} {
		var usage usageError
		if err := run(t.Context(), c.args, &bytes.Buffer{}); !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: found %v, want %q", name, err, c.want)
		}
	}
}

func TestKubeletRegistersTheDriver(t *testing.T) {
	folder := t.TempDir()
	for endpoint, args := range map[string][]string{
		filepath.Join(folder, "csi.sock"): nil,
		"/kubelet/csi.sock":               {"--kubelet-socket=/kubelet/csi.sock"},
	} {
		registered(t, start(t, "node-1", folder, args...), endpoint)
	}
}

// registered plays kubelet: at first it likes the driver, then it does not.
func registered(t *testing.T, p *process, endpoint string) {
	t.Helper()
	connection, err := grpc.NewClient("unix:"+p.registration, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	kubelet := registration.NewRegistrationClient(connection)
	info, err := kubelet.GetInfo(t.Context(), &registration.InfoRequest{})
	if err != nil || info.Type != "CSIPlugin" || info.Name != driverName || info.Endpoint != endpoint || fmt.Sprint(info.SupportedVersions) != "[1.0.0]" {
		t.Errorf("found %v, %v", info, err)
	}
	if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{PluginRegistered: true}); err != nil {
		t.Error(err)
	}
	if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{Error: "no such node"}); err != nil {
		t.Error(err)
	}
	_ = p.Close()
	if err := <-p.ended; err == nil || !strings.Contains(err.Error(), "no such node") {
		t.Errorf("kubelet refused the driver, and it ended with %v", err)
	}
	p.ended <- nil
	for _, socket := range []string{p.registration, filepath.Join(filepath.Dir(p.root), "csi.sock")} {
		if exists(socket) {
			t.Errorf("%s is still there: kubelet takes it for a driver", socket)
		}
	}
}
