package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("resilience/kyverno-down", verdict.Resilience,
	"Kyverno killed, again and again: a labelled PVC is admitted within the bound, binds, and is not restored over when Kyverno is back; volumes from before are untouched.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.ClaimWithBackupSource(ctx, "before")
		objects := s.ObjectsOfTheirs(ctx, before)
		s.GoodBackup(ctx, "data")

		claim, app := claimWithoutKyverno(ctx, s)
		app.Mark(ctx)
		claim.StaysUnrestored(ctx, "Kyverno is back")
		claim.Patch(ctx, "annotated", `{"metadata":{"annotations":{"example.com/touched":"yes"}}}`)
		claim.StaysUnrestored(ctx, "a change of the PVC")
		s.HasObjects(ctx, objects)
		app.KeepsMark(ctx)
	}, alone)

var _ = Prove("resilience/kyverno-down-catches-up", verdict.Resilience,
	"A PVC that was created while Kyverno was down gets its ReplicationSource once Kyverno is back.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim, _ := claimWithoutKyverno(ctx, s)
		claim.HasReplicationSource(ctx)
	}, alone, feature("catches-up"))

// claimWithoutKyverno creates a PVC while Kyverno is down. Its app may have to wait until Kyverno is back.
func claimWithoutKyverno(ctx context.Context, s *scenario.Scenario) (*scenario.Claim, *scenario.App) {
	kyverno := s.KillAgainAndAgain(ctx, "kyverno")
	s.KyvernoIsDown(ctx)
	claim := s.Claim(ctx, "data")
	claim.AdmittedInTime()
	s.KyvernoIsDown(ctx)
	kyverno.Stop()
	s.SkipBackOff(ctx)
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
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		app := claim.AppBeforeRestore(ctx)
		defer s.HoldBackups(ctx, "data")()
		on(ctx)
		app.LosesNothing(ctx)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/volsync-down", verdict.Resilience,
	"VolSync down at create, up later, with a good backup in S3: what is restored late is not written over what the app has written.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		on := s.Off(ctx, scenario.VolSync)
		claim := s.ClaimWithRestore(ctx, "data")
		app := claim.AppBeforeRestore(ctx)
		defer s.HoldBackups(ctx, "data")()
		on(ctx)
		app.LosesNothing(ctx)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/api-server-restart", verdict.Resilience,
	"The API server is killed just after a PVC was created, and comes back: the PVC is restored and gets its ReplicationSource, as if nothing had been.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim := s.Claim(ctx, "data")
		s.KillAgainAndAgain(ctx, "kube-apiserver").Stop()
		s.APIServerBack(ctx)
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/node-restart", verdict.Resilience,
	"Everything on the node is killed while a PVC is restored, and starts again: the restore is done, and a volume that was in use is as it was, not restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		live := s.ClaimWithBackupSource(ctx, "live")
		app := live.App(ctx)
		app.Mark(ctx)
		objects := s.ObjectsOfTheirs(ctx, live)
		s.GoodBackup(ctx, "data")
		restoring := s.ClaimWithRestore(ctx, "data")
		s.NodeRestart(ctx)
		restoring.RestoredByItsOwn(ctx)
		restoring.App(ctx).SeesGoodBackup(ctx)
		restoring.HasReplicationSource(ctx)
		s.HasObjects(ctx, objects)
		live.StaysUnrestored(ctx, "the node started again")
		app.KeepsMark(ctx)
	}, alone, late)

var _ = Prove("resilience/rights-missing", verdict.Resilience,
	"The policy's roles are missing when a PVC is created, and come later: the PVC is admitted within the bound, what is restored late is not written over what the app has written, and the ReplicationSource comes.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		back := s.WithoutRights(ctx)
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		app := claim.AppBeforeRestore(ctx)
		defer s.HoldBackups(ctx, "data")()
		back(ctx)
		app.LosesNothing(ctx)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/crds-missing", verdict.Resilience,
	"VolSync's CRDs are missing when the policy is applied: it is refused or taken, no PVC is kept from being created, and applied again with VolSync there it backs up and restores.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		apply := s.RemovePolicy(ctx)
		install := s.WithoutVolSync(ctx)
		s.TryPolicy(ctx)
		s.Claim(ctx, "early").AdmittedInTime()
		install(ctx)
		apply(ctx)
		claim := s.Claim(ctx, "data")
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		claim.HasReplicationSource(ctx)
	}, alone)

var _ = Prove("resilience/existing-volumes", verdict.Resilience,
	"A PVC that exists when the policy is applied gets its ReplicationSource, and is never restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		apply := s.RemovePolicy(ctx)
		claim := s.Claim(ctx, "data")
		app := claim.App(ctx)
		app.Mark(ctx)
		apply(ctx)
		claim.HasReplicationSource(ctx)
		claim.StaysUnrestored(ctx, "the policy was applied")
		app.KeepsMark(ctx)
	}, alone, feature("existing-volumes"))

var _ = Prove("resilience/relabel", verdict.Resilience,
	"A PVC that is labelled later gets its ReplicationSource, and is never restored over, also where S3 has a backup of that name.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		claim := s.UnlabelledClaim(ctx, "data")
		app := claim.App(ctx)
		app.Mark(ctx)
		claim.Relabel(ctx)
		claim.HasReplicationSource(ctx)
		claim.StaysUnrestored(ctx, "the PVC was labelled")
		app.KeepsMark(ctx)
	}, feature("relabel"))

var _ = Prove("resilience/base-secret-late", verdict.Resilience,
	"The base Secret is missing when the PVC is created, and arrives later: the PVC is admitted, and restored and backed up then.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		arrives := s.WithoutBaseSecret(ctx)
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		claim.StaysAdmitted(ctx)
		arrives(ctx)
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		claim.BackedUp(ctx)
	}, long, changesBaseSecret)

var _ = Prove("resilience/base-secret-changed", verdict.Resilience,
	"The base Secret had mistakes that were put right before the PVC was created: what Kyverno does late about them is not in the way of the restore.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		// Kyverno works off what it has missed in no particular order: of a dozen requests the last is hardly the newest.
		on := s.Off(ctx, scenario.KyvernoBackground)
		s.ResticPasswordMistaken(ctx, 12)
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		on(ctx)
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
	}, alone, changesBaseSecret)

var _ = Prove("resilience/wrong-restic-password", verdict.Resilience,
	"A wrong restic password: no restore is called successful, and nothing in the repository is changed.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.GoodBackup(ctx, "data")
		s.WrongResticPassword(ctx)
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoreFailing(ctx, before)
	}, long, changesBaseSecret)

var _ = Prove("resilience/corrupt-config", verdict.Resilience,
	"A repository whose config is corrupt: no restore is called successful, and nothing in the repository is changed.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		before := s.CorruptConfig(ctx, "data")
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoreFailing(ctx, before)
	}, long)

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
	}, long)
