package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/restore-beside-app", verdict.Safety,
	"Nothing is restored into a volume that an app uses or waits for. A Deployment's next pod is there before its PVC is created again: what it writes stays. A person overrides a restore that is under way: the app starts, starts again after a manifest has dropped the policy's annotations, and what it writes stays, also after the label is removed.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		first := s.ClaimWithRestore(ctx, "data")
		first.Restored(ctx, first.HasReplicationDestination(ctx))
		deployment := first.Deployment(ctx)
		second := first.RecreatedUnder(ctx, deployment)
		second.IsNot(first)
		s.NothingRestoredUnder(ctx, deployment)

		if !s.CanOverride() {
			return
		}
		claim, _, _, heal := restoring(ctx, s, "slow")
		defer heal()
		app := override(ctx, claim)
		claim.WithoutAnnotations(ctx)
		app.Delete(ctx)
		app = claim.App(ctx)
		claim.RestoreIsOver(ctx, app, mine, "though S3 is slow still")
		heal()
		claim.Unlabel(ctx)
		claim.RestoreStaysOver(ctx, app, mine, "after S3 is quick again and the label is off")
	}, longest, needs{scenario.NeedsGateway, scenario.NeedsAgentImage})

// What an app writes that a person let start on its volume as it is.
const mine = "written after the restore was overridden"

func override(ctx context.Context, claim *scenario.Claim) *scenario.App {
	claim.Override(ctx)
	claim.MoversTold(ctx)
	app := claim.App(ctx)
	app.PutSentinel(ctx, mine)
	return app
}

// overridden makes a PVC of this name whose restore is overridden while it is under way. The returned function looks whether it is over.
func overridden(ctx context.Context, s *scenario.Scenario, name string) (stays func(ctx context.Context, when string)) {
	if !s.CanOverride() {
		return func(context.Context, string) {}
	}
	claim, _, _, heal := restoring(ctx, s, name)
	defer heal()
	app := override(ctx, claim)
	return func(ctx context.Context, when string) { claim.RestoreIsOver(ctx, app, mine, when) }
}

var _ = Prove("safety/stateful-set", verdict.Safety,
	"A StatefulSet makes its PVC, of which there is a backup: its app is held back until that is restored, if the policy holds apps back. The PVC and the pod are lost, and the StatefulSet makes both again. So does a pod with an ephemeral volume, whose PVC is made after the pod. Each app starts on a volume that is restored as a whole, or empty, and what it writes stays.",
	func(ctx context.Context, s *scenario.Scenario) {
		var workloads []*scenario.Workload
		for name, ephemeral := range map[string]bool{"set": false, "ephemeral": true} {
			workload, first := s.StatefulSet(ctx, name, ephemeral)
			workload.Running(ctx)
			if !ephemeral && (s.GatesApps() || s.Populates()) {
				workload.SawTheBackup(ctx)
			}
			first.LostUnder(ctx, workload).IsNot(first)
			workloads = append(workloads, workload)
		}
		s.NothingRestoredUnder(ctx, workloads...)
	}, judgesPolicy, long, needs{scenario.NeedsAgentImage})
