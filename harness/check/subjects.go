package check

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/strict"
)

// subject is one policy of those under test, or what binds one.
type subject struct {
	name  string // kind/name
	text  string // as JSON
	found policy.Document
	// selected are the labels that its selectors of PVCs name.
	selected []labelAt
}

// isNative says whether the API server itself is who enforces it.
func (one subject) isNative() bool { return isNative(one.name) }

// letsErrorsPass says of a policy of the API server's own whether it lets in what it cannot be evaluated for.
func (one subject) letsErrorsPass() bool {
	return one.isNative() && !one.isBinding() && strings.Contains(one.text, `"failurePolicy":"Ignore"`)
}

func (one subject) isBinding() bool { return strings.HasPrefix(one.name, policy.NativeBinding+"/") }

// isNative says of a policy, kind/name, whether the API server itself is who enforces it.
func isNative(name string) bool {
	kind, _, _ := strings.Cut(name, "/")
	return strings.Contains(kind, "AdmissionPolicy")
}

// labelAt is a label, key=value or the key alone, and the line of its selector.
type labelAt struct {
	label string
	line  int
}

// subjects are the policies under test, Kyverno's and the API server's own, and where they are in the files.
type subjects struct {
	all  []subject
	path string // of the policy under test
}

func subjectsOf(p *policy.Policy) subjects {
	s := subjects{path: p.Path}
	for _, o := range p.Judged() {
		raw, err := json.Marshal(o.Object)
		if err != nil {
			continue
		}
		one := subject{name: o.GetKind() + "/" + o.GetName(), text: string(raw)}
		one.found = policy.DocumentOf(p.Documents, o.GetKind(), o.GetName())
		one.selected = selectedBy(raw, one.found.Root)
		s.all = append(s.all, one)
	}
	return s
}

// selectedBy are the labels that the selectors of a policy name, and their lines in its document. A kustomization may have
// changed them: then the line is that of the selector in the same place.
func selectedBy(raw []byte, document *yaml.Node) (all []labelAt) {
	var written []labelAt
	claimLabels(document, func(label string, line int) { written = append(written, labelAt{label, line}) })
	var object yaml.Node
	if err := yaml.Unmarshal(raw, &object); err != nil { // JSON is YAML
		return written
	}
	claimLabels(&object, func(label string, _ int) {
		at := labelAt{label: label}
		if i := slices.IndexFunc(written, func(w labelAt) bool { return w.label == label }); i >= 0 {
			at.line = written[i].line
		} else if len(all) < len(written) {
			at.line = written[len(all)].line
		}
		all = append(all, at)
	})
	return all
}

// claimLabels reports the labels that the selectors of match blocks for PVCs name: those beside resourceRules, and in rules of
// a ClusterPolicy those beside kinds.
func claimLabels(node *yaml.Node, report func(label string, line int)) {
	if node == nil {
		return
	}
	for _, list := range []string{"resourceRules", "kinds"} {
		if about, ok := strict.Find(node, list); ok && node.Kind == yaml.MappingNode && namesClaims(about) {
			labelsIn(node, report)
			return
		}
	}
	for _, child := range node.Content {
		claimLabels(child, report)
	}
}

// namesClaims says whether a list of resources or kinds has PVCs in it.
func namesClaims(node *yaml.Node) bool {
	switch node.Value {
	case "persistentvolumeclaims", "PersistentVolumeClaim", "v1/PersistentVolumeClaim":
		return true
	}
	return slices.ContainsFunc(node.Content, namesClaims)
}

// labelsIn reports the labels that label selectors below a node name. namespaceSelectors are about others than PVCs.
func labelsIn(node *yaml.Node, report func(label string, line int)) {
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 1 {
			switch key := node.Content[i-1].Value; {
			case key == "namespaceSelector":
				continue
			case key == "matchLabels" && child.Kind == yaml.MappingNode:
				for j := 0; j+1 < len(child.Content); j += 2 {
					report(child.Content[j].Value+"="+child.Content[j+1].Value, child.Content[j].Line)
				}
			case key == "matchExpressions" && child.Kind == yaml.SequenceNode:
				for _, expression := range child.Content {
					reportExpression(expression, report)
				}
			}
		}
		labelsIn(child, report)
	}
}

func reportExpression(expression *yaml.Node, report func(label string, line int)) {
	key, ok := strict.Find(expression, "key")
	if !ok {
		return
	}
	values, ok := strict.Find(expression, "values")
	if !ok || len(values.Content) == 0 {
		report(key.Value, key.Line)
		return
	}
	for _, value := range values.Content {
		report(key.Value+"="+value.Value, key.Line)
	}
}

