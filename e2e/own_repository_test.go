package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var _ = Prove("safety/own-repository", verdict.Safety,
	"A volume's own repository is no older backup that could be lost: a PVC of an outage, of which S3 holds nothing, is backed up after its first backup failed half-way, and goes on being backed up with a new ReplicationSource.",
	func(ctx context.Context, s *scenario.Scenario) {
		// During the outage nobody can know what S3 holds, and after it nothing is there. Until then there must be something, by which
		// the outage is proven.
		s.GoodBackup(ctx, "data")
		heal := s.RefuseBackups(ctx, "data")
		defer heal()
		var claim *scenario.Claim
		var written dataset.Manifest
		s.S3Down(ctx, outage.Held, "data", func() {
			claim = s.ClaimInOutage(ctx, outage.Held, "data")
			written = claim.App(ctx).Write(ctx, small(s))
		})
		s.NoRepository(ctx, "data")
		claim.HalfBackedUp(ctx)
		heal()
		claim.BackedUp(ctx)
		claim.BackupIsExactly(ctx, written)

		claim.SourceMadeAnew(ctx)
		claim.BackUp(ctx)
		claim.BackupIsExactly(ctx, written)
	}, judgesAnEmptyStart, longest, needs{scenario.NeedsGateway})
