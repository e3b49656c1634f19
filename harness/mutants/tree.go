package mutants

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// found is a change of an object, before it is a Mutant.
type found struct {
	operator      Operator
	path          []any // of field names and indices, to what was changed
	offset        int   // within the text there, in code points
	before, after string
	object        map[string]any // changed; nil: it is gone
}

// treeMutator changes an object as the tree that its YAML is.
type treeMutator struct {
	object map[string]any
	kind   string
	all    []found
}

// mutate makes all changes of an object.
func mutate(o *unstructured.Unstructured) []found {
	m := &treeMutator{object: o.Object, kind: o.GetKind()}
	m.all = append(m.all, found{operator: DropObject, before: o.GetKind() + "/" + o.GetName()})
	m.visit(nil, o.Object)
	return m.all
}

// set notes the object with another value at a path.
func (m *treeMutator) set(operator Operator, path []any, value any, before, after string) {
	m.all = append(m.all, found{operator: operator, path: slices.Clone(path), before: before, after: after, object: with(m.object, path, value)})
}

// gone is what a value is set to that is to be gone.
type gone struct{}

// with is a copy of a tree with another value at a path. A list or mapping that would be empty is gone, too.
func with(tree map[string]any, path []any, value any) map[string]any {
	changed, _ := put(tree, path, value).(map[string]any)
	return changed
}

func put(node any, path []any, value any) any {
	if len(path) == 0 {
		return value
	}
	switch step := path[0].(type) {
	case string:
		fields, _ := node.(map[string]any)
		copied := maps.Clone(fields)
		child := put(fields[step], path[1:], value)
		if _, without := child.(gone); without {
			delete(copied, step)
			if len(copied) == 0 && len(path) > 1 {
				return gone{}
			}
		} else {
			copied[step] = child
		}
		return copied
	case int:
		items, _ := node.([]any)
		child := put(items[step], path[1:], value)
		if _, without := child.(gone); without {
			rest := slices.Delete(slices.Clone(items), step, step+1)
			if len(rest) == 0 {
				return gone{}
			}
			return rest
		}
		copied := slices.Clone(items)
		copied[step] = child
		return copied
	}
	return node
}

// ruleLists are lists of which an item is a rule of its own, by the field that they are in.
var ruleLists = []string{"matchConditions", "validations", "mutations", "generate", "rules", "resourceRules", "preconditions", "all", "any", "targets"}

// said are fields that no behaviour comes of, but for what people read.
var said = []string{"apiVersion", "kind", "name", "message", "messageExpression", "description"}

// rights are the kinds of objects that give rights.
var rights = []string{"ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"}

func (m *treeMutator) visit(path []any, node any) {
	switch node := node.(type) {
	case map[string]any:
		for _, field := range slices.Sorted(maps.Keys(node)) {
			m.field(node, append(path[:len(path):len(path)], field), field, node[field])
		}
	case []any:
		for i, item := range node {
			m.item(append(path[:len(path):len(path)], i), last(path), node, item)
		}
	}
}

func last(path []any) string {
	for i := len(path) - 1; i >= 0; i-- {
		if name, is := path[i].(string); is {
			return name
		}
	}
	return ""
}

// within says whether a path leads through a field.
func within(path []any, fields ...string) bool {
	return slices.ContainsFunc(path, func(step any) bool { name, is := step.(string); return is && slices.Contains(fields, name) })
}

// made says of a path that it leads into what a rule of a ClusterPolicy makes or patches.
func made(path []any) bool {
	return within(path, "data", "patchStrategicMerge") && within(path, "generate", "mutate")
}

// field is about one field of a mapping.
func (m *treeMutator) field(parent map[string]any, path []any, field string, value any) {
	if made(path) && field != "data" && field != "patchStrategicMerge" {
		m.set(Entry, path, gone{}, field+": "+short(value), "")
		if field == "destinationPVC" {
			m.set(Previous, append(path[:len(path)-1:len(path)-1], "previous"), int64(1), "", "previous: 1")
		}
	}
	switch field {
	case "metadata":
		if len(path) == 1 {
			m.labels(path, value)
			return
		}
	case "objectSelector", "namespaceSelector", "selector":
		if selector, is := value.(map[string]any); is && len(selector) > 0 {
			m.set(Selector, path, gone{}, field+": "+short(value), "")
		}
	case "matchLabels":
		m.matchLabels(path, value)
		return
	case "failurePolicy":
		m.flip(Failure, path, value, "Fail", "Ignore")
	case "parameterNotFoundAction":
		m.flip(Failure, path, value, "Allow", "Deny")
	case "timeoutSeconds":
		m.set(Timeout, path, int64(30), short(value), "30")
		return
	case "default":
		if within(path, "context") {
			m.set(Required, path, gone{}, field+": "+short(value), "")
		}
	case "operator":
		m.operatorField(parent, path, value)
		return
	}
	if made(path) || !slices.Contains(said, field) {
		m.value(path, field, value)
	}
}

func (m *treeMutator) flip(operator Operator, path []any, value any, one, other string) {
	switch value {
	case one:
		m.set(operator, path, other, one, other)
	case other:
		m.set(operator, path, one, other, one)
	}
}

