package e2e

import (
	"context"
	"time"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("resilience/kyverno-down", verdict.Resilience,
	"Kyverno's processes are killed over and over while a labelled PVC is created. The PVC is admitted within the bound, binds, and is not restored over when Kyverno is back. Earlier volumes keep their objects. Beside a restore that is under way meanwhile, no app is let in, and no backup of the half-filled volume is made.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.ClaimWithBackupSource(ctx, "before")
		objects := s.ObjectsOfTheirs(ctx, before)
		s.GoodBackup(ctx, "data")

		half, destination, _, heal := restoring(ctx, s, "slow")
		defer heal()
		claim, app := claimWithoutKyverno(ctx, s, func(*scenario.Claim) {
			half.HeldBack(ctx, destination)
			half.NoBackupWhileRestoring(ctx, destination)
		})
		heal()
		app.Mark(ctx)
		claim.Patch(ctx, "annotated", `{"metadata":{"annotations":{"example.com/touched":"yes"}}}`)
		claim.StaysUnrestored(ctx, "Kyverno is back, and a change of the PVC")
		s.HasObjects(ctx, objects)
		app.KeepsMark(ctx)
		half.NoBackupOfHalf(ctx, destination)
	}, judgesPolicy, alone)

var _ = Prove("resilience/kyverno-down-catches-up", verdict.Resilience,
	"A PVC that is created while Kyverno's processes are killed over and over is backed up once Kyverno is back, and says what was decided about it, also where Kyverno's background scan came by meanwhile.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim, app := claimWithoutKyverno(ctx, s, func(claim *scenario.Claim) { claim.ScanComesBy(ctx) })
		written := app.Write(ctx, small(s))
		claim.SaysWhatWasDecided(ctx)
		claim.BackedUp(ctx)
		claim.BackupIsExactly(ctx, written)
	}, judgesPolicy, alone, feature("catches-up"))

// claimWithoutKyverno creates a PVC while Kyverno is down. Its app may have to wait until Kyverno is back. Meanwhile is called before that.
func claimWithoutKyverno(ctx context.Context, s *scenario.Scenario, meanwhile func(*scenario.Claim)) (*scenario.Claim, *scenario.App) {
	kyverno := s.KillAgainAndAgain(ctx, "kyverno")
	s.KyvernoIsDown(ctx)
	claim := s.Claim(ctx, "data")
	claim.AdmittedInTime()
	meanwhile(claim)
	s.KyvernoIsDown(ctx)
	kyverno.Stop()
	s.SkipBackOff(ctx)
	app := claim.App(ctx)
	claim.Bound(ctx)
	s.KyvernoBack(ctx)
	return claim, app
}

var _ = Prove("resilience/background-controller-down", verdict.Resilience,
	"A PVC with a good backup in S3 is created while Kyverno's background controller is down. When the controller is back, a late restore does not overwrite what the app has written, also where the app's pod was there before the PVC and is gone by then, and the PVC gets its ReplicationSource.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		s.GoodBackup(ctx, "early")
		on := s.Off(ctx, scenario.KyvernoBackground)
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		app := claim.AppBeforeRestore(ctx)
		gone := s.AppThatComesAndGoes(ctx, "early")
		defer s.HoldBackups(ctx, "data")()
		defer s.HoldBackups(ctx, "early")()
		on(ctx)
		app.LosesNothing(ctx)
		gone.LosesNothing(ctx)
		claim.HasReplicationSource(ctx)
	}, judgesPolicy, alone)

var _ = Prove("resilience/volsync-down", verdict.Resilience,
	"A PVC with a good backup in S3 is created while VolSync is down. When VolSync is back, a late restore does not overwrite what the app has written.",
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
	"The API server is killed just after a PVC is created. When it is back, the PVC is restored and gets its ReplicationSource.",
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
	"Everything on the node is killed during a restore, and starts again. The restore completes, and backups go on. Another volume in use keeps its content and is not restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		live := s.ClaimWithBackupSource(ctx, "live")
		app := live.App(ctx)
		app.Mark(ctx)
		objects := s.ObjectsOfTheirs(ctx, live)
		s.GoodBackup(ctx, "data")
		restoring := s.ClaimWithRestore(ctx, "data")
		s.NodeRestart(ctx)
		since := s.Now()
		restoring.RestoredByItsOwn(ctx)
		restoring.App(ctx).SeesGoodBackup(ctx)
		restoring.BackedUp(ctx)
		restoring.SnapshotHolds(ctx, "latest", scenario.SeedContent)
		s.HasObjects(ctx, objects)
		s.StayUnrestored(ctx, since, "the node started again", live)
		app.KeepsMark(ctx)
	}, alone, late)

