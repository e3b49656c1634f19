// Package explain says of each requirement how it is proven, how long that takes, what a failure usually means, and what to look at
// then. The texts are in texts.yaml. The command explain and the reports show them.
package explain

import (
	"bytes"
	_ "embed" // the texts
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/smart-restore/conformance/harness/strict"
)

// Text is about one requirement.
type Text struct {
	ID string `json:"id"`
	// How says how the spec proves it, Failure what a failure usually means, Look what to look at then.
	How     string `json:"how,omitempty"`
	Failure string `json:"failure,omitempty"`
	Look    string `json:"look,omitempty"`
}

//go:embed texts.yaml
var textsYAML []byte

//go:embed seconds.yaml
var secondsYAML []byte

type textsFile struct {
	Texts []Text `json:"texts"`
}

type secondsFile struct {
	Seconds map[string]float64 `json:"seconds"`
}

var texts = sync.OnceValue(func() map[string]Text {
	all, err := readTexts(textsYAML)
	if err != nil {
		panic(err) // a test reads it, too
	}
	return all
})

func readTexts(raw []byte) (map[string]Text, error) {
	var file textsFile
	doc, err := strict.Read("texts.yaml", raw, &file)
	if err != nil {
		return nil, err
	}
	all := map[string]Text{}
	for i, t := range file.Texts {
		if _, twice := all[t.ID]; twice || t.ID == "" {
			return nil, doc.At(fmt.Sprintf("the id %q is there twice, or empty", t.ID), "texts", i)
		}
		all[t.ID] = t
	}
	return all, nil
}

var seconds = sync.OnceValue(func() map[string]float64 {
	var file secondsFile
	if _, err := strict.Read("seconds.yaml", secondsYAML, &file); err != nil {
		panic(err) // a test reads it, too
	}
	return file.Seconds
})

// Of is the text about a requirement; false: there is none.
func Of(id string) (Text, bool) { return textOf(texts(), id) }

func textOf(all map[string]Text, id string) (Text, bool) {
	t, found := all[id]
	if !found || isFamily(id) {
		return Text{}, false
	}
	fill := func(part *string, from string) {
		if *part == "" {
			*part = from
		}
	}
	for at := strings.LastIndexByte(id, '/'); at >= 0; at = strings.LastIndexByte(id[:at], '/') {
		family := all[id[:at+1]]
		fill(&t.How, family.How)
		fill(&t.Failure, family.Failure)
		fill(&t.Look, family.Look)
	}
	return t, true
}

func isFamily(id string) bool { return strings.HasSuffix(id, "/") }

// Seconds is how long a requirement took to be seen to hold, when that was recorded; false: it was not.
func Seconds(id string) (float64, bool) {
	s, found := seconds()[id]
	return s, found
}

// WithSeconds is what seconds.yaml holds with these times in it, in place of earlier ones.
func WithSeconds(raw []byte, took map[string]float64) ([]byte, error) {
	var file secondsFile
	if _, err := strict.Read("seconds.yaml", raw, &file); err != nil {
		return nil, err
	}
	maps.Copy(file.Seconds, took)
	var b bytes.Buffer
	for line := range bytes.Lines(raw) {
		if !bytes.HasPrefix(line, []byte("#")) {
			break
		}
		b.Write(line)
	}
	b.WriteString("seconds:\n")
	for _, id := range slices.Sorted(maps.Keys(file.Seconds)) {
		fmt.Fprintf(&b, "  %s: %.0f\n", id, max(1, file.Seconds[id]))
	}
	return b.Bytes(), nil
}

// Problems says which of the suite's requirements have no text, or not all of it, and which texts and times are of none.
func Problems(ids []string) (problems []string) {
	return problemsOf(texts(), seconds(), ids)
}

func problemsOf(all map[string]Text, took map[string]float64, ids []string) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, id := range ids {
		t, found := textOf(all, id)
		if !found {
			say("%s has no text: add how it is proven, what a failure usually means and what to look at to harness/explain/texts.yaml", id)
			continue
		}
		for name, part := range map[string]string{"how": t.How, "failure": t.Failure, "look": t.Look} {
			if part == "" {
				say("%s has no %q in harness/explain/texts.yaml", id, name)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		known := slices.ContainsFunc(ids, func(known string) bool { return known == id || isFamily(id) && strings.HasPrefix(known, id) })
		if !known {
			say("harness/explain/texts.yaml has a text for %s, which no spec proves", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(took)) {
		if !slices.Contains(ids, id) {
			say("harness/explain/seconds.yaml has a time for %s, which no spec proves", id)
		}
	}
	slices.Sort(problems)
	return problems
}

// Find is the requirement that is meant: one of these IDs, or the only one that ends in this after a slash. If there is none, near are
// the IDs that are most like it.
func Find(wanted string, ids []string) (id string, near []string) {
	if slices.Contains(ids, wanted) {
		return wanted, nil
	}
	for _, candidate := range ids {
		if strings.HasSuffix(candidate, "/"+wanted) {
			near = append(near, candidate)
		}
	}
	if len(near) == 1 {
		return near[0], nil
	}
	if len(near) > 1 {
		return "", near
	}
	near = slices.Clone(ids)
	slices.SortStableFunc(near, func(a, b string) int { return alike(b, wanted) - alike(a, wanted) })
	const most = 3
	return "", near[:min(most, len(near))]
}

// alike is how much two names have in common, in pairs of letters, out of 1000.
func alike(a, b string) int {
	count := func(of string) map[string]int {
		pairs := map[string]int{}
		for i := range len(of) - 1 {
			pairs[strings.ToLower(of[i:i+2])]++
		}
		return pairs
	}
	common, of := 0, count(b)
	for pair, n := range count(a) {
		common += min(n, of[pair])
	}
	return 2000 * common / max(1, len(a)+len(b)-2)
}
