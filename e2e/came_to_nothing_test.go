package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/request-that-came-to-nothing", verdict.Safety,
	"A request for a PVC that comes to nothing makes nothing: one for a PVC that is there, a dry run, and one that a quota refuses. The volume that is there is not restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		app := claim.App(ctx)
		app.Mark(ctx)
		for _, name := range []string{"data", "tried"} {
			s.GoodBackup(ctx, name)
		}
		full := s.Sibling(ctx, "-full")
		full.GoodBackup(ctx, "refused")

		s.WhileS3IsUp(ctx, func() { claim.CreatedAgain(ctx, 5) })
		tried := s.DryRun(ctx, "tried", 2)
		refused := full.OverQuota(ctx, "refused")
		s.CameToNothing(ctx, []*scenario.Claim{tried}, claim)
		full.CameToNothing(ctx, []*scenario.Claim{refused})
		claim.StaysUnrestored(ctx, "it was asked for again")
		app.KeepsMark(ctx)
		s.TwinIsRestored(ctx)
	}, judgesPolicy)
