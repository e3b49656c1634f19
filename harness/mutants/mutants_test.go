package mutants

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
)

func TestOperatorsOnCEL(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string // operator: the whole, changed
	}{
		{`a && b || c`, []string{
			"drop-condition: c", "drop-condition: a && b", "drop-condition: b || c", "drop-condition: a || c",
			"negate: !a && b || c", "negate: a && !b || c", "negate: a && b || !c",
		}},
		{`a == "x"`, []string{`negate: a != "x"`}},
		{`a < b`, []string{"negate: a >= b", "move-bound: a <= b"}},
		{`!a`, []string{"negate: a"}},
		{`!(a in ["x", "y"])`, []string{
			`negate: a in ["x", "y"]`, `negate: !!(a in ["x", "y"])`, `drop-entry: !(a in ["y"])`, `drop-entry: !(a in ["x"])`,
		}},
		{`c ? a : b`, []string{"keep-branch: a", "keep-branch: b", "negate: !c ? a : b"}},
		{`a.exists(v, v.b == 1)`, []string{
			"negate: !(a.exists(v, v.b == 1))", "exists-all: a.all(v, v.b == 1)", "negate: a.exists(v, v.b != 1)", "number: a.exists(v, v.b == 2)", "number: a.exists(v, v.b == 0)",
		}},
		{`a.filter(v, has(v.b)).size()`, []string{"negate: !a.filter(v, has(v.b)).size()", "drop-filter: a.size()", "negate: a.filter(v, !has(v.b)).size()"}},
		{`a.?b["c"].orValue("")`, []string{
			`negate: !a.?b["c"].orValue("")`, `default: a.?b["c"].orValue("another")`, `drop-default: a.b["c"]`,
		}},
		{`a[?"b"].orValue(false)`, []string{
			`negate: !a[?"b"].orValue(false)`, `default: a[?"b"].orValue(true)`, `drop-default: a["b"]`,
		}},
		{`a.?b.orValue("") == "c"`, []string{`negate: a.?b.orValue("") != "c"`, `default: a.?b.orValue("c") == "c"`, `drop-default: a.b == "c"`}},
		{`a.?b.orValue("") != ""`, []string{`negate: a.?b.orValue("") == ""`, `default: a.?b.orValue("another") != ""`, `drop-default: a.b != ""`}},
		{`a.?b.orValue("") != c.?b.orValue("")`, []string{
			`negate: a.?b.orValue("") == c.?b.orValue("")`, `default: a.?b.orValue("another") != c.?b.orValue("")`, `drop-default: a.b != c.?b.orValue("")`,
			`default: a.?b.orValue("") != c.?b.orValue("another")`, `drop-default: a.?b.orValue("") != c.b`,
		}},
		{`a.?b.orValue("").startsWith("c") && b`, []string{
			`drop-condition: b`, `drop-condition: a.?b.orValue("").startsWith("c")`, `negate: !a.?b.orValue("").startsWith("c") && b`,
			`default: a.?b.orValue("c").startsWith("c") && b`, `drop-default: a.b.startsWith("c") && b`, `negate: a.?b.orValue("").startsWith("c") && !b`,
		}},
		{`a.?b.orValue("") in ["c"]`, []string{
			`negate: !(a.?b.orValue("") in ["c"])`, `default: a.?b.orValue("c") in ["c"]`, `drop-default: a.b in ["c"]`, `drop-entry: a.?b.orValue("") in []`,
		}},
		{`a.?b.?c[?"d"].orValue(x)`, []string{`negate: !a.?b.?c[?"d"].orValue(x)`, `drop-default: a.b.c["d"]`}},
		{`a.?b.hasValue()`, []string{`negate: !a.?b.hasValue()`}},
		{`a.?b.orValue(1) > 0`, []string{
			`negate: a.?b.orValue(1) <= 0`, `move-bound: a.?b.orValue(1) >= 0`, `default: a.?b.orValue(0) > 0`, `drop-default: a.b > 0`, `number: a.?b.orValue(1) > 1`,
		}},
		{`object.metadata.name`, []string{"negate: !object.metadata.name", "swap-names: object.metadata.namespace", "swap-names: oldObject.metadata.name"}},
		{`f(404) + "/x"`, []string{`negate: !(f(404) + "/x")`, `drop-part: "/x"`, "drop-part: f(404)", `number: f(405) + "/x"`, `number: f(403) + "/x"`}},
		{`t > duration("60s")`, []string{
			`negate: t <= duration("60s")`, `duration: t > duration("600s")`, `duration: t > duration("0s")`,
		}},
		{`{"ownerReferences": x, "schedule": "0 * * * *"}`, []string{
			`negate: !{"ownerReferences": x, "schedule": "0 * * * *"}`, `drop-entry: {"schedule": "0 * * * *"}`, `drop-entry: {"ownerReferences": x}`,
			`schedule: {"ownerReferences": x, "schedule": "30 * * * *"}`,
		}},
		{`Object{spec: Object.spec{paused: false}}`, []string{
			"negate: !Object{spec: Object.spec{paused: false}}", "drop-entry: Object{}", "drop-entry: Object{spec: Object.spec{}}", "switch: Object{spec: Object.spec{paused: true}}",
		}},
		{`{"destinationPVC": p, "copyMethod": "Direct"}`, []string{
			`negate: !{"destinationPVC": p, "copyMethod": "Direct"}`, `drop-entry: {"copyMethod": "Direct"}`, `previous: {"destinationPVC": p, "copyMethod": "Direct", "previous": dyn(1)}`,
			`swap-names: {"sourcePVC": p, "copyMethod": "Direct"}`, `drop-entry: {"destinationPVC": p}`, `schedule: {"destinationPVC": p, "copyMethod": "Snapshot"}`,
		}},
	} {
		changes, err := celMutants(test.text, true)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
		var got []string
		for _, c := range changes {
			got = append(got, string(c.operator)+": "+c.text)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: want\n  %s\nfound\n  %s", test.text, strings.Join(test.want, "\n  "), strings.Join(got, "\n  "))
		}
	}
	if _, err := celMutants("a &&", true); err == nil {
		t.Error("what is no CEL has mutants")
	}
}

