package session

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/scenario"
)

// selection is which specs of the suite run.
type selection struct {
	focus, labels string
	only          []string // the specs' IDs, instead of focus
	rerunOf       string   // the run whose failed and unknown specs only has
	whole         bool     // all specs but those that run on request
}

// selected is what the settings select.
func (s *Session) selected() selection {
	if s.history != "" {
		return selection{only: []string{replaySpec}}
	}
	return selection{focus: s.Settings.Focus, labels: s.Settings.Labels, whole: s.Settings.Focus == "" && s.Settings.Labels == ""}
}

// args are the arguments with which Ginkgo selects the specs.
func (sel selection) args() []string {
	var args []string
	switch {
	case len(sel.only) > 0:
		args = append(args, "--focus="+exactly(sel.only))
	case sel.focus != "":
		args = append(args, "--focus="+sel.focus)
	}
	switch {
	case sel.whole:
		args = append(args, "--label-filter=!"+scenario.OnRequest)
	case sel.labels != "":
		args = append(args, "--label-filter="+sel.labels)
	}
	return args
}

// exactly is a regular expression that matches the texts of the specs with these IDs, and no others'.
func exactly(ids []string) string {
	var quoted []string
	for _, id := range ids {
		quoted = append(quoted, regexp.QuoteMeta(id))
	}
	return "(^| )(" + strings.Join(quoted, "|") + ") "
}

// onID is the selection of one spec alone, where the focus is that spec's ID: as a regular expression it would select those
// whose IDs begin with it, too. The specs are marked accordingly.
func (sel selection) onID(specs []spec) selection {
	if len(sel.only) > 0 || !slices.Contains(ids(specs), sel.focus) {
		return sel
	}
	sel.only = []string{sel.focus}
	for i := range specs {
		specs[i].Selected = specs[i].Selected && specs[i].ID == sel.focus
	}
	return sel
}

var labelWords = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9-]*`)

// check refuses labels that no spec has, and a selection that selects nothing.
func (sel selection) check(specs []spec) error {
	var known []string
	selected := 0
	for _, sp := range specs {
		known = append(known, sp.Labels...)
		if sp.Selected {
			selected++
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	if !strings.Contains(sel.labels, "/") { // a regular expression in the filter has words of its own
		for _, word := range labelWords.FindAllString(sel.labels, -1) {
			if !slices.Contains(known, word) {
				return fmt.Errorf("LABELS=%s: no spec has the label %q; there are %s", sel.labels, word, strings.Join(known, ", "))
			}
		}
	}
	if selected == 0 {
		return fmt.Errorf("FOCUS=%q LABELS=%q select none of the %d specs: make list shows them", sel.focus, sel.labels, len(specs))
	}
	return nil
}

// inWords says which specs were chosen by their IDs, where Ginkgo says it with a regular expression.
func (sel selection) inWords(partial []string) []string {
	if sel.whole {
		return slices.DeleteFunc(slices.Clone(partial), func(reason string) bool { return reason == "labels !"+scenario.OnRequest })
	}
	if len(sel.only) == 0 {
		return partial
	}
	text := "only " + strings.Join(sel.only, ", ")
	if sel.rerunOf != "" {
		text = fmt.Sprintf("only what failed or was unknown in run %s: %s", sel.rerunOf, strings.Join(sel.only, ", "))
	}
	partial = slices.Clone(partial)
	for i := range partial {
		if partial[i] == "focus "+exactly(sel.only) {
			partial[i] = text
		}
	}
	return partial
}
