// Package await has the three verbs by which specs and harness wait. There is no other way to wait, so that no wait can turn
// "could not see" into "does not hold":
//
//   - Arrange is for what the harness has to bring about. If it does not come about, the spec is unknown.
//   - Eventually is for what the policy has to bring about. If it does not come about, the requirement fails.
//   - Throughout is for what must not happen for as long as is looked. If it is seen, the requirement fails.
//
// In each, a look that could not see is tried again. Time in which nothing could be seen is not counted against the policy; if
// it lasts, the spec is unknown.
package await

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/onsi/gomega"

	"github.com/smart-restore/conformance/harness/timing"
)

// Reporter takes what a wait sees. Fail and Unknown do not return.
type Reporter interface {
	// Evidence records one observation.
	Evidence(kind, text string, data map[string]any)
	// Fail ends the spec: the requirement does not hold.
	Fail(reason string)
	// Unknown ends the spec: whether the requirement holds could not be seen.
	Unknown(reason string)
}

// State is what a look of Arrange or Eventually saw. The zero State is no state: a look that returns it has seen nothing.
type State struct {
	kind kind
	text string
}

type kind int

const (
	none kind = iota
	reached
	notYet
	ruledOut
)

// Reached is the end state.
func Reached() State { return State{kind: reached} }

// NotYet is a state from which the end state can still come, and what was seen instead.
func NotYet(format string, args ...any) State {
	return State{notYet, fmt.Sprintf(format, args...)}
}

// RuledOut is a state from which the end state cannot come any more.
func RuledOut(format string, args ...any) State {
	return State{ruledOut, fmt.Sprintf(format, args...)}
}

// ReachedIf is Reached if ok, else NotYet.
func ReachedIf(ok bool, format string, args ...any) State {
	if ok {
		return Reached()
	}
	return NotYet(format, args...)
}

// String is what was seen; empty: the end state.
func (s State) String() string { return s.text }

// Look looks once. An error means that it could not see; it is never a state.
type Look func(ctx context.Context) (State, error)

// Watch looks once for what must not happen. Violation says what it saw; it is empty if all is well. An error means that it
// could not see.
type Watch func(ctx context.Context) (violation string, err error)

// Verbs are the three verbs, with the times and the reporter that they use.
type Verbs struct {
	Reporter
	Times timing.Times
}

// Arrange waits until what the harness brings about is there. Otherwise the spec is unknown. What is there at once is no evidence
// of anything, and is not recorded.
func (v Verbs) Arrange(ctx context.Context, want string, within time.Duration, look Look) {
	end := v.poll(ctx, within, look)
	switch end.state.kind {
	case reached:
		if end.looks > 1 { // what the harness did at once is nothing to read about
			v.Evidence("seen", fmt.Sprintf("%s, after %.1f s", want, end.took.Seconds()), nil)
		}
	case ruledOut:
		v.Unknown(fmt.Sprintf("the suite could not bring about: %s\nfound: %s", want, end.state.text))
	default:
		v.Unknown(fmt.Sprintf("the suite could not bring about within %s: %s\nlast seen: %s%s", within, want, end.lastSeen(), end.blindness()))
	}
}

// Eventually waits until what the policy brings about is there. If it is not there in time, or is ruled out, the requirement
// fails. If that could not be seen, the spec is unknown.
func (v Verbs) Eventually(ctx context.Context, want string, within time.Duration, look Look) {
	end := v.poll(ctx, within, look)
	switch {
	case end.state.kind == reached:
		v.Evidence("seen", fmt.Sprintf("%s, after %.1f s", want, end.took.Seconds()), nil)
	case end.state.kind == ruledOut:
		v.Fail(fmt.Sprintf("wanted: %s\nfound a state that rules it out: %s", want, end.state.text))
	case end.interrupted:
		v.Unknown(fmt.Sprintf("interrupted while waiting for: %s; last seen: %s", want, end.lastSeen()))
	case end.blind != nil || end.state.kind == none, end.blindFor > within:
		v.Unknown(fmt.Sprintf("could not see within %s whether: %s\nlast seen: %s%s", within, want, end.lastSeen(), end.blindness()))
	default:
		v.Fail(fmt.Sprintf("wanted: %s within %s\nlast seen: %s", want, within, end.lastSeen()))
	}
}

// Throughout watches, for the window, that something does not happen. The requirement fails as soon as it is seen. The spec is
// unknown if the watch had a gap of more than Times.Gap, or if nothing could be seen once the window was over.
func (v Verbs) Throughout(ctx context.Context, what string, window time.Duration, watch Watch) {
	v.throughout(ctx, what, window, v.Times.Gap, watch)
}

// ThroughoutLasting is Throughout for what lasts once it has happened, such as content that is gone: a later look sees it, too, and a gap
// hides nothing.
func (v Verbs) ThroughoutLasting(ctx context.Context, what string, window time.Duration, watch Watch) {
	v.throughout(ctx, what, window, window+v.Times.Look, watch)
}

