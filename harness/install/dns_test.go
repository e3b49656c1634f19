package install

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestTheClustersDNSAsksTheGatewayForTheNameOnly(t *testing.T) {
	const (
		kubernetes = ".:53 {\n    kubernetes cluster.local in-addr.arpa ip6.arpa {\n    }\n"
		kubeadms   = kubernetes + "    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30\n    reload\n}\n"
		closed     = kubernetes + "    forward . 192.168.10.133 {\n        max_fails 0\n    }\n    cache 30\n    reload\n}\n"
	)
	pod := func(name, app string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: map[string]string{"k8s-app": app}}}
	}
	api := anAPI(interceptor.Funcs{}, pod("coredns-1", "kube-dns"), pod("kube-proxy-1", "kube-proxy"),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns"}, Data: map[string]string{"Corefile": kubeadms}})
	for range 2 { // a second time adds nothing
		if err := ForwardName(t.Context(), api, "s3.home.example.org", "192.168.10.133"); err != nil {
			t.Fatal(err)
		}
	}
	config := &corev1.ConfigMap{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: "kube-system", Name: "coredns"}, config); err != nil {
		t.Fatal(err)
	}
	added, ok := strings.CutPrefix(config.Data["Corefile"], closed)
	if !ok || strings.Count(added, "s3.home.example.org:53 {\n") != 1 || !strings.Contains(added, "forward . 192.168.10.133 {") ||
		!strings.Contains(added, "edns0 subnet set 32") || strings.Contains(added, "cache") {
		t.Errorf("found\n%s", config.Data["Corefile"])
	}
	pods := &corev1.PodList{}
	if err := api.List(t.Context(), pods); err != nil || len(pods.Items) != 1 || pods.Items[0].Name != "kube-proxy-1" {
		t.Errorf("want the pods of the DNS started anew, and no other, found %+v, %v", pods.Items, err)
	}
}

func TestADNSWithoutConfigurationIsSaid(t *testing.T) {
	for name, objects := range map[string][]client.Object{
		"none":  nil,
		"empty": {&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns"}}},
	} {
		if err := ForwardName(t.Context(), anAPI(interceptor.Funcs{}, objects...), "nas", "192.168.10.133"); err == nil || !strings.Contains(err.Error(), "the configuration of the cluster's DNS") {
			t.Errorf("%s: found %v", name, err)
		}
	}
}
