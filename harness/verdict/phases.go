package verdict

import (
	"slices"
	"sync"
	"time"
)

// Phase is a stretch of a run: images, boot, install, specs, clean-up.
type Phase struct {
	Name            string    `json:"name"`
	Started         time.Time `json:"started"`
	DurationSeconds float64   `json:"durationSeconds"`
	Error           string    `json:"error,omitempty"`
}

// PhaseTimer measures phases, which may overlap. It is safe for concurrent use;
// its zero value is ready.
type PhaseTimer struct {
	mu     sync.Mutex
	phases []*phase
}

type phase struct {
	Phase
	ended bool
}

// Start begins a phase. What it returns ends it, with the phase's error or
// nil; calling that again changes nothing.
func (t *PhaseTimer) Start(name string) (end func(err error)) {
	started := time.Now() // its monotonic part outlives a clock that is set
	p := &phase{Phase: Phase{Name: name, Started: started}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phases = append(t.phases, p)
	return func(err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if p.ended {
			return
		}
		p.ended = true
		p.DurationSeconds = seconds(time.Since(started))
		if err != nil {
			p.Error = err.Error()
		}
	}
}

// Phases returns all phases in the order of their start. One that has not
// ended is there with its time so far and an error that says so.
func (t *PhaseTimer) Phases() []Phase {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Phase
	for _, p := range t.phases {
		q := p.Phase
		if !p.ended {
			q.DurationSeconds = seconds(time.Since(p.Started))
			q.Error = "not finished"
		}
		q.Started = q.Started.Round(0) // without the monotonic part: as it is read back
		out = append(out, q)
	}
	slices.SortStableFunc(out, func(a, b Phase) int { return a.Started.Compare(b.Started) })
	return out
}

// seconds is a duration in seconds, to the millisecond.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}
