package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/volume-with-content", verdict.Safety,
	"A PVC is created for a volume that has content already, newer than the backup in S3: the PVC names it (spec.volumeName), or only the volume names the PVC (spec.claimRef). It is never restored over: its app reads the newer content, and that is backed up. A PVC that selects such a volume by its labels (spec.selector), or that gets one which nobody has any more, as it is of its class, is not restored over, either. A PVC whose spec.dataSource the API server leaves out starts empty, so it is restored, or no backup of it becomes the latest.",
	func(ctx context.Context, s *scenario.Scenario) {
		ways := []struct {
			name string
			back func(*scenario.Claim, context.Context) *scenario.Claim
		}{{"named", (*scenario.Claim).TakenBack}, {"kept", (*scenario.Claim).GivenBack}}
		var claims []*scenario.Claim
		var written []scenario.Manifest
		for _, way := range ways {
			s.GoodBackup(ctx, way.name)
			first := s.UnlabelledClaim(ctx, way.name)
			app := first.App(ctx)
			written = append(written, app.Write(ctx, small(s)))
			app.Delete(ctx)
			claims = append(claims, way.back(first, ctx))
		}
		s.StayUnrestored(ctx, s.Now(), "the PVC was created for the volume", claims...)
		for i, claim := range claims {
			claim.App(ctx).SeesExactly(ctx, written[i])
			claim.BackedUp(ctx)
			claim.BackupIsExactly(ctx, written[i])
		}

		s.Step("a volume that no class makes, and that the PVC selects")
		s.GoodBackup(ctx, "selected")
		first := s.UnlabelledClaim(ctx, "selected")
		app := first.App(ctx)
		newer := app.Write(ctx, small(s))
		app.Delete(ctx)
		selected := first.Selected(ctx)
		selected.StaysUnrestored(ctx, "the PVC was created for the volume")
		selected.App(ctx).SeesExactly(ctx, newer)

		s.Step("a volume that nobody has any more, and that Kubernetes gives to the PVC")
		s.GoodBackup(ctx, "freed")
		first = s.UnlabelledClaim(ctx, "freed")
		app = first.App(ctx)
		newer = app.Write(ctx, small(s))
		app.Delete(ctx)
		freed := first.Freed(ctx)
		freed.StaysUnrestored(ctx, "the PVC was created for the volume")
		freed.App(ctx).SeesExactly(ctx, newer)

		s.Step("a data source that the API server leaves out")
		lastGoodOne(ctx, s, "without")
		without := s.ClaimWithoutItsSource(ctx, "without")
		if without == nil {
			return
		}
		app = without.App(ctx)
		app.Put(ctx, "later", "written later")
		without.BackUpOrHold(ctx)
		without.SnapshotHolds(ctx, "latest", lastGood)
	}, longest)
