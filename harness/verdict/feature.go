package verdict

import (
	"fmt"
	"slices"
	"strings"
)

// Feature is something that a policy may promise beyond core and safety. The
// specs of a feature run only where the policy's contract promises it.
type Feature struct{ Name, Sentence string }

// Features are all that are known, in the order in which errors list them.
var Features = []Feature{
	{"gated-start", "An app's first read is the restored data."},
	{"visible-decision", "The PVC itself says what was decided and why, whatever S3 does."},
	{"existing-volumes", "A PVC that exists when the policy is applied gets its ReplicationSource, and is never restored over."},
	{"catches-up", "A PVC that was created while Kyverno was down gets its ReplicationSource once Kyverno is back."},
	{"relabel", "A PVC labelled later gets its ReplicationSource, never a ReplicationDestination."},
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
