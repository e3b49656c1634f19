package session

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/smart-restore/conformance/harness/explain"
	"github.com/smart-restore/conformance/harness/report/history"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Explain says all about one requirement, which may be named by its last words.
func (s *Session) Explain(ctx context.Context, wanted string) error {
	specs, _, err := s.listSpecs(ctx, selection{})
	if err != nil {
		return err
	}
	id, near := explain.Find(wanted, ids(specs))
	if id == "" {
		return fmt.Errorf("no requirement is called %q: do you mean %s? make list shows all", wanted, strings.Join(near, " or "))
	}
	for _, sp := range specs {
		if sp.ID == id {
			return s.explain(s.Out, sp)
		}
	}
	return nil
}

func (s *Session) explain(out io.Writer, sp spec) error {
	t, _ := explain.Of(sp.ID)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", sp.ID)
	for _, part := range []struct{ head, text string }{
		{"What it proves", sp.Sentence}, {"How", t.How}, {"What it costs", s.cost(sp)}, {"What a failure usually means", t.Failure}, {"What to look at then", t.Look},
		{"Run it alone", verdict.RerunLine(sp.ID)},
	} {
		fmt.Fprintf(&b, "\n%s\n%s", part.head, wrapped(part.text, 110, "  "))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// cost is how long a spec takes, as recorded and in one's own runs, and what it needs.
func (s *Session) cost(sp spec) string {
	text := "It was not recorded how long it takes."
	if seconds, found := explain.Seconds(sp.ID); found {
		text = fmt.Sprintf("About %.0f s on two cores.", seconds)
	}
	if found, err := history.Find(s.Settings.Artifacts); err == nil {
		if own, tried := history.Took(found.Runs)[sp.ID]; tried {
			text += fmt.Sprintf(" In your own runs that passed: %.0f s, as the median.", own)
		}
	}
	for _, label := range sp.Labels {
		if label == "Serial" {
			text += " It runs alone, after the others, because it changes what all share."
		}
	}
	if f := verdict.FeatureOf(sp.Labels); f != "" {
		text += " It runs only where the policy promises " + f + "."
	}
	return text + " Labels: " + strings.Join(sp.Labels, ", ") + "."
}

// wrapped is a text in lines that are no longer than width, each indented.
func wrapped(text string, width int, indent string) string {
	var b strings.Builder
	line := ""
	flush := func() {
		if line != "" {
			b.WriteString(indent + line + "\n")
		}
		line = ""
	}
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			flush()
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	flush()
	return b.String()
}
