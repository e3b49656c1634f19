package check

import (
	"testing"

	"github.com/smart-restore/conformance/harness/check/play"
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
