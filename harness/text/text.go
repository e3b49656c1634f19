// Package text holds what several packages write in the same way: names made of a requirement's ID, annotations and labels,
// and the lines of what a program said.
package text

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// Slug is a requirement's ID as it stands in names: of the spec's namespaces, of the folder of its dump, of its place in a
// page. Whoever finds one of them by the ID relies on all being made here.
func Slug(id string) string {
	return strings.Trim(notInNames.ReplaceAllString(strings.ToLower(id), "-"), "-")
}

// OfKubernetes reports whether Kubernetes itself, or Argo CD, owns an annotation or a label of this key: one without a policy's or a
// user's own domain, as in "pv.kubernetes.io/bind-completed".
func OfKubernetes(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	return domain == "argocd.argoproj.io" || domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io")
}

// Pairs are annotations or labels as people read them, sorted by key: "key: value, key: value".
func Pairs(of map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(of)) {
		pairs = append(pairs, key+": "+of[key])
	}
	return strings.Join(pairs, ", ")
}

// FirstLines are at most n lines of what a program said, from its beginning.
func FirstLines(said string, n int) string {
	lines := lines(said)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

// LastLines are at most n lines of what a program said, up to its end.
func LastLines(said string, n int) string {
	lines := lines(said)
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func lines(said string) []string {
	if said = strings.TrimSpace(said); said == "" {
		return nil
	}
	return strings.Split(said, "\n")
}
