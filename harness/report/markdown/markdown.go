// Package markdown makes tables about requirements, and puts what is made into files that people write.
package markdown

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/verdict"
)

// Row is one of a table: what it is about, and a cell per column.
type Row struct {
	Label string
	Cells []string
}

// Table is a table of rows below the heads of their columns.
func Table(heads []string, rows []Row) string {
	var text strings.Builder
	line := func(label string, cells []string) {
		fmt.Fprintf(&text, "| %s | %s |\n", label, strings.Join(cells, " | "))
	}
	line("", heads)
	fmt.Fprintf(&text, "|---|%s\n", strings.Repeat(":-:|", len(heads)))
	for _, row := range rows {
		line(row.Label, row.Cells)
	}
	return text.String()
}

// Requirements are rows about requirements, in the order of reports. Those of one family, like core/s3-down/…, whose cells are alike
// share one.
func Requirements(requirements []verdict.Requirement, cells func(verdict.Requirement) []string) []Row {
	type group struct {
		ids     []string
		feature string
		cells   []string
	}
	var groups []group
	for _, r := range slices.SortedFunc(slices.Values(requirements), verdict.Compare) {
		g := group{[]string{r.ID}, r.Feature, cells(r)}
		alike := slices.IndexFunc(groups, func(o group) bool {
			return strings.Count(r.ID, "/") > 1 && path.Dir(o.ids[0]) == path.Dir(r.ID) && o.feature == g.feature && slices.Equal(o.cells, g.cells)
		})
		if alike >= 0 {
			groups[alike].ids = append(groups[alike].ids, r.ID)
			continue
		}
		groups = append(groups, g)
	}
	var rows []Row
	for _, g := range groups {
		rows = append(rows, Row{Of(family(g.ids), g.feature), g.cells})
	}
	return rows
}

// family names requirements of one family, or one.
func family(ids []string) string {
	if len(ids) == 1 {
		return "`" + ids[0] + "`"
	}
	var names []string
	for _, id := range ids {
		names = append(names, path.Base(id))
	}
	return "`" + path.Dir(ids[0]) + "/…`: " + Names(names)
}

// Of is a label of what is only of a feature; empty: of none.
func Of(label, feature string) string {
	if feature == "" {
		return label
	}
	return label + " (`" + feature + "`)"
}

// Names are names as code, with commas between them.
func Names(names []string) string { return "`" + strings.Join(names, "`, `") + "`" }

// Block is a generated part of a file, between two marker lines.
type Block struct{ Begin, End string }

// MadeBy is the place of what a command makes.
func MadeBy(command string) Block {
	return Block{"<!-- made by: " + command + " -->", "<!-- end of what is made by: " + command + " -->"}
}

// Fill is the text with this in the place, and not what was there.
func (p Block) Fill(text, made string) (string, error) {
	before, rest, begins := strings.Cut(text, p.Begin+"\n")
	_, after, ends := strings.Cut(rest, p.End+"\n")
	if !begins || !ends {
		return "", fmt.Errorf("marker lines %q and %q not found: put them, in this order, where the table belongs", p.Begin, p.End)
	}
	return before + p.Begin + "\n" + made + p.End + "\n" + after, nil
}

// WriteInto is Fill of a file.
func (p Block) WriteInto(file, made string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := p.Fill(string(raw), made)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(text), 0o644)
}
