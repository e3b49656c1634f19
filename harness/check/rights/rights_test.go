package rights

import (
	"testing"

	"sigs.k8s.io/yaml"
)

const user = "system:serviceaccount:kyverno:background"

func rightsOf(t *testing.T, list string) *Rights {
	t.Helper()
	var objects []map[string]any
	if err := yaml.Unmarshal([]byte(list), &objects); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		o["apiVersion"] = Group + "/v1"
	}
	r, err := New(objects)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const aggregated = `
- {kind: ClusterRole, metadata: {name: whole}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {to-whole: "true"}}]}, rules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"]}]}
- {kind: ClusterRole, metadata: {name: between, labels: {to-whole: "true"}}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {to-between: "true"}}]}}
- {kind: ClusterRole, metadata: {name: a, labels: {to-between: "true"}}, rules: [{verbs: [get], apiGroups: [""], resources: [secrets]}]}
- {kind: ClusterRole, metadata: {name: another, labels: {to-nobody: "true"}}, rules: [{verbs: [delete], apiGroups: [""], resources: [secrets]}]}
- {kind: ClusterRoleBinding, metadata: {name: b}, roleRef: {kind: ClusterRole, name: whole}, subjects: [{kind: ServiceAccount, namespace: kyverno, name: background}]}
`

func TestWhatRolesAllow(t *testing.T) {
	bound := func(rules, subject string) string {
		return `
- {kind: ClusterRole, metadata: {name: r}, rules: ` + rules + `}
- {kind: ClusterRoleBinding, metadata: {name: b}, roleRef: {kind: ClusterRole, name: r}, subjects: [` + subject + `]}
`
	}
	const account = "{kind: ServiceAccount, namespace: kyverno, name: background}"
	get := Request{User: user, Groups: []string{"system:serviceaccounts"}, Verb: "get", Resource: "secrets", Namespace: "shop", Name: "one"}
	with := func(change func(*Request)) Request {
		q := get
		change(&q)
		return q
	}
	for name, c := range map[string]struct {
		objects string
		request Request
		want    bool
	}{
		"the verb":                  {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, account), get, true},
		"another verb":              {bound(`[{verbs: [list], apiGroups: [""], resources: [secrets]}]`, account), get, false},
		"every verb":                {bound(`[{verbs: ["*"], apiGroups: ["*"], resources: ["*"]}]`, account), get, true},
		"another group":             {bound(`[{verbs: [get], apiGroups: [apps], resources: [secrets]}]`, account), get, false},
		"the subresource":           {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets/status]}]`, account), with(func(q *Request) { q.Subresource = "status" }), true},
		"only the resource itself":  {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, account), with(func(q *Request) { q.Subresource = "status" }), false},
		"the name":                  {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets], resourceNames: [one]}]`, account), get, true},
		"another name":              {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets], resourceNames: [two]}]`, account), get, false},
		"no name, names are listed": {bound(`[{verbs: [list], apiGroups: [""], resources: [secrets], resourceNames: [one]}]`, account), with(func(q *Request) { q.Verb, q.Name = "list", "" }), false},
		"another account":           {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, "{kind: ServiceAccount, namespace: other, name: background}"), get, false},
		"a group":                   {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, "{kind: Group, name: 'system:serviceaccounts'}"), get, true},
		"a user":                    {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, "{kind: User, name: '"+user+"'}"), get, true},
		"a user of another name":    {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, "{kind: User, name: 'system:serviceaccounts'}"), get, false},
		"in the binding's namespace": {`
- {kind: Role, metadata: {name: r, namespace: shop}, rules: [{verbs: [get], apiGroups: [""], resources: [secrets]}]}
- {kind: RoleBinding, metadata: {name: b, namespace: shop}, roleRef: {kind: Role, name: r}, subjects: [{kind: ServiceAccount, namespace: kyverno, name: background}]}
`, get, true},
		"in another namespace": {`
- {kind: ClusterRole, metadata: {name: r}, rules: [{verbs: [get], apiGroups: [""], resources: [secrets]}]}
- {kind: RoleBinding, metadata: {name: b, namespace: office}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, namespace: kyverno, name: background}]}
`, get, false},
		"a role that nobody is bound to": {`[{kind: ClusterRole, metadata: {name: r}, rules: [{verbs: [get], apiGroups: [""], resources: [secrets]}]}]`, get, false},
		"aggregated, by way of another":  {aggregated, get, true},
		"not aggregated":                 {aggregated, with(func(q *Request) { q.Verb = "delete" }), false},
		"the later of two": {bound(`[{verbs: [get], apiGroups: [""], resources: [secrets]}]`, account) +
			`- {kind: ClusterRole, metadata: {name: r}, rules: []}`, get, false},
	} {
		if got := rightsOf(t, c.objects).Allow(c.request); got != c.want {
			t.Errorf("%s: allowed: %v, wanted %v", name, got, c.want)
		}
	}
}

func TestTheLabelThatAggregates(t *testing.T) {
	r := rightsOf(t, aggregated)
	if got := r.Label(user); got != `to-whole: "true"` {
		t.Errorf("got %q", got)
	}
	if got := r.Label("somebody"); got != "" {
		t.Errorf("of somebody who is bound to nothing: got %q", got)
	}
}

func TestWhatIsNoRole(t *testing.T) {
	if _, err := New([]map[string]any{{"apiVersion": "v1", "kind": "Secret"}}); err != nil {
		t.Error(err)
	}
	if _, err := New([]map[string]any{{"apiVersion": Group + "/v1", "kind": "ClusterRole", "rules": "all"}}); err == nil {
		t.Error("a ClusterRole that cannot be read is taken")
	}
	if _, err := New([]map[string]any{{"apiVersion": Group + "/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": "r"},
		"aggregationRule": map[string]any{"clusterRoleSelectors": []any{map[string]any{"matchLabels": map[string]any{"a": "not a value"}}}}}}); err == nil {
		t.Error("a selector that cannot be read is taken")
	}
}
