package e2e

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// What must come of each outcome.
var outcomes = map[outage.Outcome]struct {
	sentence string
	body     func(context.Context, *scenario.Scenario, outage.Fault)
}{
	outage.OutcomeUnknown: {"is admitted within the bound, gets its ReplicationSource, binds, lets its app write, and never gets a ReplicationDestination; no backup of it is let in, then or afterwards, and the good snapshot can be restored. Or, as its contract says, it is Pending and says why, or it is refused with a reason, and is restored after it", unknown},
	outage.OutcomeAbsent:  {"is admitted within the bound, binds, lets its app write, gets no ReplicationDestination, and is backed up", absent},
	outage.OutcomeBackup:  {"is admitted within the bound and restored byte for byte", restored},
	outage.OutcomeLater:   {"is admitted within the bound, is not reported as restored during the outage, and is restored after it", later},
	outage.OutcomeLied:    {"is admitted within the bound, and the last good snapshot can be restored after backups with the promised retention ran in the same hour as the last good backup", lied},
	outage.OutcomeNothing: {"is admitted within the bound and, while its restore found nothing, not backed up; it is restored after it or says that nothing was found, and the good snapshot can be restored", nothingFound},
	outage.OutcomeOlder:   {"is admitted within the bound and, while its restore was of an older snapshot, not backed up; it has the newest after it or says that it has not, and the newest snapshot can be restored", olderFound},
}

// One spec for every row of the fault table, about S3 and about the oracle. Those whose faults hold for all take turns, and so do not keep processes
// waiting for each other.
var _ = Describe("S3 down", Ordered, ContinueOnFailure, exclusive, func() {
	for _, fault := range outage.All() {
		if fault.HoldsForAll() {
			proveOutage(fault)
		}
	}
})

// The others are in no container: Ginkgo begins a container's specs together, all when its first priority is due.
func init() {
	for _, fault := range outage.All() {
		if !fault.HoldsForAll() {
			proveOutage(fault)
		}
	}
}

func proveOutage(fault outage.Fault) {
	o := outcomes[fault.Outcome]
	decorators := []any{Label(fault.Family()), needs{scenario.NeedsGateway}}
	if fault.Oracle {
		decorators = append(decorators, Label(scenario.AboutAnOracle))
	}
	if fault.Of != "" {
		decorators = append(decorators, Label(string(fault.Of)))
	}
	if fault.OnlyUnsigned() {
		decorators = append(decorators, judgesPolicy)
	}
	if fault.Outcome != outage.OutcomeUnknown { // they wait for movers
		decorators = append(decorators, long)
	}
	Prove(fault.Requirement(), verdict.Core, "W"+strings.TrimPrefix(fault.While(), "w")+", a PVC with a backup "+o.sentence+".",
		func(ctx context.Context, s *scenario.Scenario) { o.body(ctx, s, fault) }, decorators...)
}

func unknown(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	switch {
	case s.UnknownWaits():
		waits(ctx, s, fault)
		return
	case s.UnknownIsRefused():
		isRefused(ctx, s, fault)
		return
	}
	before := s.GoodBackup(ctx, "data")

	var claim *scenario.Claim
	healed := s.S3Down(ctx, fault, "data", func() {
		claim = s.ClaimInOutage(ctx, fault, "data")
		claim.DecisionVisible(ctx, fault.Outcome)
		app := claim.App(ctx)
		claim.Bound(ctx)
		app.Write(ctx, dataset.Small(s.Namespace, 20))
		claim.NeverRestored(ctx, before)
	})
	claim.HasReplicationSource(ctx) // nobody has seen one so far that comes late, as when the PVC is bound
	claim.AskForBackup(ctx)
	claim.NotRestoredAfter(ctx, fault, healed)
	claim.NoBackupLetIn(ctx)
	s.GoodBackupSurvives(ctx, "data", before)
	s.TwinIsRestored(ctx)
}

// waits is unknown for PVCs that are Pending until somebody knows.
func waits(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	before := s.GoodBackup(ctx, "data")

	var claim *scenario.Claim
	s.S3Down(ctx, fault, "data", func() {
		claim = s.ClaimInOutage(ctx, fault, "data")
		claim.DecisionVisible(ctx, fault.Outcome)
		claim.IsPending(ctx)
		claim.NeverRestored(ctx, before)
		claim.NoBackupSoFar(ctx, "it is not restored")
	})
	claim.RestoredAndProtected(ctx)
	s.GoodBackupSurvives(ctx, "data", before)
}

