package check

import (
	"cmp"

	"github.com/smart-restore/conformance/harness/check/play"
)

// content are situations of a volume's content, of which a PVC says less, or more, than there is.
func (p plot) content() []situation {
	const requirement, notRestored = "safety/volume-with-content", "no restore"
	free := freeVolume()
	all := []situation{
		{
			name: "a PVC of no class gets a volume that is there, with content", requirement: requirement, wanted: notRestored,
			play:   withVolume(free, p.scene(p.backup(), create(ofNoClass(p.claim(claimName))), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis))),
			verify: (*found).nothingIsOverwritten,
		},
		{
			name: "a PVC selects a volume by its labels, with content", requirement: requirement, wanted: notRestored,
			play:   withVolume(free, p.scene(p.backup(), create(selecting(p.claim(claimName))), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis))),
			verify: (*found).nothingIsOverwritten,
		},
		{
			name: "a volume is kept for a PVC, and comes after it", requirement: requirement, wanted: notRestored,
			play:   p.scene(p.backup(), create(p.claim(claimName)), wait(50), play.Step{Appears: volumeFor(namespace, claimName)}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).nothingIsOverwritten,
		},
		{
			name: "nobody has a volume, with content, which the PVC gets", requirement: requirement, wanted: "no restore, and no backup of it",
			play: withVolume(unclaimed(p.class()), p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), create(pod("app")), wait(afterMillis),
				play.Step{Restored: true}, wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis))),
			verify: (*found).isLeftToAPerson,
		},
		{
			name: "somebody lets go of a volume, with content, while a restore is to come, and the PVC gets it", requirement: requirement, wanted: "no restore, and no backup of it",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Appears: unclaimed(p.class())}, create(pod("app")), wait(afterMillis),
				play.Step{Restored: true}, wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).isLeftToAPerson,
		},
		{
			name: "nobody has a volume, which is too small for the PVC, of another class, or of other access modes", requirement: "core/restore", wanted: "RD",
			play: withAll([]map[string]any{
				named("pv-3", small(unclaimed(p.class()))), named("pv-4", unclaimed("another-class")), named("pv-5", leaving(unclaimed(p.class()))), named("pv-6", readOnly(unclaimed(p.class()))),
			}, p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), create(pod("late")))),
			verify: (*found).startsRestored,
		},
		{
			name: "a PVC comes with a snapshot whose name ends like a time", requirement: requirement, wanted: notRestored,
			play:   p.scene(p.backup(), create(sourced(p.claim(claimName), "snapshot.storage.k8s.io", "VolumeSnapshot", claimName+"-2026112702-1")), wait(afterMillis)),
			verify: (*found).neverRestored,
		},
	}
	// The mutating webhooks see these.
	for _, of := range []struct{ what, group, kind string }{
		{"is VolSync's, which belongs into dataSourceRef", "volsync.backube", destination},
		{"names no group of a VolumeSnapshot", "", "VolumeSnapshot"},
	} {
		all = append(all, situation{
			name: "a PVC comes with a dataSource that the API server leaves out: it " + of.what, requirement: requirement, wanted: "admitted, and restored, or no backup",
			play: withRestored(p.scene(p.backup(), create(sourced(p.claim(claimName), of.group, of.kind, restoredName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis))),
			verify: func(f *found) {
				f.admittedInTime()
				f.restoredOrHeld()
			},
		})
	}
	return all
}

// freeVolume is one that no class has made, and that no PVC has: one that has no class gets it, or one that selects it.
func freeVolume() map[string]any {
	volume := unclaimed("")
	volume["metadata"].(map[string]any)["labels"] = map[string]any{"app": "shop"}
	return volume
}

// class is the one that PVCs have.
func (p plot) class() string { return cmp.Or(p.PVC.StorageClass, "standard") }

func named(name string, volume map[string]any) map[string]any {
	volume["metadata"].(map[string]any)["name"] = name
	return volume
}

func readOnly(volume map[string]any) map[string]any {
	volume["spec"].(map[string]any)["accessModes"] = []any{"ReadOnlyMany"}
	return volume
}

func ofNoClass(claim map[string]any) map[string]any {
	claim["spec"].(map[string]any)["storageClassName"] = ""
	return claim
}

func selecting(claim map[string]any) map[string]any {
	claim["spec"].(map[string]any)["selector"] = map[string]any{"matchLabels": map[string]any{"app": "shop"}}
	return claim
}

func sourced(claim map[string]any, group, kind, name string) map[string]any {
	source := map[string]any{"kind": kind, "name": name}
	if group != "" {
		source["apiGroup"] = group
	}
	claim["spec"].(map[string]any)["dataSource"] = source
	return claim
}

// nothingIsOverwritten wants no restore's mover to be let in.
func (f *found) nothingIsOverwritten() {
	for _, e := range f.sent("Pod") {
		if e.What == play.Admitted && overwrites(e) {
			gate := f.moverGate(destination)
			f.missing(gate, gate, "VolSync may restore (pod %s) over the content of a volume that was not made for the PVC", object(e).GetName())
			return
		}
	}
}

// isLeftToAPerson wants nothing to be restored over a volume that Kubernetes gave to the PVC, and no backup of it: it is neither known to be newer than what S3
// holds, nor to be what was restored.
func (f *found) isLeftToAPerson() {
	f.nothingIsOverwritten()
	for _, e := range f.backups() {
		if f.savedBy(e) == claimName {
			gate := f.moverGate(source)
			f.missing(gate, gate, "VolSync may begin a backup (pod %s) of a volume that Kubernetes gave to the PVC as it was: it was not filled with what S3 holds, and retention removes that within the hour", object(e).GetName())
			return
		}
	}
}
