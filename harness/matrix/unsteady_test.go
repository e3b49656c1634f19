package matrix

import (
	"testing"

	"github.com/smart-restore/conformance/harness/verdict"
)

func TestUnsteady(t *testing.T) {
	run := func(fresh, storm verdict.Verdict) *verdict.Report {
		result := func(id string, v verdict.Verdict) verdict.Result {
			return verdict.Result{Requirement: verdict.Requirement{ID: id}, Verdict: v, Message: "why\nmore"}
		}
		return &verdict.Report{Requirements: []verdict.Result{result("core/fresh", fresh), result("scale/storm", storm)}}
	}
	cases := []struct {
		name    string
		reports []*verdict.Report
		want    string
	}{
		{"no run", nil, ""},
		{"all held", []*verdict.Report{run(verdict.Pass, verdict.Pass), run(verdict.Pass, verdict.Pass)}, ""},
		{
			"two runs and one without a report", []*verdict.Report{run(verdict.Pass, verdict.Fail), nil, run(verdict.Pass, verdict.Unknown)},
			"scale/storm did not hold in 2 of 2 runs\n    run 1, fail: why\n    run 3, unknown: why\n",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Unsteady(c.reports); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
