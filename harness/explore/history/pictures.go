package history

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/smart-restore/conformance/harness/explore/picture"
)

// Whoever compares the model with a cluster takes a picture after each event, when nothing moves any more: what an event begins comes to its end
// in the same event then, in both. So that a mover can be killed at work, nobody waits before that.

// Pictured says why no pictures can be taken of a history.
func Pictured(events []Event) error {
	for i, e := range events {
		if e.Do == "killed" && (i == 0 || slices.Contains([]string{"wait", "scan", "hour", "day"}, events[i-1].Do)) {
			return fmt.Errorf("event %d, %s: wanted an event before it in which no time passes, and which begins what is killed: after a wait, no mover is at work", i+1, e.Words())
		}
	}
	return nil
}

// Settles says whether what the event of a number, from 0, begins comes to its end before the next one.
func Settles(events []Event, i int) bool { return i+1 >= len(events) || events[i+1].Do != "killed" }

// Pictures plays a history, and takes a picture after each event. It ends with the first violation, if there is one, of whose event there is
// no picture. Its end, when all is well again, is not played.
func Pictures(world World, terms Terms, faults []Fault, events []Event) (pictures []picture.Picture, violation *Violation, err error) {
	r, err := newRun(world, terms, faults)
	if err == nil {
		err = Pictured(events)
	}
	if err != nil {
		return nil, nil, err
	}
	for i, e := range events {
		r.event = i + 1
		if e.Do == "killed" { // it has begun by then
			if err := r.settle(1); err != nil {
				return nil, nil, err
			}
		}
		if err := r.happens(e); err != nil {
			return nil, nil, err
		}
		settles := Settles(events, i)
		if settles {
			if err := r.settle(settling); err != nil {
				return nil, nil, err
			}
		}
		if r.violation != nil {
			return pictures, r.violation, nil
		}
		taken := r.picture()
		if !settles {
			taken = taken.Still()
		}
		pictures = append(pictures, taken)
	}
	return pictures, nil, nil
}

const (
	// settling is how often those may act whom somebody waits for, after an event.
	settling = 10
	// moment is how much time passes until they do.
	moment = 5 * time.Second
)

// settle lets those act whom somebody waits for, until nothing changes any more. No schedule comes from then to the next event.
func (r *run) settle(most int) error {
	r.stands = r.world.Now()
	for range most {
		before := r.picture()
		if err := r.pass(moment); err != nil {
			return err
		}
		if err := r.look(); err != nil {
			return err
		}
		if r.violation != nil || maps.Equal(before, r.picture()) {
			return nil
		}
	}
	return nil
}

// picture is what there is.
func (r *run) picture() picture.Picture {
	all := picture.Picture{}
	for _, key := range PVCs {
		of := picture.PVC{
			Claim: picture.None, App: picture.Off, Latest: picture.None,
			Source: r.becomes(source, key), Destination: r.becomes(destination, key),
		}
		if pvc := r.claim(key); pvc != nil {
			of.Claim, of.Decision = picture.There, r.terms.Decided(mapAt(pvc, "metadata", "annotations"))
		}
		if a := r.apps[key]; a != nil && a.wanted {
			of.App = picture.Held
			if a.ran {
				of.App = picture.Runs
			}
		}
		if v := r.volumeOf(key); v != nil && of.App == picture.Runs {
			of.Volume = r.holds(v.content)
		}
		if repo := r.repositories[r.terms.Paths[key]]; repo != nil && repo.latest() != nil {
			of.Latest = r.holds(repo.latest().content)
		}
		if r.killed[key] { // whether a lock is left is a matter of milliseconds, and how long one matters of a clock that is not the cluster's
			of.Source, of.Latest = "", ""
		}
		all[key] = of
	}
	return all
}

// holds is the name of content. Empty: half of it is.
func (r *run) holds(c content) string {
	switch {
	case c.half:
		return ""
	case c.version == 0:
		return picture.Nothing
	}
	return picture.Content(c.of, r.made[c.version])
}

// becomes is what becomes of the objects of a kind that are for a PVC.
func (r *run) becomes(kind, pvc string) string {
	var states []string
	for _, o := range r.world.List(kind) {
		if r.whose(o) != pvc {
			continue
		}
		paused, _ := mapAt(o, "spec")["paused"].(bool)
		switch {
		case at(o, "spec", "trigger", "manual")+at(o, "spec", "trigger", "schedule") == "": // again and again
			states = append(states, "")
		case paused:
			states = append(states, picture.Paused)
		case r.movers[uid(o)] != nil:
			states = append(states, picture.Works)
		case r.due(o):
			states = append(states, picture.Held)
		default:
			states = append(states, picture.Done)
		}
	}
	return picture.Several(states)
}
