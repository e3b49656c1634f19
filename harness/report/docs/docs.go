// Package docs makes the parts of the documentation that can be read off the code: tables of requirements, faults, stacks and
// settings, and for a policy that people copy the lines that they have to change. Each part is a block between two marker lines
// of a page. make docs writes the blocks, and tests hold the pages to them.
package docs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/report/markdown"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Spec is a spec as the suite lists it.
type Spec struct {
	ID, Sentence string
	Labels       []string
}

// Facts are what the blocks are made of, besides what this package imports.
type Facts struct {
	Specs []Spec
	Lock  *stack.Lock
	// Mutants says what became of the mutants of policies.
	Mutants []Mutants
}

// Mutants are those of a policy, counted.
type Mutants struct {
	Policy                         string
	All, Caught, Equivalent, Lived int
	NotTaken, LeftToCluster        int
	Percent                        float64
	When                           string
}

// blocks are all blocks, by name. A block may depend on the folder of its page.
var blocks = map[string]func(f Facts, folder string) (string, error){
	"counts":       func(f Facts, _ string) (string, error) { return counts(f.Specs), nil },
	"requirements": func(f Facts, _ string) (string, error) { return requirements(f.Specs) },
	"faults":       func(Facts, string) (string, error) { return faults(outage.Faults) },
	"oracle":       func(Facts, string) (string, error) { return faults(outage.OracleFaults) },
	"stacks":       func(f Facts, _ string) (string, error) { return stacks(f.Lock), nil },
	"labels":       func(f Facts, _ string) (string, error) { return labels(f.Specs), nil },
	"mutants":      func(f Facts, _ string) (string, error) { return mutants(f.Mutants), nil },
	"settings":     func(Facts, string) (string, error) { return settingsTable(settings.All()), nil },
	"yours":        func(_ Facts, folder string) (string, error) { return yours(folder) },
}

func place(block string) markdown.Block { return markdown.MadeBy("smart-restore docs: " + block) }

var marker = regexp.MustCompile(`(?m)^<!-- made by: smart-restore docs: (.*) -->$`)

// Fill is the text of a page with every block in it made anew.
func Fill(page, text string, facts Facts) (string, error) {
	for _, found := range marker.FindAllStringSubmatch(text, -1) {
		block, known := blocks[found[1]]
		if !known {
			return "", fmt.Errorf("%s: unknown block %q: want one of %s", page, found[1], strings.Join(slices.Sorted(maps.Keys(blocks)), ", "))
		}
		made, err := block(facts, filepath.Dir(page))
		if err == nil {
			text, err = place(found[1]).Fill(text, made)
		}
		if err != nil {
			return "", fmt.Errorf("%s: block %s: %w", page, found[1], err)
		}
	}
	return text, nil
}

// table is a table in Markdown with left-aligned columns.
func table(heads []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(heads)
	b.WriteString(strings.Repeat("|---", len(heads)) + "|\n")
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "|", `\|`)
		}
		line(row)
	}
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// mutants is a table of what became of the mutants of each policy.
func mutants(all []Mutants) string {
	if len(all) == 0 {
		return "None is recorded for the policies as they are.\n"
	}
	var rows [][]string
	for _, m := range all {
		cells := []string{code(m.Policy)}
		for _, n := range []int{m.All, m.Caught, m.NotTaken, m.Equivalent, m.LeftToCluster, m.Lived} {
			cells = append(cells, fmt.Sprint(n))
		}
		rows = append(rows, append(cells, fmt.Sprintf("%.1f %%", m.Percent), m.When))
	}
	return table([]string{"policy", "mutants", "caught", "not taken", "equivalent", "left to a cluster", "lived", "caught of those that can be", "judged"}, rows)
}

// counts is one sentence about how many specs there are.
func counts(specs []Spec) string {
	byLevel := map[string]int{}
	for _, s := range specs {
		byLevel[verdict.LevelOf(s.ID)]++
	}
	var parts []string
	for _, level := range verdict.Levels() {
		parts = append(parts, fmt.Sprintf("%d %s", byLevel[level], level))
	}
	return fmt.Sprintf("%d specs prove %[1]d requirements: %s. %d of the core requirements make S3 fail in one way each, and %d an oracle that a policy asks in its place.\n",
		len(specs), strings.Join(parts, ", "), len(outage.Faults), len(outage.OracleFaults))
}