// makes is the policy that makes objects of a kind, if there is one that does.
func (s subjects) makes(kind string) string {
	said := regexp.MustCompile(`kind\W{1,8}(dyn\W{1,4})?` + kind + `\b`)
	generates := func(one subject) bool { return strings.Contains(one.text, `"generate"`) }
	if name := s.first(func(one subject) bool { return generates(one) && said.MatchString(one.text) }); name != "" {
		return name
	}
	return s.first(func(one subject) bool { return generates(one) && strings.Contains(one.text, kind) })
}

// synchronizes says whether Kyverno keeps in step, and deletes, what a policy made.
func (s subjects) synchronizes(name string) bool {
	one, _ := s.named(name)
	return strings.Contains(one.text, `"synchronize":true`) || strings.Contains(one.text, `"synchronize":{"enabled":true}`)
}

// asks is the policy that decides by asking S3.
func (s subjects) asks() string {
	name := s.first(func(one subject) bool {
		return strings.Contains(one.text, "http.get(") || strings.Contains(one.text, `"service"`)
	})
	if name == "" {
		return s.makes(destination)
	}
	return name
}

// admits is the first policy that is called at the admission of objects of a resource, by its plural and its kind.
func (s subjects) admits(plural, kind string) string {
	about := regexp.MustCompile(`"(` + plural + `|` + kind + `)\b`)
	aboutNatively := regexp.MustCompile(`"` + plural + `\b`) // a kind that it names is that of its params
	return s.first(func(one subject) bool {
		if one.isNative() {
			return !one.isBinding() && aboutNatively.MatchString(one.text)
		}
		return !strings.HasPrefix(one.name, "GeneratingPolicy/") && about.MatchString(one.text) &&
			(strings.HasPrefix(one.name, "ValidatingPolicy/") || strings.Contains(one.text, `"mutat`) || strings.Contains(one.text, `"validat`))
	})
}

// namedIn is the policy that a refusal names. It may name what binds it, too.
func (s subjects) namedIn(text string) string {
	return s.first(func(one subject) bool {
		if one.isBinding() {
			return false
		}
		_, name, _ := strings.Cut(one.name, "/")
		return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b($|[^-.\w])`).MatchString(text)
	})
}

func (s subjects) first(is func(subject) bool) string {
	if i := slices.IndexFunc(s.all, is); i >= 0 {
		return s.all[i].name
	}
	return ""
}

// changes is a policy that changes what exists, in a way that is not played. Empty: there is none.
func (s subjects) changes() string {
	return s.first(func(one subject) bool {
		return strings.HasPrefix(one.name, "ClusterPolicy/") && strings.Contains(one.text, `"targets"`)
	})
}

const onlyOnACluster = " changes what exists, which is not played"

// Unplayed is what of a policy is not played, and so says nothing of what becomes of a PVC later. Empty: all is.
func Unplayed(p *policy.Policy) string {
	if changes := subjectsOf(p).changes(); changes != "" {
		return changes + onlyOnACluster
	}
	return ""
}

func (s subjects) named(name string) (subject, bool) {
	i := slices.IndexFunc(s.all, func(one subject) bool { return one.name == name })
	if i < 0 {
		return subject{}, false
	}
	return s.all[i], true
}

// position is where a policy is, or a field of it like spec.variables[2].expression, as far as the file has it. What is in no
// file that can be found is at the beginning of the first policy's, or of the path that was checked.
func (s subjects) position(name, field string) (file string, line int) {
	one, known := s.named(name)
	if !known || one.found.Root == nil {
		for _, other := range s.all {
			if other.found.Root != nil {
				return other.found.File, other.found.Root.Line
			}
		}
		return s.path, 1
	}
	node, _ := strict.Find(one.found.Root, steps(field)...)
	return one.found.File, node.Line
}

// otherLabel says which labels a policy for PVCs selects instead of the one of the contract, and where; empty: it selects
// that, or none.
func (s subjects) otherLabel(name string, pvc policy.PVC) (text string, line int) {
	one, known := s.named(name)
	if !known || len(one.selected) == 0 || pvc.Label == "" {
		return "", 0
	}
	wanted := pvc.Label + "=" + pvc.Value
	var others []string
	for _, at := range one.selected {
		if matches(at.label, wanted) || at.label == pvc.Label {
			return "", 0
		}
		if line == 0 {
			line = at.line
		}
		others = append(others, at.label)
	}
	return fmt.Sprintf("its selectors name %s, the contract says %s", strings.Join(others, ", "), wanted), line
}

// matches says whether a pattern of a selector is of this label; * and ? are Kyverno's wildcards.
func matches(pattern, label string) bool {
	quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile("^" + quoted + "$").MatchString(label)
}

var step = regexp.MustCompile(`\[([0-9]+)\]|[^.\[\]]+`)

// steps are those of a field's path.
func steps(field string) (path []any) {
	for _, part := range step.FindAllStringSubmatch(field, -1) {
		if index, err := strconv.Atoi(part[1]); err == nil {
			path = append(path, index)
		} else {
			path = append(path, part[0])
		}
	}
	return path
}
