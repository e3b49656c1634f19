package matrix

import (
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/verdict"
)

const valid = `
apiVersion: conformance.smart-restore.io/v1alpha1
kind: Matrix
cells:
- {stack: one, policy: policies/a, events: [push, pull_request]}
- {stack: one, policy: policies/b, events: [push]}
- {stack: two, policy: policies/a}
- {stack: two, policy: policies/a, target: known-bad, events: [pull_request]}
`

var stacks = []string{"one", "two"}

func TestParseRefusesWithAReason(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"no YAML":              {valid, "{", "matrix.yaml:1:1: it is no YAML"},
		"unknown field":        {"policy: policies/b", "polcy: policies/b", `matrix.yaml:6:16: there is no field "polcy"; there are stack, policy, target, labels, events`},
		"no label filter":      {"events: [push]", "labels: 'core &&'", `labels "core &&" is no label filter, like 'core && !s3-down'`},
		"another kind":         {"kind: Matrix", "kind: StackLock", `matrix.yaml:3:7: it is "StackLock" of "conformance.smart-restore.io/v1alpha1", wanted is Matrix of ` + APIVersion},
		"no cells":             {valid[strings.Index(valid, "cells:"):], "cells: []", "matrix.yaml:4:8: it has no cells"},
		"no such stack":        {"{stack: two, policy: policies/a}", "{stack: three, policy: policies/a}", `matrix.yaml:7:11: cell 3 (three/a): no stack matches "three"; want one of one, two`},
		"a policy elsewhere":   {"policies/b", "../b", "clean path"},
		"no policy":            {"policy: policies/b, ", "", "clean path"},
		"no such target":       {"target: known-bad", "target: unit", `target "unit": wanted e2e or known-bad`},
		"no such occasion":     {"events: [push]", "events: [release]", `matrix.yaml:6:45: cell 2 (one/b): events: "release": wanted push or pull_request`},
		"the schedule":         {"events: [push]", "events: [schedule]", "on a schedule every cell runs"},
		"an occasion twice":    {"events: [push]", "events: [push, push]", "events: push is there twice"},
		"a cell twice":         {"policies/b", "policies/a", "matrix.yaml:6:3: cell 2 (one/a): it is there twice"},
		"the default target 2": {"target: known-bad", "target: e2e", "it is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(valid, c.old, c.new, 1)
			if changed == valid {
				t.Fatalf("%q is not in the valid matrix", c.old)
			}
			if _, err := Parse([]byte(changed), stacks); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted an error that says %q", err, c.want)
			}
		})
	}
}

func names(cells []Cell) (names []string) {
	for _, c := range cells {
		names = append(names, c.Name())
	}
	return names
}

func TestNamesOfCells(t *testing.T) {
	for want, c := range map[string]Cell{
		"one/a":                      {Stack: "one", Policy: "policies/a", Target: E2E},
		"one/a/known-bad":            {Stack: "one", Policy: "policies/a", Target: KnownBad},
		"one/a/core":                 {Stack: "one", Policy: "policies/a", Target: E2E, Labels: "core"},
		"one/a/core-!s3-down-movers": {Stack: "one", Policy: "policies/a", Target: E2E, Labels: "(core && !s3-down) || movers"},
	} {
		if got := c.Name(); got != want {
			t.Errorf("%+v: %q, wanted %q", c, got, want)
		}
	}
}

func TestCellsAreChosen(t *testing.T) {
	m, err := Parse([]byte(valid), stacks)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"one/a", "one/b", "two/a", "two/a/known-bad"}
	for name, c := range map[string]struct {
		choose func() ([]Cell, error)
		want   []string
		reason string
	}{
		"push":              {func() ([]Cell, error) { return m.For("push") }, []string{"one/a", "one/b"}, ""},
		"pull request":      {func() ([]Cell, error) { return m.For("pull_request") }, []string{"one/a", "two/a/known-bad"}, ""},
		"schedule":          {func() ([]Cell, error) { return m.For("schedule") }, all, ""},
		"another event":     {func() ([]Cell, error) { return m.For("release") }, nil, "there are push, pull_request, schedule"},
		"a name":            {func() ([]Cell, error) { return m.Matching([]string{"two/a"}) }, []string{"two/a"}, ""},
		"a stack":           {func() ([]Cell, error) { return m.Matching([]string{"two"}) }, []string{"two/a", "two/a/known-bad"}, ""},
		"patterns":          {func() ([]Cell, error) { return m.Matching([]string{"*/b", "one/*"}) }, []string{"one/a", "one/b"}, ""},
		"nothing like that": {func() ([]Cell, error) { return m.Matching([]string{"one", "three"}) }, nil, `no cell is called "three"`},
		"a bad pattern":     {func() ([]Cell, error) { return m.Matching([]string{"["}) }, nil, "syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			cells, err := c.choose()
			if c.reason != "" {
				if err == nil || !strings.Contains(err.Error(), c.reason) {
					t.Errorf("got %v, wanted an error that says %q", err, c.reason)
				}
				return
			}
			if err != nil || !slices.Equal(names(cells), c.want) {
				t.Errorf("got %v, %v, wanted %v", names(cells), err, c.want)
			}
		})
	}
}

