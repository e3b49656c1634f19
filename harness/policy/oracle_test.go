package policy

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/endpoint"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

const oracleAnswers = `answers: {backup: '{"exists": true}', none: '{"exists": false}', unknown: '{"error": "S3"}'}`

func TestContractsWithAnOracle(t *testing.T) {
	const good = "http://o.kyverno.svc.cluster.local/exists/{namespace}/{pvc}"
	of := func(url, answers string) string { return fmt.Sprintf("oracle:\n  url: %q\n  %s\n", url, answers) }
	for name, c := range map[string]struct {
		oracle string
		want   string // empty: it will do
	}{
		"a Service":             {of(good, oracleAnswers), ""},
		"with a port":           {of("http://o.kyverno.svc:8080/{namespace}/{pvc}", oracleAnswers), ""},
		"by a query":            {of("http://o.kyverno.svc?ns={namespace}&pvc={pvc}", oracleAnswers), ""},
		"nothing in it":         {"oracle: {}\n", "5:9: there is no url"},
		"no answers":            {"oracle: {url: '" + good + "'}\n", "5:9: there is no answers"},
		"no URL":                {"oracle:\n  " + oracleAnswers + "\n", "6:3: there is no url"},
		"an answer is missing":  {of(good, `answers: {backup: '1', none: '2'}`), "7:12: there is no unknown"},
		"another placeholder":   {of("http://o.kyverno.svc/{namespace}/{name}", oracleAnswers), `6:42: there is no placeholder "{name}" here; there are {namespace}, {pvc}`},
		"a placeholder twice":   {of("http://o.kyverno.svc/{pvc}/{pvc}", oracleAnswers), "{pvc} is there twice"},
		"no PVC":                {of("http://o.kyverno.svc/{namespace}", oracleAnswers), "6:8: it has no {pvc}: a question says which PVC it is about"},
		"no namespace":          {of("http://o.kyverno.svc/{pvc}", oracleAnswers), "it has no {namespace}"},
		"https":                 {of("https://o.kyverno.svc/{namespace}/{pvc}", oracleAnswers), "6:8: \"https://o.kyverno.svc/{namespace}/{pvc}\" will not do: wanted is a URL like http://backup-oracle"},
		"a name from outside":   {of("http://oracle.example.org/{namespace}/{pvc}", oracleAnswers), `6:8: its host "oracle.example.org" is no Service of the cluster: want <service>.<namespace>.svc.cluster.local`},
		"an address":            {of("http://10.0.0.1/{namespace}/{pvc}", oracleAnswers), `its host "10.0.0.1" is no Service`},
		"the host has it":       {of("http://o.{namespace}.svc/{pvc}", oracleAnswers), `6:8: its host "o.{namespace}.svc" has a placeholder`},
		"a pod":                 {of("http://0.o.kyverno.svc/{namespace}/{pvc}", oracleAnswers), "is no Service of the cluster"},
		"a port that is none":   {of("http://o.kyverno.svc:0/{namespace}/{pvc}", oracleAnswers), `its port is "0"`},
		"a user":                {of("http://me@o.kyverno.svc/{namespace}/{pvc}", oracleAnswers), "it has more than a host, a path and a query"},
		"no JSON":               {of(good, `answers: {backup: 'yes', none: '2', unknown: '3'}`), "7:21: it is no JSON (invalid character 'y'"},
		"the same":              {of(good, `answers: {backup: '{"a": 1, "b": 2}', none: '{"b":2,"a":1}', unknown: '3'}`), "7:47: backup has the same answer"},
		"the same, by position": {of(good, `answers: {backup: '1', none: '2', unknown: '2'}`), "7:46: none has the same answer: nobody could tell them apart"},
		"told apart by status":  {of(good, "answers: {backup: '1', none: '2', unknown: '2'}\n  statuses: {unknown: 503}"), ""},
		"no status":             {of(good, oracleAnswers+"\n  statuses: {unknown: 99}"), "8:23: 99 will not do: wanted is 200 to 599"},
		"nothing to ask":        {"restores: never\n" + of(good, oracleAnswers), "nothing is restored (restores: never), so there is nothing to ask"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseContract("conformance.yaml", []byte(header+c.oracle))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

// header is what every contract has, in four lines.
var header = fmt.Sprintf("apiVersion: %s\nkind: %s\nname: n\ndescription: d\n", Default().APIVersion, Default().Kind)

func TestTheOraclesService(t *testing.T) {
	c, err := parseContract("conformance.yaml", []byte(header+"s3: {bucket: bbb, path: 'x/{namespace}/{pvc}', marker: m}\noracle:\n  url: http://o.kyverno.svc:8080?n={namespace}&p={pvc}\n  "+oracleAnswers+"\n  statuses: {none: 404}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if namespace, name, port := c.Oracle.Service(); namespace != "kyverno" || name != "o" || port != 8080 {
		t.Errorf("%s/%s:%d", namespace, name, port)
	}
	if got := c.Oracle.Question("ns", "data"); got != "http://o.kyverno.svc:8080?n=ns&p=data" {
		t.Error(got)
	}
	if got := c.Oracle.Path("ns", "data"); got != "/?n=ns&p=data" {
		t.Error(got)
	}
	if got := c.Oracle.Hosts(); !reflect.DeepEqual(got, []string{"o.kyverno", "o.kyverno.svc", "o.kyverno.svc.cluster.local"}) {
		t.Error(got)
	}
	want := &gateway.Oracle{Question: "/?n={namespace}&p={pvc}", Bucket: "bbb", Repository: "x/{namespace}/{pvc}/", Marker: "m", Answers: map[string]gateway.OracleAnswer{
		"backup": {Status: 200, Body: `{"exists": true}`}, "none": {Status: 404, Body: `{"exists": false}`}, "unknown": {Status: 200, Body: `{"error": "S3"}`},
	}}
	if got := c.Oracle.Gateway(c.S3); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	objects := c.Oracle.Objects(netip.MustParseAddr("192.168.10.133"))
	service, slice := objects[0].Object, objects[1]
	ports, _, _ := unstructured.NestedSlice(service, "spec", "ports")
	if port := ports[0].(map[string]any); port["port"] != int64(8080) || port["targetPort"] != int64(gateway.OraclePort) || service["spec"].(map[string]any)["selector"] != nil {
		t.Errorf("%v", service)
	}
	endpoints, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
	if slice.GetLabels()["kubernetes.io/service-name"] != "o" || slice.GetNamespace() != "kyverno" || len(endpoints) != 1 || !reflect.DeepEqual(endpoints[0].(map[string]any)["addresses"], []any{"192.168.10.133"}) {
		t.Errorf("%v", slice)
	}
}

// An oracle is one that the policy asks, and the suite makes, in a namespace that there is.
func TestAPolicysOracle(t *testing.T) {
	const policy = `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [{name: r, context: [{apiCall: {service: {url: "http://ORACLE/x"}}}], generate: {x: "ReplicationSource ReplicationDestination http://192.168.10.133:9000/volsync-backups"}}]}}`
	for name, c := range map[string]struct{ host, more, contract, want string }{
		"of the stack":            {host: "o.volsync-system"},
		"of the policy":           {host: "o.backup", more: "---\n{apiVersion: v1, kind: Namespace, metadata: {name: backup}}\n"},
		"of the base Secret":      {host: "o.backup", contract: "baseSecret: {namespace: backup}\n"},
		"of nobody":               {host: "o.backup", want: "oracle-policy.conformance.yaml:6:8: there is no namespace backup, neither of a stack nor of the policy: want one of argocd, default"},
		"the policy asks another": {host: "other.kyverno", want: "no object of the policy mentions o.kyverno"},
		"the policy brings it":    {host: "o.kyverno", more: "---\n{apiVersion: v1, kind: Service, metadata: {name: o, namespace: kyverno}}\n", want: "the policy brings the Service kyverno/o itself"},
		"it brings another":       {host: "o.kyverno", more: "---\n{apiVersion: v1, kind: Service, metadata: {name: p, namespace: kyverno}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			asked := c.host
			if name == "the policy asks another" {
				asked = "o.kyverno"
			}
			write("oracle-policy.yaml", strings.Replace(policy, "ORACLE", c.host, 1)+"\n"+c.more)
			write("oracle-policy.conformance.yaml", header+"oracle:\n  url: http://"+asked+".svc/{namespace}/{pvc}\n  "+oracleAnswers+"\n"+c.contract)
			_, err := Load(filepath.Join(folder, "oracle-policy.yaml"), endpoint.Endpoint{})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

func TestWhoAsks(t *testing.T) {
	oracle := Oracle{URL: "http://o.kyverno.svc/{namespace}/{pvc}"}
	for name, c := range map[string]struct {
		contract Contract
		noPolicy bool
		want     Asker
	}{
		"a policy":                          {Contract{Restores: WhenDecided}, false, AsksKyverno},
		"no policy":                         {Contract{Restores: WhenDecided}, true, AsksMover},
		"a policy that always restores":     {Contract{Restores: Always}, false, AsksMover},
		"an oracle":                         {Contract{Restores: WhenDecided, Oracle: oracle}, false, AsksOracle},
		"an oracle, and it always restores": {Contract{Restores: Always, Oracle: oracle}, false, AsksOracle},
	} {
		if got := c.contract.Asks(c.noPolicy); got != c.want {
			t.Errorf("%s: %s, wanted %s", name, got, c.want)
		}
	}
}
