package check

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
)

// Whoever adds a situation, a row of the fault table for one, or a policy, has it checked, and says in the contracts what
// does not hold: else policies/README.md would promise what nobody has seen.
func TestEveryPolicyWasCheckedForEveryRequirement(t *testing.T) {
	const file = "../../policies/checked.txt"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := ParseRecorded(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(raw, recorded.Format()) {
		t.Errorf("%s is not as make check-policies writes it", file)
	}
	entries, err := os.ReadDir("../../policies")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		p, err := policy.Load(filepath.Join("../../policies", entry.Name()), endpoint.Endpoint{})
		if err != nil {
			t.Fatal(err)
		}
		name := p.Contract.Name
		known[name] = true
		wanted := map[string]bool{}
		for _, s := range situations(plot{Contract: p.Contract, endpoint: p.Endpoint.URL}) {
			if len(p.Kyverno()) > 0 && s.isFor(p.Contract) { // templates are not played
				wanted[s.requirement] = true
			}
		}
		for _, requirement := range slices.Sorted(maps.Keys(wanted)) {
			v, checked := recorded[name][requirement]
			_, expected := p.Contract.Reasons()[requirement]
			switch {
			case !checked:
				t.Errorf("%s was not checked for %s: run make check-policies, and commit %s", name, requirement, file)
			case v == Finding || v == Expected && !expected:
				t.Errorf("%s fails %s, and its contract does not say so: add it to expectedFailures, or mend the policy; then make check-policies", name, requirement)
			}
		}
		for requirement := range recorded[name] {
			if !wanted[requirement] {
				t.Errorf("%s: %s was checked for %s, which no situation is about any more: run make check-policies", file, name, requirement)
			}
		}
	}
	if len(known) == 0 {
		t.Error("policies/ has no policy: this test looks at the wrong place")
	}
	for name := range recorded {
		if !known[name] {
			t.Errorf("%s has the policy %s, which policies/ has not: run make check-policies", file, name)
		}
	}
}

func TestRecordedIsReadBack(t *testing.T) {
	r := Recorded{}
	r.Add(&Report{Name: "p", Rows: []Row{
		{Requirement: "core/a", Verdict: OK}, {Requirement: "core/b", Verdict: OK}, {Requirement: "core/b", Verdict: Expected}, {Requirement: "core/c", Verdict: Unknown},
		{Requirement: "core/c", Verdict: OK},
	}})
	if want := (Recorded{"p": {"core/a": OK, "core/b": Expected, "core/c": Unknown}}); !reflect.DeepEqual(r, want) {
		t.Errorf("%v", r)
	}
	again, err := ParseRecorded(r.Format())
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("%v %v", again, err)
	}
	for _, wrong := range []string{"p core/a", "core/a: ok", "p core/a: fine"} {
		if _, err := ParseRecorded([]byte(wrong)); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