func report(kyverno, policy string, verdicts map[string]verdict.Verdict) *verdict.Report {
	r := &verdict.Report{
		Stack:          verdict.Stack{Name: "kyverno-" + kyverno, Requested: map[string]string{"kyverno": "v" + kyverno, "kubernetes": "v1.34.4", "s3": "versitygw v1"}},
		Implementation: verdict.Implementation{Policy: "policies/" + policy},
	}
	for id, v := range verdicts {
		level, _, _ := strings.Cut(id, "/")
		r.Requirements = append(r.Requirements, verdict.Result{Requirement: verdict.Requirement{ID: id, Level: level}, Verdict: v})
	}
	return r
}

func TestTheHeadSaysWhatAStackHas(t *testing.T) {
	one := report("1.19", "a", nil)
	one.Stack.Nodes, one.Stack.Requested["csi-snapshotter"] = 2, "v8.7.0"
	if got, want := head(one), "Kyverno 1.19<br>Kubernetes 1.34.4<br>CSI snapshots<br>2 nodes<br>versitygw<br>a"; got != want {
		t.Errorf("got %s, wanted %s", got, want)
	}
	delete(one.Stack.Requested, "kyverno")
	if got := head(one); strings.Contains(got, "Kyverno") {
		t.Errorf("a stack without Kyverno: got %s", got)
	}
}

func TestTable(t *testing.T) {
	one := report("1.19", "a", map[string]verdict.Verdict{
		"core/fresh": verdict.Pass, "core/s3-down/401": verdict.Pass, "core/s3-down/404": verdict.Fail, "core/s3-down/500": verdict.Pass,
		"safety/x": verdict.NotPromised, "scale/storm": verdict.Unknown, "safety/known": verdict.Fail, "safety/better": verdict.Pass,
	})
	for i := range one.Requirements {
		if strings.HasPrefix(one.Requirements[i].ID, "safety/") {
			one.Requirements[i].ExpectedFailure = "known"
		}
	}
	two := report("1.13", "b", map[string]verdict.Verdict{
		"core/fresh": verdict.Pass, "core/s3-down/401": verdict.Pass, "core/s3-down/404": verdict.Pass, "core/s3-down/500": verdict.Pass,
	})
	two.Partial = []string{"LABELS=core"}
	two.Stack.Observed = map[string]verdict.Component{"kubernetes": {Version: "v1.34.5"}}
	table, err := Table([]*verdict.Report{one, two})
	if err != nil {
		t.Fatal(err)
	}
	want := `|  | Kyverno 1.19<br>Kubernetes 1.34.4<br>versitygw<br>a | Kyverno 1.13<br>Kubernetes 1.34.5<br>versitygw<br>b |
|---|:-:|:-:|
| ` + "`core/fresh`" + ` | ✓ | ✓ |
| ` + "`core/s3-down/…`: `401`, `500`" + ` | ✓ | ✓ |
| ` + "`core/s3-down/404`" + ` | ✗ | ✓ |
| ` + "`safety/better`" + ` | ! |  |
| ` + "`safety/known`" + ` | (✗) |  |
| ` + "`safety/x`" + ` | – |  |
| ` + "`scale/storm`" + ` | ? |  |
| passed, of those tried | 3 of 7 | 4 of 4 |
| of a whole run | yes | no |
| minutes | 0 | 0 |

` + legend + "\n"
	if table != want {
		t.Errorf("got\n%s\nwanted\n%s", table, want)
	}
	if _, err := Table([]*verdict.Report{one, two, one}); err == nil || !strings.Contains(err.Error(), "two reports are of policies/a on kyverno-1.19") {
		t.Errorf("the same cell twice: %v", err)
	}
	if _, err := Table(nil); err == nil {
		t.Error("a table of nothing was made")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := Parse(raw, stacks); err == nil && len(m.Cells) == 0 {
			t.Error("a matrix without cells was taken")
		}
	})
}
