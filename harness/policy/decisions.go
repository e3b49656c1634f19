package policy

import (
	"fmt"
	"regexp"
)

// The decisions, by their names in a contract.
const (
	DecisionRestore = "restore"
	DecisionFresh   = "fresh"
	DecisionUnknown = "unknown"
)

// patterns are those of the decisions, by name.
func (d Decisions) patterns() map[string]string {
	return map[string]string{DecisionRestore: d.Restore, DecisionFresh: d.Fresh, DecisionUnknown: d.Unknown}
}

// NotDecided is why a PVC with these annotations does not say that this was decided, and nothing else. Empty: it does, or the
// contract does not say what decisions look like.
func (d Decisions) NotDecided(wanted string, annotations map[string]string) string {
	if d == (Decisions{}) {
		return ""
	}
	all := d.patterns()
	said, there := annotations[d.Annotation]
	switch {
	case !there:
		return fmt.Sprintf("it has no annotation %s, and must say that the decision is %s (%s)", d.Annotation, wanted, all[wanted])
	case !wholly(all[wanted], said):
		return fmt.Sprintf("its %s is %q, and must say that the decision is %s (%s)", d.Annotation, said, wanted, all[wanted])
	}
	for other, pattern := range all {
		if other != wanted && wholly(pattern, said) {
			return fmt.Sprintf("its %s is %q, which says that the decision is %s, and as well that it is %s", d.Annotation, said, wanted, other)
		}
	}
	return ""
}

// wholly says whether a pattern matches the whole text. A contract's patterns were compiled when it was read.
func wholly(pattern, text string) bool {
	return regexp.MustCompile(`^(?s:` + pattern + `)$`).MatchString(text)
}
