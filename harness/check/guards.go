package check

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/outage"
)

// guards are situations in which one guard of a policy stands alone between an event and the data: whatever else would hold, too, is
// out of the way.
func (p plot) guards() []situation {
	all := []situation{
		{
			name: "Kyverno is away when the PVC is created", requirement: "resilience/kyverno-down", wanted: "admitted, no restore later",
			play: p.scene(p.backup(), play.Step{AdmissionOff: true}, create(p.claim(claimName)), wait(afterMillis), play.Step{AdmissionOn: true},
				annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).asPromisedOfTheUnknown,
		},
		{
			name: "a restore is done while Kyverno is scaled to zero", requirement: "resilience/kyverno-scaled-to-zero", wanted: "the app starts, backups",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, play.Step{WebhooksGone: true}, play.Step{Restored: true}, wait(afterMillis),
				play.Step{AdmissionOn: true}, play.Step{Scan: true}, wait(afterMillis), create(pod("late")), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.podsStart(); f.backedUp() },
		},
		{
			name: "other restores of the namespace are done, and Kyverno scans", requirement: "safety/no-app-before-restore", wanted: "the app waits for its own", feature: "gated-start",
			play: withRestored(p.scene(p.backup(), p.backupOf(twinName), create(p.claim(twinName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), create(p.claim(claimName)),
				wait(3*afterMillis), play.Step{Scan: true}, wait(afterMillis), create(pod("early")), play.Step{Restored: true}, wait(afterMillis), create(pod("late")))),
			verify: (*found).appWaits,
		},
		{
			name: "a restore finds nothing while Kyverno is scaled to zero", requirement: "resilience/kyverno-scaled-to-zero", wanted: "no backup",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, play.Step{WebhooksGone: true},
				play.Step{Restored: true, Said: "No eligible snapshots found"}, wait(afterMillis), play.Step{AdmissionOn: true}, play.Step{Scan: true}, wait(afterMillis),
				play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupLetIn,
		},
		{
			name: "a backup of an earlier PVC is done in an outage", requirement: "safety/recreate-race", wanted: "no backup by that",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, p.backup(), p.backupOf(twinName), p.begin(outage.Held),
				play.Step{Delete: p.claim(claimName)}, create(p.claim(claimName)), create(p.claim(twinName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis), play.Step{BackedUp: true}, wait(afterMillis),
				play.Step{Collect: true}, play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).secondNotBackedUp,
		},
		{
			name: "two pods of an app share a volume, and its first backup begins", requirement: "core/backup", wanted: "they start, and it does",
			play:   p.scene(create(p.claim(claimName)), wait(afterMillis), create(pod("early")), create(pod("late")), play.Step{Restored: true}, wait(1000), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.podsStart(); f.backedUp() },
		},
		{
			name: "a backup found no files", requirement: "core/backup", wanted: "backups go on",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{BackedUp: true, Said: "Directory is empty skipping backup"}, wait(afterMillis),
				play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).backedUpTwice,
		},
		{
			name: "backup, and another app of the namespace runs", requirement: "core/restore", wanted: "RD, the app starts",
			play: p.scene(p.backup(), create(p.claim(claimName)), create(p.claim(twinName)), wait(afterMillis), create(using(twinName, pod("neighbour"))),
				play.Step{Restored: true}, wait(afterMillis), create(pod("late"))),
			verify: (*found).startsRestored,
		},
		{
			name: "backup, and a finished pod of the volume is left", requirement: "core/restore", wanted: "RD, the app starts",
			play: with(finished(pod("job")), p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				create(pod("late")))),
			verify: (*found).startsRestored,
		},
		{
			name: "a restore is done", requirement: "safety/backup-during-restore", wanted: "backups, without a scan",
			play:   p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).backedUp,
		},
		{
			name: "the PVC of an outage changes when S3 is back", requirement: "safety/good-snapshot-survives", wanted: "no backup by that",
			play: p.scene(p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis),
				play.Step{Movers: true}, wait(afterMillis), annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).changeLetsNoBackupIn,
		},
		{
			name: "a PVC in use is created once more", requirement: "safety/request-that-came-to-nothing", wanted: "no restore",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), p.backup(), create(p.claim(claimName)), wait(afterMillis),
				annotate("example.com/touched", "yes"), wait(afterMillis)),
			verify: func(f *found) { f.neverRestored(); f.nothingForNobody() },
		},
		{
			name: "the restic password is another one, and Kyverno scans", requirement: "resilience/hourly-scan", wanted: "the old one for the old repository",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{Update: p.mistaken(p.baseSecretNamespaces()[0])}, wait(afterMillis),
				annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: func(f *found) { f.repositoryIs(p.endpoint) },
		},
		{
			name: "an ephemeral volume: its pod is there before its PVC", requirement: "safety/restore-beside-app", wanted: "no restore beside it",
			play: p.scene(p.backupOf(ephemeralClaim), create(ephemeral(pod("early"))), create(p.claim(ephemeralClaim)), wait(afterMillis),
				play.Step{Restored: true}, wait(afterMillis)),
			verify: (*found).noRestoreBesideApp,
		},
		{
			name: "a PVC comes with the annotations of an earlier one", requirement: "safety/manifest-decides-nothing", wanted: "restored, the app waits",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), play.Step{BackedUp: true}, wait(afterMillis),
				play.Step{BringBack: reference(claimName)}, wait(afterMillis), create(pod("early")), play.Step{Restored: true}, wait(afterMillis), create(pod("late"))),
			verify: func(f *found) {
				if f.contract.Promises("gated-start") {
					f.appWaits()
				}
			},
		},
		{
			name: "a PVC comes with the annotations of an earlier one, in an outage", requirement: "safety/manifest-decides-nothing", wanted: "no restore, no backup by them",
			play: p.scene(p.backup(), p.backupOf(twinName), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				play.Step{BackedUp: true}, wait(afterMillis), p.begin(outage.Held), play.Step{BringBack: reference(claimName)}, create(p.claim(twinName)),
				wait(outageMillis), play.Step{Heal: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).annotationsDecideNothing,
		},
	}
	for _, row := range []string{"404-key", "amnesia", "empty-bucket"} { // without its disk, S3 takes no writes: restic tries them until it has it again
		forgets := p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), p.begin(outage.Named(row)), play.Step{Movers: true}, wait(afterMillis),
			play.Step{Heal: true}, play.Step{Restored: true}, wait(afterMillis), create(pod("late")))
		healed := slices.IndexFunc(forgets.Steps, func(s play.Step) bool { return s.Heal })
		all = append(all, situation{
			name: "a restore is to begin, and S3 is down: " + row, requirement: "safety/bucket-forgets", wanted: "no restore, which would make it again, until S3 is back",
			play:   forgets,
			verify: func(f *found) { f.restoresWhenFound(healed); f.podsStart(); f.isFilled() },
		})
	}
	for _, row := range []string{"404-key", "amnesia", "empty-bucket"} {
		all = append(all, situation{
			name: "a PVC is in use, and then S3 down: " + row, requirement: "safety/bucket-forgets", wanted: "no backup, which would make it again",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{BackedUp: true}, p.backup(), wait(afterMillis),
				p.begin(outage.Named(row)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupButTheFirst,
		}, situation{
			name: "a PVC is restored, and then S3 down: " + row, requirement: "safety/bucket-forgets", wanted: "no backup, which would make it again",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				p.begin(outage.Named(row)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupOfTheRestored,
		})
	}
	for _, clock := range []struct {
		name   string
		millis int64
	}{{"behind", -2 * 60_000}, {"ahead of", 2 * 60_000}} {
		all = append(all, situation{
			name: "the API server's clock is two minutes " + clock.name + " Kyverno's", requirement: "core/restore", wanted: "restored, or the app starts, no backup, and says so",
			play: p.scene(p.backup(), play.Step{ClockMillis: clock.millis}, create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis),
				play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis), create(pod("late"))),
			verify: (*found).restoredOrGivenUp,
		})
	}
	if p.S3.Marker != "" { // it is gone with the disk
		for _, row := range []string{"amnesia", "empty-bucket"} {
			all = append(all, situation{
				name: "a PVC is fresh, and then S3 down: " + row, requirement: "safety/bucket-forgets", wanted: "no backup, which nobody finds when the disk is back",
				play:   p.scene(create(p.claim(claimName)), wait(afterMillis), p.begin(outage.Named(row)), play.Step{Movers: true}, wait(afterMillis)),
				verify: (*found).noBackupWithoutDisk,
			})
		}
	}
	if d := p.Decisions; d.Annotation != "" {
		claim := p.claim(claimName)
		claim["metadata"].(map[string]any)["annotations"] = map[string]any{d.Annotation: d.Restore}
		all = append(all, situation{
			name: "a decision comes with a manifest while Kyverno is away", requirement: "safety/manifest-decides-nothing", wanted: "the app starts, no restore later",
			play: p.scene(p.backup(), play.Step{AdmissionOff: true}, create(claim), wait(afterMillis), create(pod("early")), wait(afterMillis),
				play.Step{Delete: pod("early")}, play.Step{AdmissionOn: true}, play.Step{Scan: true}, wait(afterMillis), play.Step{Restored: true}, wait(afterMillis)),
			verify: func(f *found) { f.podsStart(); f.neverRestored() },
		})
	}
	if p.Override.OfRestore() {
		all = append(all, situation{
			name: "an override comes with a manifest", requirement: "safety/manifest-decides-nothing", wanted: "restored, the app waits",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), p.override(), wait(afterMillis),
				play.Step{BringBack: reference(claimName)}, wait(afterMillis), create(pod("early")), play.Step{Movers: true}, wait(afterMillis),
				play.Step{Restored: true}, wait(afterMillis), create(pod("late"))),
			verify: (*found).restoreIsGuarded,
		})
	}
	return all
}

