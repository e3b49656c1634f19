package mutants

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/policy"
)

// Report is what became of a policy's mutants.
type Report struct {
	Policy  string   `json:"policy"`
	Name    string   `json:"name"`
	Since   string   `json:"since,omitempty"` // only lines that changed since this commit have mutants
	Mutants []Result `json:"mutants"`
	// Wrong are the reasons in the file beside the policy that do not hold.
	Wrong []string `json:"wrong,omitempty"`
}

// Result is a mutant and what became of it.
type Result struct {
	Mutant
	Outcome
	Reason *Reason `json:"reason,omitempty"`
}

// NewReport puts mutants, outcomes and reasons together.
func NewReport(p *policy.Policy, since string, all []Mutant, outcomes map[string]Outcome, reasons []Reason) *Report {
	r := &Report{Policy: p.Path, Name: p.Contract.Name, Since: since}
	why := map[string]*Reason{}
	for i := range reasons {
		why[reasons[i].Mutant] = &reasons[i]
	}
	for _, m := range all {
		r.Mutants = append(r.Mutants, Result{m, outcomes[m.ID], why[m.ID]})
	}
	return r
}

// Fate is what counts of a mutant.
type Fate string

// The fates.
const (
	IsCaught     Fate = "caught"
	IsRefused    Fate = "not taken"
	IsEquivalent Fate = "equivalent"
	IsForCluster Fate = "left to a cluster"
	IsUnknown    Fate = "unknown"
	IsAlive      Fate = "lives"
)

func (r Result) fate() Fate {
	switch {
	case r.Verdict == Caught:
		return IsCaught
	case r.Verdict == Refused:
		return IsRefused
	case r.Verdict == Unknown && (r.Reason == nil || r.Reason.Requirement == ""): // that it behaves as the policy does was not seen
		return IsUnknown
	case r.Reason != nil && r.Reason.Requirement == "":
		return IsEquivalent
	case r.Reason != nil:
		return IsForCluster
	}
	return IsAlive
}

// Count counts the mutants of a fate.
func (r *Report) count(fate Fate) (n int) {
	for _, m := range r.Mutants {
		if m.fate() == fate {
			n++
		}
	}
	return n
}

