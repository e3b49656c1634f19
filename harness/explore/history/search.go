package history

import (
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/explore/picture"
)

// Given is what the simulator is told to explore.
type Given struct {
	Play play.Play `json:"play"`
	// Control is a good policy that the one in Play is a patch of: what it breaks, too, is no finding. It needs policies only.
	Control []map[string]any `json:"control,omitempty"`
	Terms   Terms            `json:"terms"`
	Faults  []Fault          `json:"faults"`
	// Replay is a history to play, and nothing else.
	Replay []Event `json:"replay,omitempty"`
	// Pictures says to take pictures of it, as Pictures does.
	Pictures bool `json:"pictures,omitempty"`
	// Seed is what histories are drawn with. Of several workers, which are told apart by their number from 0, each has its own.
	Seed    uint64 `json:"seed"`
	Worker  int    `json:"worker"`
	Workers int    `json:"workers"`
	// Millis is for how long, and Histories how many at most; 0: as many as there is time for.
	Millis    int64 `json:"millis"`
	Histories int   `json:"histories,omitempty"`
	// First says to stop at the first finding.
	First bool `json:"first,omitempty"`
}

// Finding is the shortest history that was found to break an invariant.
type Finding struct {
	Violation
	Events []Event `json:"events"`
	// Millis is how long after the start it was found, before it was shrunk, and Histories how many had been played by then, by this worker.
	Millis    int64 `json:"millis"`
	Histories int   `json:"histories"`
}

// Message is what the simulator says meanwhile, a line of JSON each.
type Message struct {
	// Kyverno and Policies are in the first one: the version, and which policies are taken.
	Kyverno  string            `json:"kyverno,omitempty"`
	Policies []play.Acceptance `json:"policies,omitempty"`
	// Histories and Events are how many have been played since the last message.
	Histories int      `json:"histories,omitempty"`
	Events    int      `json:"events,omitempty"`
	Finding   *Finding `json:"finding,omitempty"`
	// Pictures are those of the history that was played, if they were asked for, and Violation what it breaks.
	Pictures  []picture.Picture `json:"pictures,omitempty"`
	Violation *Violation        `json:"violation,omitempty"`
	// Unplayed is a history that could not be played to its end, and why.
	Unplayed string `json:"unplayed,omitempty"`
	Done     bool   `json:"done,omitempty"`
}

const (
	// chunk is how many histories are drawn from one seed.
	chunk = 50
	// apart is the distance of the seeds of two chunks: rapid counts on from each.
	apart = 1 << 20
	// tries is how many histories are played to find a shorter one. It is no time, so that the same seed always ends in the same history. shrinking
	// is how long rapid, which knows times only, may take at most.
	tries     = 300
	shrinking = 2 * time.Minute
	// telling is how often the simulator says how far it is.
	telling = time.Second
)

// search draws histories and plays them.
type search struct {
	given     Given
	play      func([]Event) (*Violation, error)
	tell      func(Message)
	began     time.Time
	told      time.Time
	played    int
	since     Message
	known     map[string]bool // invariants that have a finding
	target    string          // the one that is being shrunk
	tried     int             // how many were played for that
	last      Finding
	unplayed  error
	firstSeen Finding
}

// Explore draws histories and plays them until the time is over, or the first finding. What was found is told.
func Explore(given Given, play func([]Event) (*Violation, error), tell func(Message)) {
	s := &search{given: given, play: play, tell: tell, began: time.Now(), told: time.Now(), known: map[string]bool{}}
	if given.Replay != nil {
		s.replay()
		tell(Message{Done: true})
		return
	}
	draw := generator(given.Faults)
	for number := given.Worker; !s.over(); number += max(1, given.Workers) {
		s.target, s.tried = "", 0
		s.check(given.Seed+uint64(number)*apart, draw)
		if s.target == "" {
			continue
		}
		s.known[s.target] = true
		f := s.last
		f.Millis, f.Histories = s.firstSeen.Millis, s.firstSeen.Histories
		f.Events = Shorter(happened(f.Events), func(events []Event) bool {
			v, err := s.play(events)
			if err != nil || v == nil || v.Invariant != f.Invariant {
				return false
			}
			f.Violation = *v
			return true
		})
		tell(Message{Finding: &f})
		if given.First {
			break
		}
	}
	s.say()
	tell(Message{Done: true})
}

