// Package strict reads a YAML document into a Go type, by its JSON names, and takes nothing that the type has not: no
// unknown field, no field twice, no value of another type, no anchors. Every error begins with where it is:
// file:line:column.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Document is what was read, for the positions of what else is wrong with it.
type Document struct {
	file string
	root *yaml.Node // nil: none was read
}

// Steps of a path beside names of fields and indices of lists.
type (
	// Key is, as the last step, a field's name itself and not its value.
	Key string
	// Named is the first item of a list whose field "name" is this.
	Named string
)

// Read reads one document of mappings into a pointer to a struct. The file's name is for errors only.
func Read(file string, raw []byte, into any) (*Document, error) {
	d := &Document{file: file}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var first, second yaml.Node
	t := reflect.TypeOf(into).Elem()
	if err := decoder.Decode(&first); err != nil && !errors.Is(err, io.EOF) {
		return d, d.syntax(raw, err)
	}
	if len(first.Content) != 1 || first.Content[0].Kind != yaml.MappingNode {
		return d, fmt.Errorf("%s:1:1: wanted is a mapping with the fields %s", file, strings.Join(Fields(t), ", "))
	}
	d.root = first.Content[0]
	if err := decoder.Decode(&second); err == nil {
		return d, d.position(&second, "it is a second document: there must be one only")
	} else if !errors.Is(err, io.EOF) {
		return d, d.syntax(raw, err)
	}
	content, err := d.take(d.root, t)
	if err != nil {
		return d, err
	}
	// The content fits the type now, and JSON knows how to fill it.
	plain, err := json.Marshal(content)
	if err == nil {
		err = json.Unmarshal(plain, into)
	}
	if err != nil {
		return d, d.position(d.root, err.Error())
	}
	return d, nil
}

// Fields are the names of a struct's fields, in their order; those of a struct that is embedded are its own.
func Fields(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if name := fieldName(f); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if !f.IsExported() || name == "-" {
		return ""
	}
	return name
}

// Find follows a path of field names and indices into any YAML, to its end or as near to it as there is something.
func Find(root *yaml.Node, path ...any) (nearest *yaml.Node, found bool) {
	for _, step := range path {
		next := child(root, step)
		if next == nil {
			return root, false
		}
		root = next
	}
	return root, root != nil
}

// Has says whether there is something at a path of field names and indices.
func (d *Document) Has(path ...any) bool {
	_, found := d.find(path)
	return found
}

// At is an error at the place that a path of field names and indices leads to, or as near to it as there is something.
func (d *Document) At(text string, path ...any) error {
	if d == nil || d.root == nil {
		return errors.New(text)
	}
	node, _ := d.find(path)
	return d.position(node, text)
}

// In is an error at a byte within the text at a path.
func (d *Document) In(offset int, text string, path ...any) error {
	if d == nil || d.root == nil {
		return errors.New(text)
	}
	node, found := d.find(path)
	at := *node
	if found && at.Kind == yaml.ScalarNode && offset <= len(at.Value) {
		switch at.Style {
		case 0:
			at.Column += utf8.RuneCountInString(at.Value[:offset])
		case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
			at.Column += 1 + utf8.RuneCountInString(at.Value[:offset])
		}
	}
	return d.position(&at, text)
}

func (d *Document) find(path []any) (node *yaml.Node, found bool) {
	if d == nil {
		return nil, false
	}
	return Find(d.root, path...)
}

// Each calls do with every text, number and bool in the document and its path, in their order; an empty mapping is nil.
func (d *Document) Each(do func(path []any, value any)) {
	if d != nil && d.root != nil {
		each(d.root, nil, do)
	}
}

func each(node *yaml.Node, path []any, do func([]any, any)) {
	below := func(step any) []any { return append(slices.Clone(path), step) }
	switch node.Kind {
	case yaml.MappingNode:
		if len(node.Content) == 0 {
			do(path, nil)
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			each(node.Content[i+1], below(node.Content[i].Value), do)
		}
	case yaml.SequenceNode:
		for i, item := range node.Content {
			each(item, below(i), do)
		}
	case yaml.ScalarNode:
		value := any(node.Value)
		if node.ShortTag() != "!!str" {
			_ = node.Decode(&value) // it was read: see take
		}
		do(path, value)
	}
}

func child(node *yaml.Node, step any) *yaml.Node {
	if node == nil {
		return nil
	}
	name, isName := step.(string)
	key, isKey := step.(Key)
	item, isItem := step.(Named)
	index, isIndex := step.(int)
	switch {
	case isIndex && node.Kind == yaml.SequenceNode && index >= 0 && index < len(node.Content):
		return node.Content[index]
	case isItem && node.Kind == yaml.SequenceNode:
		for _, one := range node.Content {
			if name := child(one, "name"); name != nil && name.Value == string(item) {
				return one
			}
		}
		return nil
	case node.Kind != yaml.MappingNode:
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		switch {
		case isName && node.Content[i].Value == name:
			return node.Content[i+1]
		case isKey && node.Content[i].Value == string(key):
			return node.Content[i]
		}
	}
	return nil
}

// position is an error of one line, whatever the document has in its texts.
func (d *Document) position(node *yaml.Node, text string) error {
	return fmt.Errorf("%s:%d:%d: %s", d.file, max(1, node.Line), max(1, node.Column), strings.ReplaceAll(text, "\n", `\n`))
}