const (
	twinName       = claimName + "-2"
	ephemeralClaim = "early-data" // Kubernetes names it after its pod and volume
)

// using makes of a pod one that uses another PVC.
func using(claim string, pod map[string]any) map[string]any {
	pod["spec"].(map[string]any)["volumes"] = []any{map[string]any{"name": "data", "persistentVolumeClaim": map[string]any{"claimName": claim}}}
	return pod
}

// finished makes of a pod one that has ended.
func finished(pod map[string]any) map[string]any {
	pod["status"] = map[string]any{"phase": "Succeeded"}
	return pod
}

// with is a situation in which an object is there before.
func with(object map[string]any, s play.Situation) play.Situation {
	s.Objects = append(s.Objects, object)
	return s
}

// startsRestored wants the PVC to be restored, and pods to start then.
func (f *found) startsRestored() {
	f.hasDestination(afterMillis)
	f.podsStart()
	f.isFilled()
}

// ephemeral makes of a pod that uses a PVC one for which Kubernetes makes the PVC.
func ephemeral(pod map[string]any) map[string]any {
	pod["spec"].(map[string]any)["volumes"] = []any{map[string]any{"name": "data", "ephemeral": map[string]any{"volumeClaimTemplate": map[string]any{}}}}
	return pod
}

// backups are the pods of backups that were let in, in order.
func (f *found) backups() (all []play.Event) {
	for _, e := range f.sent("Pod") {
		if e.What == play.Admitted && isBackup(e) {
			all = append(all, e)
		}
	}
	return all
}

