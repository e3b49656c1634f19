package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/own-volumes", verdict.Safety,
	"VolSync's own cache, destination and snapshot PVCs never match the policy.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim := s.ClaimWithRestore(ctx, "data")
		claim.Restored(ctx, claim.HasReplicationDestination(ctx))
		claim.App(ctx)
		claim.BackedUp(ctx)
		s.VolSyncsOwnVolumes(ctx)
	}, long)
