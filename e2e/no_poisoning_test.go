package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/no-poisoning", verdict.Safety,
	"A fresh PVC changes nothing in the bucket before its own first backup.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.Listing(ctx, "data")
		claim := s.ClaimWithBackupSource(ctx, "data")
		app := claim.App(ctx)
		claim.Bound(ctx)
		claim.UntouchedByBackup(ctx, before)

		s.Step("the positive control: its first backup does change the bucket")
		written := app.Write(ctx, small(s))
		claim.BackUp(ctx)
		claim.BackupIsExactly(ctx, written)
	}, long)
