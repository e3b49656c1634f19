package verdict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	k8syaml "sigs.k8s.io/yaml"
)

// maxReport bounds what is read as a report. One of a full run has less than a
// megabyte; YAML can make much of little.
const maxReport = 32 << 20

// Read reads a report.yaml or report.json. A field it does not know, one given
// twice, another kind or version, a verdict that is none, and a summary that is
// not that of the requirements are errors, which say where, if that is known.
func Read(path string) (*Report, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxReport+1))
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", path, err)
	}
	r, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", path, err)
	}
	return r, nil
}

// Parse is Read of what is already there.
func Parse(text []byte) (*Report, error) {
	if len(text) > maxReport {
		return nil, fmt.Errorf("it has more than %d MiB: no report has", maxReport>>20)
	}
	doc, err := document(text)
	if err != nil {
		return nil, err
	}
	if doc != nil {
		if err := knownFields(doc.Content[0], reflect.TypeFor[Report]()); err != nil {
			return nil, err
		}
	}
	var r Report
	if err := k8syaml.UnmarshalStrict(text, &r); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			var path []any
			for field := range strings.SplitSeq(wrong.Field, ".") {
				path = append(path, field)
			}
			return nil, located(doc, fmt.Errorf("%s is a %s, want a %s", wrong.Field, wrong.Value, wrong.Type), path...)
		}
		return nil, err
	}
	if r.APIVersion != APIVersion || r.Kind != Kind {
		return nil, located(doc, fmt.Errorf("is a %q of %q, want a %s of %s", r.Kind, r.APIVersion, Kind, APIVersion), "kind")
	}
	for i, result := range r.Requirements {
		switch {
		case result.ID == "":
			return nil, located(doc, errors.New("a requirement has no id"), "requirements", i)
		case !slices.Contains(verdicts, result.Verdict):
			return nil, located(doc, fmt.Errorf("%s: verdict %q: want one of %v", result.ID, result.Verdict, verdicts), "requirements", i, "verdict")
		case slices.ContainsFunc(r.Requirements[:i], func(earlier Result) bool { return earlier.ID == result.ID }) && len(r.SuiteErrors) == 0:
			// A suite that has two such specs says so.
			return nil, located(doc, fmt.Errorf("%s is there twice", result.ID), "requirements", i, "id")
		}
	}
	if want := r.Count(); r.Counts != want {
		return nil, located(doc, fmt.Errorf("its summary is %+v, its requirements say %+v", r.Counts, want), "summary")
	}
	if want := r.CountByLevel(); r.Levels != nil && !maps.Equal(r.Levels, want) {
		return nil, located(doc, fmt.Errorf("its levels are %+v, its requirements say %+v", r.Levels, want), "levels")
	}
	return &r, nil
}

// document is the text's one YAML document, for its positions.
func document(text []byte) (*yaml.Node, error) {
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed) {
		return nil, nil // report.json is of a machine's making: its errors need no positions
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty")
	} else if err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, located(&doc, fmt.Errorf("it is no mapping: want a %s of %s", Kind, APIVersion))
	}
	if node := firstAlias(&doc); node != nil {
		return nil, fmt.Errorf("line %d, column %d: an alias: no report has any", node.Line, node.Column)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document")
	}
	return &doc, nil
}

// knownFields refuses fields that a type does not have.
func knownFields(node *yaml.Node, t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && node.Kind == yaml.SequenceNode:
		for _, item := range node.Content {
			if err := knownFields(item, t.Elem()); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Map && node.Kind == yaml.MappingNode:
		for i := 1; i < len(node.Content); i += 2 {
			if err := knownFields(node.Content[i], t.Elem()); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]() && node.Kind == yaml.MappingNode:
		known := fieldsOf(t)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			n := slices.IndexFunc(known, func(f field) bool { return f.name == key.Value })
			if n < 0 {
				return fmt.Errorf("line %d, column %d: there is no field %q", key.Line, key.Column, key.Value)
			}
			if err := knownFields(node.Content[i+1], known[n].of); err != nil {
				return err
			}
		}
	}
	return nil
}

// field is one of a type as JSON names it.
type field struct {
	name     string
	of       reflect.Type
	optional bool
}

func fieldsOf(t reflect.Type) (fields []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			fields = append(fields, fieldsOf(f.Type)...)
		case name != "-" && f.IsExported():
			fields = append(fields, field{name, f.Type, strings.Contains(options, "omit")})
		}
	}
	return fields
}

func firstAlias(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node
	}
	for _, child := range node.Content {
		if found := firstAlias(child); found != nil {
			return found
		}
	}
	return nil
}

// located says where in the document an error is: at the end of a path of keys and
// indices, or as near to it as there is something.
func located(doc *yaml.Node, err error, path ...any) error {
	if doc == nil || len(doc.Content) == 0 {
		return err
	}
	node := doc.Content[0]
	for _, step := range path {
		next := child(node, step)
		if next == nil {
			break
		}
		node = next
	}
	return fmt.Errorf("line %d, column %d: %w", node.Line, node.Column, err)
}

func child(node *yaml.Node, step any) *yaml.Node {
	switch step := step.(type) {
	case int:
		if node.Kind == yaml.SequenceNode && step < len(node.Content) {
			return node.Content[step]
		}
	case string:
		for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1]
			}
		}
	}
	return nil
}
