package e2e

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/label-is-not-the-gate", verdict.Safety,
	"The label is removed, or gets another value. While a restore is to come or under way, the app is not let in by that, and no backup of the half-filled volume is made. Backups of a volume that nobody decided on do not push out the last good snapshot.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.Step("as a restore begins, and in the middle of it")
		claim, destination, written, heal := toBeRestored(ctx, s, "slow")
		defer heal()
		claim.Unlabel(ctx)
		claim.HeldBack(ctx, destination) // before there is a mover, beside which nothing may be, either
		claim.RestoreUnderWay(ctx, destination)
		claim.HeldBack(ctx, destination)
		claim.NoBackupWhileRestoring(ctx, destination)
		heal()
		claim.App(ctx).SeesExactly(ctx, written)
		claim.NoBackupOfHalf(ctx, destination)

		s.Step("of a volume of an outage")
		s.SameHourFor(ctx, 3*time.Minute)
		good := lastGoodOne(ctx, s, "data")
		var undecided *scenario.Claim
		s.S3Down(ctx, outage.Held, "data", func() {
			undecided = s.ClaimInOutage(ctx, outage.Held, "data")
			undecided.App(ctx).Write(ctx, small(s))
		})
		undecided.RelabelAs(ctx, "another-value")
		undecided.BackUpOrHold(ctx)
		undecided.Unlabel(ctx)
		undecided.BackUpOrHold(ctx)
		undecided.SnapshotHolds(ctx, good, lastGood)
	}, judgesPolicy, longest, needs{scenario.NeedsGateway})

var _ = Prove("resilience/kyverno-scaled-to-zero", verdict.Resilience,
	"Kyverno's admission controller is scaled to zero while a restore is under way, and takes its webhooks with it. No app is let in beside the restore, and no backup of the half-filled volume is made. A restore that was overridden stays over, and backups that wait are not made, also while the policy is removed and after it is applied again.",
	func(ctx context.Context, s *scenario.Scenario) {
		stays, waiting := overridden(ctx, s, "overridden"), held(ctx, s, "held")
		claim, destination, written, heal := restoring(ctx, s, "data")
		defer heal()
		on := s.Off(ctx, scenario.KyvernoAdmission)
		s.NoKyvernoWebhooks(ctx)
		claim.HeldBack(ctx, destination)
		waiting(ctx, func() {
			stays(ctx, "while Kyverno is away")
			claim.NoBackupWhileRestoring(ctx, destination)
		})
		heal()
		on(ctx)
		s.KyvernoBack(ctx)
		claim.App(ctx).SeesExactly(ctx, written)
		claim.NoBackupOfHalf(ctx, destination)
		again := s.RemovePolicy(ctx)
		waiting(ctx, func() { stays(ctx, "without the policy") })
		again(ctx)
		waiting(ctx, func() { stays(ctx, "after the policy was applied again") })
	}, judgesPolicy, alone)

// held makes a PVC of this name whose backups wait until somebody decides. The returned function looks whether they do, while something else
// is looked at. If the policy lets no PVC start empty, there is none.
func held(ctx context.Context, s *scenario.Scenario, name string) func(ctx context.Context, meanwhile func()) {
	if s.UnknownWaits() || s.UnknownIsRefused() {
		return func(_ context.Context, meanwhile func()) { meanwhile() }
	}
	return backupsHeld(ctx, s, name).waitWhile
}