var _ = Prove("resilience/rights-missing", verdict.Resilience,
	"A PVC is created a minute before the policy's roles are applied. It is admitted within the bound. After the roles are applied, a late restore does not overwrite what the app has written, and the PVC gets its ReplicationSource.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		back := s.WithoutRights(ctx)
		claim := s.Claim(ctx, "data")
		claim.AdmittedInTime()
		app := claim.AppBeforeRestore(ctx)
		claim.StaysAdmittedLong(ctx)
		defer s.HoldBackups(ctx, "data")()
		back(ctx)
		app.LosesNothing(ctx)
		claim.HasReplicationSource(ctx)
	}, judgesPolicy, alone)

var _ = Prove("resilience/crds-missing", verdict.Resilience,
	"The policy is applied while VolSync's CRDs are missing. Kyverno may accept or refuse it, but PVCs can still be created. After VolSync is installed and the policy is applied again, it backs up and restores.",
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
	}, judgesPolicy, alone)

var _ = Prove("resilience/existing-volumes", verdict.Resilience,
	"A PVC that exists before the policy is applied gets its ReplicationSource, says what was decided about it, and is backed up if S3 holds no backup for it. Its volume is never restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.GoodBackup(ctx, "data")
		apply := s.RemovePolicy(ctx)
		claim, without := s.Claim(ctx, "data"), s.Claim(ctx, "without")
		app := claim.App(ctx)
		app.Mark(ctx)
		written := without.App(ctx).Write(ctx, small(s))
		apply(ctx)
		neverRestoredButBackedUp(ctx, s, claim, without, "the policy was applied")
		without.BackupIsExactly(ctx, written)
		app.KeepsMark(ctx)
		s.GoodBackupSurvives(ctx, "data", before)
	}, judgesPolicy, alone, feature("existing-volumes"))

var _ = Prove("resilience/relabel", verdict.Resilience,
	"A PVC that is labelled after its creation gets its ReplicationSource, says what was decided about it, and is backed up if S3 holds no backup for it. Its volume is never restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.GoodBackup(ctx, "data")
		claim, without := s.UnlabelledClaim(ctx, "data"), s.UnlabelledClaim(ctx, "without")
		app := claim.App(ctx)
		app.Mark(ctx)
		written := without.App(ctx).Write(ctx, small(s))
		claim.Relabel(ctx)
		without.Relabel(ctx)
		neverRestoredButBackedUp(ctx, s, claim, without, "the PVC was labelled")
		without.BackupIsExactly(ctx, written)
		app.KeepsMark(ctx)
		s.GoodBackupSurvives(ctx, "data", before)
	}, long, feature("relabel"))

// neverRestoredButBackedUp is what is wanted of two volumes in use that the policy learns of: one with a backup in S3, and one without.
func neverRestoredButBackedUp(ctx context.Context, s *scenario.Scenario, with, without *scenario.Claim, after string) {
	since := s.Now()
	with.HasReplicationSource(ctx)
	without.BackedUp(ctx)
	with.SaysWhatWasDecided(ctx)
	without.SaysWhatWasDecided(ctx)
	s.StayUnrestored(ctx, since, after, with, without)
}

var _ = Prove("resilience/base-secret-late", verdict.Resilience,
	"A PVC is created before the base Secret exists, and one while it has only one of its values. Both are admitted, and restored and backed up once the Secret has them all.",
	func(ctx context.Context, s *scenario.Scenario) {
		names := []string{"data", "part"}
		for _, name := range names {
			s.GoodBackup(ctx, name)
		}
		arrives := s.WithoutBaseSecret(ctx)
		var claims []*scenario.Claim
		for _, name := range names {
			claim := s.Claim(ctx, name)
			claim.AdmittedInTime()
			claim.StaysAdmitted(ctx)
			claims = append(claims, claim)
			s.PartOfBaseSecret(ctx)
		}
		arrives(ctx)
		for _, claim := range claims {
			claim.RestoredByItsOwn(ctx)
			claim.App(ctx).SeesGoodBackup(ctx)
			claim.BackedUp(ctx)
		}
	}, judgesPolicy, long, changesBaseSecret)

var _ = Prove("resilience/base-secret-changed", verdict.Resilience,
	"The base Secret had mistakes that were corrected before the PVC is created. Kyverno handles those changes late, and they do not break the restore.",
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
	}, judgesPolicy, alone, changesBaseSecret)

var _ = Prove("resilience/wrong-restic-password", verdict.Resilience,
	"With a wrong restic password, no restore is reported as successful, and nothing in the repository changes.",
	func(ctx context.Context, s *scenario.Scenario) {
		before := s.GoodBackup(ctx, "data")
		s.WrongResticPassword(ctx)
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoreFailing(ctx, before)
	}, long, changesBaseSecret)

var _ = Prove("resilience/corrupt-config", verdict.Resilience,
	"With a corrupt config in the repository, no restore is reported as successful, and nothing in the repository changes.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		before := s.CorruptConfig(ctx, "data")
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoreFailing(ctx, before)
	}, long)

