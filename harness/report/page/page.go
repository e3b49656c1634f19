// Package page renders a report as one HTML file that needs nothing else: verdicts at a glance, a timeline for each spec,
// links to the logs beside it.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"os"
	"path/filepath"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/report/timeline"
	"github.com/smart-restore/conformance/harness/verdict"
)

// File is the page's name in the artifacts folder.
var File = filepath.Base(artifacts.Dir("").Page())

// maxBytes bounds the page. It is to open at once, and to be sent by mail.
const maxBytes = 3 << 20

//go:embed page.html
var pageHTML string

// Style is the style of this page and of others that are to look like it.
//
//go:embed page.css
var Style string

//go:embed page.js
var pageJS string

var page = template.Must(template.New("page").Parse(pageHTML))

// amount is how much of a run's details a page shows.
type amount struct {
	limits  timeline.Limits
	rows    int // of what happened, per spec
	message int // characters of a message
	logs    int // links to logs, per spec
}

// amounts are tried in turn until the page is small enough. With the last one a page has no timelines.
var amounts = []amount{
	{timeline.Default, 400, 20_000, 60},
	{timeline.Limits{Lanes: 6, Points: 24}, 120, 4000, 30},
	{timeline.Limits{Lanes: 3, Points: 10}, 30, 1000, 10},
	{timeline.Limits{}, 0, 300, 0},
}

// Write renders the report's page into the artifacts folder, whole or not at all.
func Write(folder string, report *verdict.Report) error {
	text, err := Render(folder, report)
	if err == nil {
		err = report.WriteFile(artifacts.Dir(folder).Page(), text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", File, err)
	}
	return nil
}

// Render makes the page of a report and of the artifacts in the folder, of which any may be missing. The report is
// redacted before HTML's escapes could hide a secret.
func Render(folder string, report *verdict.Report) ([]byte, error) {
	clean, err := report.Redacted()
	if err != nil {
		return nil, err
	}
	run := timeline.Read(folder, clean)
	var text []byte
	for i, a := range amounts {
		v := newView(folder, clean, run, a)
		v.Reduced = i > 0
		var b bytes.Buffer
		if err := page.Execute(&b, v); err != nil {
			return nil, err
		}
		if text = b.Bytes(); len(text) <= maxBytes {
			return text, nil
		}
	}
	return nil, fmt.Errorf("it would have %d bytes without any details, %d are allowed", len(text), maxBytes)
}

// hash is what a content security policy allows a script by.
func hash(script string) string {
	sum := sha256.Sum256([]byte(script))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// files lists the names of the files in a folder of the artifacts; none where there is no such folder.
func files(folder string) []string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	return names
}
