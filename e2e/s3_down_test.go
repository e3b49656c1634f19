package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// One spec for every row of the fault table.
var _ = func() bool {
	for _, fault := range scenario.Faults {
		decorators := []any{Label("s3-down")}
		if fault.HoldsForAll() {
			decorators = append(decorators, exclusive)
		}
		Prove("core/s3-down/"+fault.Name, verdict.Core,
			"While S3 is "+fault.Sentence+", a PVC with a backup is admitted within the bound, has its ReplicationSource, binds, the app writes, and it never gets a ReplicationDestination.",
			func(ctx context.Context, s *scenario.Scenario) {
				before := s.GoodBackup(ctx, "data")
				s.GoodBackup(ctx, "twin")

				var claim *scenario.Claim
				healed := s.S3Down(ctx, fault, "data", func() {
					claim = s.ClaimInOutage(ctx, fault, "data")
					claim.AdmittedWithin(s.Stand.Contract.AdmissionBound())
					app := claim.App(ctx)
					claim.Bound(ctx)
					app.Write(ctx, dataset.Spec{Seed: s.Namespace, SmallFiles: 20})
					claim.NeverRestored(ctx, before)
				})

				s.Step("the positive control: with S3 up again, a PVC with a backup gets a ReplicationDestination")
				s.ClaimWithRestore(ctx, "twin")
				claim.NotRestoredAfter(ctx, fault, healed)
			}, decorators...)
	}
	return true
}()
