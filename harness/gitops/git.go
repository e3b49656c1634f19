package gitops

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/testbed"
)

// The git server is a container beside Argo CD's (fixtures/manifests/argo-cd).
const (
	repository = "/git/apps.git"
	repoURL    = "git://127.0.0.1/apps.git"
	container  = "git"
)

var podsOfArgoCD = []client.ListOption{client.InNamespace(testbed.ArgoCDNamespace), client.MatchingLabels{"app": "argo-cd"}}

// commit has a branch hold these objects and nothing else, after its commit before, and returns the commit. A commit that is made again
// because its answer was lost is the same one.
func commit(ctx context.Context, e *env.Env, branch, before string, count int, objects []*unstructured.Unstructured) (revision string) {
	stream, err := fastImport(branch, before, count, objects)
	e.Must(err)
	command := podexec.ByShell("git", "-C", repository, "fast-import", "--quiet", "--done", "--force")
	look := podexec.ByShell("git", "-C", repository, "rev-parse", "refs/heads/"+branch)
	e.Arrange(ctx, fmt.Sprintf("%d objects committed to branch %s", len(objects), branch), e.Times.Gone, func(ctx context.Context) (await.State, error) {
		pod, err := server(ctx, e)
		if err != nil {
			return await.State{}, err
		}
		if _, err := said(e.Pods.RunWith(ctx, pod, stream, command)); err != nil {
			return await.State{}, err
		}
		revision, err = said(e.Pods.Run(ctx, pod, look))
		return await.Reached(), err
	})
	return revision
}

// said is what a command has said that succeeded.
func said(result podexec.Result, err error) (string, error) {
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("git has ended with %d: %s", result.ExitCode, cmp.Or(result.Stderr, string(result.Stdout)))
	}
	return strings.TrimSpace(string(result.Stdout)), err
}

// server is the container with the repository.
func server(ctx context.Context, e *env.Env) (podexec.Container, error) {
	pods := &corev1.PodList{}
	if err := e.API.List(ctx, pods, podsOfArgoCD...); err != nil {
		return podexec.Container{}, err
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			return podexec.Container{Namespace: pod.Namespace, Pod: pod.Name, Name: container}, nil
		}
	}
	return podexec.Container{}, errors.New("no pod of Argo CD runs: there is no git server to commit to")
}

// fastImport is the stream by which git makes a commit of these objects, a file each.
func fastImport(branch, before string, count int, objects []*unstructured.Unstructured) ([]byte, error) {
	var stream bytes.Buffer
	data := func(content []byte) { fmt.Fprintf(&stream, "data %d\n%s\n", len(content), content) }
	fmt.Fprintf(&stream, "commit refs/heads/%s\ncommitter conformance <conformance@localhost> %d +0000\n", branch, count)
	data(fmt.Appendf(nil, "%d objects", len(objects)))
	if before != "" {
		fmt.Fprintf(&stream, "from %s\n", before)
	}
	stream.WriteString("deleteall\n")
	for i, object := range objects {
		content, err := json.MarshalIndent(object.Object, "", "  ")
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&stream, "M 100644 inline %03d-%s.json\n", i, strings.ToLower(object.GetKind()))
		data(content)
	}
	stream.WriteString("done\n")
	return stream.Bytes(), nil
}
