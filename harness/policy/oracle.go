package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// AboutAnOracle labels specs about what can be wrong with an oracle: not every policy asks one.
const AboutAnOracle = "of-oracle"

// Asker is who asks S3 whether there is a backup, before anything is restored.
type Asker string

// Who asks.
const (
	AsksKyverno Asker = "Kyverno"
	// AsksOracle: Kyverno asks the oracle, and that asks S3.
	AsksOracle Asker = "the oracle"
	// AsksMover: nobody does before VolSync's movers.
	AsksMover Asker = "a mover"
)

// Asks is who asks S3 whether there is a backup of a PVC. noPolicy says that no policy is there that would.
func (c Contract) Asks(noPolicy bool) Asker {
	switch {
	case c.Oracle.Named():
		return AsksOracle
	case noPolicy, c.Restores == Always: // a ReplicationDestination comes with each PVC: there is nothing to be asked
		return AsksMover
	}
	return AsksKyverno
}

// Named says whether a contract names an oracle.
func (o Oracle) Named() bool { return o.URL != "" }

// service is the Service that a URL is of, and its port.
func (o Oracle) service() (namespace, name string, port uint16, err error) {
	if host, _ := o.parts(); strings.Contains(host, "{") {
		return "", "", 0, fmt.Errorf("its host %q has a placeholder: one Service is asked about all PVCs, as in %s", host, exampleOracle)
	}
	u, err := url.Parse(o.URL.Expand("namespace", "pvc", ""))
	if err != nil {
		return "", "", 0, errors.New("it is no URL: want one like " + exampleOracle)
	}
	labels := strings.Split(strings.TrimSuffix(u.Hostname(), ".cluster.local"), ".")
	number, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http":
		return "", "", 0, fmt.Errorf("its scheme is %q: the stand-in for the oracle is asked by http, as in %s", u.Scheme, exampleOracle)
	case u.User != nil || u.Fragment != "":
		return "", "", 0, fmt.Errorf("it has more than a host, a path and a query: want one like %s", exampleOracle)
	case len(labels) != 3 || labels[2] != "svc" || !dnsName.MatchString(labels[0]) || !dnsName.MatchString(labels[1]):
		return "", "", 0, fmt.Errorf("its host %q is no Service of the cluster: want <service>.<namespace>.svc.cluster.local, as in %s", u.Hostname(), exampleOracle)
	case u.Port() == "":
		number = http80
	case portErr != nil || number == 0:
		return "", "", 0, fmt.Errorf("its port is %q, want 1 to 65535", u.Port())
	}
	return labels[1], labels[0], uint16(number), nil
}

const (
	exampleOracle = "http://backup-oracle.volsync-system.svc.cluster.local/exists/{namespace}/{pvc}"
	http80        = 80
)

var dnsName = whole(dnsLabel)

// Service is the Service that the policy asks: its namespace, name and port. A contract's was looked at when it was read.
func (o Oracle) Service() (namespace, name string, port uint16) {
	namespace, name, port, _ = o.service()
	return namespace, name, port
}

// Hosts are the names by which a pod can call the Service.
func (o Oracle) Hosts() []string {
	namespace, name, _ := o.Service()
	host := name + "." + namespace
	return []string{host, host + ".svc", host + ".svc.cluster.local"}
}

// Question is the URL of a question about a PVC.
func (o Oracle) Question(namespace, pvc string) string { return o.URL.Expand(namespace, pvc, "") }

// Path is the path of a question about a PVC, with its query.
func (o Oracle) Path(namespace, pvc string) string {
	_, question := o.parts()
	return Template(question).Expand(namespace, pvc, "")
}

// parts are the host of the URL, with its port, and the path and query of a question.
func (o Oracle) parts() (host, question string) {
	_, rest, _ := strings.Cut(string(o.URL), "://")
	at := strings.IndexAny(rest, "/?")
	if at < 0 {
		return rest, "/"
	}
	return rest[:at], "/" + strings.TrimPrefix(rest[at:], "/")
}

// Gateway is what the gateway is told, so that it stands in for the oracle.
func (o Oracle) Gateway(s3 S3) *gateway.Oracle {
	_, question := o.parts()
	told := &gateway.Oracle{Question: question, Bucket: s3.Bucket, Repository: string(s3.Path) + "/", Marker: s3.Marker, Answers: map[string]gateway.OracleAnswer{}}
	for finding, answer := range o.said() {
		told.Answers[finding] = answer
	}
	return told
}

// said are the answers, by what was found.
func (o Oracle) said() map[string]gateway.OracleAnswer {
	answer := func(body string, status int) gateway.OracleAnswer {
		if status == 0 {
			status = http.StatusOK
		}
		return gateway.OracleAnswer{Status: status, Body: body}
	}
	return map[string]gateway.OracleAnswer{
		gateway.OracleBackup:  answer(o.Answers.Backup, o.Statuses.Backup),
		gateway.OracleNone:    answer(o.Answers.None, o.Statuses.None),
		gateway.OracleUnknown: answer(o.Answers.Unknown, o.Statuses.Unknown),
	}
}

