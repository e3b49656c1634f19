package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("core/restore-before-bind", verdict.Core,
	"A PVC with a backup is bound no sooner than its data is there, and the first read of its app is the data: of a pod that was there before the PVC, of a Deployment whose PVC is made again, and of a StatefulSet that makes its PVC again. No pod is refused.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "pod-first")
		s.GoodBackup(ctx, "deployed")
		app := s.AppBeforeClaim(ctx, "pod-first")
		s.Claim(ctx, "pod-first").BoundToItsData(ctx)
		app.Running(ctx)
		app.SawTheBackup(ctx)

		first := s.Claim(ctx, "deployed")
		deployment := first.Deployment(ctx)
		deployment.SawTheBackup(ctx)
		second := first.RecreatedUnder(ctx, deployment)
		second.IsNot(first)
		second.BoundToItsData(ctx)
		deployment.Running(ctx)
		deployment.SawTheBackup(ctx)

		if !s.HasPolicy() {
			s.Step("templates are applied for a PVC whose name is known: a StatefulSet, which makes its own, is not tried")
			return
		}
		set, first := s.StatefulSet(ctx, "set", false)
		first.BoundToItsData(ctx)
		set.Running(ctx)
		set.SawTheBackup(ctx)
		second = first.LostUnder(ctx, set)
		second.IsNot(first)
		second.BoundToItsData(ctx)
		set.Running(ctx)
		set.SawTheBackup(ctx)
	}, longest, feature(verdict.Populator), needs{scenario.NeedsAgentImage})

var _ = Prove("resilience/populator-without-kyverno", verdict.Resilience,
	"Kyverno's admission controller goes away after a PVC was decided on, before VolSync restores it. The app, whose pod was there before the PVC, waits all the same, and its first read is the data, at the latest when Kyverno is back.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "data")
		volsync := s.Off(ctx, scenario.VolSync)
		app := s.AppBeforeClaim(ctx, "data")
		claim := s.Claim(ctx, "data")
		claim.HasReplicationDestination(ctx)
		kyverno := s.Off(ctx, scenario.KyvernoAdmission)
		s.NoKyvernoWebhooks(ctx)
		claim.StaysPending(ctx, "while neither Kyverno nor VolSync is there")
		volsync(ctx)
		claim.TriesToRestore(ctx)
		kyverno(ctx)
		s.KyvernoBack(ctx)
		claim.BoundToItsData(ctx)
		app.Running(ctx)
		app.SawTheBackup(ctx)
	}, judgesPolicy, alone, feature(verdict.Populator), needs{scenario.NeedsAgentImage})

var _ = Prove("safety/populator-s3-down", verdict.Safety,
	"S3 fails after a restore was decided on, and before VolSync restores. While it resets connections or refuses the movers' credentials, the PVC is not bound, and no restore is called a success. An S3 that is slow only delays. A restore that found no snapshot, because S3 listed none, is not called restored, and the volume is not backed up. After the failure each other PVC is restored, and every good snapshot can be restored.",
	func(ctx context.Context, s *scenario.Scenario) {
		volsync := s.Off(ctx, scenario.VolSync)
		down, forbidden := populates(ctx, s, "reset"), populates(ctx, s, "mover-credentials")
		lying, slow := populates(ctx, s, "list-lies"), populates(ctx, s, "slow")
		const found = "the restore found nothing"
		failing(ctx, []*populating{down, forbidden, lying, slow}, func() {
			volsync(ctx)
			slow.claim.BoundToItsData(ctx)
			lying.claim.RestoreEnded(ctx)
			lying.claim.AskForBackup(ctx)
			lying.claim.NoBackupSoFar(ctx, found)
			down.claim.StaysPending(ctx, "while S3 is "+down.fault.Sentence+", or "+forbidden.fault.Sentence, forbidden.claim)
			for _, p := range []*populating{down, forbidden} {
				p.claim.NoSuccessSoFar(ctx, "while S3 is "+p.fault.Sentence)
			}
		})
		for _, p := range []*populating{slow, down, forbidden} {
			p.claim.BoundToItsData(ctx)
			p.claim.App(ctx).SeesGoodBackup(ctx)
		}
		if !lying.claim.HasOrSaysSo(ctx, slow.claim, scenario.SeedContent, found) {
			lying.claim.AskForBackup(ctx)
			lying.claim.NoBackupSoFar(ctx, found)
		}
		for _, p := range []*populating{slow, down, forbidden, lying} {
			p.s.GoodBackupSurvives(ctx, "data", p.before)
		}
	}, judgesPopulator, alone, needs{scenario.NeedsGateway})

// populating is a PVC, in a namespace of its own, for which a restore was decided on before S3 fails.
type populating struct {
	s      *scenario.Scenario
	fault  outage.Fault
	claim  *scenario.Claim
	before scenario.Listing
}

func populates(ctx context.Context, s *scenario.Scenario, fault string) *populating {
	p := &populating{s: s.Sibling(ctx, "-"+fault), fault: outage.Named(fault)}
	p.before = p.s.GoodBackup(ctx, "data")
	p.claim = p.s.Claim(ctx, "data")
	p.claim.HasReplicationDestination(ctx)
	p.claim.TryApp(ctx) // a consumer
	return p
}

// failing has S3 fail for all of them at once.
func failing(ctx context.Context, all []*populating, during func()) {
	if len(all) == 0 {
		during()
		return
	}
	all[0].s.S3DownInUse(ctx, all[0].fault, "data", func() { failing(ctx, all[1:], during) })
}
