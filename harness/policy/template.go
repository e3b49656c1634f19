package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Template is a text in which {namespace}, {pvc} and {uid} stand for a PVC's.
type Template string

// Expand is the text for one PVC.
func (t Template) Expand(namespace, pvc, uid string) string {
	return strings.NewReplacer("{namespace}", namespace, "{pvc}", pvc, "{uid}", uid).Replace(string(t))
}

// templateError is what is wrong with a template, and at which byte of it.
type templateError struct {
	offset int
	text   string
}

// check finds what is wrong with a template that may have these placeholders, each once.
func (t Template) check(known ...string) *templateError {
	list := "{" + strings.Join(known, "}, {") + "}"
	var seen []string
	for i := 0; i < len(t); i++ {
		switch t[i] {
		case '}':
			return &templateError{i, "this } closes no placeholder; there are " + list}
		case '{':
			end := strings.IndexAny(string(t[i+1:]), "{}")
			if end < 0 || t[i+1+end] != '}' {
				return &templateError{i, "this { is never closed; placeholders are " + list}
			}
			name := string(t[i+1 : i+1+end])
			switch {
			case !slices.Contains(known, name):
				return &templateError{i, fmt.Sprintf("there is no placeholder %q here; there are %s", "{"+name+"}", list)}
			case slices.Contains(seen, name):
				return &templateError{i, fmt.Sprintf("{%s} is there twice", name)}
			}
			seen = append(seen, name)
			i += 1 + end
		}
	}
	return nil
}

// index is where a placeholder stands; -1: nowhere.
func (t Template) index(placeholder string) int { return strings.Index(string(t), "{"+placeholder+"}") }
