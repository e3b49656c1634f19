package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

// stormSize is how many PVCs are created at once.
const stormSize = 30

var _ = Prove("scale/storm", verdict.Scale,
	"30 labelled PVCs are created at once, first fresh, then as restores. Each one ends with the right content, and neither Kyverno nor VolSync restarts. The requests to S3 per PVC are counted.",
	func(ctx context.Context, s *scenario.Scenario) {
		restarts := s.Restarts(ctx)
		fresh := s.StormWithoutVolumes(ctx, "fresh", stormSize)
		fresh.AllHaveSources(ctx)
		fresh.NoneRestored(ctx)
		fresh.RequestsPerPVC(ctx)
		fresh.UpdateRequestsPerPVC(ctx)
		fresh.Delete(ctx)

		for _, name := range scenario.StormNames("restored", stormSize) {
			s.GoodBackup(ctx, name)
		}
		restoring := s.Storm(ctx, "restored", stormSize)
		restoring.AllHaveSources(ctx)
		restoring.AllHaveDestinations(ctx)
		restoring.AllRestored(ctx)
		restoring.RequestsPerPVC(ctx)
		restoring.UpdateRequestsPerPVC(ctx)
		s.SameRestarts(ctx, restarts)
	}, judgesPolicy, alone, last, SpecTimeout(scenario.Scaled(10*time.Minute)))
