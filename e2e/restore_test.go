package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// Test B of the plan.
var _ = Prove("core/restore", verdict.Core,
	"A PVC that is deleted and re-created after a backup gets a ReplicationDestination that is newer than the new PVC and restores once. Every byte, mode, owner, mtime, symlink and user.* attribute is restored.",
	func(ctx context.Context, s *scenario.Scenario) {
		first := s.ClaimWithBackupSource(ctx, "data")
		app := first.App(ctx)
		written := app.Write(ctx, dataset.Default(s.Namespace))
		first.BackedUp(ctx)
		app.Delete(ctx)
		first.Delete(ctx)

		s.Situation("backup", verdict.Restore, "data")
		second := s.ClaimWithRestore(ctx, "data")
		second.IsNot(first)
		destination := second.HasNewReplicationDestination(ctx)
		second.HasPromisedName(destination)
		second.RestoresOnce(destination)
		second.Restored(ctx, destination)
		second.App(ctx).SeesExactly(ctx, written)
		second.Bound(ctx)
		s.Step("and from now on it is backed up")
		second.HasReplicationSource(ctx)
	}, long)