// take is a node's content as JSON would have it, if it fits the type.
func (d *Document) take(node *yaml.Node, t reflect.Type) (any, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	wanted, ok := map[reflect.Kind]struct {
		kind yaml.Kind
		tag  string
		name string
	}{
		reflect.Struct: {yaml.MappingNode, "!!map", "a mapping"},
		reflect.Map:    {yaml.MappingNode, "!!map", "a mapping"},
		reflect.Slice:  {yaml.SequenceNode, "!!seq", "a list"},
		reflect.String: {yaml.ScalarNode, "!!str", "a text"},
		reflect.Int:    {yaml.ScalarNode, "!!int", "a whole number"},
		reflect.Bool:   {yaml.ScalarNode, "!!bool", "true or false"},
	}[t.Kind()]
	switch {
	case !ok:
		return nil, d.position(node, "a "+t.String()+" cannot be read: that is this program's fault")
	case node.Anchor != "" || node.Kind == yaml.AliasNode:
		return nil, d.position(node, "anchors and aliases are not taken: write it out")
	case node.ShortTag() == "!!null":
		return nil, d.position(node, "there is nothing here: wanted is "+wanted.name+", or leave the field out")
	case node.Kind != wanted.kind || node.ShortTag() != wanted.tag:
		hint := ""
		if t.Kind() == reflect.String && node.Kind == yaml.ScalarNode {
			hint = fmt.Sprintf(": put it in quotes, %q", node.Value)
		}
		return nil, d.position(node, fmt.Sprintf("found is %s, wanted %s%s", named(node), wanted.name, hint))
	}
	switch t.Kind() {
	case reflect.Slice:
		return d.takeList(node, t)
	case reflect.Struct, reflect.Map:
		return d.takeMapping(node, t)
	case reflect.Int:
		var n int
		if err := node.Decode(&n); err != nil {
			return nil, d.position(node, fmt.Sprintf("%q is no whole number", node.Value))
		}
		return n, nil
	case reflect.Bool:
		var b bool
		if err := node.Decode(&b); err != nil {
			return nil, d.position(node, fmt.Sprintf("%q is neither true nor false", node.Value))
		}
		return b, nil
	}
	return node.Value, nil
}

func named(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q (%s)", node.Value, strings.TrimLeft(node.ShortTag(), "!"))
}

func (d *Document) takeList(node *yaml.Node, t reflect.Type) (any, error) {
	list, problems := make([]any, len(node.Content)), []error(nil)
	for i, item := range node.Content {
		var err error
		list[i], err = d.take(item, t.Elem())
		problems = append(problems, err)
	}
	return list, errors.Join(problems...)
}

func (d *Document) takeMapping(node *yaml.Node, t reflect.Type) (any, error) {
	mapping, problems := map[string]any{}, []error(nil)
	lines := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		of, err := d.keyed(key, t)
		if line, twice := lines[key.Value]; twice {
			err = d.position(key, fmt.Sprintf("%q is there twice: first in line %d", key.Value, line))
		}
		lines[key.Value] = key.Line
		if err == nil {
			mapping[key.Value], err = d.take(value, of)
		}
		problems = append(problems, err)
	}
	return mapping, errors.Join(problems...)
}

// keyed is the type of the values of a key.
func (d *Document) keyed(key *yaml.Node, t reflect.Type) (reflect.Type, error) {
	if key.Kind != yaml.ScalarNode || key.Anchor != "" {
		return nil, d.position(key, "this cannot be the name of a field")
	}
	if t.Kind() == reflect.Map {
		return t.Elem(), nil
	}
	for _, f := range reflect.VisibleFields(t) {
		if fieldName(f) == key.Value && key.Value != "" {
			return f.Type, nil
		}
	}
	return nil, d.position(key, fmt.Sprintf("there is no field %q; there are %s", key.Value, strings.Join(Fields(t), ", ")))
}

var (
	yamlError = regexp.MustCompile(`(?s)^(?:yaml: )?(?:line (\d+): )?(.*)$`)
	// ofParser are the errors of which the YAML library counts lines from 0.
	ofParser      = regexp.MustCompile(`^did not find expected (<|node content|',' or|key$|'-' indicator)`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntax is an error of the YAML parser's, which may know a line, with a position.
func (d *Document) syntax(raw []byte, err error) error {
	found := yamlError.FindStringSubmatch(err.Error())
	line, column := 1, 1
	if found[1] != "" {
		line, _ = strconv.Atoi(found[1]) // digits
		if ofParser.MatchString(found[2]) {
			line++
		}
		line = min(line, 1+bytes.Count(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n")))
	} else {
		offset := badByte(raw)
		if anchor := unknownAnchor.FindStringSubmatch(found[2]); anchor != nil {
			offset = max(0, bytes.Index(raw, []byte("*"+anchor[1])))
		}
		line += bytes.Count(raw[:offset], []byte("\n"))
		column += utf8.RuneCount(raw[bytes.LastIndexByte(raw[:offset], '\n')+1 : offset])
	}
	text := strings.Join(strings.Fields(found[2]), " ")
	return fmt.Errorf("%s:%d:%d: it is no YAML: %s", d.file, line, column, text)
}

// badByte is where the first byte is that YAML takes in no text; 0 where there is none.
func badByte(raw []byte) int {
	for i := 0; i < len(raw); {
		r, size := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f {
			return i
		}
		i += size
	}
	return 0
}
