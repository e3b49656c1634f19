// Package history puts the reports of many runs beside each other: what holds and what does not, run by run, since when, what
// flakes, and what gets slower.
package history

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Run is one run's report, and the folder that it was found in.
type Run struct {
	*verdict.Report
	Folder string
}

// LeftOut is a report that could not be taken.
type LeftOut struct{ Path, Why string }

// Reports are those of the runs below a folder, oldest first.
type Reports struct {
	Runs    []Run
	LeftOut []LeftOut
}

// Find reads the report of every run below the folder. A run that is there twice counts once. It is an error if there is no
// report that can be read.
func Find(folder string) (*Reports, error) {
	root, err := filepath.EvalSymlinks(folder) // artifacts/latest is a link
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("history: %s is a file: name the folder that holds the folders of runs, such as artifacts", folder))
	}
	found, seen := &Reports{}, map[string]bool{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			found.LeftOut = append(found.LeftOut, LeftOut{path, err.Error()})
			if entry != nil && entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.IsDir() {
			return nil
		}
		file := reportIn(path)
		if file == "" {
			return nil
		}
		report, err := verdict.Read(file)
		if err != nil {
			found.LeftOut = append(found.LeftOut, LeftOut{file, strings.TrimPrefix(err.Error(), file+":")})
			return filepath.SkipDir
		}
		if id := cmp.Or(report.Run.ID, path); !seen[id] {
			seen[id] = true
			found.Runs = append(found.Runs, Run{report, path})
		}
		return filepath.SkipDir // the rest of the run's folder holds logs
	})
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if len(found.Runs) == 0 {
		return nil, found.nothing(folder)
	}
	slices.SortStableFunc(found.Runs, func(a, b Run) int {
		return cmp.Or(a.Run.Started.Compare(b.Run.Started), cmp.Compare(a.Run.ID, b.Run.ID))
	})
	return found, nil
}

// nothing says why there is nothing to show.
func (r *Reports) nothing(folder string) error {
	if len(r.LeftOut) == 0 {
		return fmt.Errorf("history: found no report.yaml and no report.json in %s or below it: name the folder that holds the folders of runs, such as artifacts, or unpacked artifacts of CI", folder)
	}
	const most = 5
	var why []string
	for _, l := range r.LeftOut[:min(most, len(r.LeftOut))] {
		why = append(why, "  "+l.Path+": "+l.Why)
	}
	if more := len(r.LeftOut) - most; more > 0 {
		why = append(why, fmt.Sprintf("  and %d more", more))
	}
	return fmt.Errorf("history: none of the %d reports below %s can be read: want reports of this version of the suite\n%s", len(r.LeftOut), folder, strings.Join(why, "\n"))
}

// reportIn is the report in a folder; empty: there is none.
func reportIn(folder string) string {
	dir := artifacts.Dir(folder)
	for _, path := range []string{dir.ReportYAML(), dir.ReportJSON()} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
