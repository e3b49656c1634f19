package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/install"
)

const good = `apiVersion: policies.kyverno.io/v1
kind: GeneratingPolicy
metadata: {name: one}
spec: {note: "http://192.168.10.133:9000"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: beside, namespace: default}
`

func planEndpoint(t *testing.T) endpoint.Endpoint {
	t.Helper()
	e, err := endpoint.Parse("http://192.168.10.133:9000")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	writeAll(t, dir, files)
	return dir
}

func writeAll(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestLoadTakesAFileAFolderAndAKustomization(t *testing.T) {
	dir := write(t, map[string]string{"policy.yaml": good, "README.md": "no manifest"})
	kustomized := write(t, map[string]string{"policy.yaml": good, "kustomization.yaml": "resources: [policy.yaml]\n"})
	for name, path := range map[string]string{"file": filepath.Join(dir, "policy.yaml"), "folder": dir, "kustomization": kustomized} {
		t.Run(name, func(t *testing.T) {
			p, err := Load(path, planEndpoint(t))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Objects) != 2 || len(p.Kyverno()) != 1 || p.Kyverno()[0].GetName() != "one" {
				t.Errorf("got %v, wanted the policy and what is beside it", p.Describe())
			}
		})
	}
}

func TestLoadRefusesWithAReason(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"no YAML":               {"{", "document 1 does not parse"},
		"second does not parse": {good + "---\n\t", "document 3 does not parse"},
		"no object":             {"a: b", "apiVersion, kind and metadata.name are needed"},
		"nothing":               {"# only a comment", "no .yaml file in this folder has an object"},
		"no policy":             {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", "none of its 1 objects is a Kyverno policy"},
		"another mover": {"apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: a}\nspec: {rules: [{generate: {kind: ReplicationSource, data: {spec: {kopia: {repository: a}}}}}]}\n",
			"its backups are made by VolSync's mover kopia, and only restic's repositories can be looked into"},
		"another mover in CEL": {"apiVersion: policies.kyverno.io/v1\nkind: GeneratingPolicy\nmetadata: {name: a}\nspec: {variables: [{name: v, expression: '[{\"spec\": dyn({\"kopia\": dyn({\"repository\": \"a\"})})}]'}]}\n",
			"VolSync's mover kopia"},
		"another endpoint": {strings.ReplaceAll(good, "133:9000", "134:9000"), "mentions the S3 endpoint 192.168.10.133:9000"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"policy.yaml": c.content})
			if _, err := Load(dir, planEndpoint(t)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "POLICY=") {
				t.Errorf("got %v, wanted an error that says %q", err, c.want)
			}
		})
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"an object in two files":      {map[string]string{"a.yaml": good, "b.yaml": good}, "is in it twice"},
		"no mapping":                  {map[string]string{"a.yaml": "text"}, "a.yaml, document 1 does not parse: found string, wanted a mapping"},
		"a chart":                     {map[string]string{"Chart.yaml": "name: a", "values.yaml": "a: 1"}, "it is a Helm chart: "},
		"a chart's template":          {map[string]string{"a.yaml": "metadata:\n  {{- if .Values.a }}\n  b: {}\n  {{- end }}\n"}, "looks like a Helm template"},
		"a part that is missing":      {map[string]string{"kustomization.yaml": "resources: [nothere.yaml]\n"}, "kustomization.yaml: it lists nothere.yaml, and there is no such file or folder"},
		"a kustomization in another":  {map[string]string{"kustomization.yaml": "resources: [base]\n", "base/kustomization.yaml": "resources: [a\n"}, "base/kustomization.yaml: invalid Kustomization: "},
		"a part that is elsewhere":    {map[string]string{"kustomization.yaml": "resources: [\"http://127.0.0.1:1/a.yaml\"]\n"}, "http://127.0.0.1:1/a.yaml could not be fetched; copy it"},
		"a kustomization with charts": {map[string]string{"kustomization.yaml": "helmCharts: [{name: a, repo: \"http://127.0.0.1:1\"}]\n"}, "a kustomization has helmCharts: "},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Load(write(t, c.files), planEndpoint(t)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted an error that says %q", err, c.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "nothere"), planEndpoint(t)); err == nil || !strings.HasSuffix(err.Error(), "nothere: there is no such file or folder") {
		t.Errorf("a path that leads nowhere: %v", err)
	}
	if _, err := Load(t.TempDir(), planEndpoint(t)); err == nil || !strings.Contains(err.Error(), "no .yaml file in this folder") {
		t.Errorf("an empty folder: %v", err)
	}
}

// What ships can be what is to be tested, and has a contract; a policy has one hash.
func TestTheShippedPoliciesLoad(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("..", "..", "policies", "*", "kustomization.yaml"))
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	for _, kustomization := range folders {
		folder := filepath.Dir(kustomization)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			p, err := Load(folder, endpoint.Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(); err != nil {
				t.Error(err)
			}
			if p.Contract.Name != filepath.Base(folder) || p.Contract.Description == "" || len(p.Contract.CaughtBy) > 0 {
				t.Errorf("its contract: %+v", p.Contract)
			}
			if slices.ContainsFunc(p.Objects, func(o *unstructured.Unstructured) bool {
				return strings.HasSuffix(o.GroupVersionKind().Group, "coreos.com")
			}) {
				t.Errorf("it needs Prometheus' CRDs: %v", p.Describe())
			}
			again, err := Load(folder, endpoint.Endpoint{})
			if err != nil || again.SHA256 != p.SHA256 {
				t.Errorf("the same policy has two hashes: %s, %s (%v)", p.SHA256, again.SHA256, err)
			}
		})
	}
}

