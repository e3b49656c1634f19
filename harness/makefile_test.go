package harness

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/settings"
)

var update = flag.Bool("update", false, "write what make help says of the settings")

const makefile = "../Makefile"

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// helpLines is what make help says of the settings. It is written into the Makefile: nothing has to be compiled to read it.
func helpLines() string {
	var lines strings.Builder
	for _, setting := range settings.All() {
		text := setting.Meaning
		// PROCS has a default for each machine.
		if setting.Default != "" && setting.Name != "PROCS" && !strings.Contains(text, "(default") {
			text += " (default: " + setting.Default + ")"
		}
		lines.WriteString("#|   " + setting.Name + strings.Repeat(" ", max(1, 17-len(setting.Name))) + text + "\n")
	}
	return lines.String()
}

func TestMakefileHelpSaysWhatTheSettingsAre(t *testing.T) {
	text := read(t, makefile)
	block := regexp.MustCompile(`(?m)(^#\|.*\n)+`)
	if *update {
		text = block.ReplaceAllLiteralString(text, helpLines())
		if err := os.WriteFile(makefile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := block.FindString(text); got != helpLines() {
		t.Errorf("make help says of the settings\n%s\nwant\n%s\nwrite it: go test ./harness -run Makefile -update", got, helpLines())
	}
}

// make help is the first thing that a user tries.
func TestMakefileHelpRunsNothingButTextTools(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make")
	}
	bin := t.TempDir()
	for _, name := range []string{"awk", "bash", "sed", "sh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	absolute, err := exec.LookPath("make")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(absolute, "help")
	cmd.Dir, cmd.Env = "..", []string{"PATH=" + bin}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make help: %v\n%s", err, out)
	}
	for _, want := range []string{"\n  make check ", "\n  S3_ENDPOINT "} {
		if !strings.Contains("\n"+string(out), want) {
			t.Errorf("make help lacks %q:\n%s", want, out)
		}
	}
}

func TestMakefilePassesEverySettingOn(t *testing.T) {
	var exported []string
	for _, line := range regexp.MustCompile(`(?m)^SETTINGS [:+]= (.*)$`).FindAllStringSubmatch(read(t, makefile), -1) {
		exported = append(exported, strings.Fields(line[1])...)
	}
	if !strings.Contains(read(t, makefile), "\nexport $(SETTINGS)\n") {
		t.Error("the Makefile does not export $(SETTINGS)")
	}
	preserved := regexp.MustCompile(`(?m)^settings=(.*)$`).FindStringSubmatch(read(t, "../scripts/ci"))
	if preserved == nil {
		t.Fatal("scripts/ci has no line settings=…")
	}
	var names []string
	for _, setting := range settings.All() {
		names = append(names, setting.Name)
		if !slices.Contains(exported, setting.Name) {
			t.Errorf("make %s=… does not reach the program: add it to SETTINGS in the Makefile", setting.Name)
		}
		if !slices.Contains(strings.Split(preserved[1], ","), setting.Name) {
			t.Errorf("%s does not reach a run that scripts/ci starts as root: add it to settings= there", setting.Name)
		}
	}
	for _, name := range exported {
		if !slices.Contains(names, name) {
			t.Errorf("the Makefile exports %s, which is no setting: remove it", name)
		}
	}
}

// A misspelt setting would be ignored, and something else be tested than what was meant.
func TestMakefileRefusesWhatIsNoSetting(t *testing.T) {
	absolute, err := exec.LookPath("make")
	if err != nil {
		t.Skip("there is no make")
	}
	given := regexp.MustCompile(`make ([a-z][a-z0-9-]*)((?: [A-Z_0-9]+=\S*)+)`)
	type call struct{ args, want string }
	calls := []call{
		{"check PLOICY=policies/plain", "there is no setting PLOICY: make help lists all"},
		{"e2e STACKS=kyverno-1.19", "STACKS is for make prebuild"},
		{"check GOFLAGS=-mod=mod SMART_RESTORE_SLOT=a", ""},
	}
	for _, setting := range settings.All() {
		calls = append(calls, call{"check " + setting.Name + "=1", ""})
	}
	for _, page := range []string{"../README.md", "../CONTRIBUTING.md", "../policies/README.md", "../policies/BRING-YOUR-OWN.md"} {
		for _, found := range given.FindAllStringSubmatch(read(t, page), -1) {
			for _, name := range regexp.MustCompile(`[A-Z_0-9]+=`).FindAllString(found[2], -1) {
				calls = append(calls, call{found[1] + " " + name + "1", ""})
			}
		}
	}
	for _, c := range calls {
		cmd := exec.Command(absolute, append([]string{"--dry-run"}, strings.Fields(c.args)...)...)
		cmd.Dir = ".."
		out, err := cmd.CombinedOutput()
		if (err != nil) != (c.want != "") || !strings.Contains(string(out), c.want) {
			t.Errorf("make %s: %v\n%s\nwant %q", c.args, err, out, c.want)
		}
	}
}

// makeCommand is a make command in a code block or in backticks of a page.
var makeCommand = regexp.MustCompile("(?m)(?:^    |^\t|`|&& )make ([a-z][a-z0-9-]*)")

func TestMakefileHasEveryTargetThatIsNamed(t *testing.T) {
	text := read(t, makefile)
	phony := strings.Fields(strings.Join(regexp.MustCompile(`(?m)^\.PHONY:(.*)$`).FindAllString(text, -1), " "))
	var targets []string
	for _, found := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):( |$)`).FindAllStringSubmatch(text, -1) {
		targets = append(targets, found[1])
		if !slices.Contains(phony, found[1]) {
			t.Errorf("target %s is not in .PHONY: a file of that name would stop it", found[1])
		}
	}
	for _, name := range phony {
		if name != ".PHONY:" && !slices.Contains(targets, name) {
			t.Errorf(".PHONY has %s, which is no target", name)
		}
	}
	named := 0
	for _, glob := range []string{"../*.md", "../policies/*.md", "../policies/*/*.md", "../.ci/run", "../.github/workflows/*.yml"} {
		pages, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			for _, found := range makeCommand.FindAllStringSubmatch(read(t, page), -1) {
				named++
				if !slices.Contains(targets, found[1]) {
					t.Errorf("%s names make %s, which the Makefile does not have", strings.TrimPrefix(page, "../"), found[1])
				}
			}
		}
	}
	if named < 20 {
		t.Errorf("%d make commands were found in the pages: the search misses them", named)
	}
}
