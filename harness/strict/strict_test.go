package strict

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

type document struct {
	shared
	Name  string            `json:"name"`
	Count int               `json:"count,omitempty"`
	On    bool              `json:"on"`
	Text  *string           `json:"text"`
	Of    map[string]string `json:"of"`
	List  []item            `json:"list"`
	Below *item             `json:"below"`
	At    time.Time         `json:"at,omitzero"`
	Bytes int64             `json:"bytes"`
	Took  float64           `json:"took"`
	Free  map[string]any    `json:"free"`
	Not   string            `json:"-"`
}

type item struct {
	Name  string   `json:"name"`
	Words []string `json:"words"`
}

type shared struct {
	Embedded string `json:"embedded"`
}

const whole = `# a comment
embedded: e
name: "n"
count: 0x10
on: true
text: ""
of: {a: "1", b: x}
list:
- name: first
  words: [a, 'b c']
- {name: second}
below: {words: []}
at: 2026-01-02T03:04:05.5Z
bytes: 1099511627776
took: 1.5e3
free: {a: null, n: 3, f: -0.5, yes: true, at: 2026-01-02, <<: [x, {y: <<}], e: {}}
`

func TestReadTakesWhatFits(t *testing.T) {
	var got document
	d, err := Read("f.yaml", []byte(whole), &got)
	if err != nil {
		t.Fatal(err)
	}
	empty := ""
	want := document{
		shared: shared{"e"}, Name: "n", Count: 16, On: true, Text: &empty, Of: map[string]string{"a": "1", "b": "x"},
		List: []item{{"first", []string{"a", "b c"}}, {Name: "second"}}, Below: &item{Words: []string{}},
		At: time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC), Bytes: 1 << 40, Took: 1500,
		Free: map[string]any{"a": nil, "n": 3.0, "f": -0.5, "yes": true, "at": "2026-01-02", "<<": []any{"x", map[string]any{"y": "<<"}}, "e": map[string]any{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, c := range []struct {
		at   []any
		want string
		has  bool
	}{
		{nil, "f.yaml:2:1: x", true},
		{[]any{"name"}, "f.yaml:3:7: x", true},
		{[]any{Key("name")}, "f.yaml:3:1: x", true},
		{[]any{"of", "b"}, "f.yaml:7:17: x", true},
		{[]any{"of", Key("b")}, "f.yaml:7:14: x", true},
		{[]any{"list", 1}, "f.yaml:11:3: x", true},
		{[]any{"list", Named("second"), "name"}, "f.yaml:11:10: x", true},
		{[]any{"list", Named("third")}, "f.yaml:9:1: x", false},
		{[]any{"list", 2}, "f.yaml:9:1: x", false},
		{[]any{"below", "name"}, "f.yaml:12:8: x", false},
		{[]any{"nothing", "below", "it"}, "f.yaml:2:1: x", false},
	} {
		if got := d.At("x", c.at...).Error(); got != c.want || d.Has(c.at...) != c.has {
			t.Errorf("%v: %s, %v, wanted %s", c.at, got, d.Has(c.at...), c.want)
		}
	}
	for at, want := range map[string]string{"a": "f.yaml:10:11: x", "b c": "f.yaml:10:17: x"} {
		index := map[string]int{"a": 0, "b c": 1}[at]
		if got := d.In(len(at)-1, "x", "list", 0, "words", index).Error(); got != want {
			t.Errorf("the last letter of %q: %s, wanted %s", at, got, want)
		}
	}
	var seen []string
	d.Each(func(path []any, value any) { seen = append(seen, fmt.Sprint(path, value)) })
	if want := "[embedded]e [name]n [count] 16 [on] true [text] [of a]1 [of b]x [list 0 name]first [list 0 words 0]a [list 0 words 1]b c [list 1 name]second " +
		"[at]2026-01-02T03:04:05.5Z [bytes] 1099511627776 [took] 1500 [free a] <nil> [free n] 3 [free f] -0.5 [free yes] true [free at]2026-01-02 [free << 0]x [free << 1 y]<< [free e] <nil>"; strings.Join(seen, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(seen, " "), want)
	}
}

func TestReadRefusesWithAPosition(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown field":       {"name: \"n\"", "nam: n", `f.yaml:3:1: there is no field "nam"; there are embedded, name, count, on, text, of, list, below, at, bytes, took, free`},
		"unknown field below": {"{name: second}", "{nam: second}", `f.yaml:11:4: there is no field "nam"; there are name, words`},
		"not a field":         {"name: \"n\"", "Not: n", `there is no field "Not"`},
		"not its name":        {"name: \"n\"", "Name: n", `there is no field "Name"`},
		"twice":               {"name: \"n\"", "name: n\nname: m", `f.yaml:4:1: "name" is there twice: first in line 3`},
		"twice in a mapping":  {"b: x", "a: x", `f.yaml:7:14: "a" is there twice`},
		"a number for a text": {"name: \"n\"", "name: 1", `f.yaml:3:7: found is "1" (int), wanted a text: put it in quotes, "1"`},
		"a text for a number": {"0x10", "ten", `f.yaml:4:8: found is "ten" (str), wanted a whole number`},
		"a number too large":  {"0x10", "18446744073709551615", `f.yaml:4:8: "18446744073709551615" cannot be read as a whole number`},
		"half a number":       {"0x10", "1.5", `f.yaml:4:8: found is "1.5" (float), wanted a whole number`},
		"a text for a bool":   {"on: true", "on: yes", `f.yaml:5:5: found is "yes" (str), wanted true or false`},
		"a list for a text":   {"name: \"n\"", "name: []", `f.yaml:3:7: found is a list, wanted a text`},
		"a text for a list":   {"words: []", "words: a", `f.yaml:12:16: found is "a" (str), wanted a list`},
		"a text for mapping":  {"{words: []}", "x", `f.yaml:12:8: found is "x" (str), wanted a mapping`},
		"a word for a time":   {"2026-01-02T03:04:05.5Z", "yesterday", `f.yaml:13:5: "yesterday" cannot be read as a time like 2006-01-02T15:04:05Z`},
		"a day for a time":    {"2026-01-02T03:04:05.5Z", "2026-01-02", `f.yaml:13:5: "2026-01-02" cannot be read as a time`},
		"a number for a time": {"2026-01-02T03:04:05.5Z", "5", `f.yaml:13:5: found is "5" (int), wanted a time like`},
		"a list for a time":   {"2026-01-02T03:04:05.5Z", "[]", `f.yaml:13:5: found is a list, wanted a time like`},
		"a word for a float":  {"1.5e3", "long", `f.yaml:15:7: found is "long" (str), wanted a number`},
		"no end":              {"1.5e3", ".inf", `f.yaml:15:7: ".inf" cannot be read as a number`},
		"not a number":        {"1.5e3", ".nan", `f.yaml:15:7: ".nan" cannot be read as a number`},
		"too many bytes":      {"1099511627776", "9223372036854775808", `f.yaml:14:8: "9223372036854775808" cannot be read as a whole number`},
		"free: no end":        {"n: 3", "n: .inf", `f.yaml:16:20: ".inf" cannot be read as a number`},
		"free: a tag":         {"n: 3", "n: !x 3", `f.yaml:16:20: found is "3" (x): that is nothing that JSON has`},
		"free: twice":         {"n: 3", "a: 3", `f.yaml:16:17: "a" is there twice`},
		"free: an anchor":     {"e: {}", "e: {deep: [&a {}]}", `anchors and aliases are not taken`},
		"nothing":             {"name: \"n\"", "name:", `f.yaml:3:6: there is nothing here: wanted is a text, or leave the field out`},
		"a tag":               {"name: \"n\"", "name: !x n", `f.yaml:3:7: found is "n" (x), wanted a text`},
		"an anchor":           {"name: \"n\"", "name: &a n", `f.yaml:3:7: anchors and aliases are not taken`},
		"an alias":            {"name: \"n\"", "name: *a", `f.yaml:3:7: it is no YAML: unknown anchor 'a' referenced`},
		"merged":              {"{name: second}", "{<<: {name: x}}", `f.yaml:11:4: there is no field "<<"`},
		"a list for a key":    {"{name: second}", "{[a]: b}", `f.yaml:11:4: this cannot be the name of a field`},
		"lines in a text":     {"{name: second}", `{"a\nb": b}`, `f.yaml:11:4: there is no field "a\nb"`},
		"a second document":   {"list:", "---\nlist:", `f.yaml:8:1: it is a second document: there must be one only`},
		"no second document":  {"list:", "---\n[", `f.yaml:`},
		"a control character": {"a comment", "a \x01 comment", `f.yaml:1:5: it is no YAML: control characters are not allowed`},
		"no UTF-8":            {"\"n\"", "\"ü\xff\"", `f.yaml:3:9: it is no YAML: invalid leading UTF-8 octet`},
		"never closed":        {"{words: []}", "{words: [", `f.yaml:12:1: it is no YAML: did not find expected`},
		"badly indented":      {"  words: [a, 'b c']", " words: [a, 'b c']", `f.yaml:2:1: it is no YAML: did not find expected key`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(whole, c.from, c.to, 1)
			if changed == whole {
				t.Fatalf("%q is not there to change", c.from)
			}
			_, err := Read("f.yaml", []byte(changed), &document{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestEveryProblemIsSaidAtOnce(t *testing.T) {
	_, err := Read("f.yaml", []byte("nam: x\ncount: y\nlist: [{words: 1}]\n"), &document{})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three problems: %v", err)
	}
}

// What is refused has a position and a reason on each line; nothing panics.
func FuzzRead(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("at: 2026-01-02T03:04:05+24:00\ntook: 1e999\nfree: {a: !!binary aGk=, ? b, c: !!null {}, 1: -0x8000000000000000}\n"))
	f.Add([]byte("%YAML 9.9\n---\n? x\n: y\n...\n"))
	position := regexp.MustCompile(`^f\.yaml:[1-9][0-9]*:[1-9][0-9]*: \S`)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var into document
		d, err := Read("f.yaml", raw, &into)
		if err == nil {
			d.Each(func(path []any, _ any) {
				if !d.Has(path...) {
					t.Errorf("%v is there, and is not found", path)
				}
			})
			return
		}
		for line := range strings.Lines(err.Error()) {
			if !position.MatchString(line) {
				t.Errorf("no position or no reason: %q", line)
			}
		}
	})
}

