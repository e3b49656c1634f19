package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/restore-beside-app", verdict.Safety,
	"Nothing is restored into a volume that an app uses or waits for. A Deployment's next pod is there before its PVC is created again: what it writes stays. A person overrides a restore that is under way: the app starts, and what it writes stays, also after the label is removed.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		first := s.ClaimWithRestore(ctx, "data")
		first.Restored(ctx, first.HasReplicationDestination(ctx))
		deployment := first.Deployment(ctx)
		second := first.RecreatedUnder(ctx, deployment)
		second.IsNot(first)
		second.NothingRestoredUnder(ctx, deployment)

		if !s.CanOverride() {
			return
		}
		claim, _, _, heal := restoring(ctx, s, "slow")
		defer heal()
		claim.Override(ctx)
		const mine = "written after the restore was overridden"
		app := claim.App(ctx)
		app.PutSentinel(ctx, mine)
		claim.RestoreIsOver(ctx, app, mine, "though S3 is slow still")
		heal()
		claim.Unlabel(ctx)
		claim.RestoreStaysOver(ctx, app, mine, "after S3 is quick again and the label is off")
	}, longest, needs{scenario.NeedsGateway, scenario.NeedsAgentImage})
