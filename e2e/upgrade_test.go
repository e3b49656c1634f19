package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var _ = Prove("resilience/volsync-upgrade", verdict.Resilience,
	"VolSync is upgraded in the middle of a backup and of a restore, and then set back to the version before. Each ends once, with nobody's help: the app sees what the backup holds, no backup is of a half-filled volume, no snapshot is lost, and no mover is left or comes again.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.SameHourFor(ctx, 4*time.Minute)
		saving := s.ClaimWithBackupSource(ctx, "saving")
		app := saving.App(ctx)
		app.Write(ctx, small(s))
		saving.BackedUp(ctx)
		before := s.Listing(ctx, "saving")
		app.Mark(ctx)
		written := app.Reads(ctx)
		release := s.HoldBackups(ctx, "saving")
		defer release()
		saving.AskForBackup(ctx)
		s.BackupHeld(ctx, "saving")
		half, destination, restored, heal := restoring(ctx, s, "restoring")
		defer heal()

		movers := s.MoversAtWork(ctx, saving.HasReplicationSource(ctx), destination)
		back := s.NextVolSync(ctx)
		movers.Over(ctx)
		for _, pvc := range []string{"saving", "restoring"} {
			s.HalfAnHourLater(ctx, pvc, movers.Pods()...)
		}
		s.NothingLost(ctx, "saving", before)
		half.HeldBack(ctx, destination)
		release()
		heal()
		half.Restored(ctx, destination)
		whole := startedOn(ctx, half, restored)
		saving.BackupEnds(ctx)
		saving.BackupIsExactly(ctx, written)
		s.KeepsByTheHour(ctx, "saving")

		objects := s.ObjectsOfTheirs(ctx, saving, half)
		back(ctx)
		whole.isBackedUp(ctx)
		half.NoBackupOfHalf(ctx, destination)
		s.NoMoverLeft(ctx)
		s.HasObjects(ctx, objects)
		whole.startsAnew(ctx)
		app.SeesExactly(ctx, written)
	}, alone, onRequest, needs{scenario.NeedsGateway}, SpecTimeout(scenario.Scaled(10*time.Minute)))

// A policy takes the place of another in the order that policies/README.md names: it is applied beside the other, and what only the other has is
// deleted when every restore is done and no ReplicationSource waits for one.

var _ = Prove("resilience/policy-upgrade", verdict.Resilience,
	"A policy takes the place of the one that it replaces (upgradesFrom), which has made a PVC at rest, and one whose restore is under way. That ends once, and its app starts. Nothing of either is doubled, lost, or restored again, also after its app starts anew, and both are backed up as they are.",
	func(ctx context.Context, s *scenario.Scenario) {
		earlier := s.EarlierPolicy(ctx)
		earlier.Alone(ctx)
		rest := restAt(ctx, s, "rest")
		half, destination, restored, heal := restoring(ctx, s, "restoring")
		defer heal()
		objects := s.ObjectsOfTheirs(ctx, rest.Claim, half)

		this := earlier.ThisPolicy(ctx)
		half.HeldBack(ctx, destination)
		heal()
		half.Restored(ctx, destination)
		half.BackupsGoOn(ctx)
		this.Alone(ctx)
		s.SameObjects(ctx, objects, "the policy took the place of the earlier one")
		whole := startedOn(ctx, half, restored)
		rest.startsAnew(ctx)
		whole.startsAnew(ctx)
		s.SameObjects(ctx, objects, "the apps started anew")
		whole.isBackedUp(ctx)
		half.NoBackupOfHalf(ctx, destination)
		rest.isBackedUp(ctx)
	}, exchanged...)

var _ = Prove("resilience/policy-downgrade", verdict.Resilience,
	"The policy that this one replaces (upgradesFrom) is put back in its place, and then this one again. A PVC at rest, one whose restore is under way, and one whose backups wait come to no harm: the restore ends once, nothing is doubled, lost, or restored again, no backup of what waits is made, and the others are backed up as they are.",
	func(ctx context.Context, s *scenario.Scenario) {
		held := backupsHeld(ctx, s, "held")
		rest := restAt(ctx, s, "rest")
		half, destination, restored, heal := restoring(ctx, s, "restoring")
		defer heal()
		objects := s.ObjectsOfTheirs(ctx, rest.Claim, half, held.Claim)

		earlier := s.EarlierPolicy(ctx)
		half.HeldBack(ctx, destination)
		heal()
		half.Restored(ctx, destination)
		whole := startedOn(ctx, half, restored) // a volume that is filled before it is bound is backed up once an app uses it
		half.BackupsGoOn(ctx)
		earlier.Alone(ctx)
		s.SameObjects(ctx, objects, "the earlier policy took its place")
		whole.startsAnew(ctx)
		rest.startsAnew(ctx)
		held.wait(ctx)
		earlier.ThisPolicy(ctx).Alone(ctx)
		held.wait(ctx)
		s.GoodBackupSurvives(ctx, "held", held.backup)
		whole.startsAnew(ctx)
		rest.startsAnew(ctx)
		s.SameObjects(ctx, objects, "this policy took the earlier one's place")
		whole.isBackedUp(ctx)
		half.NoBackupOfHalf(ctx, destination)
		rest.isBackedUp(ctx)
	}, append([]any{judgesAnEmptyStart}, exchanged...)...)

