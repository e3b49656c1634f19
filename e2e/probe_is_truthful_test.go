package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/probe-is-truthful", verdict.Safety,
	"A repository with a config but no snapshot does not lead to a silent empty restore: either nothing is restored, or the PVC says that nothing was found.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "whole")
		s.EmptyRepository(ctx, "empty")

		whole := s.ClaimWithRestore(ctx, "whole")
		empty := s.Claim(ctx, "empty")
		whole.Restored(ctx, whole.HasReplicationDestination(ctx))
		whole.App(ctx).SeesGoodBackup(ctx)
		if destination := empty.RestoredAtMost(ctx); destination == "" {
			s.Step("no restore was made of the repository without a snapshot")
			return
		}
		empty.LooksUnlike(ctx, whole, "VolSync calls the restore of nothing a success, and nobody can see it")
		s.Step("the app is not kept from starting for ever")
		empty.App(ctx)
	}, long)