func TestOperatorsOnJMESPath(t *testing.T) {
	for _, test := range []struct {
		text  string
		whole bool
		want  []string
	}{
		{"a && b", false, nil},
		{"a && 'x' || 'y'", true, []string{"drop-condition: a || 'x' || 'y'", "drop-condition: a && 'x' && 'y'", "default: a && 'x' || ''"}},
		{"{{ request.namespace }}-{{ truncate(b, `8`) == 'c' }}", false, []string{
			"swap-names: {{ request.object.metadata.name }}-{{ truncate(b, `8`) == 'c' }}", "number: {{ request.namespace }}-{{ truncate(b, `9`) == 'c' }}",
			"number: {{ request.namespace }}-{{ truncate(b, `7`) == 'c' }}", "negate: {{ request.namespace }}-{{ truncate(b, `8`) != 'c' }}",
		}},
		{"{{ a.\"b/c\" || '' }}", false, []string{"drop-condition: {{ a.\"b/c\" && '' }}", "default: {{ a.\"b/c\" || 'another' }}"}},
	} {
		var got []string
		for _, c := range jmesMutants(test.text, test.whole) {
			got = append(got, string(c.operator)+": "+c.text)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: want\n  %s\nfound\n  %s", test.text, strings.Join(test.want, "\n  "), strings.Join(got, "\n  "))
		}
	}
}