// Objects are the Service that the policy asks, without a selector, and the EndpointSlice that leads to the gateway.
func (o Oracle) Objects(at netip.Addr) []*unstructured.Unstructured {
	namespace, name, port := o.Service()
	object := func(apiVersion, kind string, labels map[string]any, content map[string]any) *unstructured.Unstructured {
		metadata := map[string]any{"name": name, "namespace": namespace}
		if len(labels) > 0 {
			metadata["labels"] = labels
		}
		content["apiVersion"], content["kind"], content["metadata"] = apiVersion, kind, metadata
		return &unstructured.Unstructured{Object: content}
	}
	return []*unstructured.Unstructured{
		object("v1", "Service", nil, map[string]any{"spec": map[string]any{
			"ports": []any{map[string]any{"name": "http", "protocol": "TCP", "port": int64(port), "targetPort": int64(gateway.OraclePort)}},
		}}),
		object("discovery.k8s.io/v1", "EndpointSlice", map[string]any{
			"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "conformance.smart-restore.io",
		}, map[string]any{
			"addressType": "IPv4",
			"ports":       []any{map[string]any{"name": "http", "protocol": "TCP", "port": int64(gateway.OraclePort)}},
			"endpoints":   []any{map[string]any{"addresses": []any{at.String()}, "conditions": map[string]any{"ready": true}}},
		}),
	}
}

// oracleFindings are what an oracle tells apart, in the order of the contract's fields.
var oracleFindings = []string{gateway.OracleBackup, gateway.OracleNone, gateway.OracleUnknown}

func (c *Contract) validateOracle(report func(string, ...any)) (problems []error) {
	if !c.doc.Has("oracle") {
		return nil
	}
	o := c.Oracle
	if problem := o.URL.check("namespace", "pvc"); problem != nil {
		return []error{c.doc.In(problem.offset, problem.text, "oracle", "url")}
	}
	for _, placeholder := range []string{"namespace", "pvc"} {
		if o.URL.index(placeholder) < 0 {
			report(fmt.Sprintf("it has no {%s}: a question says which PVC it is about, as in %s", placeholder, exampleOracle), "oracle", "url")
			return nil
		}
	}
	if _, _, _, err := o.service(); err != nil {
		report(err.Error(), "oracle", "url")
	}
	if c.Restores == Never {
		report("nothing is restored (restores: never), so there is nothing to ask", "oracle")
	}
	seen := map[string]any{}
	said := o.said()
	for i, finding := range oracleFindings {
		var answer any
		if err := json.Unmarshal([]byte(said[finding].Body), &answer); err != nil {
			report(fmt.Sprintf("it is no JSON (%v): want what the oracle answers then, in quotes, like '{\"exists\": true}'", err), "oracle", "answers", finding)
			continue
		}
		for _, other := range oracleFindings[:i] {
			if before, read := seen[other]; read && said[other].Status == said[finding].Status && reflect.DeepEqual(before, answer) {
				report(fmt.Sprintf("%s has the same answer: nobody could tell them apart; give one of them another JSON, or another status under statuses", other), "oracle", "answers", finding)
			}
		}
		seen[finding] = answer
	}
	return nil
}

// oracleNamespaces are those that a stack can have, beside those of the policy: the Service is in one of them.
var oracleNamespaces = []string{"default", "kube-system", "kyverno", "volsync-system", "external-secrets", "argocd"}

// checkOracle refuses an oracle that the policy does not ask or brings itself, and one in a namespace that nobody makes.
func (p *Policy) checkOracle() error {
	c := p.Contract
	if !c.Oracle.Named() {
		return nil
	}
	namespace, name, _ := c.Oracle.Service()
	known := slices.Clone(oracleNamespaces)
	if c.BaseSecret.Namespace != "" {
		known = append(known, c.BaseSecret.Namespace)
	}
	for _, o := range p.Objects {
		switch {
		case o.GetKind() == "Namespace":
			known = append(known, o.GetName())
		case slices.Contains([]string{"Service", "EndpointSlice", "Endpoints"}, o.GetKind()) && o.GetName() == name && o.GetNamespace() == namespace:
			return c.doc.At(fmt.Sprintf("the policy brings the %s %s/%s itself, and the suite makes it, before a stand-in for the oracle: list the manifests without it under policy", o.GetKind(), namespace, name), "oracle", "url")
		}
	}
	switch {
	case !slices.Contains(known, namespace):
		set := map[string]bool{}
		for _, name := range known {
			set[name] = true
		}
		return c.doc.At(fmt.Sprintf("there is no namespace %s, neither of a stack nor of the policy: want one of %s, or add the Namespace to the policy", namespace, strings.Join(slices.Sorted(maps.Keys(set)), ", ")), "oracle", "url")
	case !p.names(name + "." + namespace):
		return c.doc.At(fmt.Sprintf("no object of the policy mentions %s.%s: set the URL that the policy asks, or leave oracle out", name, namespace), "oracle", "url")
	}
	return nil
}
