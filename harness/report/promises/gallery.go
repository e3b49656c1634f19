package promises

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/report/markdown"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/verdict"
)

// GalleryBlock is the part of a Markdown file that holds the gallery.
var GalleryBlock = markdown.MadeBy("smart-restore gallery")

// Setup is one of the gallery: a contract, and its folder below the repository's root.
type Setup struct {
	Contract policy.Contract
	Folder   string
}

const (
	notJudged = "·"

	galleryLegend = promised + " promised, and not known to fail; " + notHeld + " known not to hold, with the number of the reason below; " +
		notPromised + " not promised; " + notJudged + " not judged, because the stacks that it is made for cannot try it."
)

// shapes are the sorts of setups, in the order in which somebody looks for the one that is theirs.
var shapes = []struct {
	title string
	has   func(policy.Contract) bool
}{
	{"Manifests that are applied for each app", func(c policy.Contract) bool { return c.OnlyTemplates() || c.Companion }},
	{"Kyverno policies", func(c policy.Contract) bool { return !c.OnlyTemplates() && !c.Companion }},
}

// Gallery is, for each sort of setup, a list of those in the gallery, and what each is known not to hold. root leads from the page to the
// repository's root.
func Gallery(setups []Setup, specs []Spec, stacks []stack.Stack, root string) (string, error) {
	var contracts []policy.Contract
	for _, s := range setups {
		contracts = append(contracts, s.Contract)
	}
	t, err := newTable(contracts, specs, stacks)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, shape := range shapes {
		var of []Setup
		for _, s := range setups {
			if shape.has(s.Contract) {
				of = append(of, s)
			}
		}
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(&text, "### %s\n\n", shape.title)
		for _, s := range of {
			fmt.Fprintf(&text, "- [`%s`](%s): %s Made for %s.\n", s.Contract.Name, path.Join(root, s.Folder), s.Contract.Description, madeFor(s.Contract))
		}
		text.WriteString("\n" + t.differences(of) + "\n")
	}
	text.WriteString(galleryLegend + "\n\n" + t.numbered())
	return text.String(), nil
}

// madeFor are the stacks that a setup is made for, as its contract says it.
func madeFor(c policy.Contract) string {
	switch {
	case len(c.Stacks) > 0:
		return markdown.Names(c.Stacks)
	case c.OnlyTemplates():
		return "every stack"
	}
	return "every stack with Kyverno"
}

// differences is a table of the requirements that not all of the setups hold, and a line about those that they do. Setups of which the same
// is said share a column.
func (t *table) differences(setups []Setup) string {
	heads, columns := []string{}, [][]string{}
	for _, s := range setups {
		var column []string
		for _, r := range t.requirements {
			column = append(column, t.judged(s.Contract, r.ID))
		}
		alike := slices.IndexFunc(columns, func(other []string) bool { return slices.Equal(other, column) })
		if alike >= 0 {
			heads[alike] += ", " + s.Contract.Name
			continue
		}
		heads, columns = append(heads, s.Contract.Name), append(columns, column)
	}
	cells := func(r verdict.Requirement) (row []string) {
		i := slices.IndexFunc(t.requirements, func(other verdict.Requirement) bool { return other.ID == r.ID })
		for _, column := range columns {
			row = append(row, column[i])
		}
		return row
	}
	var differ, hold, aside []verdict.Requirement
	for _, r := range t.requirements {
		row := cells(r)
		is := func(sign string) bool {
			return !slices.ContainsFunc(row, func(cell string) bool { return cell != sign })
		}
		switch {
		case is(promised):
			hold = append(hold, r)
		case !slices.ContainsFunc(row, func(cell string) bool { return cell != notPromised && cell != notJudged }):
			aside = append(aside, r)
		default:
			differ = append(differ, r)
		}
	}
	var parts []string
	if len(differ) > 0 {
		parts = append(parts, markdown.Table(heads, markdown.Requirements(differ, cells)))
	}
	for _, line := range []struct {
		what string
		of   []verdict.Requirement
	}{{"All of them promise", hold}, {"None of them promises, or is made for a stack that can try,", aside}} {
		if len(line.of) > 0 {
			var names []string
			for _, row := range markdown.Requirements(line.of, func(verdict.Requirement) []string { return nil }) {
				names = append(names, row.Label)
			}
			parts = append(parts, fmt.Sprintf("%s %s.\n", line.what, strings.Join(names, ", ")))
		}
	}
	return strings.Join(parts, "\n")
}

// judged is what is said of a requirement, with what no stack can try told from what is not promised.
func (t *table) judged(c policy.Contract, id string) string {
	if c.NotPromised(t.labels[id]) == "" && !t.tries(c, id) {
		return notJudged
	}
	return t.requirement(c, id)
}
