package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/clone-and-snapshot", verdict.Safety,
	"A PVC is made from a VolumeSnapshot, and another as a clone of a PVC, while S3 holds a backup under their names. They are never restored over: their apps read what they were made from, and that is backed up.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "snapshot")
		s.GoodBackup(ctx, "clone")
		origin := s.UnlabelledClaim(ctx, "origin")
		written := origin.App(ctx).Write(ctx, small(s))

		for _, claim := range []*scenario.Claim{
			s.ClaimMadeFrom(ctx, "snapshot", origin.Snapshotted(ctx)),
			s.ClaimMadeFrom(ctx, "clone", origin.Itself()),
		} {
			claim.App(ctx).SeesExactly(ctx, written)
			claim.BackedUp(ctx)
			claim.StaysUnrestored(ctx, "the PVC was made from what has content")
			claim.App(ctx).SeesExactly(ctx, written)
			claim.BackupIsExactly(ctx, written)
		}
	}, judgesBackups, long, needs{scenario.NeedsSnapshots})

var _ = Prove("safety/snapshot-is-a-moment", verdict.Safety,
	"An app writes each record to a log, and then to a table, and syncs each. It goes on while it is backed up. What is restored is of one moment: it has all that was written before the backup was asked for, and the table has no record that the log has not.",
	func(ctx context.Context, s *scenario.Scenario) {
		first := s.ClaimWithBackupSource(ctx, "data")
		app := first.AppThatKeepsWriting(ctx)
		before := app.TornFileByFile(ctx)
		first.BackUp(ctx)
		app.WentOn(ctx, before)
		app.Delete(ctx)

		second := first.Recreate(ctx)
		second.RestoredByItsOwn(ctx)
		second.App(ctx).HoldsAMoment(ctx, before)
	}, judgesMoments, long, needs{scenario.NeedsAgentImage})

var _ = Prove("resilience/snapshot-class-missing", verdict.Resilience,
	"There is no VolumeSnapshotClass while a first backup and a restore are wanted. Within a bound, each PVC says that something is wrong, and none is bound empty. When the class is there, one is restored and the other backed up, with nobody's help.",
	func(ctx context.Context, s *scenario.Scenario) {
		c := wantCopies(ctx, s, s.WithoutSnapshotClasses)
		c.back(ctx)
		c.restoredAndBackedUp(ctx, s, c.restoring)
	}, judgesCopies, alone, needs{scenario.NeedsSnapshots})

var _ = Prove("resilience/snapshot-never-ready", verdict.Resilience,
	"VolumeSnapshots never get ready while a first backup and a restore are wanted. Within a bound, each PVC says that something is wrong, and none is bound empty. When new ones get ready, a person makes the PVC again that waits for its restore, and deletes those that did not: it is restored, and the other is backed up.",
	func(ctx context.Context, s *scenario.Scenario) {
		c := wantCopies(ctx, s, s.SnapshotsNeverReady)
		s.SnapshotWaits(ctx)
		c.back(ctx)
		removeThem := s.UnreadySnapshots(ctx)
		again := c.restoring
		if c.restoring.FilledBeforeItIsBound() {
			again = c.restoring.Recreate(ctx)
			again.IsNot(c.restoring)
			again.TryApp(ctx)
		}
		removeThem(ctx)
		c.restoredAndBackedUp(ctx, s, again)
	}, judgesCopies, alone, needs{scenario.NeedsSnapshots})

// copies are two PVCs that want a VolumeSnapshot which cannot be had: one to be backed up, the other to be restored.
type copies struct {
	saving, restoring *scenario.Claim
	written           scenario.Manifest
	before            scenario.Listing
	back              scenario.Back
}

// wantCopies has a first backup and a restore be wanted while no VolumeSnapshot can be had, and what is wrong be told.
func wantCopies(ctx context.Context, s *scenario.Scenario, takeAway func(context.Context) scenario.Back) copies {
	c := copies{before: s.GoodBackup(ctx, "restoring"), saving: s.ClaimWithBackupSource(ctx, "saving")}
	c.back = takeAway(ctx)
	c.written = c.saving.App(ctx).Write(ctx, small(s))
	c.restoring = s.Claim(ctx, "restoring")
	c.restoring.TryApp(ctx)
	if c.restoring.FilledBeforeItIsBound() { // else its restore needs no VolumeSnapshot
		c.restoring.StaysPending(ctx, "while no VolumeSnapshot can be had")
		c.restoring.SaysThatSomethingIsWrong(ctx, c.restoring)
	}
	c.saving.SaysThatSomethingIsWrong(ctx, c.saving)
	s.NothingLost(ctx, "restoring", c.before)
	return c
}

func (c copies) restoredAndBackedUp(ctx context.Context, s *scenario.Scenario, restored *scenario.Claim) {
	if restored.FilledBeforeItIsBound() {
		restored.BoundToItsData(ctx)
	} else {
		restored.RestoredByItsOwn(ctx)
	}
	restored.App(ctx).SeesGoodBackup(ctx)
	c.saving.BackedUp(ctx)
	c.saving.BackupIsExactly(ctx, c.written)
	s.GoodBackupSurvives(ctx, "restoring", c.before)
}

var _ = Prove("resilience/driver-away", verdict.Resilience,
	"The CSI driver is away while a backup is asked for and a PVC with a backup is created. Within a bound, the PVC says that something is wrong. A volume in use keeps its content. When the driver is back, the PVC is restored and the other backed up, with nobody's help.",
	func(ctx context.Context, s *scenario.Scenario) { withoutStorage(ctx, s, s.DriverAway) }, alone, needs{scenario.NeedsSnapshots})

var _ = Prove("resilience/no-space", verdict.Resilience,
	"There is no room for another volume or VolumeSnapshot while a backup is asked for and a PVC with a backup is created. Within a bound, the PVC says that something is wrong. A volume in use keeps its content. When there is room, the PVC is restored and the other backed up, with nobody's help.",
	func(ctx context.Context, s *scenario.Scenario) { withoutStorage(ctx, s, s.NoSpace) }, alone, needs{scenario.NeedsSnapshots})

// withoutStorage has a backup and a restore be wanted while no volume and no VolumeSnapshot can be had.
func withoutStorage(ctx context.Context, s *scenario.Scenario, takeAway func(context.Context) scenario.Back) {
	const before, meanwhile = "written before", "written while there was no storage"
	good := s.GoodBackup(ctx, "restoring")
	saving := s.ClaimWithBackupSource(ctx, "saving")
	app := saving.App(ctx)
	app.PutSentinel(ctx, before)
	saving.BackedUp(ctx)
	saved := s.LatestSnapshot(ctx, "saving")

	back := takeAway(ctx)
	app.PutSentinel(ctx, meanwhile)
	saving.AskForBackup(ctx)
	restoring := s.Claim(ctx, "restoring")
	restoring.AdmittedInTime()
	restoring.TryApp(ctx)
	restoring.StaysPending(ctx, "while no volume can be had")
	restoring.SaysThatSomethingIsWrong(ctx, restoring)
	app.Holds(ctx, meanwhile, "it is a volume in use")
	saving.SnapshotHolds(ctx, saved, before)
	s.NothingLost(ctx, "restoring", good)

	back(ctx)
	restoring.RestoredByItsOwn(ctx)
	restoring.App(ctx).SeesGoodBackup(ctx)
	saving.BackedUp(ctx)
	saving.SnapshotHolds(ctx, "latest", meanwhile)
	s.GoodBackupSurvives(ctx, "restoring", good)
}
