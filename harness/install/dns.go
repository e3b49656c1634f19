package install

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	dnsNamespace = metav1.NamespaceSystem
	corefile     = "Corefile"
)

// ForwardName has the cluster's DNS ask this server for a name and what is below it, and keep no answer. The server is told which pod
// asks. It is asked for all other names of outside, too, such as those that resolvers make of it with their search domains: there are none. What runs of the DNS is started anew: it would read its file again in its own time, half a minute.
func ForwardName(ctx context.Context, api client.Client, name, server string) error {
	config := &corev1.ConfigMap{}
	if err := api.Get(ctx, client.ObjectKey{Namespace: dnsNamespace, Name: "coredns"}, config); err != nil {
		return fmt.Errorf("the configuration of the cluster's DNS: %w", err)
	}
	if strings.TrimSpace(config.Data[corefile]) == "" {
		return fmt.Errorf("the configuration of the cluster's DNS: want a %s, found none", corefile)
	}
	config.Data[corefile] = withForward(config.Data[corefile], name, server)
	if err := api.Update(ctx, config); err != nil {
		return fmt.Errorf("the configuration of the cluster's DNS: %w", err)
	}
	return api.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(dnsNamespace), client.MatchingLabels{"k8s-app": "kube-dns"}, client.GracePeriodSeconds(0))
}

// outside is how kubeadm has names of outside asked for: of whom the node asks.
var outside = regexp.MustCompile(`(?m)^( *)forward \. /etc/resolv\.conf( \{[^}]*\})?$`)

// withForward adds a server block for the name, unless it is there. max_fails 0: a server that does not answer is asked all the same.
func withForward(file, name, server string) string {
	head := name + ":53 {"
	if strings.Contains("\n"+file, "\n"+head+"\n") {
		return file
	}
	file = outside.ReplaceAllString(file, "${1}forward . "+server+" {\n${1}    max_fails 0\n${1}}")
	return strings.TrimRight(file, "\n") + "\n" + head + `
    errors
    rewrite edns0 subnet set 32 128
    forward . ` + server + ` {
        max_fails 0
    }
}
`
}
