package check

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/strict"
)

// subject is one Kyverno policy of those under test.
type subject struct {
	name  string // kind/name
	text  string // as JSON
	found policy.Document
}

// subjects are the Kyverno policies under test, and where they stand.
type subjects []subject

func subjectsOf(p *policy.Policy) subjects {
	var all subjects
	for _, o := range p.Kyverno() {
		raw, err := json.Marshal(o.Object)
		if err != nil {
			continue
		}
		s := subject{name: o.GetKind() + "/" + o.GetName(), text: string(raw)}
		if i := slices.IndexFunc(p.Documents, func(d policy.Document) bool { return d.Kind() == o.GetKind() && d.Name() == o.GetName() }); i >= 0 {
			s.found = p.Documents[i]
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
	if i < 0 || s[i].found.Root == nil {
		return "", 0
	}
	node, _ := strict.Find(s[i].found.Root, steps(field)...)
	return s[i].found.File, node.Line
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
