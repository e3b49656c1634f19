package e2e

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/stale-destination", verdict.Safety,
	"A leftover ReplicationDestination or ReplicationSource of an earlier PVC of the same name neither blocks the restore nor restores old data.",
	func(ctx context.Context, s *scenario.Scenario) {
		now := time.Now()
		s.AddSnapshot(ctx, "data", "old", now.Add(-3*time.Hour))
		s.AddSnapshot(ctx, "data", "newest", now.Add(-time.Hour))
		s.GoodBackup(ctx, "model")
		s.LeftOver(ctx, s.ClaimWithRestore(ctx, "model"), "data", now.Add(-2*time.Hour))

		claim := s.ClaimWithBackupSource(ctx, "data")
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).Holds(ctx, "newest", "the left-over restored")
	}, long)