// requirements is a table of every requirement and its sentence. Rows of the fault table from which the same must come share one.
func requirements(specs []Spec) (string, error) {
	rows := outage.All()
	sentences := map[string]string{}
	uses := map[string]int{} // of what must come of a fault
	ofFault := map[string]string{}
	var all []verdict.Requirement
	for _, s := range specs {
		all = append(all, verdict.Requirement{ID: s.ID, Level: verdict.LevelOf(s.ID), Feature: verdict.FeatureOf(s.Labels)})
		sentences[s.ID] = s.Sentence
		i := slices.IndexFunc(rows, func(f outage.Fault) bool { return f.Requirement() == s.ID })
		switch {
		case i < 0 && (strings.HasPrefix(s.ID, "core/"+outage.OfS3+"/") || strings.HasPrefix(s.ID, "core/"+outage.OfOracle+"/")):
			return "", fmt.Errorf("the spec %s has no row in the fault table", s.ID)
		case i < 0:
			continue
		}
		begins := "W" + strings.TrimPrefix(rows[i].While(), "w") + ", "
		rest, ok := strings.CutPrefix(s.Sentence, begins)
		if !ok {
			return "", fmt.Errorf("the sentence of %s does not begin with %q", s.ID, begins)
		}
		ofFault[s.ID] = fmt.Sprintf("While %s is down in one of these ways, %s", rows[i].What(), rest)
		uses[ofFault[s.ID]]++
	}
	for id, shared := range ofFault {
		if uses[shared] > 1 {
			sentences[id] = shared
		}
	}
	var lines [][]string
	for _, row := range markdown.Requirements(all, func(r verdict.Requirement) []string { return []string{sentences[r.ID]} }) {
		lines = append(lines, append([]string{row.Label}, row.Cells...))
	}
	return table([]string{"requirement", "what must be true"}, lines), nil
}

// outcomes say what a policy must do in each outcome of the fault table.
var outcomes = map[outage.Outcome]string{
	outage.OutcomeUnknown: "never restore, and let no backup in",
	outage.OutcomeAbsent:  "not restore, and back up",
	outage.OutcomeBackup:  "restore",
	outage.OutcomeLater:   "restore afterwards, and not report success before",
	outage.OutcomeLied:    "not lose the last good snapshot",
	outage.OutcomeNothing: "let no backup in, and restore afterwards or say that nothing was found",
	outage.OutcomeOlder:   "let no backup in, and restore the newest afterwards or say that it has not",
}

func faults(all []outage.Fault) (string, error) {
	var rows [][]string
	var problems []error
	for _, f := range all {
		must, known := outcomes[f.Outcome]
		if !known {
			problems = append(problems, fmt.Errorf("fault %s: there is no text for the outcome %q in harness/report/docs", f.Name, f.Outcome))
		}
		rows = append(rows, []string{code(f.Name), f.Sentence, must})
	}
	return table([]string{"fault", all[0].What() + " is …", "the policy must …"}, rows), errors.Join(problems...)
}

func stacks(lock *stack.Lock) string {
	var rows [][]string
	for _, name := range slices.Sorted(slices.Values(lock.StackNames())) {
		s, err := lock.Stack(name)
		if err != nil {
			panic(err) // it is one of the lock's own names
		}
		label, snapshots := code(name), "none"
		if classes := s.Storage.Snapshotted(); len(classes) > 0 {
			snapshots = markdown.Names(classes)
		}
		if name == lock.DefaultStack {
			label += " (default)"
		}
		rows = append(rows, []string{label, s.Versions["kubernetes"], cmp.Or(s.Versions["kyverno"], "none"), s.Versions["volsync"],
			s.Versions["restic"], s.Versions["s3"], cmp.Or(s.Versions["external-secrets"], "none"), cmp.Or(s.Versions["argo-cd"], "none"), snapshots, fmt.Sprint(s.Nodes)})
	}
	return table([]string{"stack", "Kubernetes", "Kyverno", "VolSync", "restic", "S3 server", "External Secrets", "Argo CD", "storage classes with snapshots", "nodes"}, rows)
}

func settingsTable(all []settings.Setting) string {
	var rows [][]string
	for _, s := range all {
		preset := code(s.Default)
		if strings.Contains(s.Meaning, "(default:") { // it depends on something, and the text says on what
			preset = ""
		}
		rows = append(rows, []string{code(s.Name), code("--" + s.Flag()), preset, s.Meaning})
	}
	return table([]string{"setting", "flag", "default", "meaning"}, rows)
}

// labels are those that LABELS can select by.
func labels(specs []Spec) string {
	var all []string
	for _, s := range specs {
		all = append(all, s.Labels...)
	}
	return "Labels of specs, for `LABELS`: " + markdown.Names(slices.Compact(slices.Sorted(slices.Values(all)))) + ".\n"
}

var requirementID = regexp.MustCompile(`\b(?:core|safety|resilience|scale)/[a-z0-9]+(?:[-/][a-z0-9]+)*`)

// UnknownRequirements are the requirement IDs in a text that are neither a spec's nor the beginning of one.
func UnknownRequirements(text string, specs []Spec) (unknown []string) {
	for _, id := range requirementID.FindAllString(text, -1) {
		if !slices.ContainsFunc(specs, func(s Spec) bool { return s.ID == id || strings.HasPrefix(s.ID, id+"/") }) {
			unknown = append(unknown, id)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(unknown)))
}