var _ = Prove("resilience/stale-lock", verdict.Resilience,
	"A stale lock in the repository neither blocks a restore nor loses a snapshot. The next backup adds a snapshot.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		s.StaleLock(ctx, "data")
		good := s.LatestSnapshot(ctx, "data")
		claim := s.ClaimWithRestore(ctx, "data")
		claim.RestoredByItsOwn(ctx)
		claim.App(ctx).SeesGoodBackup(ctx)
		if !claim.TryBackup(ctx) {
			s.Failf("no backup is made beside a stale lock")
		}
		claim.SnapshotHolds(ctx, good, scenario.SeedContent)
	}, long)

var _ = Prove("resilience/killed-mover", verdict.Resilience,
	"A backup, a restore or a prune was killed half an hour ago or longer, and its lock is in the repository. The next backup is Successful, retention works, and what was backed up is restored, with nobody's help.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.SameHourFor(ctx, 2*time.Minute)
		s.GoodBackup(ctx, "data")
		s.OldLock(ctx, "data", scenario.KilledBackup)
		first := s.ClaimWithRestore(ctx, "data")
		first.RestoredByItsOwn(ctx)
		app := first.App(ctx)
		written := app.Write(ctx, small(s))
		first.BackedUp(ctx)
		s.OldLock(ctx, "data", scenario.KilledPrune)
		first.BackUp(ctx) // the second of the hour, of which the first must go
		first.BackupIsExactly(ctx, written)
		s.KeepsByTheHour(ctx, "data")
		app.Delete(ctx)

		s.OldLock(ctx, "data", scenario.KilledPrune)
		second := first.Recreate(ctx)
		second.RestoredByItsOwn(ctx)
		second.App(ctx).SeesExactly(ctx, written)
	}, longest)

var _ = Prove("resilience/movers-forbidden", verdict.Resilience,
	"A namespace takes none of VolSync's movers, by Pod Security, a quota or a LimitRange, or keeps them from S3. A PVC with a backup is refused there with a reason, or says within a bound that something is wrong. When movers may run again, it is restored.",
	func(ctx context.Context, s *scenario.Scenario) {
		usual := s.Twin(ctx)
		full, limited, cut := s.Sibling(ctx, "-full"), s.Sibling(ctx, "-limited"), s.Sibling(ctx, "-cut-off")
		var claims []*scenario.Claim
		var allow []func(context.Context)
		for in, forbid := range map[*scenario.Scenario]func(context.Context) func(context.Context){
			s: s.RestrictedPods, full: full.NoPods, limited: limited.OnlyLimitedPods, cut: cut.CutMoversOff,
		} {
			in.GoodBackup(ctx, "data")
			allow = append(allow, forbid(ctx))
			if claim := in.ClaimOrRefusal(ctx, "data"); claim != nil {
				claims = append(claims, claim)
			}
		}
		for _, claim := range claims {
			claim.SaysThatSomethingIsWrong(ctx, usual)
			claim.NoMoverDone(ctx)
		}
		for _, again := range allow {
			again(ctx)
		}
		for _, claim := range claims {
			claim.RestoredByItsOwn(ctx)
			claim.App(ctx).SeesGoodBackup(ctx)
		}
	}, longest, needs{scenario.NeedsGateway})

var _ = Prove("resilience/other-modes", verdict.Resilience,
	"A PVC is a block device, or may be used by one pod only, or on many nodes. It is refused with a reason, or backed up, or says within a bound that something is wrong.",
	func(ctx context.Context, s *scenario.Scenario) {
		usual := s.Claim(ctx, "usual")
		tried := map[*scenario.Claim]*scenario.App{}
		for name, mode := range map[string]scenario.Mode{"block": scenario.Block, "one-pod": scenario.OnePod, "many-nodes": scenario.ManyNodes} {
			if claim := s.ClaimOfMode(ctx, name, mode); claim != nil {
				tried[claim] = claim.TryApp(ctx)
			}
		}
		for claim, app := range tried {
			claim.BackedUpOrSaysSo(ctx, app, usual)
		}
	}, judgesBackups, long)

