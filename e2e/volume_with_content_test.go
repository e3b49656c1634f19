package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/volume-with-content", verdict.Safety,
	"A PVC is created for a volume that has content already (spec.volumeName), newer than the backup in S3. It is never restored over: its app reads the newer content, and that is backed up.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		first := s.UnlabelledClaim(ctx, "data")
		app := first.App(ctx)
		written := app.Write(ctx, small(s))
		app.Delete(ctx)

		claim := first.TakenBack(ctx)
		claim.StaysUnrestored(ctx, "the PVC was created for the volume")
		claim.App(ctx).SeesExactly(ctx, written)
		claim.BackedUp(ctx)
		claim.BackupIsExactly(ctx, written)
	}, long)
