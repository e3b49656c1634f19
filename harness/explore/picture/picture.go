// Package picture is what there is after an event of a history, as far as whoever played it could see: the judge of make explore, or
// somebody who looks at a cluster. Two that played the same history are compared event by event.
//
// The simulator, which is compiled among Kyverno's modules, has it, too, so it may import the standard library only.
package picture

import (
	"embed"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Source is this package's source, for the simulator's module.
//
//go:embed *.go
var Source embed.FS

// Picture is what there is of each PVC, by namespace/name.
type Picture map[string]PVC

// PVC is what there is of one. What is empty was not looked at: it is never equal to anything.
type PVC struct {
	// Claim is whether the PVC is there, and Decision what it says was decided: restore, fresh, unknown or Other.
	Claim    string `json:"claim,omitempty"`
	Decision string `json:"decision,omitempty"`
	// Source is what becomes of its ReplicationSource, and Destination of its ReplicationDestination.
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	// App is whether its app runs.
	App string `json:"app,omitempty"`
	// Volume and Latest are what its volume and the latest snapshot in its repository hold.
	Volume string `json:"volume,omitempty"`
	Latest string `json:"latest,omitempty"`
}

// What there is.
const (
	None    = "none"
	There   = "there"
	Nothing = "nothing" // of content: there is none
	Other   = "other"   // of a decision: another one

	Paused = "paused" // it is not to be worked on
	Held   = "held"   // it is to be done or to run, and nothing is let in
	Works  = "works"  // a mover is at work
	Done   = "done"   // what was asked for has been done
	Off    = "off"    // of an app: it is not to run
	Runs   = "runs"
)

// Content is the name of what was written for a PVC in an event, from 1.
func Content(pvc string, event int) string { return fmt.Sprintf("what %s has of event %d", pvc, event) }

// Several is what becomes of several objects. Empty: of one, that is not known.
func Several(states []string) string {
	switch {
	case len(states) == 0:
		return None
	case slices.Contains(states, ""):
		return ""
	}
	slices.Sort(states)
	return strings.Join(states, " and ")
}

// Still is the picture without what moves: nobody has waited for that.
func (p Picture) Still() Picture {
	still := Picture{}
	for key, pvc := range p {
		still[key] = PVC{Claim: pvc.Claim, Decision: pvc.Decision}
	}
	return still
}

// Within is the picture of the PVCs in these namespaces.
func (p Picture) Within(namespaces []string) Picture {
	within := maps.Clone(p)
	maps.DeleteFunc(within, func(key string, _ PVC) bool {
		namespace, _, _ := strings.Cut(key, "/")
		return !slices.Contains(namespaces, namespace)
	})
	return within
}

// fields are those of a PVC.
var fields = []struct {
	name string
	of   func(PVC) string
}{
	{"PVC", func(p PVC) string { return p.Claim }},
	{"decision", func(p PVC) string { return p.Decision }},
	{"ReplicationSource", func(p PVC) string { return p.Source }},
	{"ReplicationDestination", func(p PVC) string { return p.Destination }},
	{"app", func(p PVC) string { return p.App }},
	{"volume", func(p PVC) string { return p.Volume }},
	{"latest snapshot", func(p PVC) string { return p.Latest }},
}

// Text prints what there is, a line for each PVC that there is anything of.
func (p Picture) Text(w io.Writer) {
	for _, key := range keys(p, nil) {
		var parts []string
		for _, field := range fields {
			if value := field.of(p[key]); value != "" && value != None && value != Off {
				parts = append(parts, field.name+": "+value)
			}
		}
		if len(parts) > 0 {
			fmt.Fprintf(w, "      %s: %s\n", key, strings.Join(parts, ", "))
		}
	}
}

// Difference is a field in which two pictures of the same event differ.
type Difference struct {
	Event           int // from 1
	PVC, Field      string
	Foreseen, Shown string
}

// Result is what a comparison came to.
type Result struct {
	Differences []Difference
	// Compared are how many fields both have looked at, and NotLookedAt how many one of them has not.
	Compared, NotLookedAt int
	// Unseen are the events, from 1, of which nothing was compared.
	Unseen []int
}

// Compare compares the pictures that were foreseen of so many events with those that were shown.
func Compare(events int, foreseen, shown []Picture) (r Result) {
	for i := range events {
		before, after := at(foreseen, i), at(shown, i)
		compared := r.Compared
		for _, key := range keys(before, after) {
			for _, field := range fields {
				wanted, found := field.of(before[key]), field.of(after[key])
				switch {
				case wanted == "" || found == "":
					r.NotLookedAt++
					continue
				case wanted != found:
					r.Differences = append(r.Differences, Difference{i + 1, key, field.name, wanted, found})
				}
				r.Compared++
			}
		}
		if r.Compared == compared {
			r.Unseen = append(r.Unseen, i+1)
		}
	}
	return r
}

// at is the picture of an event. Empty: there is none.
func at(pictures []Picture, i int) Picture {
	if i < len(pictures) {
		return pictures[i]
	}
	return nil
}

// keys are those of both.
func keys(a, b Picture) []string {
	all := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
	slices.Sort(all)
	return slices.Compact(all)
}
