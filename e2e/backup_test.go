package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var _ = Prove("core/backup", verdict.Core,
	"The ReplicationSource has the promised schedule and retention. A triggered backup leaves a restic snapshot at the PVC's path in the bucket, and the snapshot holds the volume's content.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		claim.BackupIsAsPromised(ctx)

		written := claim.App(ctx).Write(ctx, dataset.Default(s.Namespace))
		claim.EveryBackupIsAsPromised(ctx)
		claim.BackUp(ctx)
		claim.HasSnapshots(ctx)
		claim.BackupIsExactly(ctx, written)
	}, judgesBackups, long)
