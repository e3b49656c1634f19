package docs

import (
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
)

const never = "a PVC is never restored."

// specsOf are a spec for each row of the fault table, and some others.
func specsOf() []Spec {
	specs := []Spec{
		{"scale/storm", "Many.", []string{"scale"}},
		{"safety/gate", "It waits.", []string{"safety", "gated-start"}},
		{"core/fresh", "It binds.", []string{"core"}},
	}
	for _, f := range outage.Faults {
		rest := never
		if f.Name == "slow" {
			rest = "a PVC is restored."
		}
		specs = append(specs, Spec{"core/s3-down/" + f.Name, "While S3 is " + f.Sentence + ", " + rest, []string{"core"}})
	}
	return specs
}

func facts(t *testing.T) Facts {
	t.Helper()
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	return Facts{Specs: specsOf(), Lock: lock}
}

func TestFillMakesEveryBlockAnew(t *testing.T) {
	f := facts(t)
	for name := range blocks {
		if name == "yours" { // it reads the page's folder
			continue
		}
		text := "before\n" + place(name).Begin + "\nold\n" + place(name).End + "\nafter\n"
		got, err := Fill("page.md", text, f)
		if err != nil || strings.Contains(got, "\nold\n") || !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "\nafter\n") {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		if again, err := Fill("page.md", got, f); err != nil || again != got {
			t.Errorf("%s: a second Fill changes the page: %v", name, err)
		}
	}
	const plain = "a page without blocks\n"
	if got, err := Fill("page.md", plain, f); err != nil || got != plain {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFillRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"an unknown block":      {place("nope").Begin + "\n" + place("nope").End + "\n", `page.md: unknown block "nope": want one of counts, faults, labels`},
		"a block with no end":   {place("faults").Begin + "\n", "page.md: block faults: "},
		"a folder of no policy": {place("yours").Begin + "\n" + place("yours").End + "\n", "page.md: block yours: "},
	} {
		if got, err := Fill("page.md", c.text, facts(t)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %q, want %s", name, err, got, c.want)
		}
	}
}

func TestCountsAreOfTheSpecs(t *testing.T) {
	const want = "4 specs prove 4 requirements: 1 core, 1 safety, 1 resilience, 0 gitops, 1 scale."
	got := counts([]Spec{{ID: "core/a"}, {ID: "safety/a"}, {ID: "resilience/a"}, {ID: "scale/a"}})
	if !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMutantsThatNobodyRecordedAreNoTable(t *testing.T) {
	if got, want := mutants(nil), "None is recorded for the policies as they are.\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got := mutants([]Mutants{{Policy: "p", All: 3, Caught: 2, Lived: 1, Percent: 66.7, When: "today"}})
	if want := "| `p` | 3 | 2 | 0 | 0 | 0 | 1 | 66.7 % | today |\n"; !strings.HasPrefix(got, "| policy | mutants |") || !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLabelsAreNamedOnce(t *testing.T) {
	got := labels([]Spec{{Labels: []string{"core", "s3-down"}}, {Labels: []string{"a", "core"}}})
	if want := "Labels of specs, for `LABELS`: `a`, `core`, `s3-down`.\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRequirementsJoinFaultsFromWhichTheSameMustCome(t *testing.T) {
	got, err := requirements(specsOf())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `core/fresh` | It binds. |\n",
		"| `safety/gate` (`gated-start`) | It waits. |\n",
		"| While S3 is down in one of these ways, " + never + " |\n",
		"| `core/s3-down/slow` | While S3 is answering after",
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("not there once: %s\n%s", want, got)
		}
	}
	for _, f := range outage.Faults {
		if !strings.Contains(got, f.Name) {
			t.Errorf("fault %s is missing", f.Name)
		}
	}
}

