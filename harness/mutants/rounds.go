package mutants

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/policy"
)

// Outcome is what became of a mutant.
type Outcome struct {
	Verdict Verdict `json:"verdict"`
	// Round is the one that gave it.
	Round string `json:"round,omitempty"`
	check.Catch
}

// Verdict is about a mutant.
type Verdict string

// The verdicts.
const (
	Caught  Verdict = "caught"    // a requirement caught it
	Refused Verdict = "not taken" // Kyverno or the API server refuses it: no reader of the policy needs to
	Lived   Verdict = "lived"     // nothing did
	Unknown Verdict = "unknown"   // some situation could not be judged
)

// Round judges mutants that the rounds before it let live.
type Round interface {
	Name() string
	// Workers is how many mutants it judges at a time, each by a judge of its own.
	Workers() int
	Judge(ctx context.Context, p *policy.Policy) (Judge, error)
}

// Judge judges one mutant after another.
type Judge interface {
	Judge(m Mutant) (check.Catch, error)
	Close() error
}

// Run judges mutants in rounds. done has outcomes of an earlier run, and is told of each new one.
func Run(ctx context.Context, p *policy.Policy, all []Mutant, rounds []Round, done map[string]Outcome, tell func(Mutant, Outcome) error) error {
	for _, round := range rounds {
		left := leftTo(round, all, rounds, done)
		if err := judge(ctx, p, left, round, func(m Mutant, o Outcome) error {
			done[m.ID] = o
			return tell(m, o)
		}); err != nil {
			return err
		}
	}
	return nil
}

// Left are the mutants that some round has not judged yet, and none has caught.
func Left(all []Mutant, rounds []Round, done map[string]Outcome) []Mutant {
	last := rounds[len(rounds)-1]
	return leftTo(last, all, rounds, done)
}

func leftTo(round Round, all []Mutant, rounds []Round, done map[string]Outcome) (left []Mutant) {
	for _, m := range all {
		if o, judged := done[m.ID]; !judged || o.Verdict == Lived && after(rounds, round, o.Round) {
			left = append(left, m)
		}
	}
	return left
}

// after says whether a round comes after another one.
func after(rounds []Round, round Round, other string) bool {
	index := func(name string) int {
		return slices.IndexFunc(rounds, func(r Round) bool { return r.Name() == name })
	}
	return index(round.Name()) > index(other)
}

// judge is one round.
func judge(ctx context.Context, p *policy.Policy, left []Mutant, round Round, tell func(Mutant, Outcome) error) error {
	within, stop := context.WithCancel(ctx)
	defer stop()
	queue := make(chan Mutant, len(left))
	for _, m := range left {
		queue <- m
	}
	close(queue)
	var mu sync.Mutex
	var failed error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			failed = err
		}
		stop()
	}
	var workers sync.WaitGroup
	for range min(round.Workers(), len(left)) {
		workers.Go(func() {
			judge, err := round.Judge(within, p)
			if err != nil {
				fail(err)
				return
			}
			for m := range queue {
				if within.Err() != nil {
					break
				}
				catch, err := judge.Judge(m)
				if err != nil {
					fail(err)
					break
				}
				mu.Lock()
				err = tell(m, outcomeOf(round.Name(), catch))
				mu.Unlock()
				if err != nil {
					fail(err)
					break
				}
			}
			if err := judge.Close(); err != nil && within.Err() == nil {
				fail(err)
			}
		})
	}
	workers.Wait()
	return cmp.Or(ctx.Err(), failed)
}

func outcomeOf(round string, catch check.Catch) Outcome {
	o := Outcome{Round: round, Catch: catch}
	switch {
	case catch.Requirement != "":
		o.Verdict, o.Unknown = Caught, ""
	case catch.Refused != "":
		o.Verdict = Refused
	case catch.Unknown != "":
		o.Verdict = Unknown
	default:
		o.Verdict = Lived
	}
	return o
}

// Situations is the first round: the check's situations.
type Situations struct {
	Simulator *check.Kyverno
	Processes int
	// All plays every situation, also after one has caught a mutant: for the matrix of mutants and requirements.
	All bool
}

// Name is its name.
func (s Situations) Name() string { return "situations" }

// Workers is how many simulators there are.
func (s Situations) Workers() int { return s.Processes }

// Judge begins a simulator.
func (s Situations) Judge(ctx context.Context, p *policy.Policy) (Judge, error) {
	jury, err := check.NewJury(ctx, p, s.Simulator)
	if err != nil {
		return nil, err
	}
	return situationsJudge{jury, p, s.All}, nil
}

type situationsJudge struct {
	*check.Jury
	policy *policy.Policy
	all    bool
}

func (s situationsJudge) Judge(m Mutant) (check.Catch, error) {
	return s.Jury.Judge(m.Objects(s.policy), m.Object, m.Field, s.all)
}
