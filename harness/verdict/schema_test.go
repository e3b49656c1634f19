package verdict

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// schemaOf is the JSON Schema of what a type is written as.
func schemaOf(t *testing.T, of reflect.Type) map[string]any {
	t.Helper()
	switch of {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[Verdict]():
		return map[string]any{"type": "string", "enum": verdicts}
	}
	switch of.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Interface:
		return map[string]any{} // anything
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t, of.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t, of.Elem())}
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for _, f := range reflect.VisibleFields(of) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || name == "-" {
				continue
			}
			properties[name] = schemaOf(t, f.Type)
			if !strings.Contains(options, "omit") {
				required = append(required, name)
			}
		}
		return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	}
	t.Fatalf("the schema has no word for %s", of)
	return nil
}

func TestSchemaIsOfTheTypes(t *testing.T) {
	schema := schemaOf(t, reflect.TypeFor[Report]())
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "The report of a run of the Smart Restore conformance suite"
	properties := schema["properties"].(map[string]any)
	properties["apiVersion"] = map[string]any{"const": APIVersion}
	properties["kind"] = map[string]any{"const": Kind}
	requirement := properties["requirements"].(map[string]any)["items"].(map[string]any)["properties"].(map[string]any)
	requirement["level"] = map[string]any{"type": "string", "enum": levels}
	requirement["id"] = map[string]any{"type": "string", "minLength": 1}
	want, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("report.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(Schema, want) {
		t.Error("report.schema.json is not of the types: go test ./harness/verdict -update makes it anew")
	}
}

// What is read strictly and what the schema allows are the same: each field of a report is in it, and no other.
func TestSchemaFitsAReport(t *testing.T) {
	// From the file: what is compiled in is older than what -update has just written.
	text, err := os.ReadFile("report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := sample().Write(dir); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(dir + "/report.json"); err != nil {
		t.Fatal(err)
	}
	var report any
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	if problems := misfits(schema, report, "report"); len(problems) > 0 {
		t.Error(strings.Join(problems, "\n"))
	}
	for name, change := range map[string]func(map[string]any){
		"a field that is none":   func(r map[string]any) { r["extra"] = 1 },
		"a field that is not":    func(r map[string]any) { delete(r, "run") },
		"a verdict that is none": func(r map[string]any) { r["requirements"].([]any)[0].(map[string]any)["verdict"] = "good" },
		"another kind":           func(r map[string]any) { r["kind"] = "Reports" },
		"a word for a number":    func(r map[string]any) { r["summary"].(map[string]any)["pass"] = "one" },
	} {
		var bad map[string]any
		if err := json.Unmarshal(text, &bad); err != nil {
			t.Fatal(err)
		}
		change(bad)
		if len(misfits(schema, bad, "report")) == 0 {
			t.Errorf("%s fits", name)
		}
	}
}

// misfits is as much of a validator as the schema's words need.
func misfits(schema map[string]any, value any, at string) (problems []string) {
	if constant, ok := schema["const"]; ok && constant != value {
		return []string{at + " is another constant"}
	}
	if enum, ok := schema["enum"].([]any); ok {
		for _, allowed := range enum {
			if allowed == value {
				return nil
			}
		}
		return []string{at + " is none of the enum"}
	}
	switch schema["type"] {
	case "object":
		object, ok := value.(map[string]any)
		if !ok {
			return []string{at + " is no object"}
		}
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, there := object[name.(string)]; !there {
				problems = append(problems, at+" lacks "+name.(string))
			}
		}
		for name, v := range object {
			if property, known := properties[name].(map[string]any); known {
				problems = append(problems, misfits(property, v, at+"."+name)...)
			} else if more, ok := schema["additionalProperties"].(map[string]any); ok {
				problems = append(problems, misfits(more, v, at+"."+name)...)
			} else {
				problems = append(problems, at+" has "+name)
			}
		}
	case "array":
		list, ok := value.([]any)
		if !ok {
			return []string{at + " is no array"}
		}
		for _, v := range list {
			problems = append(problems, misfits(schema["items"].(map[string]any), v, at+"[]")...)
		}
	case "string":
		if _, ok := value.(string); !ok {
			return []string{at + " is no string"}
		}
	case "integer", "number":
		if _, ok := value.(float64); !ok {
			return []string{at + " is no number"}
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return []string{at + " is no boolean"}
		}
	}
	return problems
}