var _ = Prove("resilience/kyverno-upgrade", verdict.Resilience,
	"Kyverno is set back to the version before, and upgraded again, each time in the middle of a restore. No app is let in beside it, and it ends once. Of a PVC at rest, and one whose backups wait, nothing is doubled, lost, or restored again, and no backup of what waits is made.",
	func(ctx context.Context, s *scenario.Scenario) {
		held := backupsHeld(ctx, s, "held")
		rest := restAt(ctx, s, "rest")
		var claims []*scenario.Claim
		through := func(name string, exchange func()) {
			half, destination, restored, heal := restoring(ctx, s, name)
			defer heal()
			claims = append(claims, half)
			objects := s.ObjectsOfTheirs(ctx, append([]*scenario.Claim{rest.Claim, held.Claim}, claims...)...)
			exchange()
			half.HeldBack(ctx, destination)
			heal()
			half.Restored(ctx, destination)
			whole := startedOn(ctx, half, restored)
			rest.startsAnew(ctx)
			held.wait(ctx)
			s.SameObjects(ctx, objects, "another version of Kyverno took the place of the one before")
			whole.isBackedUp(ctx)
			whole.startsAnew(ctx)
			half.NoBackupOfHalf(ctx, destination)
		}
		var back scenario.Back
		through("downgraded", func() { back = s.EarlierKyverno(ctx) })
		through("upgraded", func() { back(ctx) })
		s.GoodBackupSurvives(ctx, "held", held.backup)
		rest.isBackedUp(ctx)
	}, judgesPolicy, judgesAnEmptyStart, alone, onRequest, needs{scenario.NeedsGateway, scenario.NeedsEarlierKyverno}, SpecTimeout(scenario.Scaled(12*time.Minute)))

// exchanged are the decorators of specs in which one policy takes the place of another.
var exchanged = []any{judgesPolicy, replacesPolicy, alone, onRequest, needs{scenario.NeedsGateway}, SpecTimeout(scenario.Scaled(10 * time.Minute))}

// atRest is a PVC that was restored, and whose app has written since: a second restore would show.
type atRest struct {
	*scenario.Claim
	app     *scenario.App
	written dataset.Manifest
}

func restAt(ctx context.Context, s *scenario.Scenario, name string) *atRest {
	s.GoodBackup(ctx, name)
	claim := s.ClaimWithRestore(ctx, name)
	claim.Restored(ctx, claim.HasReplicationDestination(ctx))
	app := claim.App(ctx)
	app.Write(ctx, small(s))
	claim.BackedUp(ctx)
	app.Mark(ctx)
	return &atRest{claim, app, app.Reads(ctx)}
}

// startedOn starts an app on a PVC that was restored, which sees what the backup holds, and writes.
func startedOn(ctx context.Context, claim *scenario.Claim, restored dataset.Manifest) *atRest {
	app := claim.App(ctx)
	app.SeesExactly(ctx, restored)
	app.Mark(ctx)
	return &atRest{claim, app, app.Reads(ctx)}
}

// startsAnew has the app end and start again, on what it has written.
func (r *atRest) startsAnew(ctx context.Context) {
	r.app.SeesExactly(ctx, r.written)
	r.app.Delete(ctx)
	r.app = r.App(ctx)
	r.app.SeesExactly(ctx, r.written)
}

// isBackedUp asks for a backup, which holds what the app has written.
func (r *atRest) isBackedUp(ctx context.Context) {
	r.BackUp(ctx)
	r.BackupIsExactly(ctx, r.written)
}

// waiting is a PVC that was created while S3 was down, with a good backup of something else: its backups wait until somebody decides.
type waiting struct {
	*scenario.Claim
	backup scenario.Listing
}

func backupsHeld(ctx context.Context, s *scenario.Scenario, name string) *waiting {
	w := &waiting{backup: s.GoodBackup(ctx, name)}
	s.S3Down(ctx, outage.Held, name, func() { w.Claim = s.ClaimInOutage(ctx, outage.Held, name) })
	w.App(ctx).Mark(ctx)
	w.HasReplicationSource(ctx) // one that comes late, as when the PVC is bound, could else not be asked
	return w
}

// wait fails the spec where a backup that is asked for is let in.
func (w *waiting) wait(ctx context.Context) { w.waitWhile(ctx, func() {}) }

// waitWhile is wait, while something else is looked at.
func (w *waiting) waitWhile(ctx context.Context, look func()) {
	asked := w.AskForBackup(ctx)
	look()
	w.NoBackupSince(ctx, asked, "it is not known whether its data are the newest")
}
