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
	"time"
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

// Each calls do with every text, number and bool in the document and its path, in their order; an empty mapping is nil, and
// so is null, where that may be.
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
		if tag := tagOf(node); tag != "!!str" && tag != "!!timestamp" {
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

// form is what a type is written as.
type form struct {
	kind yaml.Kind
	tags []string
	name string
}

var (
	aTime = form{yaml.ScalarNode, []string{"!!str", "!!timestamp"}, "a time like 2006-01-02T15:04:05Z"}
	forms = map[reflect.Kind]form{
		reflect.Struct:  {yaml.MappingNode, []string{"!!map"}, "a mapping"},
		reflect.Map:     {yaml.MappingNode, []string{"!!map"}, "a mapping"},
		reflect.Slice:   {yaml.SequenceNode, []string{"!!seq"}, "a list"},
		reflect.String:  {yaml.ScalarNode, []string{"!!str"}, "a text"},
		reflect.Int:     {yaml.ScalarNode, []string{"!!int"}, "a whole number"},
		reflect.Int64:   {yaml.ScalarNode, []string{"!!int"}, "a whole number"},
		reflect.Float64: {yaml.ScalarNode, []string{"!!int", "!!float"}, "a number"},
		reflect.Bool:    {yaml.ScalarNode, []string{"!!bool"}, "true or false"},
	}
	timeType = reflect.TypeFor[time.Time]()
	anyType  = reflect.TypeFor[any]()
	// free are the types of what stands where anything may, as JSON has them.
	free = map[string]reflect.Type{
		"!!map": reflect.TypeFor[map[string]any](), "!!seq": reflect.TypeFor[[]any](), "!!str": reflect.TypeFor[string](),
		"!!int": reflect.TypeFor[float64](), "!!float": reflect.TypeFor[float64](), "!!bool": reflect.TypeFor[bool](),
	}
)

// take is a node's content as JSON would have it, if it fits the type.
func (d *Document) take(node *yaml.Node, t reflect.Type) (any, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	wanted, ok := forms[t.Kind()]
	if t == timeType {
		wanted = aTime
	}
	tag := tagOf(node)
	switch {
	case node.Anchor != "" || node.Kind == yaml.AliasNode:
		return nil, d.position(node, "anchors and aliases are not taken: write it out")
	case t == anyType:
		return d.takeAnything(node)
	case !ok:
		return nil, d.position(node, "a "+t.String()+" cannot be read: that is this program's fault")
	case tag == "!!null":
		return nil, d.position(node, "there is nothing here: wanted is "+wanted.name+", or leave the field out")
	case node.Kind != wanted.kind || !slices.Contains(wanted.tags, tag):
		hint := ""
		switch {
		case t.Kind() != reflect.String:
		case node.Kind == yaml.ScalarNode:
			hint = fmt.Sprintf(": put it in quotes, %q", node.Value)
		case node.Kind == yaml.MappingNode && node.Style == yaml.FlowStyle:
			hint = ": a text that begins with { must be in quotes"
		}
		return nil, d.position(node, fmt.Sprintf("found is %s, wanted %s%s", named(node), wanted.name, hint))
	}
	switch wanted.kind {
	case yaml.SequenceNode:
		return d.takeList(node, t)
	case yaml.MappingNode:
		return d.takeMapping(node, t)
	}
	value, err := scalar(node, t)
	if err != nil {
		return nil, d.position(node, fmt.Sprintf("%q cannot be read as %s", node.Value, wanted.name))
	}
	return value, nil
}

// scalar is the value of one that looks like it; it may still be too large, or no time.
func scalar(node *yaml.Node, t reflect.Type) (any, error) {
	if t == timeType {
		return node.Value, new(time.Time).UnmarshalText([]byte(node.Value))
	}
	into := reflect.New(t)
	if err := node.Decode(into.Interface()); err != nil {
		return nil, err
	}
	value := into.Elem().Interface()
	_, err := json.Marshal(value) // it has no infinity
	return value, err
}

// tagOf is a node's tag. Without anchors there is nothing to merge: "<<" is a text.
func tagOf(node *yaml.Node) string {
	if tag := node.ShortTag(); tag != "!!merge" {
		return tag
	}
	return "!!str"
}

// takeAnything is a node's content where it may be of any type: JSON has no times, so those are text.
func (d *Document) takeAnything(node *yaml.Node) (any, error) {
	tag := tagOf(node)
	t, ok := free[tag]
	switch {
	case tag == "!!null" && node.Kind == yaml.ScalarNode:
		return nil, nil
	case tag == "!!timestamp" && node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case !ok:
		return nil, d.position(node, fmt.Sprintf("found is %s: that is nothing that JSON has", named(node)))
	}
	return d.take(node, t)
}

func named(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q (%s)", node.Value, strings.TrimLeft(tagOf(node), "!"))
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
	if at, value := unquoted(raw); at >= 0 {
		line, column = 1+bytes.Count(raw[:at], []byte("\n")), 1+utf8.RuneCount(raw[bytes.LastIndexByte(raw[:at], '\n')+1:at])
		text = fmt.Sprintf("a text that begins with %s must be in quotes: %q", value[:1], value)
	}
	return fmt.Errorf("%s:%d:%d: it is no YAML: %s", d.file, line, column, text)
}

// unquotedText are values that YAML takes for something else than text, or for nothing: templates such as {namespace}/{pvc}, and
// words such as @daily.
var unquotedText = regexp.MustCompile("(?m)(?:^|[\\s{,])[\\w.-]+:[ \\t]+((?:\\{\\w+\\}(?:[^\\s,{}#]|\\{\\w+\\})+)|[@`%][^\\s,}#]*)")

// unquoted is the first value that has to be in quotes for a document to be YAML, and where it is; -1: that is not what is
// wrong with the document.
func unquoted(raw []byte) (at int, value string) {
	matches := unquotedText.FindAllSubmatchIndex(raw, -1)
	parses := func(but int) bool {
		var quoted []byte
		last := 0
		for i, match := range matches {
			if i != but {
				quoted = append(append(quoted, raw[last:match[2]]...), strconv.Quote(string(raw[match[2]:match[3]]))...)
				last = match[3]
			}
		}
		return yaml.Unmarshal(append(quoted, raw[last:]...), new(yaml.Node)) == nil
	}
	if !parses(-1) {
		return -1, ""
	}
	for i, match := range matches {
		if !parses(i) { // in a block of text, it may stay as it is
			return match[2], string(raw[match[2]:match[3]])
		}
	}
	return -1, ""
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
