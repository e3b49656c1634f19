// Package mutants finds what protects each line of a policy: it makes policies that are wrong in one thing, and sees which requirement
// catches each.
package mutants

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/strict"
)

// Mutant is a policy with one thing in it changed.
type Mutant struct {
	// ID is the same as long as the object, the place in it and the change are.
	ID       string   `json:"id"`
	Operator Operator `json:"operator"`
	Object   string   `json:"object"` // kind/name
	Field    string   `json:"field"`  // of it, like spec.variables[2].expression
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Before   string   `json:"before"` // what was changed
	After    string   `json:"after"`  // empty: it is gone

	index   int            // of the object among the policy's
	changed map[string]any // nil: it is gone
}

// Objects are the mutant's, in the policy's order.
func (m Mutant) Objects(p *policy.Policy) []*unstructured.Unstructured {
	objects := slices.Clone(p.Objects)
	if m.changed == nil {
		return slices.Delete(objects, m.index, m.index+1)
	}
	objects[m.index] = &unstructured.Unstructured{Object: m.changed}
	return objects
}

// Change says what was changed.
func (m Mutant) Change() string {
	switch {
	case m.After == "":
		return "without " + m.Before
	case m.Before == "":
		return "with " + m.After
	}
	return m.Before + " → " + m.After
}

// Of makes all mutants of a policy, in the order of its objects.
func Of(p *policy.Policy) []Mutant {
	var all []Mutant
	files := sources{texts: map[string][]string{}, documents: p.Documents}
	seen := map[string]int{}
	for i, o := range p.Objects {
		document := policy.DocumentOf(p.Documents, o.GetKind(), o.GetName())
		for _, f := range mutate(o) {
			m := Mutant{Operator: f.operator, Object: o.GetKind() + "/" + o.GetName(), Field: fieldOf(f.path), Before: f.before, After: f.after, index: i, changed: f.object}
			m.File, m.Line = files.position(document, o, f)
			identity := strings.Join([]string{string(m.Operator), m.Object, m.Field, m.Before, m.After}, "\x00")
			seen[identity]++ // the same change of the same text, further on in it
			sum := sha256.Sum256([]byte(identity + "\x00" + strconv.Itoa(seen[identity])))
			m.ID = hex.EncodeToString(sum[:4])
			all = append(all, m)
		}
	}
	return all
}

func fieldOf(path []any) string {
	var b strings.Builder
	for _, step := range path {
		switch step := step.(type) {
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		case int:
			fmt.Fprintf(&b, "[%d]", step)
		}
	}
	return b.String()
}

// sources are the files of a policy, for positions.
type sources struct {
	texts     map[string][]string // lines, by file
	documents []policy.Document
}

// position is the line that a change is of. What a kustomization has replaced is where the new value is said.
func (s *sources) position(document policy.Document, o *unstructured.Unstructured, f found) (file string, line int) {
	if document.Root == nil {
		return "", 0
	}
	node, there := strict.Find(document.Root, f.path...)
	if value, isText := textAt(o.Object, f.path); there && isText {
		if spaceless(node.Value) == spaceless(value) { // kustomize writes some with more line breaks
			runes := []rune(value)
			return document.File, s.lineOf(document.File, node, spaceless(string(runes[:min(f.offset+1, len(runes))])))
		}
		if other, elsewhere := s.saying(value); elsewhere != nil {
			return other, elsewhere.Line
		}
		return document.File, node.Line
	}
	if key, isKey := keyOf(document.Root, f.path); isKey {
		node = key
	}
	return document.File, node.Line
}

// keyOf is the field's name itself: of a mapping that is the line before its first one.
func keyOf(root *yaml.Node, path []any) (*yaml.Node, bool) {
	if len(path) == 0 {
		return nil, false
	}
	name, is := path[len(path)-1].(string)
	if !is {
		return nil, false
	}
	return strict.Find(root, append(path[:len(path)-1:len(path)-1], strict.Key(name))...)
}

func textAt(node any, path []any) (string, bool) {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			fields, _ := node.(map[string]any)
			node = fields[step]
		case int:
			items, _ := node.([]any)
			if step >= len(items) {
				return "", false
			}
			node = items[step]
		}
	}
	text, is := node.(string)
	return text, is
}

// saying finds a value of a ConfigMap: settings that a kustomization writes into the policies.
func (s *sources) saying(value string) (file string, node *yaml.Node) {
	for _, d := range s.documents {
		if data, ok := strict.Find(d.Root, "data"); ok && d.Kind() == "ConfigMap" {
			for i := 1; i < len(data.Content); i += 2 {
				if data.Content[i].Value == value {
					return d.File, data.Content[i]
				}
			}
		}
	}
	return "", nil
}

func spaceless(text string) string { return strings.Join(strings.Fields(text), "") }

// lineOf is the line on which the beginning of a text ends: a text over several lines is in the file what it is here, but for space and
// quotes.
func (s *sources) lineOf(file string, node *yaml.Node, beginning string) int {
	lines, known := s.texts[file]
	if !known {
		raw, _ := os.ReadFile(file)
		lines = strings.Split(string(raw), "\n")
		s.texts[file] = lines
	}
	wanted := []rune(beginning)
	line, from := node.Line, node.Column-1
	if node.Style&(yaml.FoldedStyle|yaml.LiteralStyle) != 0 {
		line, from = node.Line+1, 0
	}
	for ; line <= len(lines) && len(wanted) > 0; line++ {
		text := []rune(lines[line-1])
		for _, r := range text[min(from, len(text)):] {
			if len(wanted) > 0 && r == wanted[0] && !unicode.IsSpace(r) {
				wanted = wanted[1:]
			}
		}
		if from = 0; len(wanted) == 0 {
			return line
		}
	}
	return node.Line
}

// Manifest writes the mutant's objects.
func (m Mutant) Manifest(p *policy.Policy, w io.Writer) error {
	if _, err := fmt.Fprintf(w, "# Mutant %s of %s, %s (%s): %s\n", m.ID, p.Contract.Name, m.Object, m.Operator, strings.ReplaceAll(m.Change(), "\n", " ")); err != nil {
		return err
	}
	for _, o := range m.Objects(p) {
		raw, err := yaml.Marshal(o.Object)
		if err == nil {
			_, err = fmt.Fprintf(w, "---\n%s", raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
