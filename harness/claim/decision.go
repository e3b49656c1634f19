package claim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/text"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/volsync"
)

// situations are the rows of the decision table that a spec is about.
type situations struct{ rows []*situation }

// situation is a row of the decision table in the making: what becomes of the next PVC of this name.
type situation struct {
	name   string
	wanted verdict.Outcome
	claim  *Claim    // nil: not asked for yet
	err    error     // why it was not admitted
	healed time.Time // when the outage ended; zero: there was none, or it lasts
	pvc    string

	recorded bool
}

// Situation says that the next PVC of this name is a row of the decision table. What becomes of it is recorded when the
// spec ends, however it ends.
func (c *Claims) Situation(name string, wanted verdict.Outcome, pvc string) {
	c.situations.rows = append(c.situations.rows, &situation{name: name, wanted: wanted, pvc: c.env.PVC(pvc)})
}

// wantedOf is what the decision table wants of an outcome. What becomes of a PVC of which nothing is known, the contract says.
func wantedOf(o outage.Outcome, unknown string) verdict.Outcome {
	switch {
	case o.Restores():
		return verdict.Restore
	case o == outage.OutcomeUnknown && unknown == policy.Waits:
		return verdict.LateRestore
	case o == outage.OutcomeUnknown && unknown == policy.IsRefused:
		return verdict.Blocked
	}
	return verdict.None
}

// decidedOn notes that a claim was asked for, and whether it was admitted.
func (s *situations) decidedOn(claim *Claim, err error) {
	for _, row := range s.rows {
		if row.claim == nil && row.pvc == claim.Name {
			row.claim, row.err = claim, err
			return
		}
	}
}

// outageEnded ends the outage that open situations are in.
func (s *situations) outageEnded(at time.Time) {
	for _, row := range s.rows {
		if row.claim != nil && row.healed.IsZero() {
			row.healed = at
		}
	}
}

// RecordDecisions records what became of each situation's claim, once.
func (c *Claims) RecordDecisions(ctx context.Context) {
	for _, row := range c.situations.rows {
		if row.claim == nil || row.recorded {
			continue // the spec ended before, or the clean-up is tried again
		}
		row.recorded = true
		e := row.claim.env()
		destinations, err := row.claim.restored(ctx)
		sources, sourceErr := row.claim.made(ctx, absence.ReplicationSources)
		d := row.decide(destinations, sources, err == nil && sourceErr == nil, e.Now().Sub(row.claim.CreatedAt), e.Times.Nothing)
		if pvc, err := row.claim.get(ctx); err == nil && row.err == nil {
			d.Said = c.written(pvc)
		}
		e.Evidence(verdict.KindOutcome, fmt.Sprintf("%s: %s, PVC %s admitted in %.2f s", d.Situation, d.Outcome, row.pvc, d.AdmittedSeconds), d.Data())
	}
}

// restored lists the ReplicationDestinations that were made for a claim. Of those that are there in any case, it lists the one that has
// restored a snapshot, as made when it had.
func (c *Claim) restored(ctx context.Context) ([]creations.CreatedObject, error) {
	made, err := c.made(ctx, absence.ReplicationDestinations)
	if !c.claims.alwaysRestores() || err != nil {
		return made, err
	}
	destination, err := c.destination(ctx)
	if err != nil || destination == nil || !volsync.RestoredASnapshot(destination) {
		return nil, err
	}
	done, err := time.Parse(time.RFC3339, volsync.Nested(destination, "status", "lastSyncTime"))
	return []creations.CreatedObject{{Name: destination.GetName(), Time: done, Raw: destination.Object}}, err
}

// made lists what was made for a claim, also what is gone again.
func (c *Claim) made(ctx context.Context, resource string) ([]creations.CreatedObject, error) {
	made, err := c.env().Created.Created(ctx, resource, c.env().Namespace, c.CreatedAt)
	return slices.DeleteFunc(made, func(o creations.CreatedObject) bool {
		return !c.absence(resource).IsFor(resource, o)
	}), err
}

// decide says what a policy came to, by what was made for the claim. seen says that the audit log could be read, enough how long a
// policy has had to make nothing at all before that says something.
func (s *situation) decide(destinations, sources []creations.CreatedObject, seen bool, watched, enough time.Duration) verdict.Decision {
	d := verdict.Decision{Situation: s.name, Wanted: s.wanted, AdmittedSeconds: s.claim.Admission.Seconds(), BackedUp: len(sources) > 0}
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
	case watched < enough:
		d.Outcome = verdict.Unseen
	default:
		d.Outcome = verdict.Failed
	}
	return d
}

