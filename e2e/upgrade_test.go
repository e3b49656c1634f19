package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("resilience/volsync-upgrade", verdict.Resilience,
	"VolSync is upgraded in the middle of a backup and of a restore, and then set back to the version before. Each ends once, with nobody's help: the app sees what the backup holds, no backup is of a half-filled volume, no snapshot is lost, and no mover is left or comes again.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.SameHourFor(ctx, 4*time.Minute)
		saving := s.ClaimWithBackupSource(ctx, "saving")
		app := saving.App(ctx)
		app.Write(ctx, small(s))
		saving.BackedUp(ctx)
		before := s.Listing(ctx, "saving")
		app.Mark(ctx)
		written := app.Reads(ctx)
		release := s.HoldBackups(ctx, "saving")
		defer release()
		saving.AskForBackup(ctx)
		s.BackupHeld(ctx, "saving")
		half, destination, restored, heal := restoring(ctx, s, "restoring", slowly)
		defer heal()

		movers := s.MoversAtWork(ctx, saving.HasReplicationSource(ctx), destination)
		back := s.NextVolSync(ctx)
		movers.Over(ctx)
		s.NothingLost(ctx, "saving", before)
		half.HeldBack(ctx, destination)
		release()
		heal()
		half.Restored(ctx, destination)
		half.App(ctx).SeesExactly(ctx, restored)
		for _, pvc := range []string{"saving", "restoring"} {
			s.HalfAnHourLater(ctx, pvc, movers.Pods()...)
		}
		saving.BackupEnds(ctx)
		saving.BackupIsExactly(ctx, written)
		s.KeepsByTheHour(ctx, "saving")

		objects := s.ObjectsOfTheirs(ctx, saving, half)
		back(ctx)
		half.BackedUp(ctx)
		half.BackupIsExactly(ctx, restored)
		half.NoBackupOfHalf(ctx, destination)
		s.NoMoverLeft(ctx)
		s.HasObjects(ctx, objects)
		app.SeesExactly(ctx, written)
	}, alone, needs{scenario.NeedsGateway}, SpecTimeout(scenario.Scaled(10*time.Minute)))
