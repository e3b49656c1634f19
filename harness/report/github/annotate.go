// Package github says what a run found where GitHub shows it: as annotations on the policy's files.
package github

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/verdict"
)

// most is how many errors GitHub shows of a step; what is more it leaves out without a word.
const most = 10

// Annotate writes workflow commands, from which GitHub makes annotations: for each requirement that keeps the run from
// being good, on the line that is to blame where that is known, else on the policy's first file, else on none.
func Annotate(w io.Writer, report *verdict.Report) error {
	places := find(report.Implementation.Policy)
	var b bytes.Buffer
	say := func(p place, title, text string) { b.WriteString(command(p, title, text)) }
	if report.SetupError != "" {
		say(places.first, "set-up failed", verdict.FirstLine(report.SetupError))
	}
	for _, e := range report.SuiteErrors {
		say(place{}, "outside the specs", verdict.FirstLine(e))
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
func Finding(w io.Writer, policy, requirement, text string) error {
	_, err := io.WriteString(w, command(find(policy).first, requirement, text))
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

// find reads the policy's own files, as far as they can be read: whoever loads the policy says what is wrong with it.
func find(policy string) places {
	p := places{expected: map[string]place{}}
	for _, file := range filesOf(policy) {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		shown := inRepository(file)
		decoder := yaml.NewDecoder(bytes.NewReader(raw))
		for {
			var doc yaml.Node
			if err := decoder.Decode(&doc); errors.Is(err, io.EOF) || err != nil || len(doc.Content) == 0 {
				break
			}
			p.look(filepath.ToSlash(shown), doc.Content[0])
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
	whole := file
	if !filepath.IsAbs(whole) {
		whole = filepath.Join(here, file)
	}
	repository := cmp.Or(os.Getenv("GITHUB_WORKSPACE"), here)
	if rel, err := filepath.Rel(repository, whole); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return ""
}

// filesOf lists the YAML files of a policy, in order.
func filesOf(policy string) []string {
	info, err := os.Stat(policy)
	if err != nil {
		return nil
	}
	if !info.IsDir() {
		contract := strings.TrimSuffix(policy, filepath.Ext(policy)) + ".conformance.yaml"
		return []string{policy, contract}
	}
	entries, err := os.ReadDir(policy)
	if err != nil {
		return nil
	}
	var files []string
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); ext == ".yaml" || ext == ".yml" {
			files = append(files, filepath.Join(policy, entry.Name()))
		}
	}
	slices.Sort(files)
	return files
}

// look takes from an object what annotations may be about.
func (p *places) look(file string, object *yaml.Node) {
	kind, version := value(object, "kind"), value(object, "apiVersion")
	if kind != nil && kind.Value == "PolicyContract" {
		p.contract(file, object)
		return
	}
	if kind == nil || version == nil || file == "" || !strings.Contains(version.Value, "kyverno.io/") {
		return
	}
	if p.first.file == "" {
		p.first = place{file: file, line: kind.Line}
	}
	if !strings.HasSuffix(kind.Value, "GeneratingPolicy") && kind.Value != "ClusterPolicy" && kind.Value != "Policy" {
		return // it can make nothing
	}
	for _, wanted := range []struct {
		word string
		at   *place
	}{{"ReplicationDestination", &p.restores}, {"ReplicationSource", &p.backsUp}} {
		if line := lineOf(value(object, "spec"), wanted.word); line > 0 && wanted.at.file == "" {
			*wanted.at = place{file: file, line: line}
		}
	}
}

func (p *places) contract(file string, object *yaml.Node) {
	list := value(object, "expectedFailures")
	if list == nil || file == "" {
		return
	}
	for _, item := range list.Content {
		if id := value(item, "requirement"); id != nil {
			p.expected[id.Value] = place{file: file, line: id.Line}
		}
	}
}

// value is a mapping's value; nil where it has none.
func value(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; mapping != nil && mapping.Kind == yaml.MappingNode && i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// lineOf is the first line below node where kind is the kind of what is made: the value of a key "kind", in YAML or in an
// expression; 0 where there is none.
func lineOf(node *yaml.Node, kind string) int {
	if node == nil {
		return 0
	}
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
	if k := value(node, "kind"); k != nil && k.Value == kind {
		return k.Line
	}
	for _, child := range node.Content {
		if line := lineOf(child, kind); line > 0 {
			return line
		}
	}
	return 0
}
