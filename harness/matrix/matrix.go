// Package matrix says which policy is tested on which stack, and on what occasion; and it puts the reports of such runs
// beside each other.
package matrix

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/smart-restore/conformance/harness/strict"
)

// APIVersion and Kind are those of matrix.yaml.
const (
	APIVersion = "conformance.smart-restore.io/v1alpha1"
	Kind       = "Matrix"
)

// The occasions, as GitHub calls them. On a schedule every cell runs.
const (
	Push        = "push"
	PullRequest = "pull_request"
	Schedule    = "schedule"
)

// Events lists the occasions.
func Events() []string { return []string{Push, PullRequest, Schedule} }

// The targets: what is done on the stack.
const (
	E2E      = "e2e"
	KnownBad = "known-bad"
)

// Matrix is the whole of matrix.yaml.
type Matrix struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Cells      []Cell `json:"cells"`
}

// Cell is one policy on one stack.
type Cell struct {
	Stack  string   `json:"stack"`
	Policy string   `json:"policy"`           // path below the repository's root
	Target string   `json:"target,omitempty"` // default: e2e
	Labels string   `json:"labels,omitempty"` // Ginkgo's label filter of the specs; default: all
	Events []string `json:"events,omitempty"` // besides the schedule
}

// Name identifies the cell, and its folder: its stack and its policy's name, its target where that is not e2e, and the words of its labels.
func (c Cell) Name() string {
	name := c.Stack + "/" + path.Base(c.Policy)
	if c.Target != E2E {
		name += "/" + c.Target
	}
	if words := label.FindAllString(c.Labels, -1); len(words) > 0 {
		name += "/" + strings.Join(words, "-")
	}
	return name
}

var label = regexp.MustCompile(`[[:alnum:]!][[:alnum:]-]*`)

const matrixFile = "matrix.yaml"

// Load reads matrix.yaml from files. stacks are those of the lock.
func Load(files fs.FS, stacks []string) (*Matrix, error) {
	raw, err := fs.ReadFile(files, matrixFile)
	if err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	return Parse(raw, stacks)
}

// Parse reads a matrix strictly: unknown fields, stacks and occasions are errors, and so is a cell that is there twice.
func Parse(raw []byte, stacks []string) (*Matrix, error) {
	var m Matrix
	doc, err := strict.Read(matrixFile, raw, &m)
	if err != nil {
		return nil, err
	}
	var problems []error
	if m.APIVersion != APIVersion || m.Kind != Kind {
		problems = append(problems, doc.At(fmt.Sprintf("it is %q of %q, wanted is %s of %s", m.Kind, m.APIVersion, Kind, APIVersion), "kind"))
	}
	if len(m.Cells) == 0 {
		problems = append(problems, doc.At("it has no cells", "cells"))
	}
	var names []string
	for i := range m.Cells {
		c := &m.Cells[i]
		if c.Target == "" {
			c.Target = E2E
		}
		report := func(text string, path ...any) {
			problems = append(problems, doc.At(fmt.Sprintf("cell %d (%s): %s", i+1, c.Name(), text), append([]any{"cells", i}, path...)...))
		}
		if !slices.Contains(stacks, c.Stack) {
			report(fmt.Sprintf("no stack matches %q; want one of %s", c.Stack, strings.Join(stacks, ", ")), "stack")
		}
		if !fs.ValidPath(c.Policy) {
			report(fmt.Sprintf("policy %q must be a clean path below the repository's root", c.Policy), "policy")
		}
		if c.Target != E2E && c.Target != KnownBad {
			report(fmt.Sprintf("target %q: wanted %s or %s", c.Target, E2E, KnownBad), "target")
		}
		if _, err := types.ParseLabelFilter(c.Labels); err != nil {
			report(fmt.Sprintf("labels %q is no label filter, like 'core && !s3-down'", c.Labels), "labels")
		}
		for j, event := range c.Events {
			if event != Push && event != PullRequest {
				report(fmt.Sprintf("events: %q: wanted %s or %s; on a %s every cell runs", event, Push, PullRequest, Schedule), "events", j)
			}
			if slices.Contains(c.Events[:j], event) {
				report(fmt.Sprintf("events: %s is there twice", event), "events", j)
			}
		}
		if slices.Contains(names, c.Name()) {
			report("it is there twice")
		}
		names = append(names, c.Name())
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return &m, nil
}

// Names lists the cells.
func (m *Matrix) Names() []string {
	var names []string
	for _, c := range m.Cells {
		names = append(names, c.Name())
	}
	return names
}

// For are the cells that run on an occasion.
func (m *Matrix) For(event string) ([]Cell, error) {
	if !slices.Contains(Events(), event) {
		return nil, fmt.Errorf("event %q is unknown: there are %s", event, strings.Join(Events(), ", "))
	}
	var cells []Cell
	for _, c := range m.Cells {
		if event == Schedule || slices.Contains(c.Events, event) {
			cells = append(cells, c)
		}
	}
	return cells, nil
}

// Matching are the cells that any of the patterns matches, in the matrix's order. A pattern is a shell pattern of a
// cell's name, such as kyverno-1.13*/clusterpolicy, or of its stack's. One that matches nothing is an error.
func (m *Matrix) Matching(patterns []string) ([]Cell, error) {
	chosen := make([]bool, len(m.Cells))
	for _, pattern := range patterns {
		found := false
		for i, c := range m.Cells {
			for _, name := range []string{c.Name(), c.Stack} {
				matches, err := path.Match(pattern, name)
				if err != nil {
					return nil, fmt.Errorf("cells %q: %w", pattern, err)
				}
				chosen[i], found = chosen[i] || matches, found || matches
			}
		}
		if !found {
			return nil, fmt.Errorf("no cell is called %q: there are %s", pattern, strings.Join(m.Names(), ", "))
		}
	}
	var cells []Cell
	for i, c := range m.Cells {
		if chosen[i] {
			cells = append(cells, c)
		}
	}
	return cells, nil
}
