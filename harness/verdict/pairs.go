package verdict

import (
	"maps"
	"slices"
	"strings"
)

// Pairs are annotations or labels as a person reads them: "key: value, key: value", by key.
func Pairs(pairs map[string]string) string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		texts = append(texts, key+": "+pairs[key])
	}
	return strings.Join(texts, ", ")
}
