// Package scrape reads the metrics of the stack's own controllers, as Prometheus would.
package scrape

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/alerts"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/podexec"
)

const (
	volSyncNamespace = "volsync-system"
	volSyncContainer = "manager"
	// volSyncAddress is where VolSync's own manifests and its Helm chart have it serve metrics, behind kube-rbac-proxy or not.
	volSyncAddress = "127.0.0.1:8080"
	addressFlag    = "--metrics-bind-address="
	// kyvernoPort is the name of the port of Kyverno's metrics in its manifests and its Helm chart.
	kyvernoPort = "metrics-port"
	path        = "/metrics"
)

// Reader reads metrics.
type Reader struct {
	API  client.Client
	Pods podexec.Runner
	// Get gets a path of a pod's port through the API server.
	Get func(ctx context.Context, namespace, pod, port, path string) ([]byte, error)
	Now func() time.Time
}

// Of reads those of a suite's stack.
func Of(s *env.Suite) Reader {
	return Reader{API: s.API, Pods: s.Pods, Now: time.Now, Get: func(ctx context.Context, namespace, pod, port, path string) ([]byte, error) {
		clientset, err := kubernetes.NewForConfig(s.Config)
		if err != nil {
			return nil, err
		}
		return clientset.CoreV1().Pods(namespace).ProxyGet("http", pod, port, path, nil).DoRaw(ctx)
	}}
}

// Read is what all of VolSync's and Kyverno's pods that run say now. An error is blindness.
func (r Reader) Read(ctx context.Context) ([]alerts.Scrape, error) {
	volSync, err := r.each(ctx, volSyncNamespace, r.volSync)
	if err != nil {
		return nil, err
	}
	kyverno, err := r.each(ctx, env.KyvernoNamespace, r.kyverno)
	if err != nil {
		return nil, err
	}
	return append(volSync, kyverno...), nil
}

// each reads the metrics of each running pod of a namespace that has some.
func (r Reader) each(ctx context.Context, namespace string, read func(context.Context, *corev1.Pod) (text []byte, has bool, err error)) (scrapes []alerts.Scrape, err error) {
	pods := &corev1.PodList{}
	if err := r.API.List(ctx, pods, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
			continue
		}
		text, has, err := read(ctx, pod)
		if err != nil {
			return nil, fmt.Errorf("metrics of pod %s/%s: %w", namespace, pod.Name, err)
		}
		if has {
			scrapes = append(scrapes, alerts.Scrape{At: r.Now(), Target: map[string]string{"namespace": namespace, "pod": pod.Name}, Text: text})
		}
	}
	return scrapes, nil
}

// kyverno reads through the API server: there is no shell in its containers.
func (r Reader) kyverno(ctx context.Context, pod *corev1.Pod) (text []byte, has bool, err error) {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == kyvernoPort {
				text, err = r.Get(ctx, pod.Namespace, pod.Name, fmt.Sprint(port.ContainerPort), path)
				return text, true, err
			}
		}
	}
	return nil, false, nil
}

// volSync reads in the container itself: its metrics are served there only.
func (r Reader) volSync(ctx context.Context, pod *corev1.Pod) (text []byte, has bool, err error) {
	for _, container := range pod.Spec.Containers {
		if container.Name != volSyncContainer {
			continue
		}
		host, port, err := net.SplitHostPort(addressOf(container.Args))
		if err != nil {
			return nil, true, err
		}
		if host == "" || net.ParseIP(host).IsUnspecified() {
			host = "127.0.0.1"
		}
		const get = `exec 3<>"/dev/tcp/$1/$2" && printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$3" "$1" >&3 && cat <&3`
		result, err := r.Pods.Run(ctx, podexec.Container{Namespace: pod.Namespace, Pod: pod.Name, Name: container.Name},
			podexec.ByShell("/bin/bash", "-c", get, "bash", host, port, path))
		if err == nil && result.ExitCode != 0 {
			err = fmt.Errorf("exit code %d: %s", result.ExitCode, result.Stderr)
		}
		if err != nil {
			return nil, true, err
		}
		text, err = body(result.Stdout)
		return text, true, err
	}
	return nil, false, nil
}

// addressOf is the address that VolSync's arguments say.
func addressOf(args []string) string {
	for _, arg := range args {
		if address, ok := strings.CutPrefix(arg, addressFlag); ok {
			return address
		}
	}
	return volSyncAddress
}

// body is that of an HTTP response of 200, which must be whole.
func body(raw []byte) ([]byte, error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("wanted 200, found %s", response.Status)
	}
	return text, err
}
