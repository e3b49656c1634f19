package mutants

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/policy"
)

// Histories is the second round: random histories. What the policy itself breaks in the same one does not count.
type Histories struct {
	Simulator interface {
		Explore(ctx context.Context, given history.Given, tell func(history.Message)) error
	}
	Processes int
	For       time.Duration // each mutant
	Seed      uint64
}

// Name is its name.
func (h Histories) Name() string { return "histories" }

// Workers is how many mutants are played at a time.
func (h Histories) Workers() int { return h.Processes }

// Judge begins nothing: each mutant has a simulator of its own.
func (h Histories) Judge(ctx context.Context, p *policy.Policy) (Judge, error) {
	return historiesJudge{h, ctx, p}, nil
}

type historiesJudge struct {
	Histories
	ctx    context.Context
	policy *policy.Policy
}

func (h historiesJudge) Judge(m Mutant) (catch check.Catch, err error) {
	version := *h.policy
	version.Objects = m.Objects(h.policy)
	given, err := check.Setting(&version)
	if err != nil {
		return catch, err
	}
	given.Seed, given.Workers, given.Millis, given.First = h.Seed, 1, h.For.Milliseconds(), true
	for _, o := range h.policy.Objects {
		given.Control = append(given.Control, o.DeepCopy().Object)
	}
	err = h.Simulator.Explore(h.ctx, given, func(told history.Message) {
		switch {
		case catch.Requirement != "":
		case told.Finding != nil:
			catch = check.Catch{Requirement: "explore/" + told.Finding.Invariant, Situation: "a history", Text: told.Finding.Text}
			catch.All = []string{catch.Requirement}
		case told.Unplayed != "":
			catch.Unknown = "a history: " + told.Unplayed
		}
	})
	return catch, err
}

func (historiesJudge) Close() error { return nil }
