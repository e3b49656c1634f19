// Package history is what make explore plays: random sequences of ordinary events, a model of what VolSync and restic do in them, and
// the invariants that hold for a policy whatever happens. It knows no Kyverno: that is the World, which the simulator is.
//
// The simulator, which is compiled among Kyverno's modules, imports it, so it may import the standard library, harness/check/play and
// what fixtures/builds/simulator.mod pins.
package history

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// Source is this package's source, for the simulator's module.
//
//go:embed *.go
var Source embed.FS

// Event is one thing that happens.
type Event struct {
	Do string `json:"do"`
	// PVC is whom it happens to, namespace/name, where it happens to one.
	PVC string `json:"pvc,omitempty"`
	// How is in which way, where there are several.
	How string `json:"how,omitempty"`
}

// PVCs are all that there are in a history: two namespaces, two names.
var PVCs = []string{"shop/data", "shop/data-2", "office/data", "office/data-2"}

// kind is a sort of event.
type kind struct {
	do     string
	weight int      // how often it is drawn
	one    bool     // it happens to one PVC
	hows   []string // empty: there is one way
	// words says it, with %s for the PVC and for the way, in this order, where it has them.
	words string
}

// nothing is the event that a shrunk history has in the place of one that does not matter.
const nothing = "nothing"

// kinds are all sorts of events, from the plainest: a shrunk history has the plainest that will do.
var kinds = []kind{
	{do: nothing, weight: 1, words: "nothing happens"},
	{do: "create", weight: 8, one: true, words: "PVC %s is created: %s", hows: []string{
		"clean", "clean", "clean", "clean", "annotated", "annotated-fresh", "annotated-restore", "unlabelled", "labelled-later", "volume", "kept-volume", "data-source", "refused", "dry-run",
	}},
	{do: "backup", weight: 3, one: true, words: "the cluster of before backs up %s, which is gone here"},
	{do: "start", weight: 6, one: true, words: "the app of %s is scaled to 1"},
	{do: "write", weight: 3, one: true, words: "the app of %s writes"},
	{do: "wait", weight: 14, words: "half a minute passes"},
	{do: "hour", weight: 7, words: "the next full hour comes, and 5 minutes"},
	{do: "delete", weight: 5, one: true, words: "PVC %s is deleted: %s", hows: []string{"app-first", "app-first", "pod-again"}},
	{do: "s3-down", weight: 5, words: "S3 goes down: %s"}, // its ways are the faults
	{do: "s3-up", weight: 5, words: "S3 is back"},
	{do: "stop", weight: 2, one: true, words: "the app of %s is scaled to 0"},
	{do: "killed", weight: 2, one: true, words: "a mover of %s is killed: %s", hows: []string{"at-work", "in-forget"}},
	{do: "again", weight: 2, one: true, words: "PVC %s is applied again: %s", hows: []string{"create", "replace", "replace-annotated-fresh", "replace-annotated-restore"}},
	{do: "label", weight: 2, one: true, words: "PVC %s is labelled"},
	{do: "unlabel", weight: 1, one: true, words: "the label of PVC %s is taken off"},
	{do: "annotate", weight: 2, one: true, words: "PVC %s gets an annotation"},
	{do: "strip", weight: 1, one: true, words: "the annotations of PVC %s are taken off one by one, by updates of its status"},
	{do: "accept", weight: 1, one: true, words: "somebody accepts the volume of PVC %s as it is"},
	{do: "resize", weight: 1, one: true, words: "PVC %s is resized"},
	{do: "source", weight: 1, one: true, words: "the ReplicationSource of %s is %s", hows: []string{"deleted", "brought-back"}},
	{do: "destination", weight: 2, one: true, words: "the ReplicationDestination of %s is %s", hows: []string{"deleted", "brought-back"}},
	{do: "admission", weight: 3, words: "Kyverno's admission controller %s", hows: []string{"dies", "is-scaled-to-0", "is-back", "is-back"}},
	{do: "background", weight: 3, words: "Kyverno's background controller %s", hows: []string{"goes", "loses-requests", "is-back"}},
	{do: "scan", weight: 2, words: "Kyverno scans"},
	{do: "policy", weight: 2, words: "the policy %s", hows: []string{"is-removed", "is-applied-again"}},
	{do: "secret", weight: 1, words: "the base Secret %s", hows: []string{"goes", "is-there", "has-another-password", "is-empty"}},
	{do: "day", weight: 1, words: "the cluster is off for a day"},
}

