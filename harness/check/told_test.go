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

// A person who takes a volume as it is sees it backed up, also after a manifest has dropped that.
func TestWhatIsAcceptedIsBackedUp(t *testing.T) {
	claim := play.Event{What: play.Admitted, Object: plan.claim(claimName)}
	source := made(1, source, map[string]any{"name": "s", "namespace": namespace}, map[string]any{"sourcePVC": claimName})
	const before, after, dropped = "before", "after", "dropped"
	backups := map[string]play.Event{before: at(6, moving("backup", claimName)), after: at(10, moving("backup", claimName)), dropped: at(15, moving("backup", claimName))}
	for name, c := range map[string]struct {
		backups []string
		want    map[string]int // how many problems, by the end of the situation's name
	}{
		"never":           {nil, map[string]int{"wait": 2, "that": 1}},
		"only before":     {[]string{before}, map[string]int{"wait": 2, "that": 1}},
		"until it is off": {[]string{after}, map[string]int{"wait": 1}},
		"later only":      {[]string{dropped}, map[string]int{"wait": 1, "that": 0}},
		"always":          {[]string{after, dropped}, map[string]int{"wait": 0, "that": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			p := loaded(t, `override: {annotation: example.org/accept, value: "{uid}", of: backups}`)
			for end, want := range c.want {
				f := &found{course: play.Course{Events: []play.Event{claim, source}}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
				for _, b := range c.backups {
					f.course.Events = append(f.course.Events, backups[b])
				}
				name := "somebody takes a volume as it is whose backups wait"
				if end == "that" {
					name += ", and a manifest drops that"
				}
				if told(t, plot{Contract: p.Contract}, name).verify(f); len(f.problems) != want {
					t.Errorf("%s: %+v, wanted %d", name, f.problems, want)
				}
			}
		})
	}
	if len(plot{Contract: loaded(t, "").Contract}.acceptedVolumes()) > 0 {
		t.Error("nobody can take a volume as it is, and yet somebody does")
	}
}
