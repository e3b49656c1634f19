package verdict

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/strict"
	"github.com/smart-restore/conformance/harness/text"
)

// maxReport bounds what is read as a report. One of a full run has less than a
// megabyte; YAML can make much of little.
const maxReport = 32 << 20

// Read reads a report.yaml or report.json. A field it does not know, one given
// twice, another kind or version, a verdict that is none, and a summary that is
// not that of the requirements are errors, which say where.
func Read(path string) (*Report, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxReport+1))
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", path, err)
	}
	return Parse(path, text)
}

// Parse is Read of what is already there. The path is for errors only. JSON is
// YAML, too.
func Parse(path string, text []byte) (*Report, error) {
	if len(text) > maxReport {
		return nil, fmt.Errorf("%s:1:1: it has more than %d MiB: no report has", path, maxReport>>20)
	}
	r := &Report{}
	doc, err := strict.Read(path, text, r)
	if err != nil {
		// What it is says more than what of it is unknown.
		if kind, apiVersion := isOf(doc); kind != "" && (kind != Kind || apiVersion != APIVersion) {
			return nil, isNoReport(doc, kind, apiVersion)
		}
		return nil, err
	}
	if r.APIVersion != APIVersion || r.Kind != Kind {
		return nil, isNoReport(doc, r.Kind, r.APIVersion)
	}
	for i, result := range r.Requirements {
		switch {
		case result.ID == "":
			return nil, doc.At("a requirement has no id", "requirements", i)
		case !slices.Contains(verdicts, result.Verdict):
			return nil, doc.At(fmt.Sprintf("%s: found the verdict %q, want one of %s", result.ID, result.Verdict, oneOf()), "requirements", i, "verdict")
		case slices.ContainsFunc(r.Requirements[:i], func(earlier Result) bool { return earlier.ID == result.ID }) && len(r.SuiteErrors) == 0:
			// A suite that has two such specs says so.
			return nil, doc.At(result.ID+" is there twice", "requirements", i, "id")
		}
	}
	if want := r.Count(); r.Counts != want {
		return nil, doc.At(fmt.Sprintf("its summary says %s, %d not selected; its requirements make %s, %d not selected", r.Counts, r.Counts.NotSelected, want, want.NotSelected), "summary")
	}
	if want := r.CountByLevel(); r.Levels != nil && !maps.Equal(r.Levels, want) {
		return nil, doc.At(fmt.Sprintf("its levels say %s; its requirements make %s", inWords(r.Levels), inWords(want)), "levels")
	}
	return r, nil
}

// isOf is what a document says that it is.
func isOf(doc *strict.Document) (kind, apiVersion string) {
	doc.Each(func(path []any, value any) {
		said, _ := value.(string)
		switch {
		case len(path) != 1:
		case path[0] == "kind":
			kind = said
		case path[0] == "apiVersion":
			apiVersion = said
		}
	})
	return kind, apiVersion
}

func isNoReport(doc *strict.Document, kind, apiVersion string) error {
	wrong := "kind"
	if kind == Kind {
		wrong = "apiVersion"
	}
	return doc.At(fmt.Sprintf("found kind %q of apiVersion %q, want %s of %s", kind, apiVersion, Kind, APIVersion), wrong)
}

func inWords(levels map[string]Counts) string {
	words := map[string]string{}
	for level, counts := range levels {
		words[level] = counts.String()
	}
	return text.Pairs(words)
}

func oneOf() string {
	var words []string
	for _, v := range verdicts {
		words = append(words, string(v))
	}
	return strings.Join(words, ", ")
}
