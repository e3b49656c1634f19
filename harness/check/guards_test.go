package check

import (
	"fmt"
	"testing"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// What is there beside a restore, and has nothing to do with it, does not hold it up.
func TestARestoreThatIsHeldUpIsFound(t *testing.T) {
	for _, name := range []string{"backup, and another app of the namespace runs", "backup, and a finished pod of the volume is left"} {
		for refused, want := range map[bool]Verdict{false: OK, true: Finding} {
			r := run(t, loaded(t, ""), fake{acceptances: taken, course: func(s play.Situation) play.Course {
				course := nothing(s)
				course.Events = append(course.Events, play.Event{What: play.Made, Policy: "GeneratingPolicy/p-restore", Object: map[string]any{
					"kind": destination, "metadata": map[string]any{"name": "x"}, "spec": map[string]any{"restic": map[string]any{"destinationPVC": claimName}},
				}})
				if s.Name == name && refused {
					course.Events = append(course.Events, play.Event{What: play.Refusal, Text: "it is being restored", Object: pod("late")})
				}
				return course
			}})
			found := false
			for _, row := range r.Rows {
				if row.Situation == name {
					if found = true; row.Verdict != want {
						t.Errorf("%s, refused: %v: want %s, found %+v", name, refused, want, row)
					}
				}
			}
			if !found {
				t.Errorf("there is no situation %q", name)
			}
		}
	}
}

// Where all PVCs are selected but those that opt out, one of another value is one that opts out: any other is selected.
func TestAPVCThatIsNotSelected(t *testing.T) {
	for name, c := range map[string]struct {
		pvc  policy.PVC
		want map[string]any
	}{
		"by a label": {policy.PVC{Label: "backup", Value: "hourly"}, map[string]any{"labels": map[string]any{"backup": "another"}}},
		"all but":    {policy.PVC{OptOut: map[string]string{"skip": "true"}}, map[string]any{"annotations": map[string]any{"skip": "true"}}},
	} {
		p := plan
		p.PVC = c.pvc
		got := p.otherwise()["metadata"].(map[string]any)
		delete(got, "name")
		delete(got, "namespace")
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, wanted %v", name, got, c.want)
		}
	}
}