func (s *search) over() bool {
	return s.given.Millis > 0 && time.Since(s.began).Milliseconds() >= s.given.Millis || s.given.Histories > 0 && s.played >= s.given.Histories
}

func (s *search) replay() {
	v, err := s.play(s.given.Replay)
	switch {
	case err != nil:
		s.tell(Message{Unplayed: err.Error()})
	case v != nil:
		s.tell(Message{Histories: 1, Events: len(s.given.Replay), Finding: &Finding{Violation: *v, Events: s.given.Replay, Histories: 1}})
	default:
		s.tell(Message{Histories: 1, Events: len(s.given.Replay)})
	}
}

// check lets rapid draw a chunk of histories, and shrink the first that breaks an invariant.
func (s *search) check(seed uint64, draw *rapid.Generator[[]Event]) {
	for name, value := range map[string]string{
		"rapid.checks": strconv.Itoa(chunk), "rapid.seed": strconv.FormatUint(max(1, seed), 10), // 0 would be any
		"rapid.nofailfile": "true", "rapid.shrinktime": shrinking.String(),
	} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	var checking sync.WaitGroup
	defer checking.Wait()
	checking.Go(func() { s.rapid(draw) })
}

// rapid is the goroutine in which rapid checks.
func (s *search) rapid(draw *rapid.Generator[[]Event]) {
	rapid.Check(&tb{}, func(t *rapid.T) {
		events := draw.Draw(t, "events")
		if s.target == "" && s.over() {
			return
		}
		if s.tried > tries {
			runtime.Goexit() // rapid would go on
		}
		if s.target != "" {
			s.tried++
		}
		v, err := s.play(events)
		s.count(len(events))
		if err != nil {
			if s.unplayed == nil {
				s.tell(Message{Unplayed: err.Error()})
			}
			s.unplayed = err
			return
		}
		if v == nil || s.known[v.Invariant] || s.target != "" && v.Invariant != s.target {
			return
		}
		if s.target == "" {
			s.target = v.Invariant
			s.firstSeen = Finding{Millis: time.Since(s.began).Milliseconds(), Histories: s.played}
		}
		s.last = Finding{Violation: *v, Events: events}
		t.Fatalf("%s", v.Invariant)
	})
}

func (s *search) count(events int) {
	s.played++
	s.since.Histories++
	s.since.Events += events
	if time.Since(s.told) >= telling {
		s.say()
	}
}

func (s *search) say() {
	s.tell(s.since)
	s.since, s.told = Message{}, time.Now()
}

// tb is what rapid tells of a failure. It says nothing by itself.
type tb struct{ failed bool }

func (*tb) Helper()                 {}
func (*tb) Name() string            { return "history" }
func (*tb) Logf(string, ...any)     {}
func (*tb) Log(...any)              {}
func (*tb) Skipf(string, ...any)    {}
func (*tb) Skip(...any)             {}
func (*tb) SkipNow()                {}
func (t *tb) Errorf(string, ...any) { t.failed = true }
func (t *tb) Error(...any)          { t.failed = true }
func (t *tb) Fatalf(format string, args ...any) {
	t.failed = true
	panic(fmt.Sprintf(format, args...))
}
func (t *tb) Fatal(args ...any) { t.failed = true; panic(fmt.Sprint(args...)) }
func (t *tb) FailNow()          { runtime.Goexit() }
func (t *tb) Fail()             { t.failed = true }
func (t *tb) Failed() bool      { return t.failed }
