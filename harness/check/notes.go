package check

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/check/rights"
	"github.com/smart-restore/conformance/harness/policy"
)

// address is an IPv4 address, with or without a port.
var address = regexp.MustCompile(`\b[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]+)?\b`)

// notesOn finds what a policy names and its contract does not, where the policy's author may have forgotten a place: another
// address, and a bucket, a base Secret or a label that are the defaults of a contract, and not this one's. What a kustomization
// replaces is not named any more.
func notesOn(p *policy.Policy, s subjects) (notes []Note) {
	seen := map[string]bool{}
	contract, defaults := p.Contract, policy.Default()
	endpoint := p.Endpoint.Host()
	leftovers := []struct{ what, found, wanted string }{
		{"bucket", defaults.S3.Bucket, contract.S3.Bucket},
		{"base Secret", defaults.BaseSecret.Name, contract.BaseSecret.Name},
	}
	for _, one := range s.all {
		note := func(line int, format string, args ...any) {
			n := Note{Policy: one.name, File: one.found.File, Line: line, Text: fmt.Sprintf(format, args...)}
			if key := fmt.Sprint(n.File, n.Line, n.Text); !seen[key] {
				seen[key] = true
				notes = append(notes, n)
			}
		}
		if selects, line := s.otherLabel(one.name, contract.PVC); selects != "" {
			note(line, "%s", selects)
		}
		if one.letsErrorsPass() {
			_, line := s.position(one.name, "spec.failurePolicy")
			note(line, "its failurePolicy is Ignore: what it ends in an error for is let in")
		}
		for number, line := range linesOf(one.found) {
			for _, found := range address.FindAllString(line, -1) {
				if host, _, _ := strings.Cut(endpoint, ":"); found != endpoint && found != host && says(one.text, found) {
					note(number, "it names the address %s, the contract's endpoint is %s", found, endpoint)
				}
			}
			for _, l := range leftovers {
				if l.found != l.wanted && says(line, l.found) && says(one.text, l.found) {
					note(number, "it names %q, the contract's %s is %q", l.found, l.what, l.wanted)
				}
			}
			if label := defaults.PVC; contract.PVC.Label != "" && label.Label != contract.PVC.Label && (readsLabel(line, label.Label) || says(line, fmt.Sprintf("%q: %q", label.Label, label.Value))) {
				note(number, "it reads the label %s, the contract says %s=%s", label.Label, contract.PVC.Label, contract.PVC.Value)
			}
		}
	}
	return notes
}

// says tells whether a word is in a line.
func says(line, word string) bool {
	return regexp.MustCompile(`(^|[^-.\w])` + regexp.QuoteMeta(word) + `($|[^-.\w])`).MatchString(line)
}

// readsLabel says whether an expression in a line reads a label, as labels.backup and ?labels["backup"] do.
func readsLabel(line, key string) bool {
	return regexp.MustCompile(`labels\W{1,4}` + regexp.QuoteMeta(key) + `\b`).MatchString(line)
}

// linesOf are the lines of a document, by their numbers in its file, without those that are comments.
func linesOf(d policy.Document) map[int]string {
	if d.Root == nil {
		return nil
	}
	raw, err := os.ReadFile(d.File)
	if err != nil {
		return nil // a position is a help: whoever loads the policy says what cannot be read
	}
	lines := map[int]string{}
	for i, line := range strings.Split(string(raw), "\n") {
		if number := i + 1; number >= d.Root.Line && number <= lastLine(d.Root) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			lines[number] = line
		}
	}
	return lines
}

// lastLine is the last line of a node, with those of a text over several.
func lastLine(node *yaml.Node) int {
	last := node.Line
	if node.Kind == yaml.ScalarNode && node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		// A folded text has lost its lines. It ends where the next node begins at the latest.
		return last + max(strings.Count(node.Value, "\n"), len(node.Value)/20) + 1
	}
	for _, child := range node.Content {
		last = max(last, lastLine(child))
	}
	return last
}

// notLookedAt says what the check says nothing about.
func (c *checker) notLookedAt(p *policy.Policy, reason string) {
	var others []string
	for _, o := range p.Objects {
		if group := o.GroupVersionKind().Group; group != rights.Group && group != "kyverno.io" && group != "policies.kyverno.io" && !policy.IsNative(o) {
			others = append(others, o.GetKind()+"/"+o.GetName())
		}
	}
	c.NotLookedAt = append(c.NotLookedAt,
		"RBAC beyond what Kyverno does for the policies in these situations",
		"the names of what is made",
	)
	if len(others) > 0 {
		slices.Sort(others)
		c.NotLookedAt = append(c.NotLookedAt, "objects that are no policies: "+strings.Join(others, ", "))
	}
	if reason != "" {
		return // nothing was played
	}
	for _, s := range c.subjects.all {
		if calls, counted := c.applied[s.name]; !counted || calls > 0 {
			continue
		}
		if slices.ContainsFunc(c.Findings, func(t Trouble) bool { return strings.Contains(t.Text, s.name+" applied to nothing") }) {
			continue
		}
		file, line := c.subjects.position(s.name, "")
		c.NotLookedAt = append(c.NotLookedAt, fmt.Sprintf("%s (%s:%d): no situation has an object that it applies to; nothing is known about it, good or bad", s.name, policy.Shown(file), line))
	}
}
