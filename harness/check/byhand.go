package check

import (
	"slices"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/outage"
)

// byHand are situations of what people do to what a policy made, and of what they back up and restore themselves.
func (p plot) byHand() []situation {
	held := []play.Step{p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), {Heal: true}, wait(afterMillis)}
	all := []situation{
		{
			name: "all ReplicationSources are paused for a while, and one is held", requirement: "safety/good-snapshot-survives", wanted: "no backup",
			play:   p.scene(slices.Concat(held, []play.Step{pauses(source, true), wait(afterMillis), pauses(source, false), wait(afterMillis), {Movers: true}, wait(afterMillis)})...),
			verify: (*found).noBackupLetIn,
		},
		{
			name: "all is paused in a restore, and backups go on first", requirement: "safety/backup-during-restore", wanted: "no backup meanwhile",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), pauses(source, true), pauses(destination, true), wait(afterMillis),
				pauses(source, false), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupWhileRestoring,
		},
		{
			name: "a PUT drops Kubernetes' annotations of a PVC whose backups are held", requirement: "safety/good-snapshot-survives", wanted: "no backup",
			play: p.scene(slices.Concat(held, []play.Step{create(pod("app")), {Replace: p.claim(claimName)}, annotate("example.com/touched", "yes"), wait(afterMillis),
				{Movers: true}, wait(afterMillis)})...),
			verify: (*found).noBackupLetIn,
		},
		{
			name: "a clone is made of a PVC that is being restored", requirement: "safety/backup-during-restore", wanted: "no backup of the clone",
			play: p.scene(p.backup(), p.backupOf(twinName), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, create(sourced(p.claim(twinName), "", "PersistentVolumeClaim", claimName)),
				create(using(twinName, pod("twin"))), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupOfTheClone,
		},
		{
			name: "a person has backups made of a snapshot, and then S3 is down: 404-key", requirement: "safety/bucket-forgets", wanted: "no backup, which would make it again",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{BackedUp: true}, p.backup(), wait(afterMillis), copies("Snapshot"),
				p.begin(outage.Named("404-key")), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupButTheFirst,
		},
		{
			name: "a person has backups made of a snapshot", requirement: "core/backup", wanted: "backups go on",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{BackedUp: true}, p.backup(), wait(afterMillis), copies("Snapshot"),
				wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).backedUpTwice,
		},
		{
			name: "somebody restores a PVC without the label by hand, beside a reader", requirement: "core/unlabelled", wanted: "the mover runs",
			play:   p.scene(create(p.unlabelled()), create(pod("reader")), create(ownDestination()), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).leftAlone,
		},
	}
	if p.Override.Annotation == "" {
		return all
	}
	dry := p.override()
	dry.DryRun = true
	return append(all, situation{
		name: "a restore is overridden by a dry run", requirement: "safety/backup-during-restore", wanted: "no backup meanwhile, the app waits",
		play:   p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), dry, wait(afterMillis), create(pod("early")), play.Step{Movers: true}, wait(afterMillis)),
		verify: (*found).restoreIsGuarded,
	}, situation{
		name: "all ReplicationDestinations go on, and one was overridden", requirement: "safety/restore-beside-app", wanted: "no restore over the app",
		play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), p.override(), wait(afterMillis), create(pod("late")), play.Step{Delete: pod("late")},
			pauses(destination, false), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
		verify: (*found).noRestoreBesideApp,
	})
}

func pauses(kind string, paused bool) play.Step {
	return play.Step{Update: merge(anyOf(kind), map[string]any{"spec": map[string]any{"paused": paused}})}
}

// ownDestination is a ReplicationDestination that somebody made by hand.
func ownDestination() map[string]any {
	return merge(anyOf(destination), map[string]any{
		"metadata": map[string]any{"name": "theirs", "namespace": namespace},
		"spec": map[string]any{
			"trigger": map[string]any{"schedule": "0 3 * * *"},
			"restic":  map[string]any{"repository": "theirs", "copyMethod": "Direct", "destinationPVC": claimName},
		},
	})
}

// copies has every ReplicationSource's backups made of a copy of the volume.
func copies(method string) play.Step {
	return play.Step{Update: merge(anyOf(source), map[string]any{"spec": map[string]any{"restic": map[string]any{"copyMethod": method}}})}
}

// noBackupOfTheClone wants no backup of the twin to begin, which is a clone of a PVC whose restore is not done.
func (f *found) noBackupOfTheClone() {
	if len(f.made(destination)) == 0 {
		f.blind = "nothing is restored in it, so nothing of it is seen: core/restore says why"
		return
	}
	for _, e := range f.backups() {
		if f.savedBy(e) == twinName {
			gate := f.moverGate(source)
			f.missing(gate, gate, "VolSync may begin a backup (pod %s) of a clone of a PVC whose restore is not done: half of the data becomes the latest snapshot", object(e).GetName())
			return
		}
	}
}
