package verdict

import (
	"fmt"
	"slices"
	"strings"
)

// Feature is something that a policy may promise beyond core and safety. The
// specs of a feature run only where the policy's contract promises it.
type Feature struct {
	Name, Sentence string
	// Within begins the IDs of the requirements that look at it besides what
	// they are about. Empty: it has requirements of its own.
	Within string
}

// Features are all that are known, in the order in which errors list them.
var Features = []Feature{
	{"gated-start", "An app's first read is the restored data.", ""},
	{"visible-decision", "The PVC itself says what was decided and why, whatever S3 does.", "core/s3-down/"},
	{"existing-volumes", "A PVC that exists when the policy is applied gets its ReplicationSource, and is never restored over.", ""},
	{"catches-up", "A PVC that was created while Kyverno was down gets its ReplicationSource once Kyverno is back.", ""},
	{"relabel", "A PVC labelled later gets its ReplicationSource, never a ReplicationDestination.", ""},
}

// CheckFeature is an error that names the known features where name is none.
func CheckFeature(name string) error {
	if IsFeature(name) {
		return nil
	}
	var known []string
	for _, f := range Features {
		known = append(known, f.Name)
	}
	return fmt.Errorf("there is no feature %q: known are %s", name, strings.Join(known, ", "))
}

// IsFeature says whether a feature of this name is known.
func IsFeature(name string) bool {
	return slices.ContainsFunc(Features, func(f Feature) bool { return f.Name == name })
}

// FeatureOf is the feature among a spec's labels; empty: it is of none.
func FeatureOf(labels []string) string {
	if i := slices.IndexFunc(labels, IsFeature); i >= 0 {
		return labels[i]
	}
	return ""
}

// FeatureSupport is what the policy's contract says of the features that are
// known, and what the run makes of that.
type FeatureSupport struct {
	// Declared is what the contract promises.
	Declared []string `json:"declared,omitempty"`
	// Supported is what of it was proven: all of its requirements were tried,
	// and hold.
	Supported []string `json:"supported,omitempty"`
	// NotPromised is what the contract does not promise.
	NotPromised []string `json:"notPromised,omitempty"`
}

// SupportOf says which of the features that are declared the results prove.
// What was not selected proves nothing, and keeps nothing from being proven: a
// report says that it is partial.
func SupportOf(declared []string, results []Result) FeatureSupport {
	var s FeatureSupport
	for _, f := range Features {
		if !slices.Contains(declared, f.Name) {
			s.NotPromised = append(s.NotPromised, f.Name)
			continue
		}
		s.Declared = append(s.Declared, f.Name)
		tried, held := 0, 0
		for _, r := range results {
			if r.Feature != f.Name && (f.Within == "" || !strings.HasPrefix(r.ID, f.Within)) {
				continue
			}
			tried++
			if r.Verdict == Pass {
				held++
			}
		}
		if tried > 0 && held == tried {
			s.Supported = append(s.Supported, f.Name)
		}
	}
	return s
}
