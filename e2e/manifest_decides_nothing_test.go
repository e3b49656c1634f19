package e2e

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/manifest-decides-nothing", verdict.Safety,
	"Annotations that the policy wrote on an earlier PVC come with a manifest, are applied again, or are dropped. They open no gate while a restore is under way, start no restore after an outage, and stop neither the restore nor later backups. No good snapshot is lost by them.",
	func(ctx context.Context, s *scenario.Scenario) {
		first := s.ClaimWithBackupSource(ctx, "data")
		app := first.App(ctx)
		written := app.Write(ctx, large(s))
		first.BackedUp(ctx)
		fresh := first.Exported(ctx)
		s.Step("a volume that was backed up goes on being backed up without its annotations")
		first.WithoutAnnotations(ctx)
		first.BackUp(ctx)
		app.Delete(ctx)
		first.Delete(ctx)

		s.Step("made again from what was exported, it is restored, whatever is applied meanwhile")
		heal := s.HoldRestores(ctx, "data")
		defer heal()
		second := s.ClaimFrom(ctx, "data", fresh)
		destination := second.HasNewReplicationDestination(ctx)
		second.RestoreUnderWay(ctx, destination)
		second.Apply(ctx, fresh)
		second.HeldBack(ctx, destination)
		second.WithoutAnnotations(ctx)
		second.HeldBack(ctx, destination)
		second.NoBackupWhileRestoring(ctx, destination)
		heal()
		second.App(ctx).SeesExactly(ctx, written)
		second.BackUp(ctx)
		second.BackupIsExactly(ctx, written)
		second.NoBackupOfHalf(ctx, destination)

		s.Step("the annotations of a restored volume, a year ahead, come with a PVC that is created in an outage")
		restored := scenario.AYearAhead(second.Exported(ctx))
		s.SameHourFor(ctx, 2*time.Minute)
		good := lastGoodOne(ctx, s, "held")
		var held *scenario.Claim
		healed := s.S3Down(ctx, outage.Held, "held", func() {
			held = s.ClaimInOutage(ctx, outage.Held, "held", restored)
			held.App(ctx).Write(ctx, small(s))
		})
		held.NotRestoredAfter(ctx, outage.Held, healed)
		held.BackUpOrHold(ctx)
		held.SnapshotHolds(ctx, good, lastGood)
	}, judgesPolicy, longest, needs{scenario.NeedsGateway})
