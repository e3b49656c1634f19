package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/policy"
)

// subject is one Kyverno policy of those under test.
type subject struct {
	name string // kind/name
	text string // as JSON
	file string // where it stands; empty: not found
	node *yaml.Node
}

// subjects are the Kyverno policies under test, and where they stand.
type subjects []subject

func subjectsOf(p *policy.Policy) subjects {
	var documents []document
	seen := map[string]bool{}
	for _, source := range p.Sources {
		documents = append(documents, documentsBelow(source, seen)...)
	}
	var all subjects
	for _, o := range p.Kyverno() {
		raw, err := json.Marshal(o.Object)
		if err != nil {
			continue
		}
		s := subject{name: o.GetKind() + "/" + o.GetName(), text: string(raw)}
		for _, d := range documents {
			if scalar(d.node, "kind") == o.GetKind() && scalar(d.node, "metadata", "name") == o.GetName() {
				s.file, s.node = d.file, d.node
			}
		}
		all = append(all, s)
	}
	return all
}

// makes is the policy that makes objects of a kind, if there is one that does.
func (s subjects) makes(kind string) string {
	return s.first(func(one subject) bool {
		return strings.Contains(one.text, kind) && strings.Contains(one.text, `"generate"`)
	})
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

// namedIn is the policy that a refusal names.
func (s subjects) namedIn(text string) string {
	return s.first(func(one subject) bool {
		_, name, _ := strings.Cut(one.name, "/")
		return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b($|[^-.\w])`).MatchString(text)
	})
}

func (s subjects) first(is func(subject) bool) string {
	if i := slices.IndexFunc(s, is); i >= 0 {
		return s[i].name
	}
	return ""
}

// position is where a policy stands, or a field of it like spec.variables[2].expression, as far as the file has it.
func (s subjects) position(name, field string) (file string, line int) {
	i := slices.IndexFunc(s, func(one subject) bool { return one.name == name })
	if i < 0 || s[i].node == nil {
		return "", 0
	}
	node := s[i].node
	line = node.Line
	for _, part := range regexp.MustCompile(`[^.\[\]]+`).FindAllString(field, -1) {
		next := child(node, part)
		if next == nil {
			break
		}
		node, line = next, next.Line
	}
	return s[i].file, line
}

// child is the value of a key, or the item of a number.
func child(node *yaml.Node, part string) *yaml.Node {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == part {
				return node.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if n, err := strconv.Atoi(part); err == nil && n >= 0 && n < len(node.Content) {
			return node.Content[n]
		}
	}
	return nil
}

func scalar(node *yaml.Node, path ...string) string {
	for _, part := range path {
		if node = child(node, part); node == nil {
			return ""
		}
	}
	return node.Value
}

// document is one of a file's.
type document struct {
	file string
	node *yaml.Node
}

// documentsBelow reads the manifests of a file, a folder or a kustomization, and of what that is made of. Positions are a help:
// what cannot be read has none, and whoever reads the policy itself says why.
func documentsBelow(path string, seen map[string]bool) []document {
	if seen[path] {
		return nil
	}
	seen[path] = true
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	if !info.IsDir() {
		return documentsOf(path)
	}
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		raw, err := os.ReadFile(filepath.Join(path, name))
		if err != nil {
			continue
		}
		var kustomization struct{ Resources, Components []string }
		if yaml.Unmarshal(raw, &kustomization) != nil {
			return nil
		}
		var all []document
		for _, resource := range slices.Concat(kustomization.Resources, kustomization.Components) {
			all = append(all, documentsBelow(filepath.Join(path, resource), seen)...)
		}
		return all
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil
	}
	var all []document
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); !entry.IsDir() && (ext == ".yaml" || ext == ".yml") {
			all = append(all, documentsOf(filepath.Join(path, entry.Name()))...)
		}
	}
	return all
}

func documentsOf(path string) []document {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	var all []document
	for decoder := yaml.NewDecoder(file); ; {
		var node yaml.Node
		if decoder.Decode(&node) != nil {
			return all
		}
		if len(node.Content) == 1 && node.Content[0].Kind == yaml.MappingNode {
			all = append(all, document{file: path, node: node.Content[0]})
		}
	}
}
