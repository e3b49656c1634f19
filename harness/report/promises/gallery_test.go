package promises

import (
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/stack"
)

func TestGallery(t *testing.T) {
	specs := []Spec{
		{"core/backup", []string{"core", policy.JudgesBackups}},
		{"core/restore", []string{"core"}},
		{"core/s3-down/401", []string{"core"}},
		{"core/s3-down/500", []string{"core"}},
		{"safety/clone", []string{"safety", policy.NeedsSnapshots, policy.JudgesBackups}},
		{"resilience/relabel", []string{"resilience", "relabel"}},
	}
	with := withKyverno("csi")
	with.Storage.Classes = []stack.StorageClass{{Name: "csi", Snapshots: true}}
	without := withKyverno("plain")
	templates := func(name string, change func(*policy.Contract)) Setup {
		c := policy.Contract{Name: name, Description: "It is " + name + ".", Templates: []string{"."}, Stacks: []string{"plain"}}
		change(&c)
		return Setup{c, "fixtures/gallery/" + name}
	}
	lost := []policy.Expectation{{Requirement: "core/s3-down/401", Reason: "nobody waits"}, {Requirement: "core/s3-down/500", Reason: "nobody waits"}}
	got, err := Gallery([]Setup{
		templates("direct", func(c *policy.Contract) { c.ExpectedFailures = lost }),
		templates("again", func(c *policy.Contract) { c.ExpectedFailures = lost }),
		templates("backup", func(c *policy.Contract) { c.Restores = policy.Never }),
		templates("snapshots", func(c *policy.Contract) { c.Stacks = []string{"csi"} }),
		templates("beside", func(c *policy.Contract) { c.Policy = []string{"policy"} }),
		templates("policy", func(c *policy.Contract) { c.Templates, c.Stacks = nil, nil }),
		templates("companion", func(c *policy.Contract) {
			c.Policy, c.Companion, c.ExpectedFailures = []string{"policy"}, true, lost
		}),
	}, specs, []stack.Stack{with, without}, "..")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`### Manifests that are applied for each app

- ['direct'](../fixtures/gallery/direct): It is direct. Made for 'plain'.
- ['again'](../fixtures/gallery/again): It is again. Made for 'plain'.
- ['backup'](../fixtures/gallery/backup): It is backup. Made for 'plain'.
- ['snapshots'](../fixtures/gallery/snapshots): It is snapshots. Made for 'csi'.
- ['companion'](../fixtures/gallery/companion): It is companion. Made for 'plain'.

|  | direct, again, companion | backup | snapshots |
|---|:-:|:-:|:-:|
| 'core/restore' | ✓ | – | ✓ |
| 'core/s3-down/…': '401', '500' | ✗ 1 | – | ✓ |
| 'safety/clone' | · | · | ✓ |

All of them promise 'core/backup'.

None of them promises, or is made for a stack that can try, 'resilience/relabel' ('relabel').

### Kyverno policies

- ['beside'](../fixtures/gallery/beside): It is beside. Made for 'plain'.
- ['policy'](../fixtures/gallery/policy): It is policy. Made for every stack with Kyverno.

|  | beside | policy |
|---|:-:|:-:|
| 'safety/clone' | · | ✓ |

All of them promise 'core/backup', 'core/restore', 'core/s3-down/…': '401', '500'.

None of them promises, or is made for a stack that can try, 'resilience/relabel' ('relabel').

`+galleryLegend+`

1. nobody waits
`, "'", "`")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestGalleryRefuses(t *testing.T) {
	setup := Setup{policy.Contract{Name: "a", Stacks: []string{"c-*"}}, "a"}
	for want, setups := range map[string][]Setup{"two policies are called a": {setup, setup}, `a: no stack matches "c-*"`: {setup}} {
		if text, err := Gallery(setups, specs, stacks, ".."); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %q, wanted %s", err, text, want)
		}
	}
}
