package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/bucket-forgets", verdict.Safety,
	"For a while, S3 has forgotten what it holds, and takes writes. Meanwhile, a backup of a volume in use that was backed up before is asked for, and a restore that was decided on before is to begin. Neither repository is made again over the old one: when S3 remembers, the snapshot can be restored, the next backup is made, and the PVC is restored.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		app := claim.App(ctx)
		app.PutSentinel(ctx, lastGood)
		claim.BackedUp(ctx)
		before, good := s.Listing(ctx, "data"), s.LatestSnapshot(ctx, "data")
		restoring := restoreToCome(ctx, s, "decided")
		s.S3DownInUse(ctx, outage.Named("amnesia"), "data", func() {
			restoring.begins(ctx)
			claim.TryBackup(ctx)
		})
		s.NothingLost(ctx, "data", before)
		claim.SnapshotHolds(ctx, good, lastGood)
		app.PutSentinel(ctx, newer)
		claim.BackUp(ctx)
		claim.SnapshotHolds(ctx, "latest", newer)
		restoring.comes(ctx)
	}, judgesBackups, long, needs{scenario.NeedsGateway})

// toCome is a restore that was decided on, and whose mover cannot begin yet.
type toCome struct {
	s      *scenario.Scenario
	claim  *scenario.Claim
	before scenario.Listing
	allow  func(context.Context)
}

// restoreToCome is a restore of a PVC of this name. Nil: nothing is ever restored.
func restoreToCome(ctx context.Context, s *scenario.Scenario, name string) *toCome {
	if s.NeverRestores() {
		return nil
	}
	before := s.GoodBackup(ctx, name)
	allow := s.NoPods(ctx)
	return &toCome{s, s.ClaimWithRestore(ctx, name), before, allow}
}

// begins lets its mover begin, if nothing else keeps it back.
func (t *toCome) begins(ctx context.Context) {
	if t != nil {
		t.allow(ctx)
		t.claim.TriesToRestore(ctx)
	}
}

// comes waits until it is done, of the backup that was there.
func (t *toCome) comes(ctx context.Context) {
	if t == nil {
		return
	}
	t.s.GoodBackupSurvives(ctx, t.claim.Name, t.before)
	t.claim.RestoredByItsOwn(ctx)
	t.claim.App(ctx).SeesGoodBackup(ctx)
}