func (v Verbs) throughout(ctx context.Context, what string, window, longestGap time.Duration, watch Watch) {
	start := time.Now()
	lastLook, looks := start, 0
	end := v.poll(ctx, window+max(v.Times.Gap, min(longestGap, v.Times.Look)), func(ctx context.Context) (State, error) {
		begun := time.Now()
		violation, err := watch(ctx)
		if err != nil {
			return State{}, err
		}
		if violation != "" {
			return RuledOut("%s", violation), nil
		}
		if gap := begun.Sub(lastLook); gap > longestGap {
			return State{}, errors.Join(errGap, fmt.Errorf("nothing was seen for %.1f s", gap.Seconds()))
		}
		lastLook = begun // what a slow look saw may be of its beginning
		looks++
		return ReachedIf(begun.Sub(start) >= window, "all is well after %.1f s", begun.Sub(start).Seconds()), nil
	})
	switch end.state.kind {
	case reached:
		v.Evidence("seen", fmt.Sprintf("%s for %.1f s, at %d looks", what, end.took.Seconds(), looks), nil)
	case ruledOut:
		v.Fail(fmt.Sprintf("wanted for %s: %s\nseen after %.1f s: %s", window, what, end.took.Seconds(), end.state.text))
	default:
		v.Unknown(fmt.Sprintf("could not see for %s whether: %s%s", window, what, end.blindness()))
	}
}

// errGap ends a watch: what happened in a gap may be over.
var errGap = errors.New("the watch had a gap")

// end is how a wait ended.
type end struct {
	state       State     // as last seen; none: nothing was ever seen
	since       time.Time // of that state
	blind       error     // why the last look could not see
	blindFor    time.Duration
	interrupted bool
	took        time.Duration
	looks       int
}

func (e end) lastSeen() string {
	if e.state.kind == none {
		return "nothing"
	}
	return fmt.Sprintf("%s, for %.1f s", e.state.text, time.Since(e.since).Seconds())
}

func (e end) blindness() string {
	switch {
	case e.interrupted && e.blind != nil:
		return fmt.Sprintf("\ninterrupted; the last look could not see: %v", e.blind)
	case e.interrupted:
		return "\ninterrupted"
	case e.blind != nil:
		return fmt.Sprintf("\nthe last look could not see: %v", e.blind)
	case e.blindFor > 0:
		return fmt.Sprintf("\nfor %.1f s nothing could be seen", e.blindFor.Seconds())
	}
	return ""
}

var errNoState = errors.New("the look returned no state")

// poll looks until the end state is reached or ruled out, or the time is over in which it could be seen. Time in which looks
// could not see does not count, up to as much again. Gomega does the polling; what a look comes to is decided here.
func (v Verbs) poll(ctx context.Context, within time.Duration, look Look) (end end) {
	start := time.Now()
	pause := v.Times.Poll
	lastSight := start
	end.since = start
	stopped := errors.New("")
	g := gomega.NewGomega(func(string, ...int) {}) // how it ended is in end
	g.Eventually(ctx, func() (bool, error) {
		// A look that the wait's end cut off would see nothing, so it has its own time.
		lookCtx, cancel := context.WithTimeout(ctx, v.Times.Look)
		defer cancel()
		end.looks++
		state, err := look(lookCtx)
		if err == nil && state.kind == none {
			err = errNoState
		}
		if ctx.Err() != nil && state.kind != reached && state.kind != ruledOut {
			end.interrupted = true
			return false, gomega.StopTrying("interrupted").Wrap(stopped)
		}
		now := time.Now()
		end.blind = err
		if err == nil {
			if state != end.state {
				end.since = now
			}
			end.state, lastSight = state, now
		} else {
			end.blindFor += now.Sub(lastSight)
			lastSight = now
		}
		switch {
		case err == nil && state.kind == reached:
			return true, nil
		case err == nil && state.kind == ruledOut, errors.Is(err, errGap):
			return false, gomega.StopTrying("decided").Wrap(stopped)
		case now.Sub(start) >= within+min(end.blindFor, within):
			return false, gomega.StopTrying("out of time").Wrap(stopped)
		}
		wait := min(pause, max(time.Millisecond, within-now.Sub(start)))
		if now.Sub(start) >= within {
			wait = pause
		}
		pause = min(pause*6/5, v.Times.PollMax)
		return false, gomega.TryAgainAfter(wait)
	}).WithTimeout(10 * (within + v.Times.Look)).WithPolling(v.Times.Poll).Should(gomega.BeTrue())
	end.took = time.Since(start)
	if ctx.Err() != nil && end.state.kind != reached && end.state.kind != ruledOut {
		end.interrupted = true
	}
	return end
}
