package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/report/markdown"
	"github.com/smart-restore/conformance/harness/strict"
	"github.com/smart-restore/conformance/harness/verdict"
)

var update = flag.Bool("update", false, "write what is made of the contract's types: contract.schema.json, and what is made in "+page)

const (
	schemaFile = "contract.schema.json"
	page       = "../../policies/BRING-YOUR-OWN.md"
	sample     = "../../fixtures/byo-sample/tests"
)

// field is one field of the contract, as the schema and the table have it.
type field struct {
	path, doc string
	of        reflect.Type
	preset    any // its default; nil: none
	items     rule
	rule      rule
	keys      rule
	below     []field
}

// fieldsOf are the fields of a struct, described by their comments.
func fieldsOf(comments map[string]string, t reflect.Type, defaults reflect.Value, path string) (fields []field) {
	for i, name := range strict.Fields(t) {
		f, at := t.Field(i), strings.TrimPrefix(path+"."+name, ".")
		one := field{path: at, doc: comments[t.Name()+"."+f.Name], of: f.Type, rule: rules[at], items: rules[at+".*"], keys: rules[at+".{}"]}
		switch {
		case f.Type.Kind() == reflect.Struct:
			one.below = fieldsOf(comments, f.Type, defaults.Field(i), at)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			one.below = fieldsOf(comments, f.Type.Elem(), reflect.Zero(f.Type.Elem()), at+".*")
		case !defaults.Field(i).IsZero() && !slices.Contains(needed[path], name):
			one.preset = defaults.Field(i).Interface()
		}
		fields = append(fields, one)
	}
	return fields
}

