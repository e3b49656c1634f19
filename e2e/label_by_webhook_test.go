package e2e

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/label-by-webhook", verdict.Safety,
	"Another webhook adds the label to a PVC after the policy was asked about it. The PVC is restored before its app starts, or it says that something is wrong, and the last good snapshot can still be restored after backups in the same hour.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.SameHourFor(ctx, 3*time.Minute)
		s.AddSnapshot(ctx, "data", lastGood, time.Now())
		good := s.LatestSnapshot(ctx, "data")
		s.LabelledByWebhook(ctx, "data")
		claim := s.UnlabelledClaim(ctx, "data")
		if claim.RestoredAtMost(ctx) == "" {
			claim.SaysThatSomethingIsWrong(ctx, claim)
			claim.App(ctx).Write(ctx, small(s))
			claim.BackUpOrHold(ctx)
			claim.SnapshotHolds(ctx, good, lastGood)
			return
		}
		claim.App(ctx).Holds(ctx, lastGood, "it is not what was backed up")
	}, judgesPolicy, longest, needs{scenario.NeedsPlatform}) // its webhook is for its own namespace only
