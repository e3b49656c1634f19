package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/secrets-stay", verdict.Safety,
	"The base Secret is created and changed, and a PVC is created, while Kyverno's background controller is down and its work piles up. No credential of the base Secret is in Kyverno's own objects, reports, events, ConfigMaps or the API server's audit log, then or later.",
	func(ctx context.Context, s *scenario.Scenario) {
		credentials := s.CredentialsWatched(ctx)
		on := s.Off(ctx, scenario.KyvernoBackground)
		arrives := s.WithoutBaseSecret(ctx)
		arrives(ctx)
		s.ResticPasswordMistaken(ctx, 1)
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		credentials.Stay(ctx, "while Kyverno's work piles up")
		on(ctx)
		claim.HasReplicationSource(ctx)
		credentials.Stay(ctx, "after that was worked off")
	}, judgesPolicy, alone, changesBaseSecret)
