package policy

import (
	"strings"
	"testing"
)

func TestNotDecided(t *testing.T) {
	d := Decisions{Annotation: "a/decision", Restore: "restore", Fresh: "fresh|new", Unknown: "unknown: .+"}
	for name, c := range map[string]struct {
		decisions    Decisions
		wanted, said string
		want         string
	}{
		"not described":    {Decisions{}, DecisionUnknown, "fresh", ""},
		"unknown":          {d, DecisionUnknown, "unknown: S3 answered\n503", ""},
		"fresh by another": {d, DecisionFresh, "new", ""},
		"nothing":          {d, DecisionUnknown, "", "it has no annotation a/decision, and must say that the decision is unknown (unknown: .+)"},
		"something else":   {d, DecisionUnknown, "fresh", `its a/decision is "fresh", and must say that the decision is unknown`},
		"a part":           {d, DecisionRestore, "no restore", `its a/decision is "no restore"`},
		"two at once":      {Decisions{"a/decision", "r.*", "fresh", ".*"}, DecisionRestore, "restore", "as well that it is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			annotations := map[string]string{}
			if c.said != "" {
				annotations["a/decision"] = c.said
			}
			if got := c.decisions.NotDecided(c.wanted, annotations); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, wanted %q", got, c.want)
			}
		})
	}
}