// A template or a word like @daily without quotes is said by its own line, not by the parser's.
func TestWhatMustBeInQuotesIsSaid(t *testing.T) {
	type below struct {
		Path string `json:"path"`
		To   string `json:"to"`
	}
	type document struct {
		Text  string `json:"text"`
		Below below  `json:"below"`
	}
	for text, want := range map[string]string{
		"text: a\nbelow:\n  to: http://x\n  path: {namespace}/{pvc}\n": `f.yaml:4:9: it is no YAML: a text that begins with { must be in quotes: "{namespace}/{pvc}"`,
		"text: {pvc}-{uid} # a name\n":                                 `f.yaml:1:7: it is no YAML: a text that begins with { must be in quotes: "{pvc}-{uid}"`,
		"below: {to: x, path: {namespace}/k8s/{pvc}}\n":                `f.yaml:1:22: it is no YAML: a text that begins with { must be in quotes: "{namespace}/k8s/{pvc}"`,
		"text: @daily\n": `f.yaml:1:7: it is no YAML: a text that begins with @ must be in quotes: "@daily"`,
		"text: |\n  path: {a}/{b}\nbelow:\n  to: x\n  path: {namespace}/{pvc}": `f.yaml:5:9: it is no YAML: a text that begins with { must be in quotes: "{namespace}/{pvc}"`,
		"text: {pvc}\n":             `f.yaml:1:7: found is a mapping, wanted a text: a text that begins with { must be in quotes`,
		"text: {a}/{b}\nbelow: [\n": `f.yaml:`, // two mistakes: either may be said
		"text: a\nbelow: [\n":       `did not find expected`,
	} {
		_, err := Read("f.yaml", []byte(text), &document{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}
