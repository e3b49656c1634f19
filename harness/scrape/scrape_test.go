package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/podexec"
)

func pod(namespace, name string, phase corev1.PodPhase, container corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Status: corev1.PodStatus{Phase: phase},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "kube-rbac-proxy"}, container}},
	}
}

// shell answers with a reply, and keeps what it was asked.
type shell struct {
	reply string
	code  int
	asked *[]string
}

func (s shell) Stream(_ context.Context, in podexec.Container, command []string, _ io.Reader, stdout, _ io.Writer) error {
	*s.asked = append(*s.asked, in.String()+" "+strings.Join(command[len(command)-3:], " "))
	return frame.Write(stdout, s.code, []byte(s.reply))
}

func TestRead(t *testing.T) {
	const ok = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nup 1\n"
	for name, c := range map[string]struct {
		args  []string
		reply string
		code  int
		proxy error
		asked string
		want  string // in the error; empty: there is none
	}{
		"as installed":              {[]string{"--leader-elect=false", "--metrics-bind-address=127.0.0.1:8080"}, ok, 0, nil, "127.0.0.1 8080 /metrics", ""},
		"at any address":            {[]string{"--metrics-bind-address=:9090"}, ok, 0, nil, "127.0.0.1 9090 /metrics", ""},
		"at any address, in full":   {[]string{"--metrics-bind-address=0.0.0.0:9090"}, ok, 0, nil, "127.0.0.1 9090 /metrics", ""},
		"by default":                {nil, ok, 0, nil, "127.0.0.1 8080 /metrics", ""},
		"no address":                {[]string{"--metrics-bind-address=0"}, ok, 0, nil, "", "missing port"},
		"nobody answers":            {nil, "", 1, nil, "127.0.0.1 8080 /metrics", "exit code 1"},
		"an error":                  {nil, "HTTP/1.0 500 Oh\r\n\r\nup 1\n", 0, nil, "127.0.0.1 8080 /metrics", "wanted 200, found 500 Oh"},
		"cut":                       {nil, "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nup", 0, nil, "127.0.0.1 8080 /metrics", "unexpected EOF"},
		"Kyverno cannot be reached": {nil, ok, 0, errors.New("no route"), "127.0.0.1 8080 /metrics", "metrics of pod kyverno/admission: no route"},
	} {
		t.Run(name, func(t *testing.T) {
			port := corev1.Container{Name: "kyverno", Ports: []corev1.ContainerPort{{Name: "https", ContainerPort: 9443}, {Name: kyvernoPort, ContainerPort: 8000}}}
			var asked []string
			r := Reader{
				Now:  func() time.Time { return time.Unix(1, 0) },
				Pods: podexec.Runner{Streamer: shell{c.reply, c.code, &asked}},
				API: fake.NewClientBuilder().WithObjects(
					pod(volSyncNamespace, "volsync", corev1.PodRunning, corev1.Container{Name: volSyncContainer, Args: c.args}),
					pod(volSyncNamespace, "ended", corev1.PodSucceeded, corev1.Container{Name: volSyncContainer}),
					pod(volSyncNamespace, "else", corev1.PodRunning, corev1.Container{Name: "else"}),
					pod(env.KyvernoNamespace, "admission", corev1.PodRunning, port),
					pod(env.KyvernoNamespace, "starting", corev1.PodPending, port),
				).Build(),
				Get: func(_ context.Context, namespace, pod, port, path string) ([]byte, error) {
					return []byte("kyverno_info 1\n"), errors.Join(c.proxy, wrong(namespace+"/"+pod+":"+port+path, "kyverno/admission:8000/metrics"))
				},
			}
			scrapes, err := r.Read(t.Context())
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, wanted %q", err, c.want)
				}
				return
			}
			if err != nil || len(scrapes) != 2 || string(scrapes[0].Text) != "up 1\n" || string(scrapes[1].Text) != "kyverno_info 1\n" ||
				scrapes[0].Target["pod"] != "volsync" || scrapes[1].Target["pod"] != "admission" || !scrapes[0].At.Equal(time.Unix(1, 0)) {
				t.Errorf("%+v, %v", scrapes, err)
			}
			if want := volSyncNamespace + "/volsync/manager " + c.asked; len(asked) != 1 || asked[0] != want {
				t.Errorf("asked: %q, wanted %q", asked, want)
			}
		})
	}
}

// local runs a command here.
type local struct{}

func (local) Stream(ctx context.Context, _ podexec.Container, command []string, _ io.Reader, stdout, stderr io.Writer) error {
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdout, c.Stderr = stdout, stderr
	return c.Run()
}

// What is run in VolSync's container reads what an HTTP server there says.
func TestReadsByShell(t *testing.T) {
	text := strings.Repeat("up 1\n", 100_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			_, _ = io.WriteString(w, text)
		}
	}))
	defer server.Close()
	for address, want := range map[string]string{server.Listener.Addr().String(): "", "127.0.0.1:1": "exit code 1"} {
		r := Reader{
			Now: time.Now, Pods: podexec.Runner{Streamer: local{}},
			API: fake.NewClientBuilder().WithObjects(pod(volSyncNamespace, "volsync", corev1.PodRunning, corev1.Container{Name: volSyncContainer, Args: []string{addressFlag + address}})).Build(),
		}
		scrapes, err := r.Read(t.Context())
		switch {
		case want != "":
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, wanted %q", err, want)
			}
		case err != nil || len(scrapes) != 1 || string(scrapes[0].Text) != text:
			t.Errorf("%d scrapes, %v", len(scrapes), err)
		}
	}
}

func wrong(got, want string) error {
	if got != want {
		return fmt.Errorf("%s, wanted %s", got, want)
	}
	return nil
}
