package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

// recreations is how often the PVC is created again at once, before its last life.
const recreations = 4

var _ = Prove("safety/recreate-race", verdict.Safety,
	"A PVC is deleted and re-created without a pause, several times. Each time it gets the newest content, its ReplicationSource and ReplicationDestination belong to the new PVC, and those of the earlier ones are gone, with their Secrets.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		app := claim.App(ctx)
		for _, content := range []string{"the first life", "the second life"} {
			app.PutSentinel(ctx, content)
			claim.BackedUp(ctx)
			app.Delete(ctx)
			s.WhileS3IsUp(ctx, func() {
				for range recreations {
					claim = claim.Recreate(ctx)
				}
				claim.RestoredByItsOwn(ctx)
			})
			claim.OwnsItsObjects(ctx)
			app = claim.App(ctx)
			app.Holds(ctx, content, "it was re-created again and again")
		}
	}, longest)
