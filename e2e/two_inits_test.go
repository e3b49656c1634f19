package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/two-inits", verdict.Safety,
	"The first backup of a fresh PVC, whatever else uses its repository, and the mover that takes the place of one whose Job VolSync makes anew are all told that there is none, and each makes one. The volume's backups can be read, then and later.",
	func(ctx context.Context, s *scenario.Scenario) {
		release := s.HoldInits(ctx, "data")
		defer release()
		claim := s.ClaimAtOnce(ctx, "data")
		beside := !claim.FilledBeforeItIsBound() && claim.TryApp(ctx) != nil
		if !beside {
			s.Step("no app uses the volume before its restore is over: there is no backup beside that")
			release()
		}
		app := claim.App(ctx)
		if beside && !claim.BackupsRun(ctx) {
			s.Step("no backup runs before the restore is over: there is none beside that")
			beside = false
			release()
		}
		written := app.Write(ctx, small(s))
		if beside {
			s.OneOverTheOther(ctx, "data", claim.MoverReplaced(ctx, claim.InitsHeld(ctx)), release)
		}
		claim.BackedUp(ctx)
		claim.BackUp(ctx)
		claim.BackupIsExactly(ctx, written)
	}, long, needs{scenario.NeedsGateway})
