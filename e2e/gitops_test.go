package e2e

import (
	"context"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

// reconciliations are how many of Argo CD's are watched, ten seconds apart.
const reconciliations = 10

var _ = Prove("gitops/synced", verdict.GitOps,
	"Argo CD deploys the policy from git, and then an app with a new PVC and one with a PVC that has a backup. Within a bound, everything is Synced and Healthy, and it stays so for ten reconciliations and a backup: no warning, no OutOfSync, and no object that is written again and again.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "restored")
		policy := s.PolicyFromGit(ctx)
		apps := s.AppsFromGit(ctx, "fresh", "restored")
		apps.Synced(ctx)
		apps.Workload("fresh").Running(ctx)
		apps.Claim(ctx, "restored", nil).RestoredByItsOwn(ctx)
		claim := apps.Claim(ctx, "fresh", nil)
		claim.BackedUp(ctx)

		before := s.SnapshotKeys(ctx, "fresh")
		claim.AskForBackup(ctx)
		s.StaySynced(ctx, reconciliations, policy, apps)
		if slices.Equal(s.SnapshotKeys(ctx, "fresh"), before) {
			s.Unknownf("no backup was made while Argo CD was watched, though one was asked for")
		}
		apps.WarnsOfEndpoints(ctx)
	}, append([]any{SpecTimeout(scenario.Scaled(10 * time.Minute))}, deployedFromGit...)...)

var _ = Prove("gitops/self-heal", verdict.GitOps,
	"Argo CD, with self-heal and pruning, puts back the label of a PVC that somebody took away, and a policy that somebody deleted. What the policy made is still there and the same, nothing is restored over, and the app keeps its data.",
	func(ctx context.Context, s *scenario.Scenario) {
		policy := s.PolicyFromGit(ctx)
		apps := s.AppsFromGit(ctx, "data")
		apps.Synced(ctx)
		workload := apps.Workload("data")
		app := workload.Running(ctx)
		claim := apps.Claim(ctx, "data", nil)
		claim.BackedUp(ctx)
		app.Mark(ctx)
		decided := claim.Decided(ctx)
		before := s.ObjectsOfTheirs(ctx, claim)

		if claim.Unlabel(ctx) {
			claim.LabelledAgain(ctx)
		}
		policy.Deleted(ctx)
		s.SameObjects(ctx, before, "Argo CD has put back the policy")
		claim.StaysUnrestored(ctx, "Argo CD has put back the PVC's label and the policy")
		claim.StillDecided(ctx, decided, "Argo CD has put back the PVC's label and the policy")
		app.KeepsMark(ctx)
		policy.Synced(ctx)
		apps.Synced(ctx)
	}, deployedFromGit...)

var _ = Prove("gitops/prune", verdict.GitOps,
	"An app is taken out of git, and Argo CD deletes it with its PVC. When it is put back, its PVC is restored before the app starts. What the policy made for another app is the same.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.PolicyFromGit(ctx)
		apps := s.AppsFromGit(ctx, "other")
		apps.Synced(ctx)
		before := s.ObjectsOfTheirs(ctx, apps.Claim(ctx, "other", nil))
		apps.Again(ctx, "data")
		apps.Synced(ctx)
		app := apps.Workload("data").Running(ctx)
		first := apps.Claim(ctx, "data", nil)
		app.Write(ctx, large(s))
		written := app.Reads(ctx)
		first.BackedUp(ctx)
		apps.Without(ctx, first)
		s.HasObjects(ctx, before)

		defer s.SlowS3(ctx, 768)() // some fifteen seconds: an app that is not held back starts before its data are there
		apps.Again(ctx, "data")
		second := apps.Claim(ctx, "data", first)
		second.RestoredByItsOwn(ctx)
		apps.Workload("data").Running(ctx).SawAtFirst(ctx, written)
		apps.Synced(ctx)
		s.HasObjects(ctx, before)
	}, append([]any{feature("gated-start")}, deployedFromGit...)...)

var _ = Prove("gitops/replace", verdict.GitOps,
	"Argo CD deploys a change of a PVC by Replace=true, and then by ServerSideApply=true. What was decided about the PVC stays, what the policy made is the same, nothing is restored over, and the app keeps its data. By Replace=true and Force=true, Argo CD makes the PVC anew: if the policy holds pods back until a restore is done, the PVC is restored before its app starts, or says that it was not.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.PolicyFromGit(ctx)
		apps := s.AppsFromGit(ctx, "data")
		apps.Synced(ctx)
		workload := apps.Workload("data")
		app := workload.Running(ctx)
		claim := apps.Claim(ctx, "data", nil)
		claim.BackedUp(ctx)
		app.Mark(ctx)
		decided := claim.Decided(ctx)
		before := s.ObjectsOfTheirs(ctx, claim)

		for _, options := range []string{"Replace=true", "ServerSideApply=true"} {
			apps.SyncOptions(ctx, options)
			apps.Tried(ctx)
			claim.StillDecided(ctx, decided, options)
			claim.StaysUnrestored(ctx, options)
			s.HasObjects(ctx, before)
			app.KeepsMark(ctx)
		}

		if !s.GatesApps() {
			return
		}
		apps.SyncOptions(ctx, "Replace=true,Force=true")
		claim.BeingDeleted(ctx)
		workload.Replace(ctx)
		again := apps.Claim(ctx, "data", claim)
		s.NothingRestoredUnder(ctx, workload)
		if workload.StartedEmpty(ctx) {
			again.SaysUnknown(ctx, "its app started on an empty volume")
		}
	}, deployedFromGit...)

// rebuildSize is how many apps are deployed at once.
const rebuildSize = 20

var _ = Prove("gitops/rebuild", verdict.GitOps,
	"Argo CD deploys everything from git at once: Kyverno and VolSync, the policy, and 20 apps whose PVCs have backups. Everything is Synced and Healthy within a bound. Each app finds its backup, whole, when it first starts; where one does not, its PVC says so, and nothing is restored over.",
	func(ctx context.Context, s *scenario.Scenario) {
		names := scenario.StormNames("app", rebuildSize)
		for _, name := range names {
			s.GoodBackup(ctx, name)
		}
		everything := s.EverythingFromGit(ctx, names...)
		everything.Synced(ctx)
		everything.RestoredOrSaySo(ctx, names...)
	}, append([]any{last, feature("gated-start"), SpecTimeout(scenario.Scaled(12 * time.Minute))}, deployedFromGit...)...)

// deployedFromGit are the decorators of specs about what Argo CD deploys. They take the suite's policy away.
var deployedFromGit = []any{judgesPolicy, alone, needs{scenario.NeedsGitOps}}
