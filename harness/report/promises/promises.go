// Package promises puts policies beside each other by what their contracts say: what each promises of each requirement, what
// it is known not to hold, and why. Nothing of it was tried: that is in reports.
package promises

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/report/markdown"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Block is the part of a Markdown file that holds the table.
var Block = markdown.MadeBy("smart-restore promises")

// Spec is that of a requirement, with its labels.
type Spec struct {
	ID     string
	Labels []string
}

const (
	promised    = "✓"
	notHeld     = "✗"
	notPromised = "–"

	legend = promised + " promised, or made for it; " + notHeld + " known not to hold, with the number of the reason below; " +
		notPromised + " not promised, or not made for it."
)

// Table is a table in Markdown, a column per contract: the stacks that the policy is made for, every requirement, the features
// that show in others' requirements, and the reasons of what is known not to be held.
func Table(contracts []policy.Contract, specs []Spec, stacks []stack.Stack) (string, error) {
	if len(contracts) == 0 {
		return "", errors.New("a table needs a policy")
	}
	t, requirements, labels, err := newTable(contracts, specs)
	if err != nil {
		return "", err
	}
	var heads []string
	for _, c := range contracts {
		heads = append(heads, c.Name)
	}
	rows, err := t.stacks(stacks)
	if err != nil {
		return "", err
	}
	rows = append(rows, markdown.Requirements(requirements, func(r verdict.Requirement) []string {
		return t.cells(func(c policy.Contract) string { return t.requirement(c, r.ID, labels[r.ID]) })
	})...)
	for _, f := range verdict.Features {
		if f.Within != "" {
			rows = append(rows, markdown.Row{
				Label: markdown.Of(fmt.Sprintf("`%s…`: %s", f.Within, strings.TrimSuffix(f.Sentence, ".")), f.Name),
				Cells: t.cells(func(c policy.Contract) string { return yes(c.Promises(f.Name)) }),
			})
		}
	}
	text := markdown.Table(heads, rows) + "\n"
	if events := t.events(labels); len(events) > 0 {
		text += "Events that lose data, if a policy does not hold the requirement:\n\n" + markdown.Table(heads, events) + "\n"
	}
	text += legend + "\n"
	if len(t.reasons) > 0 {
		text += "\n" + t.numbered()
	}
	return text, nil
}

// table is one that is being made.
type table struct {
	contracts    []policy.Contract
	snapshotting map[string]bool // the policies that are made for a stack whose volumes can be snapshotted
	deployed     map[string]bool // the policies that are made for a stack with Argo CD
	twoNodes     map[string]bool // those that are made for a stack with several nodes
	reasons      []string        // by number, from 1
}

// newTable begins a table, with the specs' requirements and their labels. It refuses contracts that name others.
func newTable(contracts []policy.Contract, specs []Spec) (*table, []verdict.Requirement, map[string][]string, error) {
	t := &table{contracts: contracts, snapshotting: map[string]bool{}, deployed: map[string]bool{}, twoNodes: map[string]bool{}}
	labels := map[string][]string{}
	var requirements []verdict.Requirement
	var ids, names []string
	for _, s := range specs {
		requirements = append(requirements, verdict.Requirement{ID: s.ID, Level: verdict.LevelOf(s.ID), Feature: verdict.FeatureOf(s.Labels)})
		ids, labels[s.ID] = append(ids, s.ID), s.Labels
	}
	var problems []error
	for _, c := range contracts {
		if slices.Contains(names, c.Name) {
			problems = append(problems, fmt.Errorf("two policies are called %s", c.Name))
		}
		names = append(names, c.Name)
		if err := c.CheckRequirements(ids); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	return t, requirements, labels, errors.Join(problems...)
}

// numbered are the reasons.
func (t *table) numbered() (text string) {
	for i, reason := range t.reasons {
		text += fmt.Sprintf("%d. %s\n", i+1, reason)
	}
	return text
}

func (t *table) cells(of func(policy.Contract) string) (cells []string) {
	for _, c := range t.contracts {
		cells = append(cells, of(c))
	}
	return cells
}

func yes(is bool) string {
	if is {
		return promised
	}
	return notPromised
}

// requirement is what a contract says of one.
func (t *table) requirement(c policy.Contract, id string, labels []string) string {
	reason, known := c.Reasons()[id]
	switch {
	case c.NotPromised(labels) != "", !t.tries(c, labels): // and so it is not tried
		return notPromised
	case !known:
		return promised
	}
	number := slices.Index(t.reasons, reason)
	if number < 0 {
		number = len(t.reasons)
		t.reasons = append(t.reasons, reason)
	}
	return fmt.Sprintf("%s %d", notHeld, number+1)
}

// tries says that one of the policy's stacks has what a requirement needs.
func (t *table) tries(c policy.Contract, labels []string) bool {
	return (t.snapshotting[c.Name] || !slices.Contains(labels, policy.NeedsSnapshots)) &&
		(t.deployed[c.Name] || !slices.Contains(labels, policy.NeedsGitOps)) &&
		(t.twoNodes[c.Name] || !slices.Contains(labels, policy.NeedsTwoNodes))
}

// stacks are rows about stacks, those for which the same policies are made in one.
func (t *table) stacks(stacks []stack.Stack) (rows []markdown.Row, err error) {
	madeFor := map[string][]string{} // by policy
	var problems []error
	for _, c := range t.contracts {
		names, err := c.MadeFor(stacks)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", c.Name, err))
		}
		madeFor[c.Name] = names
		t.snapshotting[c.Name] = slices.ContainsFunc(stacks, func(s stack.Stack) bool {
			return len(s.Storage.Snapshotted()) > 0 && slices.Contains(names, s.Name)
		})
		t.deployed[c.Name] = slices.ContainsFunc(stacks, func(s stack.Stack) bool { return s.HasArgoCD() && slices.Contains(names, s.Name) })
		t.twoNodes[c.Name] = slices.ContainsFunc(stacks, func(s stack.Stack) bool { return s.Nodes > 1 && slices.Contains(names, s.Name) })
	}
	var groups [][]string
	var names []string
	for _, s := range stacks {
		names = append(names, s.Name)
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		cells := t.cells(func(c policy.Contract) string { return yes(slices.Contains(madeFor[c.Name], name)) })
		alike := slices.IndexFunc(rows, func(row markdown.Row) bool { return slices.Equal(row.Cells, cells) })
		if alike < 0 {
			alike, rows, groups = len(rows), append(rows, markdown.Row{Cells: cells}), append(groups, nil)
		}
		groups[alike] = append(groups[alike], name)
		rows[alike].Label = "made for " + markdown.Names(groups[alike])
	}
	return rows, errors.Join(problems...)
}