// labels are those by which Kyverno gets a role.
func (m *treeMutator) labels(path []any, metadata any) {
	fields, _ := metadata.(map[string]any)
	labels, _ := fields["labels"].(map[string]any)
	if !slices.Contains(rights, m.kind) {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		m.set(Right, append(path[:len(path):len(path)], "labels", key), gone{}, key+": "+short(labels[key]), "")
	}
}

// matchLabels asks for a label's key alone.
func (m *treeMutator) matchLabels(path []any, value any) {
	labels, _ := value.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		changed := with(m.object, append(path[:len(path):len(path)], key), gone{})
		parent := path[:len(path)-1]
		changed = with(changed, append(parent[:len(parent):len(parent)], "matchExpressions"), []any{map[string]any{"key": key, "operator": "Exists"}})
		m.all = append(m.all, found{operator: Selector, path: append(path[:len(path):len(path)], key), before: key + ": " + short(labels[key]), after: key + " exists", object: changed})
	}
}

// operatorField is the operator of a selector's expression, or of a precondition.
func (m *treeMutator) operatorField(parent map[string]any, path []any, value any) {
	above := path[: len(path)-1 : len(path)-1]
	if _, selects := parent["key"]; selects && last(above) == "matchExpressions" {
		m.set(Selector, above, gone{}, short(parent), "")
		if value == "In" {
			m.set(Selector, above, map[string]any{"key": parent["key"], "operator": "Exists"}, short(parent), fmt.Sprintf("%v exists", parent["key"]))
		}
		return
	}
	for _, pair := range [][2]string{{"Equals", "NotEquals"}, {"AnyIn", "AnyNotIn"}, {"AllIn", "AllNotIn"}, {"GreaterThan", "LessThan"}, {"GreaterThanOrEquals", "LessThanOrEquals"}} {
		m.flip(Negate, path, value, pair[0], pair[1])
	}
}

// item is about one item of a list.
func (m *treeMutator) item(path []any, list string, items []any, item any) {
	switch {
	case slices.Contains(rights, m.kind):
		if list == "verbs" || list == "resources" || list == "subjects" || list == "rules" {
			m.set(Right, path, gone{}, short(item), "")
		}
		m.visit(path, item)
		return
	case list == "operations":
		m.operations(path, items, item)
		return
	case list == "validationActions" && item == "Deny":
		m.set(Action, path, "Warn", "Deny", "Warn")
		return
	case list == "resources" && len(items) > 1:
		m.set(DropRule, path, gone{}, short(item), "")
	case slices.Contains(ruleLists, list) && !made(path):
		if list != "resourceRules" || len(items) > 1 {
			m.set(DropRule, path, gone{}, short(item), "")
		}
	case made(path), list == "headers":
		m.set(Entry, path, gone{}, short(item), "")
	}
	if _, nested := item.(map[string]any); nested {
		m.visit(path, item)
	} else {
		m.value(path, list, item)
	}
}

// operations is about one operation of a list, and with the first one about those that are not in it.
func (m *treeMutator) operations(path []any, items []any, item any) {
	if len(items) > 1 {
		m.set(Operations, path, gone{}, short(items), "without "+short(item))
	}
	if path[len(path)-1] != 0 {
		return
	}
	list := path[: len(path)-1 : len(path)-1]
	for _, more := range []any{"CREATE", "UPDATE"} {
		if !slices.Contains(items, more) && !slices.Contains(items, any("*")) {
			m.set(Operations, list, append(slices.Clone(items), more), short(items), "with "+short(more))
		}
	}
}

// value is about a scalar, or goes on below.
func (m *treeMutator) value(path []any, field string, value any) {
	switch v := value.(type) {
	case bool:
		m.set(Switch, path, !v, short(v), short(!v))
	case int64:
		m.set(Number, path, v+1, short(v), short(v+1))
		if v > 0 {
			m.set(Number, path, v-1, short(v), short(v-1))
		}
	case string:
		m.text(path, field, v)
	default:
		m.visit(path, value)
	}
}

// text is about CEL, JMESPath, and texts that may be mistaken for another.
func (m *treeMutator) text(path []any, field, text string) {
	switch {
	case field == "expression":
		changes, err := celMutants(text, within(path, "matchConditions", "validations"))
		if err != nil {
			return // Kyverno or the API server says why when it is applied
		}
		m.changes(path, changes)
	case m.kind == "ClusterPolicy":
		m.changes(path, jmesMutants(text, field == "jmesPath"))
		if field == "default" && within(path, "context") && text != "" {
			m.set(Default, path, "another", text, "another")
		}
		if other, operator := otherText(text); other != "" {
			m.set(operator, path, other, text, other)
		}
		if field == "value" && strings.HasSuffix(text, "s") {
			if _, err := strconv.Atoi(strings.TrimSuffix(text, "s")); err == nil {
				m.set(Duration, path, longer(text), text, longer(text))
				m.set(Duration, path, "0s", text, "0s")
			}
		}
	}
}

func (m *treeMutator) changes(path []any, changes []change) {
	for _, c := range changes {
		m.all = append(m.all, found{operator: c.operator, path: slices.Clone(path), offset: c.offset, before: c.before, after: c.after, object: with(m.object, path, c.text)})
	}
}

// short is a value as YAML would have it, on one line.
func short(value any) string {
	switch v := value.(type) {
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, key+": "+short(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		var parts []string
		for _, item := range v {
			parts = append(parts, short(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case string:
		return strings.Join(strings.Fields(v), " ")
	}
	return fmt.Sprint(value)
}
