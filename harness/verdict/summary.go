package verdict

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/smart-restore/conformance/harness/explain"
	"github.com/smart-restore/conformance/harness/text"
)

// Summary writes what a terminal shows at the end of a run: a line for each
// requirement, what fails last and with its whole reason, then the counts: the
// end of a log is what is looked at, and all that some keep. The very last line
// is "N passed, N failed", where failed is Failures.
func (r *Report) Summary(w io.Writer, color bool) error {
	paint := func(o outcome, s string) string {
		code := map[outcome]string{good: "32", failed: "1;31", surprise: "1;31", unseen: "1;33"}[o]
		if !color || code == "" {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	width, words := 0, len(Unknown)
	for _, result := range r.Requirements {
		width, words = max(width, utf8.RuneCountInString(result.ID)), max(words, len(result.Word()))
	}
	var b bytes.Buffer
	for _, result := range r.failsLast() {
		fmt.Fprintf(&b, "%s  %-*s  %7.1f s", paint(result.outcome(), fmt.Sprintf("%-*s", words, result.Word())), width, result.ID, result.DurationSeconds)
		switch {
		case result.Fails():
			b.WriteString("\n")
			result.explain(&b, words+2)
		case result.outcome() == good:
			b.WriteString("\n")
		default:
			fmt.Fprintf(&b, "  %s\n", FirstLine(result.Why()))
		}
	}
	around := func(what, text string) {
		lines := readable(text)
		fmt.Fprintf(&b, "%s %s\n", paint(failed, what), lines[0])
		write(&b, lines[1:], 2)
	}
	if r.SetupError != "" {
		around("set-up failed:", r.SetupError)
	}
	for _, e := range r.SuiteErrors {
		around("suite error:", e)
	}
	for _, p := range r.Partial {
		fmt.Fprintf(&b, "partial: %s\n", FirstLine(p))
	}
	c := r.Count()
	if c.NotSelected > 0 {
		fmt.Fprintf(&b, "%d %s\n", c.NotSelected, r.notSelected())
	}
	if len(r.Requirements) == 0 {
		b.WriteString("no requirement was tried\n")
	}
	fmt.Fprintf(&b, "%s\n", c)
	fmt.Fprintf(&b, "%d passed, %d failed\n", c.Pass, r.Failures())
	_, err := w.Write(r.redact(b.Bytes()))
	return err
}

// maxReasonLines is how much of a reason the summary shows: a comparison of two
// listings can be long.
const maxReasonLines = 12

// explain writes why a result fails, and the line that tries it again, each line
// that much indented.
func (r Result) explain(b *bytes.Buffer, indent int) {
	write(b, readable(r.Why()), indent)
	if r.Rerun != "" {
		fmt.Fprintf(b, "%*srerun: %s\n", indent, "", r.Rerun)
	}
}

// write writes lines, each indented that much: no more than a summary shows.
func write(b *bytes.Buffer, lines []string, indent int) {
	for i, line := range lines {
		if i == maxReasonLines {
			fmt.Fprintf(b, "%*s… (the rest is in the report)\n", indent, "")
			return
		}
		fmt.Fprintf(b, "%*s%s\n", indent, "", line)
	}
}

// failsLast is all results, each part in its order.
func (r *Report) failsLast() []Result {
	var rest, fails []Result
	for _, result := range r.Requirements {
		if result.Fails() {
			fails = append(fails, result)
		} else {
			rest = append(rest, result)
		}
	}
	return append(rest, fails...)
}

// String is the counts of what was selected, in words; what is rare is named
// only where there is some.
func (c Counts) String() string {
	words := fmt.Sprintf("%d passed, %d failed", c.Pass, c.Fail)
	for _, rare := range []struct {
		n    int
		what string
	}{{c.ExpectedFail, "failed as expected"}, {c.Surprise, "passed although expected to fail"}, {c.NotPromised, "not promised"}} {
		if rare.n > 0 {
			words += fmt.Sprintf(", %d %s", rare.n, rare.what)
		}
	}
	return words + fmt.Sprintf(", %d unknown", c.Unknown)
}

// Explained is what stands beside a failure. What is unknown, or passed as a surprise, it is not about.
func (r Result) Explained() (explain.Text, bool) {
	if r.Verdict != Fail {
		return explain.Text{}, false
	}
	return explain.Of(r.ID)
}

// Headline is the run's result in a sentence.
func (r *Report) Headline() string {
	c := r.Count()
	tried := len(r.Requirements) - c.NotPromised
	plural := func(n int, one, many string) string {
		if n == 1 {
			return one
		}
		return many
	}
	switch n := c.Fail; {
	case r.SetupError != "":
		return "Set-up failed: nothing was tried"
	case n > 0:
		return fmt.Sprintf("%d of %d requirements %s", n, tried, plural(n, "does not hold", "do not hold"))
	case c.Surprise > 0:
		return fmt.Sprintf("%d of %d requirements %s, although the policy's contract expects failure", c.Surprise, tried, plural(c.Surprise, "holds", "hold"))
	case c.Unknown > 0:
		return fmt.Sprintf("%d of %d requirements %s unknown: the suite could not see", c.Unknown, tried, plural(c.Unknown, "is", "are"))
	case len(r.SuiteErrors) > 0:
		return "The suite itself had errors"
	case tried == 0:
		return "No requirement was tried"
	case c.ExpectedFail > 0:
		return fmt.Sprintf("All requirements hold, except %d %s fail", c.ExpectedFail, plural(c.ExpectedFail, "that is expected to", "that are expected to"))
	}
	return plural(tried, "The one requirement that was tried holds", fmt.Sprintf("All %d requirements that were tried hold", tried))
}

// What of a long message, and of how many of them, Markdown shows: GitHub takes one megabyte.
const (
	maxMessage  = 4000
	maxMessages = 60
)

// notSelected says why specs were left out.
func (r *Report) notSelected() string {
	if r.Selection.Whole {
		return "run on request only: make e2e LABELS=on-request"
	}
	return "not selected"
}

// Markdown writes the report for people, as GitHub shows it as a step's summary.
func (r *Report) Markdown(w io.Writer) error {
	var b bytes.Buffer
	c := r.Count()
	mark := "❌"
	if r.OK() {
		mark = "✅"
	} else if r.SetupError == "" && len(r.SuiteErrors) == 0 && c.Fail+c.Surprise == 0 {
		mark = "❓"
	}
	fmt.Fprintf(&b, "## %s %s\n\n", mark, r.Headline())
	fmt.Fprintf(&b, "Policy %s on %s: %s", text.Code(r.Implementation.Policy), text.Code(r.Stack.Name), c)
	if c.NotSelected > 0 {
		fmt.Fprintf(&b, ", %d %s", c.NotSelected, r.notSelected())
	}
	b.WriteString(".\n\n")
	if len(r.Partial) > 0 {
		b.WriteString("> **Partial**, so this says less than a full run:\n")
		for _, p := range r.Partial {
			fmt.Fprintf(&b, "> - %s\n", text.Plain(p))
		}
		b.WriteString("\n")
	}
	if r.SetupError != "" {
		fmt.Fprintf(&b, "**Set-up failed:**\n\n%s\n", fence(r.SetupError))
	}
	for _, e := range r.SuiteErrors {
		fmt.Fprintf(&b, "**Suite error:**\n\n%s\n", fence(e))
	}
	r.markdownFailures(&b)
	r.markdownLevels(&b)
	r.markdownFacts(&b)
	_, err := w.Write(r.redact(b.Bytes()))
	return err
}

// markdownFailures says what is not proven, why, and how to run it again.
func (r *Report) markdownFailures(b *bytes.Buffer) {
	n := 0
	for _, result := range r.Requirements {
		if !result.Fails() {
			continue
		}
		if n++; n == 1 {
			b.WriteString("### What is not proven\n\n")
		}
		if n > maxMessages {
			continue
		}
		why := []rune(result.Why())
		if len(why) > maxMessage {
			why = append(why[:maxMessage], '…')
		}
		fmt.Fprintf(b, "<details><summary>%s <b>%s</b>: %s</summary>\n\n%s\n\n%s\n", icon(result), html.EscapeString(result.ID), html.EscapeString(FirstLine(result.Why())), text.Plain(result.Sentence), fence(string(why)))
		if t, found := result.Explained(); found {
			fmt.Fprintf(b, "**How it is proven.** %s\n\n**What a failure usually means.** %s\n\n**What to look at.** %s\n\n", text.Plain(t.How), text.Plain(t.Failure), text.Plain(t.Look))
		}
		if result.Rerun != "" {
			fmt.Fprintf(b, "Run it again: %s\n\n", text.Code(result.Rerun))
		}
		b.WriteString("</details>\n\n")
	}
	if n > maxMessages {
		fmt.Fprintf(b, "And %d more.\n\n", n-maxMessages)
	}
}

func icon(result Result) string {
	return map[outcome]string{good: "✅", failed: "❌", surprise: "❌", unseen: "❓", expectedFail: "⚠️", notPromised: "➖"}[result.outcome()]
}

// markdownLevels lists every requirement, folded by level.
func (r *Report) markdownLevels(b *bytes.Buffer) {
	byLevel := r.CountByLevel()
	for _, level := range append(slices.Clone(levels), OtherLevel) {
		counts, any := byLevel[level]
		if !any {
			continue
		}
		fmt.Fprintf(b, "<details><summary><b>%s</b>: %s</summary>\n\n| | requirement | seconds | |\n|---|---|---:|---|\n", level, counts)
		for _, result := range r.Requirements {
			if cmp.Or(result.Level, OtherLevel) != level {
				continue
			}
			last := result.Sentence
			if result.outcome() != good {
				last = result.Word() + ": " + FirstLine(strings.TrimPrefix(result.Why(), "expected: "))
			}
			fmt.Fprintf(b, "| %s | %s | %.1f | %s |\n", icon(result), text.Code(result.ID), result.DurationSeconds, text.Plain(last))
		}
		b.WriteString("\n</details>\n\n")
	}
}

// markdownFacts says what it ran on, how long that took, and where the rest is.
func (r *Report) markdownFacts(b *bytes.Buffer) {
	if f := r.Implementation.Features; len(f.Declared) > 0 {
		fmt.Fprintf(b, "Features promised: %s; proven: %s.\n\n", strings.Join(f.Declared, ", "), cmp.Or(strings.Join(f.Supported, ", "), "none"))
	}
	if len(r.Stack.Observed) > 0 {
		b.WriteString("<details><summary>Versions, as the cluster itself says</summary>\n\n| component | requested | observed |\n|---|---|---|\n")
		for _, name := range slices.Sorted(maps.Keys(r.Stack.Observed)) {
			o := r.Stack.Observed[name]
			fmt.Fprintf(b, "| %s | %s | %s |\n", text.Plain(name), text.Plain(r.Stack.Requested[name]), text.Plain(o.Version))
		}
		b.WriteString("\n</details>\n\n")
	}
	if len(r.Phases) > 0 {
		b.WriteString("<details><summary>Phases</summary>\n\n| phase | seconds | |\n|---|---:|---|\n")
		for _, p := range r.Phases {
			fmt.Fprintf(b, "| %s | %.1f | %s |\n", text.Plain(p.Name), p.DurationSeconds, text.Plain(p.Error))
		}
		b.WriteString("\n</details>\n\n")
	}
	b.WriteString("In the run's artifacts: `report.html` (timelines, with links to the logs beside it), `report.yaml`, `junit.xml`, `logs/`, `dumps/`.\n")
}

// FirstLine is the first line of a message that says something, at most 160
// characters, none of which a terminal obeys. Gomega begins with "Expected" and
// says what in the lines below, so those are joined to it; a wait says in its
// second line what it saw instead.
func FirstLine(message string) string {
	const most = 160
	line := WholeFirstLine(message)
	if runes := []rune(line); len(runes) > most {
		line = string(runes[:most-1]) + "…"
	}
	return line
}

// WholeFirstLine is the same, however long.
func WholeFirstLine(message string) string {
	lines := readable(message)
	n := 1
	if first := lines[0]; first == "Expected" {
		n = 4 // the value, the matcher, what was wanted
	} else if strings.HasPrefix(first, "Timed out after") || strings.HasPrefix(first, "wanted:") || first == "Unexpected error:" || strings.HasSuffix(first, ":") {
		n = 2
	}
	return strings.Join(lines[:min(n, len(lines))], " ")
}

// readable is a message's lines that say something, with nothing that a terminal
// obeys: at least one.
func readable(message string) []string {
	var lines []string
	printable := func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) {
			return -1
		}
		return r
	}
	for line := range strings.Lines(message) {
		if line = strings.Join(strings.Fields(strings.Map(printable, line)), " "); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return []string{"no reason was given"}
	}
	return lines
}

// fence quotes text as it is, in a fence that it does not contain.
func fence(s string) string {
	ticks := "```"
	for strings.Contains(s, ticks) {
		ticks += "`"
	}
	return ticks + "\n" + strings.TrimRight(s, "\n") + "\n" + ticks + "\n"
}
