package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/verdict"
)

// situation is a row of the decision table in the making: what becomes of the next PVC of this name.
type situation struct {
	name   string
	wanted verdict.Outcome
	claim  *Claim    // nil: not asked for yet
	err    error     // why it was not admitted
	healed time.Time // when the outage ended; zero: there was none, or it lasts
	pvc    string
	// admission is how long the API server took to admit or refuse it.
	admission time.Duration
}

// enoughToSee is how long a policy has had to make nothing at all before that says something.
const enoughToSee = 5 * time.Second

// Situation says that the next PVC of this name is a row of the decision table. What becomes of it is recorded when the
// spec ends, however it ends.
func (sc *Scenario) Situation(name string, wanted verdict.Outcome, pvc string) {
	*sc.situations = append(*sc.situations, &situation{name: name, wanted: wanted, pvc: pvc})
}

func (sc *Scenario) rows() []*situation {
	if sc.situations == nil {
		return nil
	}
	return *sc.situations
}

// wanted is what the decision table wants of an outcome.
func wantedOf(o outage.Outcome) verdict.Outcome {
	if o == outage.OutcomeBackup || o == outage.OutcomeLater {
		return verdict.Restore
	}
	return verdict.None
}

// isDecidedOn notes that a claim was asked for, and whether it was admitted.
func (sc *Scenario) isDecidedOn(claim *Claim, err error) {
	for _, s := range sc.rows() {
		if s.claim == nil && s.pvc == claim.Name {
			s.claim, s.err, s.admission = claim, err, time.Since(claim.CreatedAt)
			return
		}
	}
}

// s3IsBack ends the outage that open situations are in.
func (sc *Scenario) s3IsBack() {
	for _, s := range sc.rows() {
		if s.claim != nil && s.healed.IsZero() {
			s.healed = time.Now()
		}
	}
}

// recordDecisions records what became of each situation's claim.
func (sc *Scenario) recordDecisions(ctx context.Context) {
	for _, s := range sc.rows() {
		if s.claim == nil {
			continue // the spec ended before
		}
		destinations, err := sc.madeFor(ctx, "replicationdestinations", s.claim)
		sources, sourceErr := sc.madeFor(ctx, "replicationsources", s.claim)
		d := s.decide(destinations, sources, err == nil && sourceErr == nil, time.Since(s.claim.CreatedAt))
		if pvc, err := s.claim.get(ctx); err == nil && s.err == nil {
			d.Said = decisionText(pvc.Annotations, pvc.Labels, sc.Testbed.Contract.PVC.Labels())
		}
		sc.Evidence(verdict.KindOutcome, fmt.Sprintf("%s: %s, PVC %s admitted in %.2f s", d.Situation, d.Outcome, s.pvc, d.AdmittedSeconds), d.Data())
	}
}

// madeFor lists what was made for a claim, also what is gone again.
func (sc *Scenario) madeFor(ctx context.Context, resource string, claim *Claim) ([]creations.CreatedObject, error) {
	made, err := sc.Made.Created(ctx, resource, sc.Namespace, claim.CreatedAt)
	return slices.DeleteFunc(made, func(o creations.CreatedObject) bool {
		return !o.For(claim.Name, "") && !strings.HasPrefix(o.Name, claim.Name+"-")
	}), err
}

// decide says what a policy came to, by what was made for the claim. seen says that the audit log could be read.
func (s *situation) decide(destinations, sources []creations.CreatedObject, seen bool, watched time.Duration) verdict.Decision {
	d := verdict.Decision{Situation: s.name, Wanted: s.wanted, AdmittedSeconds: s.admission.Seconds(), BackedUp: len(sources) > 0}
	switch {
	case s.err != nil:
		d.Outcome, d.Said = verdict.Blocked, s.err.Error()
	case !seen:
		d.Outcome = verdict.Unseen
	case len(destinations) > 0:
		d.Outcome = verdict.Restore
		d.RestoreSeconds = destinations[0].Time.Sub(s.claim.CreatedAt).Seconds()
		if !s.healed.IsZero() && destinations[0].Time.After(s.healed) {
			d.Outcome = verdict.LateRestore
		}
	case len(sources) > 0:
		d.Outcome = verdict.None
	case watched < enoughToSee:
		d.Outcome = verdict.Unseen
	default:
		d.Outcome = verdict.Failed
	}
	return d
}
