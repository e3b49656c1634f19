package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/token-leak", verdict.Safety,
	"No request to S3 carries a Kubernetes token. Generated Secrets hold no placeholders and are not readable more widely than the base Secret.",
	func(ctx context.Context, s *scenario.Scenario) {
		since := s.RequestsSoFar(ctx)
		s.GoodBackup(ctx, "restored")
		fresh := s.ClaimWithBackupSource(ctx, "fresh")
		restored := s.ClaimWithRestore(ctx, "restored")
		fresh.SecretIsSound(ctx)
		restored.SecretIsSound(ctx)
		s.NoTokenSent(ctx, since, "fresh", "restored")
	}, judgesPolicy, needs{scenario.NeedsGateway})
