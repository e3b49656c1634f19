package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("resilience/second-node", verdict.Resilience,
	"An app can run on one node only, and the scheduler prefers another. A backup or a restore that is sooner than the app's pod has no volume made where the app cannot run: of a PVC without a backup, and of one with a backup.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "restored")
		node := s.DislikedNode(ctx)
		fresh, restored := s.Claim(ctx, "fresh"), s.Claim(ctx, "restored")
		fresh.FirstMover(ctx)
		restored.RestoredByItsOwn(ctx)
		fresh.AppOn(ctx, node)
		restored.AppOn(ctx, node).SeesGoodBackup(ctx)
	}, alone, needs{scenario.NeedsTwoNodes})

var _ = Prove("resilience/drained-node", verdict.Resilience,
	"A node is drained in the middle of a backup, and one in the middle of a restore. No snapshot is lost, and no app starts before the restore is over. When the nodes take pods again, both end with nobody's help: the backup holds what the app wrote, and the volume what the backup holds.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.DislikedNode(ctx) // else the cache of a mover may be made on one node, and the copy that it reads on another: no backup would ever run
		saving := s.ClaimWithBackupSource(ctx, "saving")
		written := saving.App(ctx).Write(ctx, small(s))
		saving.BackedUp(ctx)
		before := s.Listing(ctx, "saving")
		release := s.HoldBackups(ctx, "saving")
		defer release()
		saving.AskForBackup(ctx)
		s.BackupHeld(ctx, "saving")
		back := s.Drain(ctx, s.MoverNode(ctx, saving.HasReplicationSource(ctx)))
		release()
		s.NothingLost(ctx, "saving", before)
		back(ctx)
		saving.BackupEnds(ctx)
		saving.App(ctx).SeesExactly(ctx, written)
		saving.BackupIsExactly(ctx, written)

		half, destination, restored, heal := restoring(ctx, s, "restoring")
		defer heal()
		back = s.Drain(ctx, s.MoverNode(ctx, destination))
		heal()
		half.HeldBack(ctx, destination)
		back(ctx)
		half.Restored(ctx, destination)
		half.App(ctx).SeesExactly(ctx, restored)
	}, alone, needs{scenario.NeedsTwoNodes, scenario.NeedsGateway})

var _ = Prove("resilience/second-replica", verdict.Resilience,
	"Kyverno's admission controller has two replicas. The one that leads is killed while it decides about a PVC. The PVC is admitted within the bound, says what was decided about it, and is backed up.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.TwoReplicas(ctx)
		release := s.HoldQuestions(ctx, "data")
		defer release()
		leader := s.KillLeaderAsked(ctx, s.WhoAsks("data"))
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		leader.WasKilled()
		release()
		leader.IsReplaced(ctx)
		s.KyvernoBack(ctx)
		written := claim.App(ctx).Write(ctx, small(s))
		claim.SaysWhatWasDecided(ctx)
		claim.BackedUp(ctx)
		claim.BackupIsExactly(ctx, written)
	}, judgesPolicy, alone, feature("catches-up"), needs{scenario.NeedsTwoNodes, scenario.NeedsGateway})