// Words says an event.
func (e Event) Words() string {
	for _, k := range kinds {
		if k.do != e.Do {
			continue
		}
		var parts []any
		if k.one {
			parts = append(parts, e.PVC)
		}
		if strings.Count(k.words, "%s") > len(parts) {
			parts = append(parts, strings.ReplaceAll(e.How, "-", " "))
		}
		return fmt.Sprintf(k.words, parts...)
	}
	return e.Do
}

// Check says what is wrong with an event that somebody wrote.
func (e Event) Check(faults []Fault) error {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.do == e.Do })
	if i < 0 {
		return fmt.Errorf("there is no event %q", e.Do)
	}
	if kinds[i].one && !slices.Contains(PVCs, e.PVC) {
		return fmt.Errorf("%s happens to a PVC, one of %s, not to %q", e.Do, strings.Join(PVCs, ", "), e.PVC)
	}
	if hows := kinds[i].ways(faults); len(hows) > 0 && !slices.Contains(hows, e.How) {
		return fmt.Errorf("%s happens in one of the ways %s, not %q", e.Do, strings.Join(hows, ", "), e.How)
	}
	return nil
}

// Sorts are events of each sort and in each way, but for the faults.
func Sorts() (all []Event) {
	for _, k := range kinds {
		e := Event{Do: k.do}
		if k.one {
			e.PVC = PVCs[0]
		}
		if len(k.hows) == 0 {
			all = append(all, e)
		}
		for _, e.How = range k.hows {
			all = append(all, e)
		}
	}
	return all
}

func (k kind) ways(faults []Fault) []string {
	if k.do != "s3-down" {
		return k.hows
	}
	var names []string
	for _, f := range faults {
		names = append(names, f.Name)
	}
	return names
}

// casts are how many PVCs there are in a history: few, for more than one matters to few findings, and each costs time.
var casts = []int{1, 1, 1, 1, 1, 1, 2, 2, 4}

// generator draws histories of some 30 events.
func generator(faults []Fault) *rapid.Generator[[]Event] {
	var all []kind
	for _, k := range kinds {
		k.hows = k.ways(faults)
		for range k.weight {
			all = append(all, k)
		}
	}
	return rapid.Custom(func(t *rapid.T) []Event {
		cast := rapid.SampledFrom(casts).Draw(t, "cast")
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Event {
			k := all[rapid.IntRange(0, len(all)-1).Draw(t, "what")]
			e := Event{Do: k.do}
			if k.one {
				e.PVC = PVCs[rapid.IntRange(0, cast-1).Draw(t, "whom")]
			}
			if len(k.hows) > 0 {
				e.How = k.hows[rapid.IntRange(0, len(k.hows)-1).Draw(t, "how")]
			}
			return e
		}), 15, 45).Draw(t, "events")
	})
}

// happened are the events without those in which nothing happens.
func happened(all []Event) []Event {
	return slices.DeleteFunc(slices.Clone(all), func(e Event) bool { return e.Do == nothing })
}

// Shorter tries to leave out each event, and to take plainer names, as long as the rest still ends in the same finding.
func Shorter(all []Event, fails func([]Event) bool) []Event {
	for shorter := true; shorter; {
		shorter = false
		for i := len(all) - 1; i >= 0; i-- {
			if rest := slices.Delete(slices.Clone(all), i, i+1); fails(rest) {
				all, shorter = rest, true
			}
		}
	}
	for i, plain := range PVCs { // whom it happens to, by the plainest names
		for _, other := range PVCs[i+1:] {
			if named := renamed(all, other, plain); !happensTo(all, plain) && happensTo(all, other) && fails(named) {
				all = named
			}
		}
	}
	return all
}

func happensTo(all []Event, pvc string) bool {
	return slices.ContainsFunc(all, func(e Event) bool { return e.PVC == pvc })
}

func renamed(all []Event, from, to string) (named []Event) {
	for _, e := range all {
		if e.PVC == from {
			e.PVC = to
		}
		named = append(named, e)
	}
	return named
}
