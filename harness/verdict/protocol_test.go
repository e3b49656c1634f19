package verdict

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2/types"
)

// Whatever Ginkgo says and whatever was recorded, in whatever order: only a Fail that the body recorded is a fail, only a
// body that returned passes, and where anything else went wrong the run is not good.
func TestVerdictsAreWhatWasRecorded(t *testing.T) {
	states := []types.SpecState{
		types.SpecStatePassed, types.SpecStateFailed, types.SpecStatePanicked, types.SpecStateTimedout, types.SpecStateInterrupted,
		types.SpecStateAborted, types.SpecStateSkipped, types.SpecStatePending, types.SpecStateInvalid,
	}
	nodes := []types.NodeType{types.NodeTypeIt, types.NodeTypeBeforeEach, types.NodeTypeCleanupAfterEach, types.NodeTypeAfterEach, types.NodeTypeJustAfterEach}
	recorded := map[string]types.ReportEntry{
		"F": entry(NameFail, "no RS"), "U": entry(NameUnknown, "no log"), "E": entry(NameSuiteError, "no answer"),
		"R": entry(NameBody, BodyReturned), "L": entry(NameBody, BodyLeft), "P": entry(NameNotPromised, "not promised"),
	}
	for _, state := range states {
		for _, node := range nodes {
			for _, order := range orders("FUERLP", 3) {
				spec := types.SpecReport{LeafNodeType: types.NodeTypeIt, LeafNodeText: "core/fresh", State: state}
				if spec.Failed() {
					spec.Failure = failure("it says so")
					spec.Failure.FailureNodeType = node
				}
				for _, r := range order {
					spec.ReportEntries = append(spec.ReportEntries, recorded[string(r)])
				}
				inBody, _, _ := strings.Cut(strings.ReplaceAll(order, "L", "R"), "R")
				results, errs := readSpec(spec, "")
				check := func(ok bool, what string) {
					if !ok {
						t.Errorf("%s in %s, recorded %q: %s is wrong: %s, %q", state, node, order, what, results.Verdict, errs)
					}
				}
				fail, unknown := strings.Contains(inBody, "F"), strings.Contains(inBody, "U")
				cleanUpFailed := spec.Failed() && node.Is(cleanUpNodes)
				check((results.Verdict == Fail) == fail, "fail")
				check(results.Verdict != Pass || (strings.Contains(order, "R") && !unknown && (state == types.SpecStatePassed || cleanUpFailed)), "pass")
				check(results.Verdict != NotPromised || (strings.Contains(order, "P") && state == types.SpecStateSkipped), "not promised")
				check(fail || !unknown || results.Verdict == Unknown, "what could not be seen")
				check(!strings.Contains(order, "E") || slices.Contains(errs, "core/fresh: no answer"), "a suite error")
				check(!cleanUpFailed || slices.Contains(errs, "core/fresh: clean-up failed: it says so"), "a clean-up")
				check(state != types.SpecStatePanicked || len(errs) > 0, "a panic")
				report := Report{Requirements: []Result{results}, SuiteErrors: errs}
				check(!report.OK() || (state.Is(types.SpecStatePassed|types.SpecStateSkipped) && len(errs) == 0), "that the run is good")
			}
		}
	}
}

// orders are all ways to take up to n of these letters, each once.
func orders(letters string, n int) []string {
	all := []string{""}
	if n == 0 {
		return all
	}
	for i, letter := range letters {
		for _, rest := range orders(letters[:i]+letters[i+1:], n-1) {
			all = append(all, fmt.Sprintf("%c%s", letter, rest))
		}
	}
	return all
}