// secondSent is the event in which the situation's second write of a PVC was admitted.
func (f *found) secondSent() (play.Event, bool) {
	all := f.sent("PersistentVolumeClaim")
	if len(all) < 2 || all[1].What != play.Admitted {
		f.blind = "the PVC was not written a second time"
		return play.Event{}, false
	}
	return all[1], true
}

// changeLetsNoBackupIn wants no backup to begin because a PVC changed of which nobody knows whether it has an older backup.
func (f *found) changeLetsNoBackupIn() {
	change, ok := f.secondSent()
	if !ok {
		return
	}
	all := f.backups()
	switch {
	case len(all) == 0:
	case all[0].Step < change.Step:
		f.blind = "backups are let in before the change already: core/s3-down says why"
	default:
		gate := f.moverGate(source)
		f.missing(gate, gate, "VolSync may begin a backup (pod %s) since the PVC changed, and nobody knows whether there is an older one: a volume that is empty pushes it out%s",
			object(all[0]).GetName(), f.because())
	}
}

// secondNotBackedUp wants no backup of the second PVC of a name to begin, where none of the twin does: of neither is it known whether it has
// an older one.
func (f *found) secondNotBackedUp() {
	second, ok := f.secondSent()
	if !ok {
		return
	}
	f.twinsAreEqual(second.Step, "one of an earlier PVC of that name is done")
}

// twinsAreEqual wants no backup of the first PVC to begin after a step where none of its twin does, from which it differs by this.
func (f *found) twinsAreEqual(step int, because string) {
	let := map[string]string{} // the pod of the last backup, by PVC
	for _, e := range f.backups() {
		if e.Step > step {
			let[f.savedBy(e)] = object(e).GetName()
		}
	}
	if name := let[claimName]; name != "" && let[twinName] == "" {
		gate := f.moverGate(source)
		f.missing(gate, gate, "VolSync may begin a backup (pod %s) because %s, and nobody knows whether there is an older one: a volume that is empty pushes it out", name, because)
	}
}

// backedUpTwice wants a second backup to be let in.
func (f *found) backedUpTwice() {
	switch len(f.backups()) {
	case 0:
		f.blind = "no backup is let in: core/fresh says why"
	case 1:
		gate, why := f.held(source)
		f.missing(gate, gate, "no backup is let in any more after one that found no files%s", why)
	}
}

