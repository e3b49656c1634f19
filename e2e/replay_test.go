package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

// It is there with make e2e REPLAY=file only.
var _ = scenario.HasHistory() && Prove("explore/replay", verdict.Safety,
	"A history that make explore has found is played on the cluster. No invariant about data is broken there.",
	func(ctx context.Context, s *scenario.Scenario) { s.Replay(ctx) },
	judgesPolicy, alone, needs{scenario.NeedsGateway}, SpecTimeout(scenario.Scaled(20*time.Minute)))
