// Package github says what a run found where GitHub shows it: as annotations on the policy's files.
package github

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/strict"
	"github.com/smart-restore/conformance/harness/verdict"
)

// most is how many errors GitHub shows of a step; what is more it leaves out without a word.
const most = 10

// Annotate writes workflow commands, from which GitHub makes annotations: for each requirement that keeps the run from
// being good, on the line that is to blame where that is known, else on the policy's first file, else on none.
func Annotate(w io.Writer, report *verdict.Report) error {
	places := find(policy.Documents(report.Implementation.Policy))
	var b bytes.Buffer
	say := func(p place, title, text string) { b.WriteString(command(p, title, text)) }
	if report.SetupError != "" {
		say(places.first, "set-up failed", verdict.FirstLine(report.SetupError))
	}
	for _, e := range report.SuiteErrors {
		say(place{}, "suite error", verdict.FirstLine(e))
	}
	var failing []verdict.Result
	for _, result := range report.Requirements {
		if result.Fails() {
			failing = append(failing, result)
		}
	}
	for i, result := range failing {
		if i == most-1 && len(failing) > most {
			say(places.first, "and more", fmt.Sprintf("%d more requirements are not proven: the summary names them", len(failing)-i))
			break
		}
		text := verdict.FirstLine(result.Why())
		if result.Rerun != "" {
			text += "\n" + result.Rerun
		}
		say(places.blame(result), result.ID+": "+result.Word(), text)
	}
	text := b.Bytes()
	if report.Redact != nil {
		text = report.Redact(text)
	}
	_, err := w.Write(text)
	return err
}

// Finding annotates what was found in a policy before anything was tried.
func Finding(w io.Writer, p *policy.Policy, requirement, text string) error {
	_, err := io.WriteString(w, command(find(p.Documents).first, requirement, text))
	return err
}

// command is a workflow command. GitHub ends it at a line's end, and its properties at commas and colons.
func command(p place, title, text string) string {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	where := ""
	if p.file != "" {
		where = "file=" + property.Replace(p.file) + ","
		if p.line > 0 {
			where += fmt.Sprintf("line=%d,", p.line)
		}
	}
	return "::error " + where + "title=" + property.Replace(title) + "::" + data.Replace(text) + "\n"
}

// place is a line of a file; without one the file, or nothing, is meant.
type place struct {
	file string
	line int
}

// places are the lines of a policy that annotations are about.
type places struct {
	first             place // its first Kyverno policy
	restores, backsUp place // where objects are made for a PVC
	expected          map[string]place
}

// blame is the place that a result is about. Only what was seen puts blame on a line: that a ReplicationDestination was made
// that must not be, or nothing was made that must be.
func (p places) blame(result verdict.Result) place {
	if at, ok := p.expected[result.ID]; ok && result.Verdict == verdict.Pass {
		return at
	}
	for _, e := range result.Evidence {
		d, ok := e.Decision()
		switch {
		case !ok || result.Verdict != verdict.Fail:
		case d.Wanted == verdict.None && (d.Outcome == verdict.Restore || d.Outcome == verdict.LateRestore) && p.restores.file != "":
			return p.restores
		case d.Wanted == verdict.Restore && d.Outcome == verdict.None && p.restores.file != "":
			return p.restores
		case d.Outcome == verdict.Failed && p.backsUp.file != "":
			return p.backsUp
		}
	}
	return p.first
}

// find finds the places in a policy's documents, as far as the repository has them.
func find(documents []policy.Document) places {
	p := places{expected: map[string]place{}}
	for _, document := range documents {
		if file := inRepository(document.File); file != "" {
			p.look(filepath.ToSlash(file), document)
		}
	}
	return p
}

// inRepository is a file's path in the repository that the workflow runs for, which need not be the folder that this program
// runs in; empty where it is not in it.
func inRepository(file string) string {
	here, err := os.Getwd()
	if err != nil {
		return ""
	}
	if below, ok := policy.Below(cmp.Or(os.Getenv("GITHUB_WORKSPACE"), here), file); ok {
		return below
	}
	return ""
}

// look takes from a document what annotations may be about.
func (p *places) look(file string, document policy.Document) {
	kind, _ := strict.Find(document.Root, "kind")
	if document.Kind() == policy.Default().Kind {
		p.contract(file, document)
		return
	}
	if !strings.Contains(document.Text("apiVersion"), "kyverno.io/") {
		return
	}
	if p.first.file == "" {
		p.first = place{file: file, line: kind.Line}
	}
	if !strings.HasSuffix(kind.Value, "GeneratingPolicy") && kind.Value != "ClusterPolicy" && kind.Value != "Policy" {
		return // it can make nothing
	}
	spec, found := strict.Find(document.Root, "spec")
	if !found {
		return
	}
	for _, wanted := range []struct {
		word string
		at   *place
	}{{"ReplicationDestination", &p.restores}, {"ReplicationSource", &p.backsUp}} {
		if line := lineOf(spec, wanted.word); line > 0 && wanted.at.file == "" {
			*wanted.at = place{file: file, line: line}
		}
	}
}

func (p *places) contract(file string, document policy.Document) {
	list, found := strict.Find(document.Root, "expectedFailures")
	if !found {
		return
	}
	for _, item := range list.Content {
		if id, found := strict.Find(item, "requirement"); found {
			p.expected[id.Value] = place{file: file, line: id.Line}
		}
	}
}

// lineOf is the first line below node where kind is the kind of what is made: the value of a key "kind", in YAML or in an
// expression; 0 where there is none.
func lineOf(node *yaml.Node, kind string) int {
	if node.Kind == yaml.ScalarNode {
		offset := 0
		if node.Style == yaml.LiteralStyle || node.Style == yaml.FoldedStyle {
			offset = 1 // its text begins below its mark
		}
		for i, line := range strings.Split(node.Value, "\n") {
			if strings.Contains(line, `"`+kind+`"`) || strings.Contains(line, `'`+kind+`'`) {
				return node.Line + offset + i
			}
		}
		return 0
	}
	if k, found := strict.Find(node, "kind"); found && k.Value == kind {
		return k.Line
	}
	for _, child := range node.Content {
		if line := lineOf(child, kind); line > 0 {
			return line
		}
	}
	return 0
}
