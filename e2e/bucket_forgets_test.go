package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/bucket-forgets", verdict.Safety,
	"For a while, S3 has forgotten what it holds, and takes writes. A backup of a volume in use that was backed up before is asked for meanwhile. Its repository is not made again over the old one: when S3 remembers, the snapshot can be restored, and the next backup is made.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		app := claim.App(ctx)
		app.PutSentinel(ctx, lastGood)
		claim.BackedUp(ctx)
		before, good := s.Listing(ctx, "data"), s.LatestSnapshot(ctx, "data")
		s.S3DownInUse(ctx, outage.Named("amnesia"), "data", func() { claim.TryBackup(ctx) })
		s.NothingLost(ctx, "data", before)
		claim.SnapshotHolds(ctx, good, lastGood)
		app.PutSentinel(ctx, newer)
		claim.BackUp(ctx)
		claim.SnapshotHolds(ctx, "latest", newer)
	}, judgesBackups, long, needs{scenario.NeedsGateway})
