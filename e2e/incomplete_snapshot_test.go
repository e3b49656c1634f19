package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/incomplete-snapshot", verdict.Safety,
	"In a namespace whose movers may not read every file, a snapshot lacks files. It is not restored as if it were whole: the PVC is refused or says so when it is created, or no mover is let in, or what is restored has every byte of a whole backup.",
	func(ctx context.Context, s *scenario.Scenario) {
		plain := s.Sibling(ctx, "-plain")
		plain.WithoutPrivilegedMovers(ctx)
		prepared := s.Claim(ctx, "data")
		first := plain.ClaimOrRefusal(ctx, "data")
		if first == nil {
			return
		}
		if first.SaysOther(prepared) {
			s.Step("it was told when the PVC was created")
			return
		}
		app := first.App(ctx)
		app.PutSentinel(ctx, "all that there is can be read")
		whole := app.Reads(ctx)
		if !first.BackUpOrHold(ctx) {
			s.Step("no mover is let in")
			return
		}
		app.PutSentinel(ctx, "beside this there is a file that a mover may not read")
		app.PutPrivate(ctx, "private-key", "nobody else's")
		more := app.Reads(ctx)
		first.TryBackup(ctx)
		app.Delete(ctx)
		first.Delete(ctx)

		second := plain.Claim(ctx, "data")
		if second.IsCalledRestored(ctx) {
			second.App(ctx).HoldsAllOfOne(ctx, whole, more)
		}
	}, longest)
