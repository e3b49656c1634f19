package policy

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/endpoint"
)

var values = StoreValues{AccessKey: "id", SecretKey: "key", ResticPassword: "password", Endpoint: endpoint.Endpoint{URL: "http://10.0.0.1:9000"}, CA: "pem", Bucket: "b"}

var store = SecretStore{Kind: ClusterSecretStore, Name: "s", Entries: []StoreEntry{
	{Key: "all", Properties: map[string]string{"REPO": "s3:{endpoint}/{bucket}", "PASSWORD": "{resticPassword}"}},
	{Key: "id", Value: "{accessKey}"},
	{Key: "ca", Value: "{ca}"},
	{Key: "id", Version: "2", Value: "{secretKey}@{host}"},
}}

func TestTheStoreHoldsTheRunsValues(t *testing.T) {
	got := store.Object("ns", values)
	want := map[string]any{
		"apiVersion": "external-secrets.io/v1", "kind": "ClusterSecretStore", "metadata": map[string]any{"name": "s"},
		"spec": map[string]any{"provider": map[string]any{"fake": map[string]any{"data": []any{
			map[string]any{"key": "all", "value": `{"PASSWORD":"password","REPO":"s3:http://10.0.0.1:9000/b"}`},
			map[string]any{"key": "id", "value": "id"},
			map[string]any{"key": "ca", "value": "pem"},
			map[string]any{"key": "id", "version": "2", "value": "key@10.0.0.1:9000"},
		}}}},
	}
	if !reflect.DeepEqual(got.Object, want) {
		t.Errorf("got %v\nwant %v", got.Object, want)
	}
	of := store
	of.Kind = NamespaceSecretStore
	if got := of.Object("ns", values).GetNamespace(); got != "ns" {
		t.Errorf("a SecretStore is in the namespace %q", got)
	}
}

func TestWhatTheOperatorMakes(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		want map[string]string
		err  string
	}{
		"extracted":       {`{dataFrom: [{extract: {key: all}}]}`, map[string]string{"REPO": "s3:http://10.0.0.1:9000/b", "PASSWORD": "password"}, ""},
		"single":          {`{data: [{secretKey: A, remoteRef: {key: id}}, {secretKey: B, remoteRef: {key: all, property: PASSWORD}}, {secretKey: C, remoteRef: {key: id, version: "2"}}]}`, map[string]string{"A": "id", "B": "password", "C": "key@10.0.0.1:9000"}, ""},
		"one over others": {`{dataFrom: [{extract: {key: all}}], data: [{secretKey: REPO, remoteRef: {key: id}}]}`, map[string]string{"REPO": "id", "PASSWORD": "password"}, ""},
		"a template":      {`{dataFrom: [{extract: {key: all}}], target: {template: {engineVersion: v2, data: {R: "{{ .REPO }}/ns/data"}}}}`, map[string]string{"R": "s3:http://10.0.0.1:9000/b/ns/data"}, ""},
		"merged":          {`{dataFrom: [{extract: {key: all}}], target: {template: {mergePolicy: Merge, data: {REPO: "{{ .REPO }}/x"}}}}`, map[string]string{"REPO": "s3:http://10.0.0.1:9000/b/x", "PASSWORD": "password"}, ""},
		"of labels only":  {`{data: [{secretKey: A, remoteRef: {key: id}}], target: {template: {metadata: {labels: {x: y}}}}}`, map[string]string{"A": "id"}, ""},
		"what is not":     {`{dataFrom: [{extract: {key: all}}], target: {template: {data: {R: "{{ .NOPE }}"}}}}`, nil, "the template of R cannot be filled in: the store gives PASSWORD, REPO"},
		"a function":      {`{dataFrom: [{extract: {key: all}}], target: {template: {data: {R: "{{ .REPO | trimSuffix \"/\" }}"}}}}`, nil, ErrNotRead.Error()},
		"another engine":  {`{dataFrom: [{extract: {key: all}}], target: {template: {engineVersion: v1, data: {R: x}}}}`, nil, ErrNotRead.Error()},
		"found by name":   {`{dataFrom: [{find: {name: {regexp: x}}}]}`, nil, ErrNotRead.Error()},
		"decoded":         {`{data: [{secretKey: A, remoteRef: {key: id, decodingStrategy: Base64}}]}`, nil, ErrNotRead.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			object := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "e"}}}
			var spec map[string]any
			if err := yaml.Unmarshal([]byte(c.spec), &spec); err != nil {
				t.Fatal(err)
			}
			object.Object["spec"] = spec
			made, data, err := store.Secret(object, values)
			if made != "e" || !reflect.DeepEqual(data, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, %v", made, data, err)
			}
			if errors.Is(err, ErrNotRead) != (c.err == ErrNotRead.Error()) {
				t.Errorf("%v", err)
			}
		})
	}
}

