package check

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Recorded are the verdicts that the check came to of policies: what make check-policies saw last. A promise of a policy about
// a requirement that the check looks at is then one that a check has tried.
type Recorded map[string]map[string]Verdict // policy's name → requirement → the worst verdict of its situations

// badness orders verdicts.
var badness = []Verdict{OK, Unknown, Expected, Finding}

// Add takes the verdicts of a report.
func (r Recorded) Add(report *Report) {
	of := map[string]Verdict{}
	for _, row := range report.Rows {
		if slices.Index(badness, row.Verdict) > slices.Index(badness, of[row.Requirement]) {
			of[row.Requirement] = row.Verdict
		}
	}
	r[report.Name] = of
}

const recordedHead = `# What the check came to of each policy in policies/, by requirement. make check-policies writes it; go test ./harness/check
# wants a line for each policy and each requirement that a situation is about.
`

// Format writes them as text, a line for each policy and requirement.
func (r Recorded) Format() []byte {
	var lines []string
	for name, of := range r {
		for requirement, v := range of {
			lines = append(lines, fmt.Sprintf("%s %s: %s\n", name, requirement, v))
		}
	}
	slices.Sort(lines)
	return []byte(recordedHead + strings.Join(lines, ""))
}

// ParseRecorded reads them.
func ParseRecorded(raw []byte) (Recorded, error) {
	r := Recorded{}
	scanner := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; scanner.Scan(); n++ {
		line := scanner.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		about, v, found := strings.Cut(line, ": ")
		name, requirement, both := strings.Cut(about, " ")
		if !found || !both || !slices.Contains(badness, Verdict(v)) {
			return nil, fmt.Errorf("line %d: want \"policy requirement: verdict\", found %q", n, line)
		}
		if r[name] == nil {
			r[name] = map[string]Verdict{}
		}
		r[name][requirement] = Verdict(v)
	}
	return r, scanner.Err()
}
