package docs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/report/markdown"
)

// setting is something in a policy's manifests that whoever copies them changes.
type setting struct {
	what  string
	field string         // of conformance.yaml, with the value that the manifests have
	match *regexp.Regexp // the lines that it stands in
}

// line is one of a manifest.
type line struct {
	file   string
	number int
	text   string
}

// yours is a table of what to change in a copy of the policy in a folder, and where it stands: every line of every manifest.
// That a value stands in a line which no row lists is an error.
func yours(folder string) (string, error) {
	p, err := policy.Load(folder, endpoint.Endpoint{})
	if err != nil {
		return "", err
	}
	lines, err := manifestLines(folder)
	if err != nil {
		return "", err
	}
	return yoursOf(p.Contract, lines)
}

func yoursOf(c policy.Contract, lines []line) (string, error) {
	key, value := regexp.QuoteMeta(c.PVC.Label), regexp.QuoteMeta(c.PVC.Value)
	ofLabel := fmt.Sprintf("`pvc: {label: %s, value: %s}`", c.PVC.Label, c.PVC.Value)
	_, address, _ := strings.Cut(c.S3.Endpoint, "://")
	var rows [][]string
	var problems []error
	listed := map[line]bool{}
	add := func(s setting, optional bool) {
		var found []line
		for _, l := range lines {
			if s.match.MatchString(l.text) {
				found = append(found, l)
				listed[l] = true
			}
		}
		where := positions(found)
		switch last := len(rows) - 1; {
		case len(found) == 0 && !optional:
			problems = append(problems, fmt.Errorf("no line of the manifests matches %s (%s)", s.match, s.what))
		case len(found) == 0:
		case last >= 0 && rows[last][2] == where: // such as a URL: one line, and the parts of it
			rows[last][0] += ", " + s.what
			rows[last][1] += ", " + s.field
		default:
			rows = append(rows, []string{s.what, s.field, where})
		}
	}
	add(setting{fmt.Sprintf("label, as `%s: %s`", c.PVC.Label, c.PVC.Value), ofLabel, regexp.MustCompile(`\b` + key + `: ` + value + `\b`)}, false)
	add(setting{fmt.Sprintf("label, as `labels[%q]` and %q", c.PVC.Label, c.PVC.Value), ofLabel, regexp.MustCompile(`labels\["` + key + `"\].*"` + value + `"`)}, true)
	add(setting{fmt.Sprintf("label, as `{%q: %q}`", c.PVC.Label, c.PVC.Value), ofLabel, regexp.MustCompile(`"` + key + `": "` + value + `"`)}, true)
	add(setting{fmt.Sprintf("label, as `%s=%s` in a message", c.PVC.Label, c.PVC.Value), ofLabel, regexp.MustCompile(`\b` + key + `=` + value + `\b`)}, true)
	add(setting{"S3 endpoint", fmt.Sprintf("`s3.endpoint: %s`", c.S3.Endpoint), regexp.MustCompile(regexp.QuoteMeta(address))}, false)
	add(setting{"bucket", fmt.Sprintf("`s3.bucket: %s`", c.S3.Bucket), regexp.MustCompile(`\b` + regexp.QuoteMeta(c.S3.Bucket) + `\b`)}, false)
	// The path is what follows the bucket: an expression, spelled differently in each line.
	add(setting{"path", fmt.Sprintf("`s3.path: %q`", c.S3.Path), regexp.MustCompile(`\b` + regexp.QuoteMeta(c.S3.Bucket) + `/`)}, false)
	add(setting{"name of the base Secret", fmt.Sprintf("`baseSecret.name: %s`", c.BaseSecret.Name), regexp.MustCompile(`\b` + regexp.QuoteMeta(c.BaseSecret.Name) + `\b`)}, false)
	add(setting{"keys of the base Secret", "`baseSecret.keys`: `" + strings.Join([]string{c.BaseSecret.Keys.AccessKey, c.BaseSecret.Keys.SecretKey, c.BaseSecret.Keys.ResticPassword}, "`, `") + "`",
		regexp.MustCompile(`\bdata"?: (dyn\(|"\{\{)`)}, false)
	add(setting{"schedule", fmt.Sprintf("`schedule: %q`", c.Schedule), regexp.MustCompile(`\bschedule"?: `)}, false)
	var kept []string
	for _, k := range c.Retain.Named() {
		kept = append(kept, k.Name+": "+k.Value)
	}
	add(setting{"retention", "`retain: {" + strings.Join(kept, ", ") + "}`", regexp.MustCompile(`\bretain"?: `)}, false)

	for _, l := range lines {
		for _, value := range []string{c.PVC.Value, address, c.S3.Bucket, c.BaseSecret.Name} {
			if !listed[l] && regexp.MustCompile(`\b`+regexp.QuoteMeta(value)+`\b`).MatchString(l.text) {
				problems = append(problems, fmt.Errorf("%s:%d names %q, and no row of the table lists it: add its spelling to harness/report/docs/yours.go", l.file, l.number, value))
			}
		}
	}
	return table([]string{"what", "in `conformance.yaml`", "file and line"}, rows), errors.Join(problems...)
}

// manifestLines are the lines of the manifests in a folder that are no comments.
func manifestLines(folder string) (lines []line, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		name := filepath.Base(file)
		if slices.Contains([]string{"conformance.yaml", "kustomization.yaml"}, name) {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for i, text := range strings.Split(string(raw), "\n") {
			if !strings.HasPrefix(strings.TrimSpace(text), "#") {
				lines = append(lines, line{name, i + 1, text})
			}
		}
	}
	return lines, nil
}

// positions are lines as file:line, and the further lines of the same file by their numbers.
func positions(lines []line) string {
	var files []string
	var last string
	for _, l := range lines {
		if at := fmt.Sprintf("%s:%d", l.file, l.number); l.file != last {
			files = append(files, at)
		} else {
			files[len(files)-1] += fmt.Sprintf(",%d", l.number)
		}
		last = l.file
	}
	if len(files) == 0 {
		return ""
	}
	return markdown.Names(files)
}
