package mutants

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ReasonsFile is the file beside a policy that says why mutants of it live.
const ReasonsFile = "mutants.txt"

// Reason is why a mutant lives.
type Reason struct {
	Mutant string
	// Requirement is the one whose spec catches it on a cluster. Empty: it behaves as the policy does.
	Requirement string
	Text        string
	At          string // file:line
}

var reasonLine = regexp.MustCompile(`^([0-9a-f]{8}) +(equivalent|[a-z0-9-]+(?:/[a-z0-9-]+)+): +(\S.*)$`)

// Reasons reads the file beside a policy. A policy need not have one.
func Reasons(policyPath string) ([]Reason, error) {
	folder := policyPath
	if info, err := os.Stat(policyPath); err == nil && !info.IsDir() {
		folder = filepath.Dir(policyPath)
	}
	path := filepath.Join(folder, ReasonsFile)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var all []Reason
	seen := map[string]string{}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		at := fmt.Sprintf("%s:%d", path, n)
		parts := reasonLine.FindStringSubmatch(text)
		if parts == nil {
			return nil, fmt.Errorf("%s: wanted is a mutant's ID, the word equivalent or a requirement, a colon and a reason, found %q", at, text)
		}
		if before := seen[parts[1]]; before != "" {
			return nil, fmt.Errorf("%s: mutant %s has a reason already, at %s", at, parts[1], before)
		}
		seen[parts[1]] = at
		r := Reason{Mutant: parts[1], Requirement: parts[2], Text: parts[3], At: at}
		if r.Requirement == "equivalent" {
			r.Requirement = ""
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

// Wrong are reasons that do not hold: their mutant was caught after all, or no operator makes it.
func Wrong(reasons []Reason, all []Mutant, outcomes map[string]Outcome) (wrong []string) {
	made := map[string]bool{}
	for _, m := range all {
		made[m.ID] = true
	}
	for _, r := range reasons {
		o := outcomes[r.Mutant]
		switch {
		case !made[r.Mutant]:
			wrong = append(wrong, fmt.Sprintf("%s: no operator makes mutant %s of this policy any more: delete the line", r.At, r.Mutant))
		case o.Verdict == Caught:
			wrong = append(wrong, fmt.Sprintf("%s: mutant %s is caught by %s (%s): delete the line", r.At, r.Mutant, o.Requirement, o.Situation))
		case o.Verdict == Refused:
			wrong = append(wrong, fmt.Sprintf("%s: mutant %s is not taken (%s): delete the line", r.At, r.Mutant, o.Refused))
		}
	}
	return wrong
}
