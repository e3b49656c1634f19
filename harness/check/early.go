package check

import (
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/check/play"
)

// early are situations of the first seconds of a PVC: the API server's own policies may not know of it yet, and what is decided of old
// PVCs by their annotations is decided of this one by others.
func (p plot) early() []situation {
	all := []situation{
		{
			name: "an app starts before the API server's own policies know of its PVC", requirement: "safety/no-app-before-restore", wanted: "its pod waits", feature: "gated-start",
			play: p.scene(p.backup(), play.Step{CacheBehind: true}, create(p.claim(claimName)), create(withScratch(pod("early"))), play.Step{CacheCaughtUp: true},
				wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), create(pod("late"))),
			verify: (*found).appWaits,
		},
		{
			name: "apps of other PVCs start meanwhile", requirement: "core/fresh", wanted: "they start",
			play: p.scene(p.backup(), play.Step{CacheBehind: true}, create(p.claim(claimName)), create(p.claim(twinName)), create(inAnother(p.claim(claimName))),
				create(using(twinName, pod("twin"))), create(withScratch(using(twinName, pod("twin-2")))), create(inAnother(pod("office"))), create(withoutVolumes(pod("none"))),
				play.Step{CacheCaughtUp: true}, create(using(twinName, pod("twin-3"))), create(withoutVolumes(pod("none-2"))), wait(afterMillis), create(using(twinName, pod("twin-4")))),
			verify: (*found).podsStart,
		},
		{
			name: "a restore is done within seconds", requirement: "core/restore", wanted: "RD, the app starts",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(5000), play.Step{Restored: true}, wait(1000), create(pod("late")), wait(1000),
				create(withScratch(pod("late-2")))),
			verify: (*found).startsRestored,
		},
		{
			name: "an app starts before the API server's own policies know of its PVC, and Kyverno is away", requirement: "safety/restore-beside-app", wanted: "no restore beside it",
			play: p.scene(p.backup(), play.Step{CacheBehind: true}, create(p.claim(claimName)), wait(1000), play.Step{WebhooksGone: true}, create(withScratch(pod("early"))),
				play.Step{CacheCaughtUp: true}, play.Step{AdmissionOn: true}, play.Step{Movers: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noRestoreBesideApp,
		},
		{
			name: "another PVC's pod has names like those of an ephemeral volume", requirement: "core/restore", wanted: "RD",
			play: p.scene(p.backupOf(twinName), create(p.claim(claimName)), create(volumeNamed(strings.TrimPrefix(twinName, claimName+"-"), pod(claimName))),
				create(p.claim(twinName)), wait(afterMillis)),
			verify: (*found).twinIsRestored,
		},
		{
			name: "backup of a PVC whose name begins like this one's", requirement: "core/fresh", wanted: "RS, no RD",
			play:   p.scene(p.backupOf(twinName), create(p.claim(claimName)), wait(afterMillis)),
			verify: func(f *found) { f.admittedInTime(); f.hasSource(atOnceMillis); f.neverRestored() },
		},
		{
			name: "backup, and a PVC whose name begins alike is in use", requirement: "core/restore", wanted: "RD, the app starts",
			play: p.scene(p.backup(), create(p.claim(twinName)), create(using(twinName, pod("neighbour"))), wait(afterMillis), create(p.claim(claimName)), wait(afterMillis),
				play.Step{Restored: true}, wait(afterMillis), create(pod("late"))),
			verify: (*found).startsSoRestored,
		},
		{
			name: "an app has several pods", requirement: "core/fresh", wanted: "they start",
			play: p.scene(create(p.claim(claimName)), wait(1000), create(pod("one")), create(withScratch(pod("two"))), create(labelled(pod("three"))),
				wait(afterMillis), create(pod("four")), create(labelled(withScratch(pod("five"))))),
			verify: (*found).podsStart,
		},
		{
			name: "backup, and a failed pod of the volume is left", requirement: "core/restore", wanted: "RD, the app starts",
			play: with(failed(pod("job")), p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				create(pod("late")))),
			verify: (*found).startsRestored,
		},
	}
	if p.Override.OfRestore() {
		all = append(all, situation{
			name: "a restore is overridden within seconds", requirement: "safety/restore-beside-app", wanted: "the app starts, and the restore is over",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(5000), p.override(), wait(1000), create(pod("late")), wait(afterMillis),
				play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.podsStart(); f.noRestoreBesideApp() },
		})
	}
	return all
}

// withScratch makes of a pod one that has a volume beside, before the PVC.
func withScratch(pod map[string]any) map[string]any {
	spec := pod["spec"].(map[string]any)
	volumes, _ := spec["volumes"].([]any)
	spec["volumes"] = append([]any{map[string]any{"name": "scratch", "emptyDir": map[string]any{}}}, volumes...)
	return pod
}

// labelled makes of a pod one with a label, as those of Deployments are.
func labelled(pod map[string]any) map[string]any {
	pod["metadata"].(map[string]any)["labels"] = map[string]any{"app": "shop"}
	return pod
}

// failed makes of a pod one that has failed.
func failed(pod map[string]any) map[string]any {
	pod["status"] = map[string]any{"phase": "Failed"}
	return pod
}

// volumeNamed gives the volume of a pod a name.
func volumeNamed(name string, pod map[string]any) map[string]any {
	pod["spec"].(map[string]any)["volumes"].([]any)[0].(map[string]any)["name"] = name
	return pod
}

// startsSoRestored is startsRestored of a PVC that is not the first that was sent.
func (f *found) startsSoRestored() {
	if !slices.ContainsFunc(f.made(destination), f.intoClaim) {
		f.missing(f.subjects.makes(destination), f.subjects.asks(), "there is a backup, and no ReplicationDestination of its PVC is made, beside a PVC whose name begins like this one's")
	}
	f.podsStart()
}

// twinIsRestored wants a ReplicationDestination of the twin.
func (f *found) twinIsRestored() {
	if !slices.ContainsFunc(f.made(destination), func(e play.Event) bool { return f.claimOf(e) == twinName }) {
		f.missing(f.subjects.makes(destination), f.subjects.asks(), "there is a backup, and no ReplicationDestination of its PVC is made, beside a pod of another PVC whose names look like this PVC's")
	}
}
