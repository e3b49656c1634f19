package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/settings"
)

const root = "../../.."

// pages are the documentation pages of the repository, by their paths from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "policies/*.md", "policies/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = read(t, name)
		}
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A page that tells which lines to change must tell today's lines.
func TestTheTablesOfWhatToChangeAreOfTodaysManifests(t *testing.T) {
	found := 0
	for name, text := range pages(t) {
		if !strings.Contains(text, place("yours").Begin) {
			continue
		}
		found++
		table, err := yours(filepath.Join(root, filepath.Dir(name)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want, err := place("yours").Fill(text, table); err != nil || want != text {
			t.Errorf("%s is out of date: make docs updates it", name)
		}
	}
	if found == 0 {
		t.Error("no page has a table of what to change")
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)\s]*)?\)`)
	codePath = regexp.MustCompile("(?:^|[`\\s=(\"])((?:harness|e2e|fixtures|policies|scripts|\\.github)/[\\w./_-]*\\w/?)")
	// invented are paths in the docs that stand for a reader's own.
	invented = regexp.MustCompile(`NAME|^policies/x/`)
)

func TestPathsInTheDocumentationExist(t *testing.T) {
	for name, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
		for _, m := range codePath.FindAllStringSubmatch(text, -1) {
			if invented.MatchString(m[1]) {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", name, m[1])
			}
		}
	}
}

var (
	anchored = regexp.MustCompile(`\]\(([^)#:\s]*)#([^)\s]+)\)`)
	heading  = regexp.MustCompile("(?m)^#+ (.*)$")
	notSlug  = regexp.MustCompile("[^a-z0-9 _-]")
)

// slugs are the anchors that GitHub gives to the headings of a page.
func slugs(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

func TestAnchorsInTheDocumentationExist(t *testing.T) {
	all := pages(t)
	count := 0
	for name, text := range all {
		for _, m := range anchored.FindAllStringSubmatch(text, -1) {
			count++
			to := name
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(name), m[1])
			}
			if there := slugs(all[to]); !slices.Contains(there, m[2]) {
				t.Errorf("%s links to %s#%s; the headings there are %s", name, to, m[2], strings.Join(there, ", "))
			}
		}
	}
	if count == 0 {
		t.Error("no page links to a heading")
	}
}

var (
	makeTarget   = regexp.MustCompile("(?m)(?:^ *|`)make (?:--silent )?([a-z][a-z0-9-]*)")
	subcommand   = regexp.MustCompile("(?:`|harness/cmd/smart-restore@\\S+ )(?:smart-restore )?([a-z][a-z0-9-]*)")
	variable     = regexp.MustCompile(`\b([A-Z][A-Z_0-9]+)=`)
	makeVariable = regexp.MustCompile(`\$\(([A-Z_]+)\)|\b([A-Z_]+)="`)
)

func TestCommandsInTheDocumentationExist(t *testing.T) {
	makefile := read(t, "Makefile")
	var commands string
	files, err := filepath.Glob(filepath.Join(root, "harness/cmd/smart-restore/*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		commands += string(raw)
	}
	known := []string{"SMART_RESTORE_CACHE", "SMART_RESTORE_SLOT"}
	for _, s := range settings.All() {
		known = append(known, s.Name)
	}
	for _, m := range makeVariable.FindAllStringSubmatch(makefile, -1) {
		known = append(known, m[1], m[2])
	}
	for name, text := range pages(t) {
		for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				t.Errorf("%s names make %s, which the Makefile does not have", name, m[1])
			}
		}
		for _, m := range subcommand.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[0], "smart-restore ") || strings.Contains(m[0], "@") {
				if !regexp.MustCompile(`(?:Use: |\{)"` + m[1] + `[" ]`).MatchString(commands) {
					t.Errorf("%s names the command smart-restore %s, which does not exist", name, m[1])
				}
			}
		}
		for _, m := range variable.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s sets %s, which is no setting and no variable of the Makefile", name, m[1])
			}
		}
	}
}

// The sample of a conformance.yaml in README.md must be one that the reader takes.
func TestTheSampleContractIsValid(t *testing.T) {
	samples := regexp.MustCompile(`(?m)(?:^    (?:apiVersion: conformance\.smart-restore\.io/).*\n)(?:^    .*\n)+`).FindAllString(read(t, "README.md"), -1)
	if len(samples) != 1 {
		t.Fatalf("README.md has %d samples of a conformance.yaml: %q", len(samples), samples)
	}
	sample := regexp.MustCompile(`(?m)^    `).ReplaceAllString(samples[0], "")
	folder := t.TempDir()
	for name, text := range map[string]string{"conformance.yaml": sample, "policy.yaml": strings.ReplaceAll(read(t, "policies/plan-to-the-letter/backup.yaml"), "192.168.10.133", "10.0.0.5")} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := policy.Load(folder, endpoint.Endpoint{}); err != nil {
		t.Errorf("README.md: %v", err)
	}
}
