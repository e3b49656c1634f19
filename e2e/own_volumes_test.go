package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/own-volumes", verdict.Safety,
	"The policy creates nothing for the PVCs that VolSync creates for itself, such as the cache volumes of its movers. If the policy promises relabel, this holds also if they get the label.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim := s.ClaimWithRestore(ctx, "data")
		claim.Restored(ctx, claim.HasReplicationDestination(ctx))
		claim.App(ctx)
		claim.BackedUp(ctx)
		s.VolSyncsOwnVolumes(ctx)
	}, judgesPolicy, long)
