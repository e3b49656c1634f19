package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// Test A of the plan.
var _ = Prove("core/fresh", verdict.Core,
	"A labelled PVC without a backup gets a ReplicationSource and no ReplicationDestination. It binds, and its app can write.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "twin")
		before := s.Listing(ctx, "data")

		s.Situation("fresh", verdict.None, "data")
		claim := s.ClaimWithBackupSource(ctx, "data")
		s.Step("the positive control: beside it, a PVC with a backup does get a ReplicationDestination")
		s.ClaimThatIsRestored(ctx, "twin")
		claim.HasTriedToRestore(ctx)
		claim.NeverRestored(ctx, before)

		app := claim.App(ctx)
		claim.Bound(ctx)
		app.Write(ctx, dataset.Small(s.Namespace, 20))
	})
