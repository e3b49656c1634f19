package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Release is a version of a component that the lock has in several versions: a row of a table, column → value. The column
// "name" identifies it.
type Release map[string]string

// PerRelease makes an entry stand for one entry per release: $(column) in its strings is replaced by the release's value. It
// is empty once a lock has been read.
type PerRelease struct {
	Each  string   `json:"each,omitempty"`  // the table
	Names []string `json:"names,omitempty"` // only these releases of it
}

func (e *PerRelease) each() *PerRelease { return e }

var (
	placeholder = regexp.MustCompile(`\$\(([^()]*)\)`)
	columnName  = regexp.MustCompile(`^[a-z][A-Za-z]*$`)
	// columnValue keeps what is put into an entry's JSON from changing its structure.
	columnValue = regexp.MustCompile(`^[A-Za-z0-9._:/@+-]*$`)
)

// expand replaces each entry that stands for several by those.
func (l *Lock) expand() error {
	used := map[string]bool{} // table.column
	l.rowOf = map[entryName]releaseName{}
	err := errors.Join(
		l.checkReleases(),
		expand(l, "stacks", &l.Stacks, stackName, used),
		expand(l, "builds", &l.Builds, buildName, used),
		expand(l, "images", &l.Images, imageName, used),
		expand(l, "manifests", &l.Manifests, manifestName, used))
	if err != nil {
		return err
	}
	var problems []error
	for _, table := range slices.Sorted(maps.Keys(l.Releases)) {
		for _, column := range slices.Sorted(maps.Keys(l.Releases[table][0])) {
			if !used[table+"."+column] {
				problems = append(problems, l.doc.At(fmt.Sprintf("releases: %s: nothing uses the column %s", table, column), "releases", table, 0, column))
			}
		}
	}
	return errors.Join(problems...)
}

// checkReleases checks that every row of a table has the same columns and a unique name.
func (l *Lock) checkReleases() error {
	var problems []error
	report := func(text string, path ...any) {
		problems = append(problems, l.doc.At("releases: "+text, append([]any{"releases"}, path...)...))
	}
	for _, table := range slices.Sorted(maps.Keys(l.Releases)) {
		rows := l.Releases[table]
		if len(rows) == 0 {
			report(table+" has no row", table)
			continue
		}
		columns := slices.Sorted(maps.Keys(rows[0]))
		var names []string
		for i, row := range rows {
			if row["name"] == "" || slices.Contains(names, row["name"]) {
				report(fmt.Sprintf("%s: row %d needs a unique name, found %q", table, i+1, row["name"]), table, i)
			}
			names = append(names, row["name"])
			if own := slices.Sorted(maps.Keys(row)); !slices.Equal(own, columns) {
				report(fmt.Sprintf("%s: row %d has the columns %s, want those of the first row: %s", table, i+1, strings.Join(own, ", "), strings.Join(columns, ", ")), table, i)
			}
			for _, column := range slices.Sorted(maps.Keys(row)) {
				if !columnName.MatchString(column) || !columnValue.MatchString(row[column]) {
					report(fmt.Sprintf("%s: row %d: %q: %q want a column of letters, and a value of letters, digits and ._:/@+- only", table, i+1, column, row[column]), table, i, column)
				}
			}
		}
	}
	return errors.Join(problems...)
}

// expand replaces entries of the list under this key. used notes each column that one of them uses.
func expand[T any, P interface {
	*T
	each() *PerRelease
}](l *Lock, key string, list *[]T, nameOf func(T) string, used map[string]bool) error {
	var problems []error
	var whole []T
	for _, entry := range *list {
		each := *P(&entry).each()
		*P(&entry).each() = PerRelease{}
		text, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		rows, err := l.rows(each)
		if err != nil {
			problems = append(problems, l.wrong(key, nameOf(entry), "%v", err))
			continue
		}
		for _, row := range rows {
			filled, err := fill(text, row, func(column string) { used[each.Each+"."+column] = true })
			if err != nil {
				problems = append(problems, l.wrong(key, nameOf(entry), "%v", err))
				break
			}
			var one T
			if err := json.Unmarshal(filled, &one); err != nil {
				return l.wrong(key, nameOf(entry), "%v", err)
			}
			if row != nil {
				l.rowOf[entryName{key, nameOf(one)}] = releaseName{each.Each, row["name"]}
			}
			whole = append(whole, one)
		}
	}
	*list = whole
	return errors.Join(problems...)
}

// rows are the releases that an entry stands for; for an entry that stands for itself, one without columns.
func (l *Lock) rows(e PerRelease) ([]Release, error) {
	if e.Each == "" {
		if len(e.Names) > 0 {
			return nil, errors.New("names selects rows of the table in each, but each is not set")
		}
		return []Release{nil}, nil
	}
	table, ok := l.Releases[e.Each]
	if !ok {
		return nil, fmt.Errorf("each: found no table %q in releases: the lock has %s", e.Each, strings.Join(slices.Sorted(maps.Keys(l.Releases)), ", "))
	}
	if len(e.Names) == 0 {
		return table, nil
	}
	var rows []Release
	for _, name := range e.Names {
		i := slices.IndexFunc(table, func(r Release) bool { return r["name"] == name })
		if i < 0 {
			return nil, fmt.Errorf("names: the table %s has no row %q", e.Each, name)
		}
		rows = append(rows, table[i])
	}
	return rows, nil
}

// fill replaces every $(column) of an entry's JSON.
func fill(text []byte, row Release, used func(column string)) ([]byte, error) {
	var problem error
	filled := placeholder.ReplaceAllFunc(text, func(found []byte) []byte {
		column := string(placeholder.FindSubmatch(found)[1])
		value, ok := row[column]
		switch {
		case row == nil:
			problem = fmt.Errorf("%s needs a row of a table: set each", found)
		case !ok:
			problem = fmt.Errorf("%s: found no such column: the table has %s", found, strings.Join(slices.Sorted(maps.Keys(row)), ", "))
		default:
			used(column)
		}
		return []byte(value)
	})
	return filled, problem
}
