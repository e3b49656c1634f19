package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/another-cluster", verdict.Safety,
	"Two clusters use one bucket and have namespaces and PVCs of the same names. A PVC gets no other cluster's backup. It is backed up to its own place, is restored from there, and changes nothing of the others.",
	func(ctx context.Context, s *scenario.Scenario) {
		for _, name := range []string{"another-cluster", ""} {
			others := s.OfCluster(name)
			before := others.GoodBackup(ctx, "data")
			defer func() { others.Unchanged(ctx, "data", before, "another cluster's backup is not as it was") }()
		}
		first := s.ClaimWithBackupSource(ctx, "data")
		app := first.App(ctx)
		written := app.Write(ctx, small(s))
		first.StaysUnrestored(ctx, "the PVC was created beside other clusters' backups")
		first.BackedUp(ctx)
		first.BackupIsExactly(ctx, written)
		app.Delete(ctx)
		second := first.Recreate(ctx)
		second.RestoredByItsOwn(ctx)
		second.App(ctx).SeesExactly(ctx, written)
	}, long, feature(verdict.ClusterInPath), needs{scenario.NeedsPlatform})