func TestOperatorsOnObjects(t *testing.T) {
	for _, test := range []struct {
		object string
		want   []string // operator field: change
	}{
		{`
kind: MutatingPolicy
metadata: {name: p, labels: {a: b}}
spec:
  failurePolicy: Ignore
  webhookConfiguration: {timeoutSeconds: 3}
  evaluation: {generateExisting: {enabled: true}}
  matchConditions: [{name: a, expression: a}]
  matchConstraints:
    objectSelector: {matchExpressions: [{key: backup, operator: In, values: [hourly]}]}
    resourceRules: [{apiGroups: [""], operations: [CREATE], resources: [persistentvolumeclaims]}]
`, []string{
			"drop-object : without MutatingPolicy/p",
			"switch spec.evaluation.generateExisting.enabled: true → false",
			"failure-policy spec.failurePolicy: Ignore → Fail",
			"drop-rule spec.matchConditions[0]: without {expression: a, name: a}",
			"negate spec.matchConditions[0].expression: a → !a",
			"widen-selector spec.matchConstraints.objectSelector: without objectSelector: {matchExpressions: [{key: backup, operator: In, values: [hourly]}]}",
			"widen-selector spec.matchConstraints.objectSelector.matchExpressions[0]: without {key: backup, operator: In, values: [hourly]}",
			"widen-selector spec.matchConstraints.objectSelector.matchExpressions[0]: {key: backup, operator: In, values: [hourly]} → backup exists",
			"operations spec.matchConstraints.resourceRules[0].operations: [CREATE] → with UPDATE",
			"timeout spec.webhookConfiguration.timeoutSeconds: 3 → 30",
		}},
		{`
kind: ClusterRole
metadata: {name: r, labels: {aggregate: "true"}}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
`, []string{
			"drop-object : without ClusterRole/r", "drop-right metadata.labels.aggregate: without aggregate: true",
			"drop-right rules[0]: without {apiGroups: [], resources: [pods], verbs: [get, list]}", "drop-right rules[0].resources[0]: without pods",
			"drop-right rules[0].verbs[0]: without get", "drop-right rules[0].verbs[1]: without list",
		}},
		{`
kind: ValidatingAdmissionPolicyBinding
metadata: {name: b}
spec: {policyName: p, validationActions: [Deny], paramRef: {parameterNotFoundAction: Allow}}
`, []string{
			"drop-object : without ValidatingAdmissionPolicyBinding/b", "failure-policy spec.paramRef.parameterNotFoundAction: Allow → Deny", "action spec.validationActions[0]: Deny → Warn",
		}},
		{`
kind: ClusterPolicy
metadata: {name: c}
spec:
  rules:
  - name: r
    match: {any: [{resources: {operations: [CREATE, UPDATE], selector: {matchLabels: {backup: hourly}}}}]}
    preconditions: {all: [{key: "{{ a || '' }}", operator: Equals, value: x}]}
    generate: {synchronize: false, data: {spec: {trigger: {schedule: "0 * * * *"}, restic: {destinationPVC: x, retain: {hourly: 24}}}}}
`, []string{
			"drop-object : without ClusterPolicy/c",
			"drop-rule spec.rules[0]: without {generate: {data: {spec: {restic: {destinationPVC: x, retain: {hourly: 24}}, trigger: {schedule: 0 * * * *}}}, synchronize: false}, match: {any: [{resources: {operations: [CREATE, UPDATE], selector: {matchLabels: {backup: hourly}}}}]}, name: r, preconditions: {all: [{key: {{ a || '' }}, operator: Equals, value: x}]}}",
			"drop-entry spec.rules[0].generate.data.spec: without spec: {restic: {destinationPVC: x, retain: {hourly: 24}}, trigger: {schedule: 0 * * * *}}",
			"drop-entry spec.rules[0].generate.data.spec.restic: without restic: {destinationPVC: x, retain: {hourly: 24}}",
			"drop-entry spec.rules[0].generate.data.spec.restic.destinationPVC: without destinationPVC: x",
			"previous spec.rules[0].generate.data.spec.restic.previous: with previous: 1",
			"drop-entry spec.rules[0].generate.data.spec.restic.retain: without retain: {hourly: 24}",
			"drop-entry spec.rules[0].generate.data.spec.restic.retain.hourly: without hourly: 24",
			"number spec.rules[0].generate.data.spec.restic.retain.hourly: 24 → 25",
			"number spec.rules[0].generate.data.spec.restic.retain.hourly: 24 → 23",
			"drop-entry spec.rules[0].generate.data.spec.trigger: without trigger: {schedule: 0 * * * *}",
			"drop-entry spec.rules[0].generate.data.spec.trigger.schedule: without schedule: 0 * * * *",
			"schedule spec.rules[0].generate.data.spec.trigger.schedule: 0 * * * * → 30 * * * *",
			"switch spec.rules[0].generate.synchronize: false → true",
			"drop-rule spec.rules[0].match.any[0]: without {resources: {operations: [CREATE, UPDATE], selector: {matchLabels: {backup: hourly}}}}",
			"operations spec.rules[0].match.any[0].resources.operations[0]: [CREATE, UPDATE] → without CREATE",
			"operations spec.rules[0].match.any[0].resources.operations[1]: [CREATE, UPDATE] → without UPDATE",
			"widen-selector spec.rules[0].match.any[0].resources.selector: without selector: {matchLabels: {backup: hourly}}",
			"widen-selector spec.rules[0].match.any[0].resources.selector.matchLabels.backup: backup: hourly → backup exists",
			"drop-rule spec.rules[0].preconditions.all[0]: without {key: {{ a || '' }}, operator: Equals, value: x}",
			"drop-condition spec.rules[0].preconditions.all[0].key: || → &&",
			"default spec.rules[0].preconditions.all[0].key: '' → 'another'",
			"negate spec.rules[0].preconditions.all[0].operator: Equals → NotEquals",
		}},
	} {
		o := objectOf(t, test.object)
		var got []string
		for _, f := range mutate(o) {
			got = append(got, fmt.Sprintf("%s %s: %s", f.operator, fieldOf(f.path), Mutant{Before: f.before, After: f.after}.Change()))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("want\n  %s\nfound\n  %s", strings.Join(test.want, "\n  "), strings.Join(got, "\n  "))
		}
	}
}

