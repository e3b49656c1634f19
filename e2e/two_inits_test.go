package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/two-inits", verdict.Safety,
	"The first backup of a fresh PVC and whatever restores into it are told at the same moment that there is no repository. The volume's backups can be read, then and later.",
	func(ctx context.Context, s *scenario.Scenario) {
		release := s.HoldConfig(ctx, "data")
		defer release()
		claim := s.ClaimAtOnce(ctx, "data")
		if claim.FilledBeforeItIsBound() {
			s.Step("the volume is filled before it is bound: there is no backup beside that")
			release()
		}
		app := claim.App(ctx)
		claim.SyncedEmpty(ctx)
		written := app.Write(ctx, small(s))
		if !claim.FilledBeforeItIsBound() {
			movers := claim.MoversAtWork(ctx)
			release()
			s.ToldTogether(ctx, "data", movers)
		}
		claim.BackedUp(ctx)
		claim.BackUp(ctx)
		claim.BackupIsExactly(ctx, written)
	}, long, needs{scenario.NeedsGateway})
