package explain

import (
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/strict"
)

// What is embedded can be read: else the program would end where it is first asked.
func TestWhatIsEmbeddedCanBeRead(t *testing.T) {
	if all, err := readTexts(textsYAML); err != nil || len(all) == 0 {
		t.Errorf("%d texts, %v", len(all), err)
	}
	var file secondsFile
	if _, err := strict.Read("seconds.yaml", secondsYAML, &file); err != nil || len(file.Seconds) == 0 {
		t.Errorf("%d times, %v", len(file.Seconds), err)
	}
	for id, s := range file.Seconds {
		if s <= 0 {
			t.Errorf("%s took %v s", id, s)
		}
	}
}

func TestTextsAreSentences(t *testing.T) {
	for id, text := range texts() {
		for name, part := range map[string]string{"how": text.How, "failure": text.Failure, "look": text.Look} {
			if part != "" && !strings.HasSuffix(part, ".") {
				t.Errorf("%s: %s does not end with a full stop: %q", id, name, part)
			}
		}
	}
}

func TestReadTextsRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"texts: [{id: core/x, how: a}, {id: core/x}]": `texts.yaml:1:31: the id "core/x" is there twice, or empty`,
		"texts: [{how: a}]":                           `the id "" is there twice, or empty`,
		"texts: [{id: core/x, hwo: a}]":               `there is no field "hwo"`,
	} {
		if _, err := readTexts([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", raw, err, want)
		}
	}
}

func TestWithSeconds(t *testing.T) {
	got, err := WithSeconds([]byte("# why\nseconds:\n  core/a: 7\n  core/b: 8\n"), map[string]float64{"core/b": 9.6, "core/0": 0.2})
	if want := "# why\nseconds:\n  core/0: 1\n  core/a: 7\n  core/b: 10\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := WithSeconds([]byte("secs: {}"), nil); err == nil {
		t.Error("another file is taken")
	}
	if same, err := WithSeconds(secondsYAML, nil); err != nil || string(same) != string(secondsYAML) {
		t.Errorf("seconds.yaml is not as it is written: %v", err)
	}
}

const few = `texts:
- {id: core/x/, how: family's, look: family's}
- {id: core/x/a, failure: own}
- {id: core/x/b, how: own, failure: own, look: own}
- {id: core/alone, how: own}
`

func TestWhatAMemberLeavesOutIsTheFamilys(t *testing.T) {
	all, err := readTexts([]byte(few))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]Text{
		"core/x/a":   {ID: "core/x/a", How: "family's", Failure: "own", Look: "family's"},
		"core/x/b":   {ID: "core/x/b", How: "own", Failure: "own", Look: "own"},
		"core/alone": {ID: "core/alone", How: "own"},
	} {
		if got, found := textOf(all, id); !found || got != want {
			t.Errorf("%s: got %+v, %v", id, got, found)
		}
	}
	for _, id := range []string{"core/x/", "core/x/c", "core"} {
		if got, found := textOf(all, id); found {
			t.Errorf("%s has the text %+v", id, got)
		}
	}
}

func TestProblems(t *testing.T) {
	all, err := readTexts([]byte(few))
	if err != nil {
		t.Fatal(err)
	}
	took := map[string]float64{"core/x/a": 1}
	complete := []string{"core/x/a", "core/x/b"}
	for _, c := range []struct {
		name string
		ids  []string
		want []string
	}{
		{"one with an incomplete text", append(complete, "core/alone"), []string{`core/alone has no "failure"`, `core/alone has no "look"`}},
		{"one without a text", append(complete, "core/alone", "core/new"), []string{`core/alone has no "failure"`, `core/alone has no "look"`, "core/new has no text: add"}},
		{"texts of none", []string{"core/x/b"}, []string{"harness/explain/seconds.yaml has a time for core/x/a", "texts.yaml has a text for core/alone", "texts.yaml has a text for core/x/a"}},
		{"a family of none", []string{"core/y"}, []string{"core/y has no text", "seconds.yaml has a time for core/x/a", "a text for core/alone", "a text for core/x/,", "a text for core/x/a", "a text for core/x/b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := problemsOf(all, took, c.ids)
			if len(got) != len(c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for i := range got {
				if !strings.Contains(got[i], c.want[i]) {
					t.Errorf("got %q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}

func TestFind(t *testing.T) {
	ids := []string{"core/fresh", "core/s3-down/404-key", "core/s3-down/404-bucket", "safety/late-restore", "resilience/no-space", "other/fresh"}
	for _, c := range []struct {
		wanted, id string
		near       []string // what near begins with
	}{
		{"core/fresh", "core/fresh", nil},
		{"late-restore", "safety/late-restore", nil},
		{"fresh", "", []string{"core/fresh", "other/fresh"}},
		{"safety/late-restores", "", []string{"safety/late-restore"}},
		{"Late Restore", "", []string{"safety/late-restore"}},
		{"s3-down/404", "", []string{"core/s3-down/404-key"}},
		{"x", "", []string{"core/fresh"}},
	} {
		id, near := Find(c.wanted, ids)
		if id != c.id || (id == "") != (len(near) > 0) || len(near) > 3 || !slices.Equal(near[:min(len(c.near), len(near))], c.near) {
			t.Errorf("%s: got %q, %q", c.wanted, id, near)
		}
	}
	if id, near := Find("x", nil); id != "" || len(near) != 0 {
		t.Errorf("got %q, %q", id, near)
	}
}