var _ = Prove("resilience/told", verdict.Resilience,
	"A person who looks at a PVC is told within a bound if its backups wait until somebody decides, if it was never backed up because no backup can run, if it is no longer backed up, or if its restore fails. If the policy brings alerting rules, they say so, too, of the metrics that VolSync and Kyverno have, and of a PVC that is backed up they say nothing. If the contract says how a person takes a volume as it is, one whose backups wait is backed up when somebody does, and goes on being backed up after a manifest has dropped that.",
	func(ctx context.Context, s *scenario.Scenario) {
		stuck := s.Sibling(ctx, "-stuck")
		stuck.GoodBackup(ctx, "data")
		stuck.WrongResticPassword(ctx)
		restoring := stuck.ClaimWithRestore(ctx, "data")

		// Not by S3: VolSync calls a backup of a volume that is empty still a success.
		forbidding := s.Sibling(ctx, "-never")
		defer forbidding.NoPods(ctx)(ctx)
		never := forbidding.ClaimWithBackupSource(ctx, "data")

		lapsing := s.Sibling(ctx, "-lapsed")
		lapsed := lapsing.ClaimWithBackupSource(ctx, "data")
		lapsed.App(ctx).Write(ctx, small(s))
		lapsed.BackedUp(ctx)
		well := lapsed.AsItSays(ctx)
		lapsed.NoAlert(ctx)
		defer lapsing.RefuseBackups(ctx, "data")()
		lapsed.LastBackupWasLongAgo(ctx)

		s.GoodBackup(ctx, "held")
		var held *scenario.Claim
		s.S3Down(ctx, outage.Held, "held", func() { held = s.ClaimInOutage(ctx, outage.Held, "held") })
		held.DecisionVisible(ctx, outage.OutcomeUnknown)

		held.AlertsThatNotBackedUp(ctx)
		never.AlertsThatNotBackedUp(ctx)
		lapsed.AlertsThatNotBackedUp(ctx)
		restoring.AlertsThatNotRestored(ctx)

		never.SaysThatSomethingIsWrong(ctx, never)
		restoring.SaysThatSomethingIsWrong(ctx, restoring)
		lapsed.SaysThatSomethingIsWrong(ctx, well)

		if !s.CanAccept() || s.UnknownWaits() || s.UnknownIsRefused() {
			return
		}
		held.App(ctx).Write(ctx, small(s))
		held.Override(ctx)
		held.BackedUp(ctx)
		held.WithoutAnnotations(ctx)
		held.BackUp(ctx)
	}, longest, changesBaseSecret, feature("visible-decision"), needs{scenario.NeedsGateway})

var _ = Prove("resilience/blast-radius", verdict.Resilience,
	"Kyverno's processes are killed over and over, for longer than its webhooks are waited for. Meanwhile, a pod without a volume starts, and so do pods of PVCs without the label, also in another namespace. Pods are admitted in the namespaces of Kubernetes, Kyverno, VolSync and the storage driver.",
	func(ctx context.Context, s *scenario.Scenario) {
		other := s.Sibling(ctx, "-other")
		plain := []*scenario.Claim{s.UnlabelledClaim(ctx, "plain"), other.UnlabelledClaim(ctx, "plain")}
		kyverno := s.KillAgainAndAgain(ctx, "kyverno")
		s.KyvernoStaysDown(ctx)
		s.PodAtOnce(ctx)
		s.PodsAtOnceIn(ctx, s.SystemNamespaces()...)
		for _, claim := range plain {
			claim.AppAtOnce(ctx)
			claim.Bound(ctx)
		}
		s.KyvernoIsDown(ctx)
		kyverno.Stop()
		s.SkipBackOff(ctx)
		s.KyvernoBack(ctx)
	}, judgesPolicy, alone)

var _ = Prove("resilience/hourly-scan", verdict.Resilience,
	"A person has set fields of the ReplicationSource, and the restic password in the base Secret is another one. Neither a change of the PVC nor Kyverno's background scan undoes the first, or takes the second to a repository that was made with the old one.",
	func(ctx context.Context, s *scenario.Scenario) {
		claim := s.ClaimWithBackupSource(ctx, "data")
		byHand := claim.SetByHand(ctx)
		s.WrongResticPassword(ctx)
		claim.Patch(ctx, "annotated", `{"metadata":{"annotations":{"example.com/touched":"yes"}}}`)
		byHand.StaysThroughAScan(ctx)
	}, judgesPolicy, longest, changesBaseSecret, needs{scenario.NeedsPlatform}) // on others, Kyverno scans by the hour, and nobody sees it

var _ = Prove("resilience/restore-made-up-for", verdict.Resilience,
	"Kyverno's limit of requests is reached when PVCs with a backup are created, so a request for a restore is lost. The restore comes all the same, or the PVC says what to do.",
	func(ctx context.Context, s *scenario.Scenario) {
		names := []string{"data-1", "data-2"}
		for _, name := range names {
			s.GoodBackup(ctx, name)
		}
		back := s.FewUpdateRequests(ctx, 1)
		on := s.Off(ctx, scenario.KyvernoBackground)
		var claims []*scenario.Claim
		for _, name := range names {
			claims = append(claims, s.Claim(ctx, name))
		}
		s.SomeDropped(ctx, names...)
		back(ctx)
		on(ctx)
		for _, claim := range claims {
			claim.MadeUpFor(ctx)
		}
	}, judgesPolicy, alone)
