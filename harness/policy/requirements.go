package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// NamesRequirements says whether the contract names any requirements, which CheckRequirements has to be asked about.
func (c Contract) NamesRequirements() bool { return len(c.ExpectedFailures)+len(c.CaughtBy) > 0 }

// CheckKnownBad refuses the contract of a policy in fixtures/known-bad if its name is not its folder's, if it names nothing
// that must catch the policy, or if it names requirements that no spec has.
func (c Contract) CheckKnownBad(folder string, specs []string) error {
	var problems []error
	if c.Name != folder {
		problems = append(problems, c.doc.At(fmt.Sprintf("the name is %q: want %q, the name of its folder", c.Name, folder), "name"))
	}
	if len(c.CaughtBy) == 0 {
		problems = append(problems, c.doc.At("caughtBy is missing: name the requirements that must catch the policy"))
	}
	for i, id := range c.OnlyOnCluster {
		if !slices.Contains(c.CaughtBy, id) {
			problems = append(problems, c.doc.At(fmt.Sprintf("caughtBy does not name %s", id), "onlyOnCluster", i))
		}
	}
	return errors.Join(append(problems, c.CheckRequirements(specs))...)
}

// alike says which requirements of the same level there are, or all, if there is no such level.
func alike(id string, specs []string) string {
	level, _, _ := strings.Cut(id, "/")
	same := slices.DeleteFunc(slices.Clone(specs), func(spec string) bool { return !strings.HasPrefix(spec, level+"/") })
	if len(same) == 0 {
		return "there are " + strings.Join(specs, ", ")
	}
	return fmt.Sprintf("those of the level %s are %s", level, strings.Join(same, ", "))
}