// schema is the JSON schema of what is there.
func (f field) schema() map[string]any {
	kind := map[reflect.Kind]string{reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array", reflect.Int: "integer", reflect.String: "string", reflect.Bool: "boolean"}[f.of.Kind()]
	if kind == "" {
		panic(f.path + ": there is no JSON type for a " + f.of.String() + " here: add it above")
	}
	s := f.rule.schema(map[string]any{"type": kind, "description": f.doc})
	if f.preset != nil {
		s["default"] = f.preset
	}
	switch {
	case f.of.Kind() == reflect.Struct:
		mapping(s, f.path, f.below)
	case f.of.Kind() == reflect.Map:
		s["additionalProperties"], s["propertyNames"], s["minProperties"] = f.items.schema(map[string]any{"type": "string"}), f.keys.schema(map[string]any{}), 1
	case f.below != nil:
		s["items"] = mapping(map[string]any{"type": "object"}, f.path+".*", f.below)
	case f.of.Kind() == reflect.Slice:
		s["items"], s["uniqueItems"] = f.items.schema(map[string]any{"type": "string"}), true
	}
	return s
}

// mapping completes the schema of a mapping with these fields.
func mapping(s map[string]any, path string, fields []field) map[string]any {
	properties := map[string]any{}
	for _, f := range fields {
		properties[f.path[strings.LastIndexByte(f.path, '.')+1:]] = f.schema()
	}
	s["properties"], s["additionalProperties"] = properties, false
	if must, ok := needed[path]; ok {
		s["required"] = must
	} else {
		s["minProperties"] = 1
	}
	if both, ok := together[path]; ok {
		s["dependencies"] = map[string]any{both[0]: []string{both[1]}, both[1]: []string{both[0]}}
	}
	return s
}

func (r rule) schema(s map[string]any) map[string]any {
	if len(r.oneOf) > 0 {
		s["enum"] = r.oneOf
	}
	if r.pattern != nil {
		s["pattern"] = r.pattern.String()
	}
	if r.atMost > 0 {
		s["maxLength"] = r.atMost
	}
	if r.max > 0 {
		s["minimum"], s["maximum"] = r.min, r.max
	}
	return s
}

// table describes every field that has no fields of its own, a line of Markdown each.
func table(fields []field) string {
	var b strings.Builder
	b.WriteString("| field | default | what |\n|---|---|---|\n")
	var rows func([]field)
	rows = func(fields []field) {
		for _, f := range fields {
			preset := ""
			switch {
			case f.preset != nil:
				preset = fmt.Sprintf("`%v`", f.preset)
			case slices.Contains(needed[""], f.path):
				preset = "(needed)"
			}
			name := f.path
			if f.of.Kind() == reflect.Slice || f.of.Kind() == reflect.Map {
				name += map[reflect.Kind]string{reflect.Slice: ": […]", reflect.Map: ": {…}"}[f.of.Kind()]
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.ReplaceAll(name, ".*", "[]"), preset, f.doc)
			rows(f.below)
		}
	}
	rows(fields)
	return b.String()
}

// comments are the comments of the fields of this package's types, by Type.Field, on one line each.
func comments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "contract.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		named, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if of, ok := named.Type.(*ast.StructType); ok {
			for _, f := range of.Fields.List {
				for _, name := range f.Names {
					found[named.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return true
	})
	return found
}

// The schema in the repository, and the table for people, are those of the types, and every field is described.
func TestSchemaAndTableAreThoseOfTheTypes(t *testing.T) {
	fields := fieldsOf(comments(t), reflect.TypeFor[Contract](), reflect.ValueOf(Default()), "")
	used := map[string]bool{}
	var check func([]field)
	check = func(fields []field) {
		for _, f := range fields {
			if f.doc == "" || !strings.HasSuffix(f.doc, ".") || strings.Contains(f.doc, "|") {
				t.Errorf("%s needs a comment of whole sentences in contract.go: %q", f.path, f.doc)
			}
			used[f.path], used[f.path+".*"], used[f.path+".{}"] = true, true, true
			check(f.below)
		}
	}
	check(fields)
	for path := range rules {
		if !used[path] {
			t.Errorf("there is a rule for %s, and no such field", path)
		}
	}
	schema := mapping(map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": Default().Kind, "type": "object",
		"description": "What a policy's author says about it: what it is about, what it promises, and what it is known not to hold.",
	}, "", fields)
	var made bytes.Buffer
	encoder := json.NewEncoder(&made)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		t.Fatal(err)
	}
	sameFile(t, schemaFile, made.String())

	features := "| feature | sentence |\n|---|---|\n"
	for _, f := range verdict.Features {
		features += fmt.Sprintf("| `%s` | %s |\n", f.Name, f.Sentence)
	}
	example := "```yaml\n" + readFile(t, filepath.Join(sample, contractFile)) + "```\n"
	text := readFile(t, page)
	for name, content := range map[string]string{"fields": table(fields), "features": features, "example": example} {
		place := markdown.Block{Begin: "<!-- " + name + ": made by go test ./harness/policy -update -->", End: "<!-- end of " + name + " -->"}
		var err error
		if text, err = place.Fill(text, content); err != nil {
			t.Fatalf("%s: %v", page, err)
		}
	}
	sameFile(t, page, text)
}

