package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/live-immunity", verdict.Safety,
	"A volume in use that has a backup gets no ReplicationDestination, and its bytes stay unchanged, when its PVC is annotated, relabelled or resized, when the policy is re-applied or upgraded, and when Kyverno restarts.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		app := claim.App(ctx)
		app.Write(ctx, small(s))
		s.GoodBackup(ctx, "data") // of something else: a restore of it would show
		now := app.Reads(ctx)

		// What Kyverno does about one change, it does also where the next follows at once: they share the time in which it would.
		claim.Patch(ctx, "annotated", `{"metadata":{"annotations":{"example.com/touched":"yes"}}}`)
		claim.Unlabel(ctx)
		claim.Relabel(ctx)
		claim.Patch(ctx, "resized", `{"spec":{"resources":{"requests":{"storage":"300Mi"}}}}`)
		claim.StaysUnrestored(ctx, "the PVC was annotated, unlabelled, labelled again and resized")
		s.UpgradePolicy(ctx)
		claim.StaysUnrestored(ctx, "an upgrade of the policy")
		s.RestartKyverno(ctx)
		claim.Patch(ctx, "annotated again", `{"metadata":{"annotations":{"example.com/touched":"again"}}}`)
		claim.StaysUnrestored(ctx, "a restart of Kyverno, and a change of the PVC under the new one")

		s.Step("the positive control: a PVC with a backup does get a ReplicationDestination")
		s.GoodBackup(ctx, "twin")
		s.ClaimThatIsRestored(ctx, "twin")
		app.SeesExactly(ctx, now)
	}, judgesPolicy, alone)
