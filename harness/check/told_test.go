package check

import (
	"testing"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// Where nobody can decide, or nothing is backed up, it is not known what would be said when it is decided.
func TestWhatIsSaidWhereNobodyCanDecideIsUnknown(t *testing.T) {
	claim := play.Event{What: play.Admitted, Object: plan.claim(claimName)}
	source := made(1, source, map[string]any{"name": "s", "namespace": namespace}, map[string]any{"sourcePVC": claimName})
	override := policy.Override{Annotation: "example.org/accept", Value: "{uid}"}
	for name, c := range map[string]struct {
		override policy.Override
		events   []play.Event
		blind    string
	}{
		"no way to decide": {policy.Override{}, []play.Event{claim, source}, "the contract names no way to decide (override)"},
		"no source":        {override, []play.Event{claim}, "no ReplicationSource is made, so nothing of it is seen: core/fresh says why"},
		"decided":          {override, []play.Event{claim, source}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := loaded(t, "")
			p.Contract.Override = c.override
			f := &found{course: play.Course{Events: c.events}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
			told(t, plot{Contract: p.Contract}, "backups wait until somebody decides").verify(f)
			if f.blind != c.blind {
				t.Errorf("blind: %q, wanted %q", f.blind, c.blind)
			}
		})
	}
}

// told is the situation of this name.
func told(t *testing.T, p plot, name string) situation {
	t.Helper()
	for _, s := range p.told() {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("there is no situation %q", name)
	return situation{}
}
