package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/no-app-before-restore", verdict.Safety,
	"The first read of an app returns the restored data, even if the app starts at the moment its PVC is created and the restore is slow.",
	func(ctx context.Context, s *scenario.Scenario) {
		first := s.ClaimWithBackupSource(ctx, "data")
		app := first.App(ctx)
		written := app.Write(ctx, large(s))
		first.BackedUp(ctx)
		app.Delete(ctx)
		first.Delete(ctx)

		heal := s.SlowS3(ctx, 1024) // some ten seconds
		defer heal()
		second := s.Claim(ctx, "data")
		app = second.AppThatLooks(ctx)
		heal()
		app.Running(ctx)
		app.SawAtFirst(ctx, written)
		second.HasReplicationDestination(ctx)
	}, longest, feature("gated-start"), needs{scenario.NeedsGateway, scenario.NeedsAgentImage})
