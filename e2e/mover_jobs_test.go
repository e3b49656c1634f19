package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("resilience/mover-jobs", verdict.Resilience,
	"A restore and a backup are each done within the bound, by few Jobs of VolSync's: whatever changes movers' Jobs, they are not made over and over. The report says how long after its Job each mover began.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim := s.Claim(ctx, "data")
		claim.RestoredByFewJobs(ctx)
		app := claim.App(ctx)
		app.SeesGoodBackup(ctx)
		app.PutSentinel(ctx, newer)
		claim.BackedUpByFewJobs(ctx)
		claim.SnapshotHolds(ctx, "latest", newer)
	}, long, Label("movers"))
