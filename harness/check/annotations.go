package check

import (
	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/outage"
)

// annotations are situations in which somebody changes what a policy wrote on a PVC, one annotation at a time: what protects all of
// them at once may lack one.
func (p plot) annotations() (all []situation) {
	const requirement = "safety/manifest-decides-nothing"
	for _, by := range []struct {
		name        string
		away, back  play.Step
		subresource string
	}{
		{name: "", away: wait(1), back: wait(1)},
		{name: ", while Kyverno is away", away: play.Step{WebhooksGone: true}, back: play.Step{AdmissionOn: true}},
		// An update of a PVC's status keeps the spec as it is, and takes the annotations that it brings.
		{name: ", by updates of the status", away: wait(1), back: wait(1), subresource: "status"},
	} {
		strip := play.Step{Strip: reference(claimName), Subresource: by.subresource}
		all = append(all,
			situation{
				name: "annotations go one by one during a restore" + by.name, requirement: requirement, wanted: "no backup meanwhile, the app waits",
				play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), by.away, strip,
					create(pod("early")), by.back, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
				verify: (*found).restoreIsGuarded,
			},
			situation{
				name: "annotations go one by one when a restore is done" + by.name, requirement: requirement, wanted: "the app starts, backups, no restore",
				play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
					by.away, strip, by.back, play.Step{Delete: anyOf(destination)},
					annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), create(pod("late")),
					play.Step{Movers: true}, wait(afterMillis)),
				verify: func(f *found) { f.podsStart(); f.backedUp(); f.notRestoredAgain() },
			},
			situation{
				name: "annotations of another PVC come one by one" + by.name, requirement: requirement, wanted: "no restore, no backup by them",
				play: p.scene(p.backup(), p.backupOf(twinName), create(p.claim(twinName)), wait(1000), play.Step{Restored: true}, wait(1000),
					play.Step{BackedUp: true}, p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(1000),
					play.Step{Movers: true}, by.away, play.Step{Update: reference(claimName), Of: reference(twinName), Subresource: by.subresource}, by.back,
					annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
				verify: (*found).lentDecideNothing,
			},
			situation{
				name: "annotations go one by one, and S3 forgets the repository" + by.name, requirement: "safety/bucket-forgets", wanted: "no backup, which would make it again",
				play: p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{BackedUp: true}, p.backup(), wait(afterMillis),
					by.away, strip, by.back, p.begin(outage.Named("404-key")), wait(afterMillis),
					play.Step{Movers: true}, wait(afterMillis)),
				verify: (*found).noBackupButTheFirst,
			},
		)
		if p.Override.OfRestore() {
			all = append(all, situation{
				name: "annotations go one by one after an override" + by.name, requirement: "safety/restore-beside-app", wanted: "the app starts again, no restore",
				play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), p.override(), wait(afterMillis), create(pod("late")),
					by.away, strip, by.back, wait(afterMillis), create(pod("again")), play.Step{Movers: true}, wait(afterMillis)),
				verify: func(f *found) { f.podsStart(); f.noRestoreBesideApp() },
			})
		}
		if p.Override.OfRestore() && by.subresource == "" { // a manifest says nothing of a status
			all = append(all, situation{
				name: "a manifest drops an override" + by.name, requirement: "safety/restore-beside-app", wanted: "the app starts again, no restore",
				play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), p.override(), wait(afterMillis), create(pod("late")),
					by.away, play.Step{Replace: p.claim(claimName)}, by.back, wait(afterMillis), create(pod("again")), play.Step{Movers: true}, wait(afterMillis)),
				verify: func(f *found) { f.podsStart(); f.noRestoreBesideApp() },
			})
		}
	}
	if p.Override.OfRestore() { // nobody has acted on it yet
		all = append(all, situation{
			name: "a manifest drops an override, while Kyverno's background controller is away", requirement: "safety/restore-beside-app", wanted: "the app starts again, no restore",
			play: p.scene(p.backup(), play.Step{BackgroundOff: true}, create(p.claim(claimName)), wait(afterMillis), p.override(), create(pod("late")), wait(afterMillis),
				play.Step{Replace: p.claim(claimName)}, play.Step{Delete: pod("late")}, play.Step{BackgroundOn: true}, wait(afterMillis), play.Step{Scan: true},
				wait(afterMillis), play.Step{Movers: true}, wait(afterMillis), create(pod("again"))),
			verify: func(f *found) { f.podsStart(); f.noRestoreBesideApp() },
		})
	}
	for _, clock := range []struct {
		name   string
		millis int64
	}{{"behind", -5 * afterMillis}, {"ahead", 5 * afterMillis}} {
		all = append(all, situation{
			name: "annotations come while Kyverno is away, by a clock that is " + clock.name, requirement: requirement, wanted: "the app starts, no restore",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(1000), play.Step{AdmissionOff: true},
				play.Step{BringBack: reference(claimName), LaterMillis: clock.millis}, wait(1000),
				play.Step{AdmissionOn: true}, annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), create(pod("late"))),
			verify: (*found).decidesNothingLater,
		})
	}
	for _, clock := range []struct {
		when   string
		millis int64
	}{{"ago", -5 * 60_000}, {"ahead", 5 * 60_000}} {
		all = append(all, situation{
			name: "annotations of five minutes " + clock.when + " come while Kyverno is away, and the app with them", requirement: requirement, wanted: "the app starts, no restore later",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(1000), play.Step{AdmissionOff: true},
				play.Step{BringBack: reference(claimName), LaterMillis: clock.millis}, create(pod("early")), play.Step{Collect: true}, wait(1000),
				play.Step{AdmissionOn: true},
				annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.podsStart(); f.noRestoreBesideApp() },
		})
	}
	return all
}