// OK says whether every mutant that can be caught is, and whether every reason holds.
func (r *Report) OK() bool {
	return len(r.Wrong) == 0 && r.count(IsAlive) == 0 && r.count(IsUnknown) == 0
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Text writes the report for people: what lives, and the counts. With listing, each line of the policy with what protects it comes first.
func (r *Report) Text(w io.Writer, listing bool) error {
	b := &strings.Builder{}
	if listing {
		for _, f := range r.listing() {
			fmt.Fprintf(b, "%s\n", f.File)
			for _, l := range f.Lines {
				mark := " "
				if len(l.Unprotected) > 0 {
					mark = "!"
				}
				fmt.Fprintf(b, "%s%5d  %-46s  %s\n", mark, l.Number, clip(strings.Join(l.said(), ", "), 46), l.Text)
			}
			fmt.Fprintln(b)
		}
	}
	fmt.Fprintf(b, "policy %s (%s): %d mutants", r.Name, policy.Shown(r.Policy), len(r.Mutants))
	if r.Since != "" {
		fmt.Fprintf(b, " of the lines that changed since %s", r.Since)
	}
	fmt.Fprintln(b)
	for _, fate := range Fates {
		if n := r.count(fate); n > 0 || fate == IsCaught || fate == IsAlive {
			fmt.Fprintf(b, "  %5d %s\n", n, explained[fate])
		}
	}
	if percent := r.Tally("").Percent(); percent > 0 {
		fmt.Fprintf(b, "%.1f %% of those that can be caught without a cluster are.\n", percent)
	}
	for _, m := range r.Mutants {
		if fate := m.fate(); fate == IsAlive || fate == IsUnknown {
			fmt.Fprintf(b, "\n%s  %s  %s:%d (%s, %s)\n          %s\n", m.ID, fate, policy.Shown(m.File), m.Line, m.Object, m.Operator, clip(m.Change(), 300))
			if fate == IsUnknown {
				fmt.Fprintf(b, "          %s\n", m.Unknown)
			}
		}
	}
	if len(r.Wrong) > 0 {
		fmt.Fprintln(b)
	}
	for _, wrong := range r.Wrong {
		fmt.Fprintln(b, wrong)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var explained = map[Fate]string{
	IsCaught:     "caught by a requirement",
	IsRefused:    "not taken by Kyverno or the API server",
	IsEquivalent: "equivalent: they behave as the policy does, as " + ReasonsFile + " says",
	IsForCluster: "left to a spec on a cluster, as " + ReasonsFile + " says",
	IsUnknown:    "unknown: a situation could not be judged",
	IsAlive:      "live: no requirement catches them",
}

// clip is a text that is not longer than n.
func clip(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}

// Requirements writes how many mutants each requirement caught, most first: by the first one that did, or where all situations were
// played by each.
func (r *Report) Requirements(w io.Writer) error {
	first, every := map[string]int{}, map[string]int{}
	for _, m := range r.Mutants {
		if m.Verdict == Caught {
			first[m.Requirement]++
			for _, id := range m.All {
				every[id]++
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(every), func(a, b string) int { return cmp.Or(cmp.Compare(first[b], first[a]), cmp.Compare(a, b)) })
	for _, id := range ids {
		if _, err := fmt.Fprintf(w, "%6d first, %6d in all  %s\n", first[id], every[id], id); err != nil {
			return err
		}
	}
	return nil
}

// listed is a file of the policy, line by line.
type listed struct {
	File  string
	Lines []line
}

type line struct {
	Number      int
	Text        string
	Protected   []string // requirements that caught a mutant of it
	Unprotected []Result // mutants of it that live
	Others      []string // fates of its other mutants
	Mutants     []Result
}

// said is what stands beside a line.
func (l line) said() []string {
	all := slices.Clone(l.Protected)
	if len(l.Unprotected) > 0 {
		all = append([]string{fmt.Sprintf("%d live", len(l.Unprotected))}, all...)
	}
	if len(all) == 0 {
		all = l.Others
	}
	return all
}

// Class is what a line is drawn as.
func (l line) Class() string {
	switch {
	case len(l.Unprotected) > 0:
		return "bare"
	case len(l.Protected) > 0:
		return "held"
	case len(l.Mutants) > 0:
		return "other"
	}
	return ""
}

// Said is said, as one text.
func (l line) Said() string { return strings.Join(l.said(), ", ") }

// listing is every file that has mutants.
func (r *Report) listing() (all []listed) {
	byFile := map[string]map[int][]Result{}
	var files []string
	for _, m := range r.Mutants {
		if m.File == "" {
			continue
		}
		if byFile[m.File] == nil {
			byFile[m.File] = map[int][]Result{}
			files = append(files, m.File)
		}
		byFile[m.File][m.Line] = append(byFile[m.File][m.Line], m)
	}
	slices.Sort(files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		f := listed{File: policy.Shown(file)}
		for i, text := range strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n") {
			f.Lines = append(f.Lines, lineOf(i+1, text, byFile[file][i+1]))
		}
		all = append(all, f)
	}
	return all
}

func lineOf(number int, text string, mutants []Result) line {
	l := line{Number: number, Text: text, Mutants: mutants}
	counts := map[string]int{}
	for _, m := range mutants {
		switch fate := m.fate(); fate {
		case IsCaught:
			counts[m.Requirement]++
		case IsAlive, IsUnknown:
			l.Unprotected = append(l.Unprotected, m)
		default:
			if !slices.Contains(l.Others, string(fate)) {
				l.Others = append(l.Others, string(fate))
			}
		}
	}
	l.Protected = slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	return l
}

//go:embed page.html
var pageSource embed.FS

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"fate":   func(r Result) Fate { return r.fate() },
	"change": func(r Result) string { return clip(r.Change(), 600) },
}).ParseFS(pageSource, "page.html"))

// HTML writes the listing as a page that needs nothing else.
func (r *Report) HTML(w io.Writer) error {
	type count struct {
		N    int
		Text string
	}
	var counts []count
	for _, fate := range Fates {
		counts = append(counts, count{r.count(fate), explained[fate]})
	}
	return page.Execute(w, map[string]any{"Report": r, "Counts": counts, "Files": r.listing()})
}
