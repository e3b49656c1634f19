package e2e

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/another-cluster", verdict.Safety,
	"Two clusters use one bucket and have namespaces and PVCs of the same names. A PVC gets no other cluster's backup. It is backed up to its own place, is restored from there, and changes nothing of the others.",
	func(ctx context.Context, s *scenario.Scenario) {
		const ours, theirs = "of this cluster", "of another cluster"
		s.AddSnapshot(ctx, "backed-up", ours, time.Now())
		for _, name := range []string{"another-cluster", ""} {
			others := s.OfCluster(name)
			others.AddSnapshot(ctx, "backed-up", theirs, time.Now())
			fresh, backedUp := others.GoodBackup(ctx, "fresh"), others.Listing(ctx, "backed-up")
			defer func() {
				others.Unchanged(ctx, "fresh", fresh, "another cluster's backup is not as it was")
				others.Unchanged(ctx, "backed-up", backedUp, "another cluster's backup is not as it was")
			}()
		}
		fresh := s.ClaimWithBackupSource(ctx, "fresh")
		written := fresh.App(ctx).Write(ctx, small(s))
		restored := s.ClaimWithRestore(ctx, "backed-up")
		restored.Restored(ctx, restored.HasReplicationDestination(ctx))
		app := restored.App(ctx)
		app.Holds(ctx, ours, "it is another cluster's")
		app.PutSentinel(ctx, newer)
		fresh.BackedUp(ctx)
		fresh.BackupIsExactly(ctx, written)
		fresh.StaysUnrestored(ctx, "the PVC was created beside other clusters' backups")
		restored.BackedUp(ctx)
		restored.SnapshotHolds(ctx, "latest", newer)
	}, long, feature(verdict.ClusterInPath), needs{scenario.NeedsPlatform})
