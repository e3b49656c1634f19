package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// small is a data set for specs in which it is not the data that makes it hard.
func small(s *scenario.Scenario) dataset.Spec {
	return dataset.Small(s.Namespace, 20)
}

var _ = Prove("safety/late-restore", verdict.Safety,
	"A PVC is created while S3 is down, and its app writes. When S3 is back with a good backup, the volume in use is not restored over, not even when the PVC changes afterwards.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		s.GoodBackup(ctx, "twin")

		var claim *scenario.Claim
		var app *scenario.App
		var written dataset.Manifest
		healed := s.S3Down(ctx, outage.Held, "data", func() {
			claim = s.ClaimInOutage(ctx, outage.Held, "data")
			app = claim.App(ctx)
			written = app.Write(ctx, small(s))
		})
		claim.NotRestoredAfter(ctx, outage.Held, healed)
		claim.Patch(ctx, "annotated", `{"metadata":{"annotations":{"example.com/touched":"yes"}}}`)
		claim.StaysUnrestored(ctx, "a change of the PVC with S3 up again")

		s.Step("the positive control: a PVC with a backup does get a ReplicationDestination")
		s.ClaimThatIsRestored(ctx, "twin")
		app.SeesExactly(ctx, written)
	}, judgesAnEmptyStart, long, needs{scenario.NeedsGateway})
