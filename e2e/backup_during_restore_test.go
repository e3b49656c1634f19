package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var _ = Prove("safety/backup-during-restore", verdict.Safety,
	"While a restore is writing, no backup of the half-filled volume becomes the latest snapshot, even if somebody asks for a backup. The first backup after the restore holds the whole volume.",
	func(ctx context.Context, s *scenario.Scenario) {
		first := s.ClaimWithBackupSource(ctx, "data")
		app := first.App(ctx)
		written := app.Write(ctx, large(s))
		first.BackedUp(ctx)
		app.Delete(ctx)
		first.Delete(ctx)

		heal := s.HoldRestores(ctx, "data")
		defer heal()
		second := s.ClaimWithRestore(ctx, "data")
		destination := second.HasNewReplicationDestination(ctx)
		second.RestoreUnderWay(ctx, destination)
		second.NoBackupWhileRestoring(ctx, destination)
		heal()

		second.App(ctx).SeesExactly(ctx, written)
		s.Step("and from now on there are backups, of the whole volume")
		second.BackUp(ctx)
		second.BackupIsExactly(ctx, written)
		second.NoBackupOfHalf(ctx, destination)
	}, longest, needs{scenario.NeedsGateway})

// large is more than a held restore reads in minutes.
func large(s *scenario.Scenario) dataset.Spec {
	spec := dataset.Small(s.Namespace, 20)
	spec.LargeFileBytes = 10 << 20
	return spec
}

// restoring is toBeRestored, once the restore has read its first bytes.
func restoring(ctx context.Context, s *scenario.Scenario, name string) (claim *scenario.Claim, destination *scenario.Object, written dataset.Manifest, heal func()) {
	claim, destination, written, heal = toBeRestored(ctx, s, name)
	claim.RestoreUnderWay(ctx, destination)
	return claim, destination, written, heal
}

// toBeRestored makes a PVC of this name, whose restore begins as soon as VolSync may, and does not end until heal is called. written is
// what the backup holds.
func toBeRestored(ctx context.Context, s *scenario.Scenario, name string) (claim *scenario.Claim, destination *scenario.Object, written dataset.Manifest, heal func()) {
	written = s.AddDataset(ctx, name, large(s))
	heal = s.HoldRestores(ctx, name)
	claim = s.ClaimWithRestore(ctx, name)
	return claim, claim.HasNewReplicationDestination(ctx), written, heal
}