func objectOf(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte("apiVersion: v1\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestAMutantIsThePolicyButForOneThing(t *testing.T) {
	for _, name := range []string{"smart-restore", "populator", "clusterpolicy"} {
		p, err := policy.Load("../../policies/"+name, endpoint.Endpoint{})
		if err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(contentsOf(p.Objects))
		ids := map[string]bool{}
		for _, m := range Of(p) {
			if ids[m.ID] {
				t.Errorf("%s: two mutants are %s", name, m.ID)
			}
			ids[m.ID] = true
			objects := m.Objects(p)
			different := 0
			for i, o := range p.Objects {
				if m.changed == nil {
					break
				}
				if o != objects[i] {
					different++
				}
			}
			if m.changed == nil && len(objects) != len(p.Objects)-1 || m.changed != nil && (different != 1 || reflect.DeepEqual(m.changed, p.Objects[m.index].Object)) {
				t.Errorf("%s: %s (%s, %s) is different in %d objects of %d", name, m.ID, m.Field, m.Change(), different, len(objects))
			}
			if m.Line == 0 || m.File == "" {
				t.Errorf("%s: %s (%s, %s) is nowhere", name, m.ID, m.Field, m.Change())
			}
		}
		if fmt.Sprint(contentsOf(p.Objects)) != before {
			t.Errorf("%s is another policy after its mutants were made", name)
		}
	}
}

func contentsOf(objects []*unstructured.Unstructured) (all []map[string]any) {
	for _, o := range objects {
		all = append(all, o.Object)
	}
	return all
}

func TestEveryOperatorHasASentence(t *testing.T) {
	sentences := map[Operator]bool{}
	for _, o := range Operators {
		if o.Sentence == "" || sentences[o.Name] {
			t.Errorf("%s has no sentence, or two", o.Name)
		}
		sentences[o.Name] = true
	}
	used := map[Operator]bool{}
	for _, name := range []string{"smart-restore", "populator", "clusterpolicy"} {
		p, err := policy.Load("../../policies/"+name, endpoint.Endpoint{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range Of(p) {
			if used[m.Operator] = true; !sentences[m.Operator] {
				t.Errorf("%s has no sentence", m.Operator)
			}
		}
	}
	for _, o := range Operators {
		if !used[o.Name] {
			t.Errorf("%s makes no mutant of the policies that ship", o.Name)
		}
	}
}

// Positions are those of what was changed, also in the middle of a folded text, and of what a kustomization writes.
func TestPositions(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("policy.yaml", `apiVersion: policies.kyverno.io/v1
kind: MutatingPolicy
metadata:
  name: p
spec:
  failurePolicy: Ignore
  variables:
  - name: s3
    expression: '"http://192.168.10.133:9000"'
  - name: path
    expression: '"of " + "the file"'
  - name: folded
    expression: >-
      one &&
      two ||
        three == "it's"
  - name: quoted
    expression: 'four == "it''s" &&
      five'
`)
	write("settings.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  annotations: {config.kubernetes.io/local-config: \"true\"}\ndata:\n  other: x\n  path: '\"of \" + \"the settings\"'\n")
	write("kustomization.yaml", `resources: [policy.yaml, settings.yaml]
replacements:
- source: {kind: ConfigMap, name: settings, fieldPath: data.path}
  targets: [{select: {kind: MutatingPolicy, name: p}, fieldPaths: ["spec.variables.[name=path].expression"]}]
`)
	p, err := policy.Load(folder, endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range Of(p) {
		found[m.Change()] = fmt.Sprintf("%s:%d", filepath.Base(m.File), m.Line)
	}
	for change, at := range map[string]string{
		"without MutatingPolicy/p": "policy.yaml:1", "Ignore → Fail": "policy.yaml:6",
		"without one": "policy.yaml:14", "without two": "policy.yaml:15", `without three == "it's"`: "policy.yaml:16", `three == "it's" → three != "it's"`: "policy.yaml:16",
		"without five": "policy.yaml:19", `without "the settings"`: "settings.yaml:8",
	} {
		if found[change] != at {
			t.Errorf("%s: want %s, found %q", change, at, found[change])
		}
	}
}
