package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

// What an app writes after its volume was restored.
const newer = "newer than any backup"

var _ = Prove("safety/ownerless-destination", verdict.Safety,
	"A tool brings the ReplicationDestination of an earlier restore back, without owner and status. Nothing is restored by it, neither beside the app nor while no app runs.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		// A backup of what the app writes would hide that it was restored over.
		defer s.RefuseBackups(ctx, "data")()
		claim, destination, app := restoredAndInUse(ctx, s, "data")

		claim.Tidied(ctx, destination)
		claim.BroughtBack(ctx, destination)
		claim.KeptBy(ctx, app, newer)
		app.Delete(ctx)
		claim.LeftTo(ctx, destination)
		claim.App(ctx).Holds(ctx, newer, "it was restored over while no app ran")
	}, longest, needs{scenario.NeedsGateway})

var _ = Prove("resilience/finished-destination-deleted", verdict.Resilience,
	"The ReplicationDestination of a restore that is done is deleted. The app's next pod starts with what was there, and the next backup is made.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim, destination, app := restoredAndInUse(ctx, s, "data")

		claim.Tidied(ctx, destination)
		app.Delete(ctx)
		claim.App(ctx).Holds(ctx, newer, "the app's next pod")
		claim.BackUp(ctx)
		claim.SnapshotHolds(ctx, "latest", newer)
	}, long)

// restoredAndInUse creates a PVC that has a backup, waits until it is restored, and has its app write what is newer.
func restoredAndInUse(ctx context.Context, s *scenario.Scenario, name string) (*scenario.Claim, *scenario.Object, *scenario.App) {
	claim := s.ClaimWithRestore(ctx, name)
	destination := claim.HasReplicationDestination(ctx)
	claim.Restored(ctx, destination)
	app := claim.App(ctx)
	app.PutSentinel(ctx, newer)
	return claim, destination, app
}