// lent is the number of the last step before annotations of another PVC come.
const lent = 12

// lentDecideNothing wants nothing to be restored into the PVC, and no backup of it to be let in: nobody knows whether there is an older one,
// and what is written of another PVC says nothing of it.
func (f *found) lentDecideNothing() {
	if _, admitted := f.claimNamed(claimName); !admitted {
		f.blind = "the PVC is refused in an outage: core/s3-down says why"
		return
	}
	for _, e := range f.made(destination) {
		if f.intoClaim(e) {
			f.wrong(e.Policy, "ReplicationDestination %s is made for PVC %s because of annotations of another PVC%s", object(e).GetName(), claimName, f.because())
			return
		}
	}
	for _, e := range f.backups() {
		switch {
		case f.savedBy(e) != claimName:
		case e.Step <= lent:
			f.blind = "backups are let in before the annotations come already: core/s3-down says why"
			return
		default:
			gate := f.moverGate(source)
			f.missing(gate, gate, "VolSync may begin a backup (pod %s) because of annotations of another PVC, and nobody knows whether there is an older one: a volume that is empty pushes it out", object(e).GetName())
			return
		}
	}
}

// decidesNothingLater wants the second PVC of a name, for which nothing was decided, not to be restored, and its app to start.
func (f *found) decidesNothingLater() {
	second, ok := f.secondSent()
	if !ok {
		return
	}
	for _, e := range f.made(destination) {
		if e.Step >= second.Step && f.intoClaim(e) {
			f.wrong(e.Policy, "ReplicationDestination %s is made for a PVC because of a decision that came with it, and was made at another time%s", object(e).GetName(), f.because())
			return
		}
	}
	f.podsStart()
}

// claimNamed is the event in which the first PVC of a name was admitted or refused.
func (f *found) claimNamed(name string) (e play.Event, admitted bool) {
	for _, e := range f.sent("PersistentVolumeClaim") {
		if object(e).GetName() == name {
			return e, e.What == play.Admitted
		}
	}
	return play.Event{}, false
}
