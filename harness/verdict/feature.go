package verdict

import (
	"fmt"
	"slices"
	"strings"
)

// Feature is something that a policy may promise beyond core and safety. The
// specs of a feature run only if the policy's contract promises it.
type Feature struct {
	Name, Sentence string
	// Within is the prefix of the IDs of the requirements that also check the
	// feature. Empty: the feature has requirements of its own.
	Within string
}

// ClusterInPath is the feature that needs the cluster's part of the path in the contract.
const ClusterInPath = "cluster-in-path"

// Populator is the feature of a restore before the PVC is bound.
const Populator = "populator"

// Features lists every known feature, in the order in which errors list them.
var Features = []Feature{
	{"gated-start", "The first read of an app returns the restored data.", ""},
	{"visible-decision", "The policy writes on the PVC what it decided and why, whatever S3 does.", "core/s3-down/"},
	{"existing-volumes", "A PVC that exists before the policy is applied gets a ReplicationSource, and its volume is never restored over.", ""},
	{"catches-up", "A PVC that is created while Kyverno is down gets a ReplicationSource once Kyverno is back.", ""},
	{"relabel", "A PVC that is labelled after its creation gets a ReplicationSource, and never a ReplicationDestination.", ""},
	{Populator, "A PVC is filled before it is bound, so that its app waits for the data, and no webhook has to hold pods back.", ""},
	{ClusterInPath, "Clusters that share a bucket have a path each.", ""},
}

// CheckFeature returns an error that lists the known features if name is not one of them.
func CheckFeature(name string) error {
	if IsFeature(name) {
		return nil
	}
	var known []string
	for _, f := range Features {
		known = append(known, f.Name)
	}
	return fmt.Errorf("unknown feature %q: want one of %s", name, strings.Join(known, ", "))
}

// IsFeature reports whether name is a known feature.
func IsFeature(name string) bool {
	return slices.ContainsFunc(Features, func(f Feature) bool { return f.Name == name })
}

// FeatureOf is the feature among a spec's labels, or empty if there is none.
func FeatureOf(labels []string) string {
	if i := slices.IndexFunc(labels, IsFeature); i >= 0 {
		return labels[i]
	}
	return ""
}

// FeatureSupport compares the features that the policy's contract promises
// with those that the run proved.
type FeatureSupport struct {
	// Declared lists the features that the contract promises.
	Declared []string `json:"declared,omitempty"`
	// Supported lists the declared features that the run proved: all of their
	// selected requirements passed.
	Supported []string `json:"supported,omitempty"`
	// NotPromised lists the features that the contract does not promise.
	NotPromised []string `json:"notPromised,omitempty"`
}

// SupportOf determines which of the declared features the results prove. Specs
// that were not selected are ignored: the report of such a run is marked
// partial.
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