// noBackupButTheFirst wants no backup to begin after the first one.
func (f *found) noBackupButTheFirst() {
	all := f.backups()
	if len(all) == 0 {
		f.blind = "no backup is let in before S3 forgets: core/fresh says why"
		return
	}
	if len(all) > 1 {
		gate := f.moverGate(source)
		f.missing(gate, gate, "VolSync may begin a backup (pod %s) while S3 does not find the repository of a PVC that was backed up: restic makes it again, over the one that is there%s",
			object(all[1]).GetName(), f.because())
	}
}

// restoredOrGivenUp wants a restore's mover to be let in, or no backup's, and then the app, and the PVC to say that it is not restored.
func (f *found) restoredOrGivenUp() {
	if len(f.made(source)) == 0 && len(f.made(destination)) == 0 {
		f.blind = noSource
		return
	}
	if slices.ContainsFunc(f.sent("Pod"), func(e play.Event) bool { return isRestore(e) && e.What == play.Admitted }) {
		return
	}
	f.noBackupLetIn()
	f.podsStart()
	f.saysUndecided()
}

// noBackupWithoutDisk wants no first backup to begin while S3 is without its disk.
func (f *found) noBackupWithoutDisk() {
	switch all := f.backups(); {
	case len(f.made(source)) == 0:
		f.blind = noSource
	case len(all) > 0:
		gate := f.moverGate(source)
		f.missing(gate, gate, "VolSync may begin the first backup (%s %s) while S3 has lost sight of all that it holds: restic makes a repository that is gone when S3 has its disk again%s",
			object(all[0]).GetKind(), object(all[0]).GetName(), f.because())
	}
}

// noBackupOfTheRestored wants no backup of a PVC to begin while S3 does not find the repository that it was restored from.
func (f *found) noBackupOfTheRestored() {
	if len(f.made(destination)) == 0 {
		f.blind = "nothing is restored in it, so nothing of it is seen: core/restore says why"
		return
	}
	if all := f.backups(); len(all) > 0 {
		gate := f.moverGate(source)
		f.missing(gate, gate, "VolSync may begin a backup (pod %s) while S3 does not find the repository that the PVC was restored from: restic makes it again, over the one that is there%s",
			object(all[0]).GetName(), f.because())
	}
}

// restoresWhenFound wants no restore to begin while S3 does not find the repository, before this step, and one to be done after it.
func (f *found) restoresWhenFound(healed int) {
	if len(f.made(destination)) == 0 {
		f.blind = "nothing is restored in it, so nothing of it is seen: core/restore says why"
		return
	}
	done := false
	for _, e := range f.course.Events {
		switch {
		case e.What != play.Admitted:
		case isDone(object(e)):
			done = true
		case isRestore(e) && e.Step < healed:
			gate := f.moverGate(destination)
			f.missing(gate, gate, "VolSync may begin a restore (pod %s) while S3 does not find the repository: restic makes it again, over the one that is there%s",
				object(e).GetName(), f.because())
			return
		}
	}
	if !done {
		gate, why := f.held(destination)
		f.missing(gate, gate, "the restore is not done when S3 is back%s", why)
	}
}

// annotationsDecideNothing wants the second PVC of a name, which has the annotations of the first one, to be no other than the twin that
// was created beside it without any.
func (f *found) annotationsDecideNothing() {
	second, ok := f.secondSent()
	if !ok {
		return
	}
	for _, e := range f.made(destination) {
		if e.Step >= second.Step && f.intoClaim(e) {
			f.wrong(e.Policy, "ReplicationDestination %s is made for a PVC because of annotations that came with it%s", object(e).GetName(), f.because())
			return
		}
	}
	f.notFilledFromBefore(second.Step)
	f.twinsAreEqual(second.Step, "of annotations that came with the PVC")
}

// saysUndecided wants the PVC to say at the end, where visible-decision promises that it says something, that nobody knows whether it has
// an older backup.
func (f *found) saysUndecided() {
	if !f.contract.Promises("visible-decision") {
		return
	}
	for _, content := range f.course.Objects {
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() != "PersistentVolumeClaim" || o.GetName() != claimName {
			continue
		}
		decider := f.subjects.asks()
		f.saysDecision(o, outage.OutcomeUnknown, decider, decider, "")
	}
}

// mounted is the first PVC that a pod mounts.
func mounted(e play.Event) string {
	volumes, _, _ := unstructured.NestedSlice(e.Object, "spec", "volumes")
	for _, volume := range volumes {
		content, _ := volume.(map[string]any)
		if name, _, _ := unstructured.NestedString(content, "persistentVolumeClaim", "claimName"); name != "" {
			return name
		}
	}
	return ""
}
