package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var _ = Prove("resilience/kyverno-down", verdict.Resilience,
	"Kyverno killed, again and again: a labelled PVC is admitted within the bound, binds, and is not restored over when Kyverno is back; volumes from before are untouched.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.ClaimWithBackupSource(ctx, "before")
		objects := s.ObjectsOfTheirs(ctx, before)
		s.GoodBackup(ctx, "data")

		claim, app := claimWithoutKyverno(ctx, s)
		app.Put(ctx, dataset.SentinelName, s.Namespace)
		claim.StaysUnrestored(ctx, "Kyverno is back")
		claim.Patch(ctx, "annotated", `{"metadata":{"annotations":{"example.com/touched":"yes"}}}`)
		claim.StaysUnrestored(ctx, "a change of the PVC")
		s.HasObjects(ctx, objects)
		if got := app.Get(ctx, dataset.SentinelName); got != s.Namespace {
			s.Failf("the app wrote %q and reads %q", s.Namespace, got)
		}
	}, alone)

var _ = Prove("resilience/kyverno-down-catches-up", verdict.Resilience,
	"A PVC that was created while Kyverno was down gets its ReplicationSource once Kyverno is back.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim, _ := claimWithoutKyverno(ctx, s)
		claim.HasReplicationSource(ctx)
	}, alone, feature("catches-up"))

// claimWithoutKyverno creates a PVC while Kyverno is down. Its app may have to wait until Kyverno is back.
func claimWithoutKyverno(ctx context.Context, s *scenario.Scenario) (*scenario.Claim, *scenario.App) {
	stop := s.KillAgainAndAgain(ctx, "kyverno")
	defer stop()
	claim := s.Claim(ctx, "data")
	claim.AdmittedWithin(s.Stand.Contract.AdmissionBound())
	stop()
	app := claim.App(ctx)
	claim.Bound(ctx)
	s.KyvernoBack(ctx)
	return claim, app
}

var _ = Prove("resilience/background-controller-down", verdict.Resilience,
	"Kyverno's background controller down at create, up later, with a good backup in S3: what is restored late is not written over what the app has written; the ReplicationSource comes.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		on := s.Off(ctx, scenario.KyvernoBackground)
		defer on(ctx)
		claim := s.Claim(ctx, "data")
		claim.AdmittedWithin(s.Stand.Contract.AdmissionBound())
		claim.NeverRestoredOver(ctx, on)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/volsync-down", verdict.Resilience,
	"VolSync down at create, up later, with a good backup in S3: what is restored late is not written over what the app has written.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		on := s.Off(ctx, scenario.VolSync)
		defer on(ctx)
		claim := s.ClaimWithRestore(ctx, "data")
		claim.NeverRestoredOver(ctx, on)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/api-server-restart", verdict.Resilience,
	"The API server is killed just after a PVC was created, and comes back: the PVC is restored and gets its ReplicationSource, as if nothing had been.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim := s.Claim(ctx, "data")
		s.KillAgainAndAgain(ctx, "kube-apiserver")()
		s.APIServerBack(ctx)
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/existing-volumes", verdict.Resilience,
	"A PVC that exists when the policy is applied gets its ReplicationSource, and is never restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		apply := s.RemovePolicy(ctx)
		defer apply(ctx)
		claim := s.Claim(ctx, "data")
		app := claim.App(ctx)
		app.Put(ctx, dataset.SentinelName, s.Namespace)
		apply(ctx)
		claim.HasReplicationSource(ctx)
		claim.StaysUnrestored(ctx, "the policy was applied")
		if got := app.Get(ctx, dataset.SentinelName); got != s.Namespace {
			s.Failf("the app wrote %q and reads %q", s.Namespace, got)
		}
	}, alone, feature("existing-volumes"))

var _ = Prove("resilience/relabel", verdict.Resilience,
	"A PVC that is labelled later gets its ReplicationSource, and is never restored over, also where S3 has a backup of that name.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim := s.UnlabelledClaim(ctx, "data")
		app := claim.App(ctx)
		app.Put(ctx, dataset.SentinelName, s.Namespace)
		claim.Patch(ctx, "labelled", `{"metadata":{"labels":{"backup":"hourly"}}}`)
		claim.HasReplicationSource(ctx)
		claim.StaysUnrestored(ctx, "the PVC was labelled")
		if got := app.Get(ctx, dataset.SentinelName); got != s.Namespace {
			s.Failf("the app wrote %q and reads %q", s.Namespace, got)
		}
	}, feature("relabel"))

var _ = Prove("resilience/base-secret-late", verdict.Resilience,
	"The base Secret is missing when the PVC is created, and arrives later: the PVC is admitted, and restored and backed up then.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		arrives := s.WithoutBaseSecret(ctx)
		claim := s.ClaimWhileS3IsUp(ctx, "data")
		claim.AdmittedWithin(s.Stand.Contract.AdmissionBound())
		claim.StaysAdmitted(ctx)
		arrives(ctx)
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		claim.BackedUp(ctx)
	}, longest)

var _ = Prove("resilience/wrong-restic-password", verdict.Resilience,
	"A wrong restic password: no restore is called successful, and nothing in the repository is changed.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.GoodBackup(ctx, "data")
		s.WrongResticPassword(ctx)
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoreFailing(ctx, before)
	}, longest)

var _ = Prove("resilience/corrupt-config", verdict.Resilience,
	"A repository whose config is corrupt: no restore is called successful, and nothing in the repository is changed.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		before := s.CorruptConfig(ctx, "data")
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoreFailing(ctx, before)
	}, longest)

var _ = Prove("resilience/stale-lock", verdict.Resilience,
	"A stale lock in the repository keeps no restore from working, and loses no snapshot.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		s.StaleLock(ctx, "data")
		good := s.LatestSnapshot(ctx, "data")
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		claim.SnapshotHolds(ctx, good, scenario.SeedContent)
	}, longest)
