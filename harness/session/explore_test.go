package session

import (
	"errors"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/explore"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/policy"
)

// Only a finding that the contract does not expect ends with 1, which is ErrNotProven: what cannot be told ends with 2.
func TestHowExploreEnds(t *testing.T) {
	finding := explore.Finding{Finding: history.Finding{Violation: history.Violation{Invariant: "a"}}}
	expected := finding
	expected.Expected = "safety/restore-beside-app: so it is"
	for name, c := range map[string]struct {
		report  explore.Report
		finding bool
		says    string // empty, and no finding: all is well
	}{
		"every invariant holds":              {explore.Report{Histories: 50}, false, ""},
		"one does not, as its contract says": {explore.Report{Histories: 50, Findings: []explore.Finding{expected}}, false, ""},
		"one does not":                       {explore.Report{Histories: 50, Findings: []explore.Finding{expected, finding}}, true, ""},
		"one does not, and one is not played": {
			explore.Report{Histories: 50, Findings: []explore.Finding{finding}, Unplayed: "event 3: no Lease"}, true, "",
		},
		"the policy is not played": {explore.Report{Unknown: "it validates"}, false, "it validates"},
		"a history is not":         {explore.Report{Histories: 50, Unplayed: "event 3: no Lease"}, false, "a history could not be played to its end: event 3: no Lease"},
		"none is":                  {explore.Report{}, false, "no history was played to its end"},
	} {
		t.Run(name, func(t *testing.T) {
			c.report.Policy = &policy.Policy{Path: "policies/x"}
			err := explored(&c.report)
			if errors.Is(err, ErrNotProven) != c.finding {
				t.Errorf("got %v, a finding: %v", err, c.finding)
			}
			switch {
			case c.finding:
			case c.says == "" && err != nil, c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "POLICY=policies/x")):
				t.Errorf("got %v, wanted %q", err, c.says)
			}
		})
	}
}
