package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("core/unlabelled", verdict.Core,
	"A PVC without the label gets no ReplicationSource, no ReplicationDestination, no Secret and no annotation. It binds.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data") // were it labelled, it would be restored

		claim := s.UnlabelledClaim(ctx, "data")
		claim.HasNoAnnotations(ctx)
		s.Step("the positive control: beside it, a labelled PVC gets its ReplicationSource")
		s.ClaimWithBackupSource(ctx, "twin")
		claim.App(ctx)
		claim.Bound(ctx)
		claim.NothingMade(ctx)
	}, judgesPolicy)
