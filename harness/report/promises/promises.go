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
	t, err := newTable(contracts, specs, stacks)
	if err != nil {
		return "", err
	}
	var heads []string
	for _, c := range contracts {
		heads = append(heads, c.Name)
	}
	rows := append(t.stacks(stacks), markdown.Requirements(t.requirements, func(r verdict.Requirement) []string {
		return t.cells(func(c policy.Contract) string { return t.requirement(c, r.ID) })
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
	if events := t.events(); len(events) > 0 {
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
	requirements []verdict.Requirement
	labels       map[string][]string      // of a requirement's spec
	madeFor      map[string][]stack.Stack // by policy
	reasons      []string                 // by number, from 1
}

// newTable begins a table of policies, the specs' requirements, and stacks. It refuses contracts that name others.
func newTable(contracts []policy.Contract, specs []Spec, stacks []stack.Stack) (*table, error) {
	t := &table{contracts: contracts, labels: map[string][]string{}, madeFor: map[string][]stack.Stack{}}
	var ids, names []string
	for _, s := range specs {
		t.requirements = append(t.requirements, verdict.Requirement{ID: s.ID, Level: verdict.LevelOf(s.ID), Feature: verdict.FeatureOf(s.Labels)})
		ids, t.labels[s.ID] = append(ids, s.ID), s.Labels
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
		madeFor, err := c.MadeFor(stacks)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", c.Name, err))
		}
		t.madeFor[c.Name] = slices.DeleteFunc(slices.Clone(stacks), func(s stack.Stack) bool { return !slices.Contains(madeFor, s.Name) })
	}
	return t, errors.Join(problems...)
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
func (t *table) requirement(c policy.Contract, id string) string {
	reason, known := c.Reasons()[id]
	switch {
	case c.NotPromised(t.labels[id]) != "", !t.tries(c, id): // and so it is not tried
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

// needs are what a spec may need, by its label, that not every stack has.
var needs = map[string]func(stack.Stack) bool{
	policy.NeedsSnapshots: func(s stack.Stack) bool { return len(s.Storage.Snapshotted()) > 0 },
	policy.NeedsGitOps:    func(s stack.Stack) bool { return s.HasArgoCD() },
	policy.NeedsTwoNodes:  func(s stack.Stack) bool { return s.Nodes > 1 },

	policy.NeedsEarlierKyverno: func(s stack.Stack) bool { return s.UpgradesFrom != "" },
}

// tries says that one of the policy's stacks has what a requirement needs, of each thing.
func (t *table) tries(c policy.Contract, id string) bool {
	return !slices.ContainsFunc(t.labels[id], func(label string) bool {
		has, needed := needs[label]
		return needed && !slices.ContainsFunc(t.madeFor[c.Name], has)
	})
}

// stacks are rows about stacks, those for which the same policies are made in one.
func (t *table) stacks(stacks []stack.Stack) (rows []markdown.Row) {
	var groups [][]string
	var names []string
	for _, s := range stacks {
		names = append(names, s.Name)
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		cells := t.cells(func(c policy.Contract) string {
			return yes(slices.ContainsFunc(t.madeFor[c.Name], func(s stack.Stack) bool { return s.Name == name }))
		})
		alike := slices.IndexFunc(rows, func(row markdown.Row) bool { return slices.Equal(row.Cells, cells) })
		if alike < 0 {
			alike, rows, groups = len(rows), append(rows, markdown.Row{Cells: cells}), append(groups, nil)
		}
		groups[alike] = append(groups[alike], name)
		rows[alike].Label = "made for " + markdown.Names(groups[alike])
	}
	return rows
}