// The sample is a policy of which nothing is called as in the plan, and all is as its contract says.
func TestTheSampleIsForeign(t *testing.T) {
	for _, path := range []string{sample, filepath.Join(sample, contractFile)} {
		p, err := Load(path, endpoint.Endpoint{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil || len(p.Kyverno()) < 4 {
			t.Errorf("%s: %v, %v", path, p.Describe(), err)
		}
		plan, c := Default(), p.Contract
		for _, word := range []string{`"` + plan.PVC.Label + `":`, "labels." + plan.PVC.Label, plan.S3.Bucket, plan.BaseSecret.Name, "smart-restore"} {
			if p.names(word) {
				t.Errorf("%s: it names the plan's %s", path, word)
			}
		}
		for _, word := range []string{c.S3.Bucket + "/prod/", c.BaseSecret.Name, c.BaseSecret.Keys.AccessKey, c.BaseSecret.Keys.SecretKey, c.BaseSecret.Keys.ResticPassword, c.Schedule} {
			if !p.names(word) {
				t.Errorf("%s: it does not name its own %s", path, word)
			}
		}
		if err := c.CheckStack("kyverno-1.19", stacksNamed("kyverno-1.19")); err != nil || len(c.Warnings()) > 0 {
			t.Errorf("%s: %v, %v", path, err, c.Warnings())
		}
	}
}

func sameFile(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if readFile(t, path) != want {
		t.Errorf("%s is not what the types say any more: go test ./harness/policy -update writes it", path)
	}
}

// What the reader takes the schema takes, and what is wrong in a way that a schema can say it refuses.
func TestSchemaAgreesWithTheReader(t *testing.T) {
	var schema spec.Schema
	// From the file: what is compiled in is older than what -update has just written.
	if err := json.Unmarshal([]byte(readFile(t, schemaFile)), &schema); err != nil {
		t.Fatal(err)
	}
	validator := validate.NewSchemaValidator(&schema, nil, "", strfmt.Default)
	valid := func(content string) error {
		var value any
		if err := yaml.Unmarshal([]byte(content), &value); err != nil {
			t.Fatal(err)
		}
		return validator.Validate(value).AsError()
	}
	contracts := map[string]string{"contract": contract, "foreign": foreign}
	for _, pattern := range []string{"../../policies/*/conformance.yaml", "../../fixtures/*/*/conformance.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			contracts[file] = readFile(t, file)
		}
	}
	for name, content := range contracts {
		if err := valid(content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := parseContract("conformance.yaml", []byte(content)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, change := range [][2]string{
		{"name: foreign\n", ""}, {"description: It", "descripton: It"}, {"kind: PolicyContract", "kind: Policy"}, {"admissionSeconds: 7", "admissionSeconds: 0"},
		{"admissionSeconds: 7", "admissionSeconds: soon"}, {"label: velero.example.org/protect", "label: a b"}, {`value: "yes", `, ""}, {`value: "yes"`, "value: true"},
		{`"true"`, `"a b"`}, {`"https://10.0.0.5:9000"`, "s3://10.0.0.5"}, {"trust: policy", "trust: me"}, {"k8s-backups", "K"}, {"prod/{namespace}", "/{namespace}"},
		{"name: s3-credentials", "name: S3"}, {"accessKey: id", "accessKey: i d"}, {`"{pvc}-backup"`, "A"}, {"Snapshot", "Rsync"}, {"30 2 * * *", "daily"},
		{"daily: 14", "daily: 0"}, {"daily: 14, within: 3d", ""}, {"id, secretKey: key, resticPassword: password}", "id}\n  extra: 1"}, {"keys: {accessKey: id, secretKey: key, resticPassword: password}", "keys: {}"}, {"within: 3d", "within: soon"}, {"marker: prod.json", "marker: /prod.json"}, {"cluster: prod", "cluster: a/b"}, {`, fresh: "no"`, ""}, {"backups.example.org/state", "a b"}, {"within", "since"},
	} {
		changed := strings.Replace(foreign, change[0], change[1], 1)
		if changed == foreign {
			t.Fatalf("%q is not there to change", change[0])
		}
		if err := valid(changed); err == nil {
			t.Errorf("the schema takes %q for %q", change[1], change[0])
		}
		if _, err := parseContract("conformance.yaml", []byte(changed)); err == nil {
			t.Errorf("the reader takes %q for %q", change[1], change[0])
		}
	}
}

// Editors find the schema from each contract in the repository.
func TestContractsNameTheirSchema(t *testing.T) {
	count := 0
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && len(entry.Name()) > 2 {
			return filepath.SkipDir
		}
		if entry.Name() != contractFile {
			return err
		}
		count++
		first, _, _ := strings.Cut(readFile(t, path), "\n")
		to, err := filepath.Rel(filepath.Dir(path), filepath.Join("..", "..", "harness", "policy", schemaFile))
		if err != nil {
			t.Fatal(err)
		}
		if want := "# yaml-language-server: $schema=" + filepath.ToSlash(to); first != want {
			t.Errorf("%s begins with %q, which does not lead to the schema: wanted is %q", path, first, want)
		}
		return nil
	})
	if err != nil || count < 5 {
		t.Errorf("%d contracts found: %v", count, err)
	}
}