func TestRequirementsRefuseSpecsThatAreNoRowOfTheFaultTable(t *testing.T) {
	for want, s := range map[string]Spec{
		"core/s3-down/418 has no row in the fault table":            {ID: "core/s3-down/418", Sentence: "While S3 is a teapot, x."},
		"the sentence of core/s3-down/slow does not begin with":     {ID: "core/s3-down/slow", Sentence: "While S3 is asleep, x."},
		"the sentence of core/s3-down/refused does not begin with ": {ID: "core/s3-down/refused"},
	} {
		if got, err := requirements([]Spec{s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %q, want %s", err, got, want)
		}
	}
}

func TestEveryOutcomeHasAText(t *testing.T) {
	if _, err := faults(outage.Faults); err != nil {
		t.Error(err)
	}
	if _, err := faults([]outage.Fault{{Name: "new", Outcome: "other"}}); err == nil || !strings.Contains(err.Error(), `fault new: there is no text for the outcome "other"`) {
		t.Errorf("an outcome without a text: %v", err)
	}
}

func TestStacksNameTheDefault(t *testing.T) {
	f := facts(t)
	got := stacks(f.Lock)
	if want := "| `" + f.Lock.DefaultStack + "` (default) | v"; strings.Count(got, want) != 1 || strings.Count(got, "(default)") != 1 {
		t.Errorf("got %s, want %s once", got, want)
	}
	for name, want := range map[string]string{
		f.Lock.DefaultStack:   "| none | 1 |",
		"kyverno-1.19-csi-2":  "| `csi`, `csi-immediate` | 2 |",
		"volsync-csi":         "| v1.34.4 | none | v0.14.0 |",
		"kyverno-1.19-argocd": "| none | v3.2.11 | none | 1 |",
		"volsync-csi-eso":     "| v0.16.2 | none | `csi`, `csi-immediate` | 1 |",
	} {
		if !slices.ContainsFunc(strings.Split(got, "\n"), func(line string) bool {
			return strings.HasPrefix(line, "| `"+name+"`") && strings.Contains(line, want)
		}) {
			t.Errorf("got %s, want a row of %s with %s", got, name, want)
		}
	}
	if rows := strings.Count(got, "\n") - 2; rows != len(f.Lock.StackNames()) {
		t.Errorf("%d rows for %d stacks", rows, len(f.Lock.StackNames()))
	}
}

// The table must be the same on every machine, so a default that is computed is described in words.
func TestSettingsDoNotDependOnTheMachine(t *testing.T) {
	got := settingsTable([]settings.Setting{
		{Name: "PROCS", Default: "6", Meaning: "how many (default: 3 per CPU)"},
		{Name: "KEEP", Default: "never", Meaning: "when: a|b"},
		{Name: "KUBE_CONTEXT", Meaning: "which"},
	})
	const want = "| setting | flag | default | meaning |\n|---|---|---|---|\n" +
		"| `PROCS` | `--procs` |  | how many (default: 3 per CPU) |\n" +
		"| `KEEP` | `--keep` | `never` | when: a\\|b |\n" +
		"| `KUBE_CONTEXT` | `--context` |  | which |\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	i := slices.IndexFunc(settings.All(), func(s settings.Setting) bool { return s.Name == "PROCS" })
	if i < 0 || !strings.Contains(settings.All()[i].Meaning, "(default:") {
		t.Error("the default of PROCS depends on the machine: its meaning must describe it after \"(default:\"")
	}
}

func TestUnknownRequirements(t *testing.T) {
	text := "`core/fresh`, core/s3-down/…, `core/s3-down/<name>`, safety/nope, e2e/core/fresh.go is none of `scale/storms`; safety/nope."
	if got, want := UnknownRequirements(text, specsOf()), []string{"safety/nope", "scale/storms"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// manifest is what the lines of a policy look like.
var manifest = []string{
	`        backup: hourly`,
	`      oldObject.metadata.?labels["backup"].orValue("") != "hourly" ||`,
	`      dyn(resource.List("v1", "persistentvolumeclaims", ns, {"backup": "hourly"}).items)`,
	`    expression: http.get("http://192.168.10.133:9000/volsync-backups/" + ns + "/" + pvc + "/config")`,
	`    expression: resource.Get("v1", "secrets", ns, "volsync-rustfs-base")`,
	`       "data": dyn(b.data),`,
	`         "trigger": dyn({"schedule": dyn("0 * * * *")}),`,
	`           "retain": dyn({"hourly": dyn(24), "daily": dyn(7)})})})}`,
}

func linesOf(texts ...string) (lines []line) {
	for i, text := range texts {
		lines = append(lines, line{"a.yaml", i + 1, text})
	}
	return lines
}

func TestYoursListsEveryLine(t *testing.T) {
	got, err := yoursOf(policy.Default(), append(linesOf(manifest...), line{"b.yaml", 7, "  backup: hourly"}, line{"b.yaml", 9, "  message: labelled backup=hourly"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| label, as `backup: hourly` | `pvc: {label: backup, value: hourly}` | `a.yaml:1`, `b.yaml:7` |\n",
		"| label, as `labels[\"backup\"]` and \"hourly\" | `pvc: {label: backup, value: hourly}` | `a.yaml:2` |\n",
		"| label, as `{\"backup\": \"hourly\"}` | `pvc: {label: backup, value: hourly}` | `a.yaml:3` |\n",
		"| label, as `backup=hourly` in a message | `pvc: {label: backup, value: hourly}` | `b.yaml:9` |\n",
		"| S3 endpoint, bucket, path | `s3.endpoint: http://192.168.10.133:9000`, `s3.bucket: volsync-backups`, `s3.path: \"{namespace}/{pvc}\"` | `a.yaml:4` |\n",
		"| name of the base Secret | `baseSecret.name: volsync-rustfs-base` | `a.yaml:5` |\n",
		"| keys of the base Secret | `baseSecret.keys`: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `RESTIC_PASSWORD` | `a.yaml:6` |\n",
		"| schedule | `schedule: \"@hourly\"` | `a.yaml:7` |\n",
		"| retention | `retain: {hourly: 24, daily: 7}` | `a.yaml:8` |\n",
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("not there once: %s\n%s", want, got)
		}
	}
}

func TestYoursRefusesWhatItDoesNotList(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"a spelling of the label": {append(slices.Clone(manifest), `  labels.backup in ["hourly"]`), `a.yaml:9 names "hourly", and no row of the table lists it`},
		"no schedule":             {slices.Delete(slices.Clone(manifest), 6, 7), "(schedule)"},
		"no base Secret":          {slices.Delete(slices.Clone(manifest), 4, 5), "(name of the base Secret)"},
	} {
		if got, err := yoursOf(policy.Default(), linesOf(c.lines...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %q, want %s", name, err, got, c.want)
		}
	}
}