// ClaimInOutage creates a labelled PVC during an outage and waits for what the policy must make at once: its
// ReplicationDestination where S3 says that there is a backup, else its ReplicationSource. An outage of the spec's own
// requests can only be met by Kyverno while no other spec's outage keeps it from S3 altogether. The manifest may have annotations.
func (c *Claims) ClaimInOutage(ctx context.Context, f outage.Fault, name string, manifest ...Annotations) *Claim {
	if !f.In(c.env.Testbed.Contract.S3.Marker).HoldsForAll() {
		defer c.s3.Up(ctx)()
	}
	c.Situation(f.Situation(), wantedOf(f.Outcome, c.env.Testbed.Contract.Unknown), name)
	var with []func(*corev1.PersistentVolumeClaim)
	for _, annotations := range manifest {
		with = append(with, annotated(annotations))
	}
	claim := c.create(ctx, name, c.labels(), with...)
	claim.AdmittedInTime()
	if c.env.Testbed.OnlyMoversAsk() {
		c.s3.MoverAsks(ctx, name, claim.CreatedAt)
	}
	if f.Outcome.Restores() {
		claim.HasNewReplicationDestination(ctx)
		return claim
	}
	if c.env.Testbed.Contract.BackupSource.Late() { // no app has bound the PVC so far, or the time is not over
		return claim
	}
	// A policy that makes a ReplicationDestination may hold the ReplicationSource back for it: no use waiting then.
	e := c.env
	e.Eventually(ctx, "ReplicationSource for PVC "+name, e.Times.Generate, func(ctx context.Context) (await.State, error) {
		violations, err := claim.restores(ctx)
		if len(violations) > 0 && f.Outcome != outage.OutcomeLied { // of a lie, that it was not believed
			return await.RuledOut("a ReplicationDestination was made %s: %s", f.While(), strings.Join(violations, "; ")), nil
		}
		sources, listErr := claim.sources(ctx)
		if len(sources) > 0 {
			return await.Reached(), nil
		}
		if listErr != nil {
			err = listErr
		}
		return await.NotYet("no ReplicationSource for it"), err
	})
	return claim
}

// RefusedInOutage asks for a labelled PVC during an outage, as ClaimInOutage does, of a policy that lets none in of which nothing is
// known. It fails the spec where the PVC is admitted, or refused without words that a person can act on.
func (c *Claims) RefusedInOutage(ctx context.Context, f outage.Fault, name string) {
	e := c.env
	if !f.In(e.Testbed.Contract.S3.Marker).HoldsForAll() {
		defer c.s3.Up(ctx)()
	}
	c.Situation(f.Situation(), wantedOf(f.Outcome, e.Testbed.Contract.Unknown), name)
	claim := c.claim(name)
	e.Arrange(ctx, "PVC "+name+" asked for", e.Times.Generate, func(context.Context) (await.State, error) {
		start := time.Now()
		err := e.API.Create(ctx, c.pvc(name, c.labels()))
		claim.Admission = time.Since(start)
		switch {
		case err == nil, apierrors.IsAlreadyExists(err):
			e.Failf("PVC %s was admitted %s, and its contract says that it is refused then (unknown: %s)", name, f.While(), policy.IsRefused)
		case env.Denied(err):
			c.situations.decidedOn(claim, err)
			e.Evidence("admission", fmt.Sprintf("PVC %s is refused: %v", name, err), nil)
			return await.Reached(), nil
		case env.Refused(err), apierrors.IsTimeout(err):
			c.situations.decidedOn(claim, err)
			e.Failf("PVC %s is refused without a word that a person can act on: %v", name, err)
		}
		return await.State{}, err
	})
	claim.AdmittedInTime()
}

// DecisionVisible records what the policy has written on the PVC, which is what an operator sees of its decision. It fails the
// spec if the policy promises that and it is nothing, or by its contract not the decision that this outcome asks for.
func (c *Claim) DecisionVisible(ctx context.Context, outcome outage.Outcome) {
	pvc, contract := c.now(ctx), c.env().Testbed.Contract
	text := c.claims.written(pvc)
	seen := "nothing"
	if text != "" {
		seen = text
	}
	c.env().Evidence("decision", fmt.Sprintf("what the policy wrote on PVC %s: %s", c.Name, seen),
		map[string]any{"annotations": pvc.Annotations, "labels": pvc.Labels})
	if !contract.Promises("visible-decision") {
		return
	}
	if text == "" {
		c.env().Failf("PVC %s does not say what was decided about it", c.Name)
	}
	if wrong := contract.Decisions.NotDecided(outcome.Decision(), pvc.Annotations); wrong != "" {
		c.env().Failf("PVC %s does not say what must be decided about it: %s", c.Name, wrong)
	}
}

// SaysWhatWasDecided waits until the claim says what was decided about it, where the policy promises that, and fails the spec if it says
// that a backup is to be restored: its volume was in use before anything could be decided. A policy that was just applied may miss what
// it makes itself, and say it at the next background scan.
func (c *Claim) SaysWhatWasDecided(ctx context.Context) {
	e, contract := c.env(), c.env().Testbed.Contract
	if !contract.Promises("visible-decision") {
		return
	}
	said := ""
	e.Eventually(ctx, "PVC "+c.Name+" says what was decided about it", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx)
		if err != nil {
			return await.State{}, err
		}
		said = c.claims.written(pvc)
		if contract.Decisions.Annotation == "" {
			return await.ReachedIf(said != "", "it says nothing"), nil
		}
		if contract.Decisions.NotDecided(policy.DecisionRestore, pvc.Annotations) == "" {
			return await.RuledOut("it is to be restored, though its volume is in use: %s", said), nil
		}
		return await.ReachedIf(pvc.Annotations[contract.Decisions.Annotation] != "", "it has no annotation %s, and says %q", contract.Decisions.Annotation, said), nil
	})
	e.Evidence("decision", fmt.Sprintf("PVC %s says: %s", c.Name, said), nil)
}

// decisionText is what of a PVC's annotations and labels, of which these labels were sent, is a policy's.
func decisionText(annotations, labels, sent map[string]string) string {
	written := maps.Clone(annotations)
	if written == nil {
		written = map[string]string{}
	}
	for key, value := range labels {
		if was, ok := sent[key]; !ok || was != value {
			written["label "+key] = value
		}
	}
	maps.DeleteFunc(written, func(key, _ string) bool {
		return text.OfKubernetes(strings.TrimPrefix(key, "label "))
	})
	return text.Pairs(written)
}
