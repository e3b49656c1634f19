package mutants

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tally counts a policy's mutants by what became of them.
type Tally struct {
	When  string // a date and a commit
	Fates map[Fate]int
}

// Fates are all fates, in the order in which they are told.
var Fates = []Fate{IsCaught, IsRefused, IsEquivalent, IsForCluster, IsUnknown, IsAlive}

// Tally counts.
func (r *Report) Tally(when string) Tally {
	t := Tally{When: when, Fates: map[Fate]int{}}
	for _, fate := range Fates {
		t.Fates[fate] = r.count(fate)
	}
	return t
}

// All is how many mutants there are.
func (t Tally) All() (n int) {
	for _, count := range t.Fates {
		n += count
	}
	return n
}

// Percent is how many of those are caught that can be without a cluster.
func (t Tally) Percent() float64 {
	judged := t.Fates[IsCaught] + t.Fates[IsUnknown] + t.Fates[IsAlive]
	if judged == 0 {
		return 0
	}
	return 100 * float64(t.Fates[IsCaught]) / float64(judged)
}

// Recorded are the tallies of policies, by their names.
type Recorded map[string]Tally

const recordedHead = `# What became of the mutants of each policy, when, and at which commit. smart-restore mutants --record policies/mutants.txt writes the
# line of POLICY, and make docs the table in README.md.
`

// Format writes them, a line each.
func (r Recorded) Format() []byte {
	var b strings.Builder
	b.WriteString(recordedHead)
	for _, name := range slices.Sorted(maps.Keys(r)) {
		var counts []string
		for _, fate := range Fates {
			counts = append(counts, fmt.Sprintf("%d %s", r[name].Fates[fate], fate))
		}
		fmt.Fprintf(&b, "%s: %s (%s)\n", name, strings.Join(counts, ", "), r[name].When)
	}
	return []byte(b.String())
}

var recordedLine = regexp.MustCompile(`^([a-z0-9-]+): (.*) \((.*)\)$`)

// ParseRecorded reads them.
func ParseRecorded(raw []byte) (Recorded, error) {
	r := Recorded{}
	for i, line := range strings.Split(string(raw), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := recordedLine.FindStringSubmatch(line)
		if parts == nil {
			return nil, fmt.Errorf("line %d: wanted is \"policy: counts (when)\", found %q", i+1, line)
		}
		t := Tally{When: parts[3], Fates: map[Fate]int{}}
		for _, count := range strings.Split(parts[2], ", ") {
			number, fate, _ := strings.Cut(count, " ")
			n, err := strconv.Atoi(number)
			if err != nil || !slices.Contains(Fates, Fate(fate)) {
				return nil, fmt.Errorf("line %d: wanted is a number and one of %q, found %q", i+1, Fates, count)
			}
			t.Fates[Fate(fate)] = n
		}
		r[parts[1]] = t
	}
	return r, nil
}
