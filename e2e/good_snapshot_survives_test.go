package e2e

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var _ = Prove("safety/good-snapshot-survives", verdict.Safety,
	"A PVC that is created during an S3 outage starts empty. After the outage, it changes, somebody pauses all backups for a while, and backups with the promised retention run in the same hour as the last good backup. The last good snapshot can still be restored.",
	func(ctx context.Context, s *scenario.Scenario) {
		// The last backup before the outage is of this hour, as are all that follow: retention by the hour keeps the last.
		s.SameHourFor(ctx, 3*time.Minute)
		now := time.Now()
		s.AddSnapshot(ctx, "data", "older", now.Add(-26*time.Hour))
		s.AddSnapshot(ctx, "data", "old", now.Add(-2*time.Hour))
		s.AddSnapshot(ctx, "data", lastGood, now)
		good := s.LatestSnapshot(ctx, "data")

		var claim *scenario.Claim
		s.S3Down(ctx, outage.Held, "data", func() {
			claim = s.ClaimInOutage(ctx, outage.Held, "data")
			claim.App(ctx).Write(ctx, dataset.Small(s.Namespace, 5))
		})
		claim.Patch(ctx, "annotated", `{"metadata":{"annotations":{"example.com/touched":"yes"}}}`)
		backups := 0
		for _, between := range []func(context.Context){func(context.Context) {}, claim.PausedForAWhile} {
			between(ctx)
			if claim.BackUpOrHold(ctx) {
				backups++
			}
		}
		s.Step("%d of 2 backups were made", backups)
		claim.SnapshotHolds(ctx, good, lastGood)
	}, judgesAnEmptyStart, longest, needs{scenario.NeedsGateway})

// What the last good snapshot of a PVC holds.
const lastGood = "the last good one"

// lastGoodOne adds two snapshots for a PVC, of which retention may push out the second, of this hour, and returns that one's ID.
func lastGoodOne(ctx context.Context, s *scenario.Scenario, pvc string) string {
	now := time.Now()
	s.AddSnapshot(ctx, pvc, "older", now.Add(-2*time.Hour)) // the oldest of all restic keeps in any case
	s.AddSnapshot(ctx, pvc, lastGood, now)
	return s.LatestSnapshot(ctx, pvc)
}