// The alerting rules that ship are applied by themselves, as one object.
func TestTheShippedAlertsAreAnObject(t *testing.T) {
	for _, policy := range []string{"smart-restore", "populator"} {
		objects, err := install.Kustomize(filepath.Join("..", "..", "policies", policy, "alerts"))
		if err != nil || len(objects) != 1 || objects[0].GetKind() != "PrometheusRule" || objects[0].GetNamespace() == "" || objects[0].GetName() != policy || objects[0].GetLabels()["release"] == "" {
			t.Errorf("%s: %v, %v", policy, objects, err)
		}
	}
}

// Alerting rules that a contract names are read, are no part of the policy, and must be what Prometheus takes.
func TestLoadReadsTheAlertingRules(t *testing.T) {
	const rules = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up == 0}\n"
	contract := func(alerts string) string {
		return "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: one\ndescription: one\nalerts: " + alerts + "\n"
	}
	for name, c := range map[string]struct {
		alerts string
		files  map[string]string
		want   string // in the error; empty: they are read
	}{
		"in a folder of their own":      {"alerts/rules.yaml", map[string]string{"alerts/rules.yaml": rules}, ""},
		"beside a kustomization":        {"rules.yaml", map[string]string{"rules.yaml": rules, "kustomization.yaml": "resources: [policy.yaml]\n"}, ""},
		"among the manifests":           {"rules.yaml", map[string]string{"rules.yaml": rules}, "conformance.yaml:5:9: it is among the manifests"},
		"not there":                     {"alerts/rules.yaml", nil, "conformance.yaml:5:9: there is no file alerts/rules.yaml"},
		"not what Prometheus takes":     {"alerts/rules.yaml", map[string]string{"alerts/rules.yaml": strings.Replace(rules, "== 0", "==", 1)}, "conformance.yaml:5:9: alerts/rules.yaml:"},
		"not found on another machine":  {"/etc/rules.yaml", nil, `conformance.yaml:5:9: "/etc/rules.yaml" is not found on another machine`},
		"without an alert":              {"alerts/rules.yaml", map[string]string{"alerts/rules.yaml": "groups: []\n"}, "no rule in it is an alert"},
		"a file of the policy, instead": {"policy.yaml", map[string]string{"kustomization.yaml": "resources: [policy.yaml]\n"}, "conformance.yaml:5:9: policy.yaml:"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"policy.yaml": good, contractFile: contract(c.alerts)})
			for file, content := range c.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := Load(dir, planEndpoint(t))
			switch {
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, wanted %q", err, c.want)
			case c.want == "" && (err != nil || string(p.Alerts) != rules || len(p.Objects) != 2):
				t.Errorf("%v, %+v", err, p)
			}
		})
	}
}

func TestWhatABackgroundScanIsFor(t *testing.T) {
	for name, c := range map[string]struct {
		kind, spec string
		want       bool
	}{
		"rules that generate once":         {"kyverno.io/v1 ClusterPolicy", `{rules: [{name: r, generate: {synchronize: false, data: {}}}]}`, false},
		"rules that keep what they made":   {"kyverno.io/v1 ClusterPolicy", `{rules: [{name: r, generate: {synchronize: true, data: {}}}]}`, true},
		"rules that keep what they cloned": {"kyverno.io/v1 ClusterPolicy", `{rules: [{name: r, generate: {synchronize: true, clone: {name: a}}}]}`, false},
		"a rule for what exists":           {"kyverno.io/v1 ClusterPolicy", `{rules: [{name: r, generate: {generateExisting: true, data: {}}}]}`, true},
		"rules for what exists":            {"kyverno.io/v1 ClusterPolicy", `{generateExisting: true, rules: [{name: r, generate: {data: {}}}]}`, true},
		"rules that change what exists":    {"kyverno.io/v1 ClusterPolicy", `{mutateExistingOnPolicyUpdate: true, rules: []}`, true},
		"CEL, once":                        {"policies.kyverno.io/v1 GeneratingPolicy", `{evaluation: {synchronize: {enabled: false}, generateExisting: {enabled: false}}}`, false},
		"CEL, for what exists":             {"policies.kyverno.io/v1 GeneratingPolicy", `{evaluation: {generateExisting: {enabled: true}}}`, true},
		"CEL, that keeps what it made":     {"policies.kyverno.io/v1 GeneratingPolicy", `{evaluation: {synchronize: {enabled: true}}}`, true},
		"CEL, that changes what exists":    {"policies.kyverno.io/v1 MutatingPolicy", `{evaluation: {mutateExisting: {enabled: true}}}`, true},
		"no policy of Kyverno's":           {"admissionregistration.k8s.io/v1 MutatingAdmissionPolicy", `{generateExisting: true}`, false},
	} {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(c.spec), &o.Object); err != nil {
			t.Fatal(err)
		}
		o.Object = map[string]any{"spec": o.Object}
		version, kind, _ := strings.Cut(c.kind, " ")
		o.SetAPIVersion(version)
		o.SetKind(kind)
		if got := Scanned([]*unstructured.Unstructured{o}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
