package verdict

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/smart-restore/conformance/harness/strict"
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
		return nil, err
	}
	if r.APIVersion != APIVersion || r.Kind != Kind {
		wrong := "kind"
		if r.Kind == Kind {
			wrong = "apiVersion"
		}
		return nil, doc.At(fmt.Sprintf("found is a %q of %q, wanted a %s of %s", r.Kind, r.APIVersion, Kind, APIVersion), wrong)
	}
	for i, result := range r.Requirements {
		switch {
		case result.ID == "":
			return nil, doc.At("a requirement has no id", "requirements", i)
		case !slices.Contains(verdicts, result.Verdict):
			return nil, doc.At(fmt.Sprintf("%s: found is the verdict %q, wanted one of %v", result.ID, result.Verdict, verdicts), "requirements", i, "verdict")
		case slices.ContainsFunc(r.Requirements[:i], func(earlier Result) bool { return earlier.ID == result.ID }) && len(r.SuiteErrors) == 0:
			// A suite that has two such specs says so.
			return nil, doc.At(result.ID+" is there twice", "requirements", i, "id")
		}
	}
	if want := r.Count(); r.Counts != want {
		return nil, doc.At(fmt.Sprintf("its summary is %+v, its requirements say %+v", r.Counts, want), "summary")
	}
	if want := r.CountByLevel(); r.Levels != nil && !maps.Equal(r.Levels, want) {
		return nil, doc.At(fmt.Sprintf("its levels are %+v, its requirements say %+v", r.Levels, want), "levels")
	}
	return r, nil
}
