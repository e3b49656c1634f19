package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Secrets that come from a store, by the External Secrets Operator: the store is late, has a mistake, is away, or has something new.

var _ = Prove("resilience/secret-store-late", verdict.Resilience,
	"A PVC is created before the store of its credentials exists. It is restored and backed up once the store is there.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		arrives := s.WithoutSecretStore(ctx)
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		s.SecretStoreMissed(ctx)
		claim.StaysAdmitted(ctx)
		arrives(ctx)
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		claim.BackedUp(ctx)
	}, long, alone, changesSecretStore)

var _ = Prove("resilience/secret-store-wrong", verdict.Resilience,
	"While the store of its credentials has a wrong restic password, no restore is reported as successful, and nothing in the repository changes.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.GoodBackup(ctx, "data")
		s.WrongPasswordInSecretStore(ctx)
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoreFailing(ctx, before)
	}, long, alone, changesSecretStore)

var _ = Prove("resilience/secret-store-away", verdict.Resilience,
	"The store of its credentials goes away while a PVC is in use. It is backed up as before.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		claim.App(ctx)
		claim.BackedUp(ctx)
		back := s.WithoutSecretStore(ctx)
		claim.BackUp(ctx)
		back(ctx)
		claim.BackUp(ctx)
	}, long, alone, changesSecretStore)

var _ = Prove("resilience/secret-store-rotated", verdict.Resilience,
	"The restic password is changed, in the repository and in the store. Once the ExternalSecret is refreshed, the PVC is backed up with the new one.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		claim.App(ctx)
		claim.BackedUp(ctx)
		s.RotatedInSecretStore(ctx, s.NewPassword(ctx, "data"))
		claim.BackUp(ctx)
	}, long, alone, changesSecretStore)