// isRefused is unknown for PVCs that are not admitted until somebody knows.
func isRefused(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	before := s.GoodBackup(ctx, "data")

	s.S3Down(ctx, fault, "data", func() { s.RefusedInOutage(ctx, fault, "data") })
	s.Step("it is asked for again, as a tool does that applies what is in Git")
	s.Claim(ctx, "data").RestoredAndProtected(ctx)
	s.GoodBackupSurvives(ctx, "data", before)
}

func absent(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	before := s.GoodBackup(ctx, "data")

	var claim *scenario.Claim
	healed := s.S3Down(ctx, fault, "data", func() {
		claim = s.ClaimInOutage(ctx, fault, "data")
		claim.DecisionVisible(ctx, fault.Outcome)
		app := claim.App(ctx)
		claim.Bound(ctx)
		app.Write(ctx, dataset.Small(s.Namespace, 20))
		claim.BackedUp(ctx)
		claim.NothingMadeToRestore(ctx, before)
	})
	claim.NotRestoredAfter(ctx, fault, healed)
}

// lied is what becomes of a PVC of which who was asked said that it has no backup: nobody can know better by asking, so it may start empty.
func lied(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	s.SameHourFor(ctx, 3*time.Minute) // retention by the hour keeps the last
	good := lastGoodOne(ctx, s, "data")

	var claim *scenario.Claim
	s.S3Down(ctx, fault, "data", func() {
		claim = s.ClaimInOutage(ctx, fault, "data")
		app := claim.App(ctx)
		claim.Bound(ctx)
		app.Write(ctx, dataset.Small(s.Namespace, 20))
	})
	backups := 0
	for range 2 {
		if claim.BackUpOrHold(ctx) {
			backups++
		}
	}
	s.Step("%d of 2 backups were made", backups)
	claim.SnapshotHolds(ctx, good, lastGood)
}

func restored(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	s.GoodBackup(ctx, "data")

	var claim *scenario.Claim
	s.S3Down(ctx, fault, "data", func() {
		claim = s.ClaimInOutage(ctx, fault, "data")
		claim.DecisionVisible(ctx, fault.Outcome)
	})
	claim.RestoredAndProtected(ctx)
}

func later(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	before := s.GoodBackup(ctx, "data")

	var claim *scenario.Claim
	s.S3Down(ctx, fault, "data", func() {
		claim = s.ClaimInOutage(ctx, fault, "data")
		claim.DecisionVisible(ctx, fault.Outcome)
		claim.RestoreFailing(ctx, before)
	})
	// No app before: whether one may start meanwhile is another requirement's.
	claim.RestoredAndProtected(ctx)
}

func nothingFound(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	before := s.GoodBackup(ctx, "data")
	s.GoodBackup(ctx, "whole")
	noRestore(ctx, s, fault, scenario.SeedContent, "the restore found nothing")
	s.GoodBackupSurvives(ctx, "data", before)
}

func olderFound(ctx context.Context, s *scenario.Scenario, fault outage.Fault) {
	s.GoodBackup(ctx, "whole")
	s.GoodBackup(ctx, "data")
	newest := lastGoodOne(ctx, s, "data")
	before := s.Listing(ctx, "data")
	claim := noRestore(ctx, s, fault, lastGood, "the restore was of an older snapshot")
	s.NothingLost(ctx, "data", before)
	claim.SnapshotHolds(ctx, newest, lastGood)
}

// noRestore has the restore of PVC data end in an outage as a success that is none, beside PVC whole, which is restored. What it found is why:
// the newest backup's sentinel is not on the volume. Until it is, no backup is let in, or the PVC says so.
func noRestore(ctx context.Context, s *scenario.Scenario, fault outage.Fault, sentinel, found string) *scenario.Claim {
	var claim, whole *scenario.Claim
	s.S3Down(ctx, fault, "data", func() {
		whole = s.ClaimWithRestore(ctx, "whole")
		claim = s.ClaimInOutage(ctx, fault, "data")
		claim.DecisionVisible(ctx, fault.Outcome)
		claim.RestoreEnded(ctx)
		claim.AskForBackup(ctx)
		claim.NoBackupSoFar(ctx, found)
	})
	whole.Restored(ctx, whole.HasReplicationDestination(ctx))
	if !claim.HasOrSaysSo(ctx, whole, sentinel, found) {
		claim.AskForBackup(ctx)
		claim.NoBackupSoFar(ctx, found)
	}
	return claim
}