// What an ExternalSecret takes has to be in the store, whoever makes it: that is said before anything is tried.
func TestAnExternalSecretTakesWhatTheStoreHas(t *testing.T) {
	for name, c := range map[string]struct{ file, old, by, want string }{
		"as it is":           {"conformance.yaml", "", "", ""},
		"another key":        {"external-secret.yaml", "key: volsync-template", "key: nothing", `conformance.yaml:12:3: ExternalSecret ${APP}-volsync takes the key "nothing", which the store does not have: add it to the entries, which have volsync-template`},
		"a key of the PVC's": {"external-secret.yaml", "key: volsync-template", "key: apps/${APP}", `conformance.yaml:12:3: ExternalSecret any-pvc-of-these-templates-volsync takes a key of the PVC's own, "apps/any-pvc-of-these-templates", and the store has the same keys for every PVC`},
		"another version":    {"external-secret.yaml", "key: volsync-template", "key: volsync-template\n      version: v2", `takes the key "volsync-template" in version v2, which the store does not have`},
		"a property":         {"external-secret.yaml", "  dataFrom:\n  - extract:\n      key: volsync-template", "  data:\n  - {secretKey: X, remoteRef: {key: volsync-template, property: NOPE}}", `takes the property "NOPE" of the key "volsync-template", which the store does not have`},
		"properties of one":  {"conformance.yaml", "    properties:\n      REPOSITORY_TEMPLATE: s3:{endpoint}/{bucket}\n      RESTIC_PASSWORD: \"{resticPassword}\"\n      AWS_ACCESS_KEY_ID: \"{accessKey}\"\n      AWS_SECRET_ACCESS_KEY: \"{secretKey}\"", "    value: s3:{endpoint}/{bucket}", `takes properties of the key "volsync-template", which is one text in the store`},
		"another store":      {"external-secret.yaml", "name: onepassword", "name: vault", "takes from the ClusterSecretStore vault; the store of the contract is the ClusterSecretStore onepassword"},
		"a store's default":  {"external-secret.yaml", "    kind: ClusterSecretStore\n", "", "takes from the SecretStore onepassword; the store of the contract is the ClusterSecretStore onepassword"},
		"no address":         {"conformance.yaml", "s3:{endpoint}/{bucket}", "s3:http://10.0.0.1/x", "no object in it mentions the S3 endpoint"},
		"a placeholder":      {"conformance.yaml", "{endpoint}", "{address}", `conformance.yaml:14:31: there is no placeholder "{address}" here`},
		"value and more":     {"conformance.yaml", "    properties:", "    value: x\n    properties:", "conformance.yaml:12:5: an entry has either a value or properties"},
		"a key twice":        {"conformance.yaml", "  entries:\n", "  entries:\n  - {key: volsync-template, value: x}\n", `key "volsync-template" is there twice`},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.CopyFS(folder, os.DirFS(filepath.Join("..", "..", "fixtures", "gallery", "external-secret"))); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, c.file)
			raw, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(raw), c.old) {
				t.Fatalf("%s, %v", raw, err)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(raw), c.old, c.by, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Load(folder, endpoint.Endpoint{})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

// One that a policy generates is looked at, too, as far as it is no expression; and a policy may bring its store.
func TestAnExternalSecretThatIsGenerated(t *testing.T) {
	const generates = `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: p}, spec: {rules: [{name: r, generate: {apiVersion: external-secrets.io/v1, kind: ExternalSecret, name: x, data: {spec: {secretStoreRef: {kind: ClusterSecretStore, name: s}, dataFrom: [{extract: {key: KEY}}]}}}}]}}`
	for name, c := range map[string]struct {
		key     string
		store   SecretStore
		brought bool
		want    string
	}{
		"there":         {"all", store, false, ""},
		"not there":     {"none", store, false, `ExternalSecret x takes the key "none"`},
		"an expression": {`"{{ request.object.metadata.name }}"`, store, false, ""},
		"no store":      {"all", SecretStore{}, false, "ExternalSecret x takes from the ClusterSecretStore s, and the contract names no store: say under secretStore in conformance.yaml what it holds"},
		"its own store": {"all", SecretStore{}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Policy{Objects: []*unstructured.Unstructured{objectOf(t, strings.ReplaceAll(generates, "KEY", c.key))}}
			p.Contract.SecretStore = c.store
			if c.brought {
				p.Objects = append(p.Objects, objectOf(t, `{apiVersion: external-secrets.io/v1, kind: ClusterSecretStore, metadata: {name: s}}`))
			}
			if err := p.checkSecretStore(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

func TestAStoreNeedsTheOperator(t *testing.T) {
	known := stacksNamed("plain", "with-eso", "without")
	known[1].Versions["external-secrets"] = "v1"
	contract := Default()
	contract.SecretStore = store
	for name, c := range map[string]struct {
		stack string
		made  []string
		want  string
	}{
		"with it":       {"with-eso", nil, ""},
		"without it":    {"plain", nil, "secretStore needs the External Secrets Operator, which the stack plain does not have: choose with STACK=with-eso"},
		"said to be so": {"plain", []string{"plain"}, "which the stack plain does not have"},
	} {
		t.Run(name, func(t *testing.T) {
			of := contract
			of.Stacks = c.made
			if err := of.CheckStack(c.stack, known); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
	for _, stacks := range [][]string{nil, {"*"}} {
		of := contract
		of.Stacks = stacks
		if made, err := of.MadeFor(known); err != nil || !reflect.DeepEqual(made, []string{"with-eso"}) {
			t.Errorf("%v: made for %v, %v", stacks, made, err)
		}
	}
	for label, of := range map[string]Contract{ChangesBaseSecret: contract, ChangesSecretStore: Default()} {
		if of.NotPromised([]string{label}) == "" {
			t.Errorf("%s is promised", label)
		}
	}
	if contract.NotPromised([]string{ChangesSecretStore}) != "" || Default().NotPromised([]string{ChangesBaseSecret}) != "" {
		t.Error("what is promised is not")
	}
}
