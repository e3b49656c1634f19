package check

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/volsync"
)

// hazards are the situations of ordinary events that lose data.
func (p plot) hazards() []situation {
	all := []situation{
		{
			name: "a pod is there before its PVC", requirement: "safety/restore-beside-app", wanted: "no restore beside it, its successor starts",
			play: p.scene(p.backup(), create(pod("early")), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis), play.Step{Movers: true},
				create(pod("late"))),
			verify: func(f *found) {
				f.noRestoreBesideApp()
				f.podsStart()
				if len(f.made(destination)) == 0 {
					f.saysUndecided()
				}
			},
		},
		{
			name: "a pod comes while its PVC is being created", requirement: "safety/restore-beside-app", wanted: "no restore beside it",
			play: p.scene(p.backup(), play.Step{Create: p.claim(claimName), Meanwhile: pod("early")}, wait(afterMillis), play.Step{Delete: pod("early")},
				play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noRestoreBesideApp,
		},
		{
			name: "a pod comes while its PVC is being created, and Kyverno is away until it is gone", requirement: "safety/restore-beside-app", wanted: "no restore over what it wrote, its successor starts",
			play: p.scene(p.backup(), play.Step{BackgroundOff: true}, play.Step{Create: p.claim(claimName), Meanwhile: pod("early")}, play.Step{AdmissionOff: true},
				play.Step{BackgroundOn: true}, wait(afterMillis), play.Step{Delete: pod("early")}, play.Step{AdmissionOn: true}, play.Step{Scan: true}, wait(afterMillis),
				play.Step{Movers: true}, wait(afterMillis), create(pod("late"))),
			verify: func(f *found) { f.noRestoreBesideApp(); f.lateStarts() },
		},
		{
			name: "an app starts while the background controller is away", requirement: "resilience/background-controller-down", wanted: "no restore over what it writes",
			play: p.scene(p.backup(), play.Step{BackgroundOff: true}, create(p.claim(claimName)), wait(afterMillis), create(pod("early")), wait(afterMillis),
				play.Step{Delete: pod("early")}, play.Step{BackgroundOn: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noRestoreBesideApp,
		},
		{
			name: "a pod comes and goes while the background controller is away", requirement: "resilience/background-controller-down", wanted: "no restore when it is back",
			play: p.scene(p.backup(), play.Step{BackgroundOff: true}, create(pod("early")), create(p.claim(claimName)), wait(afterMillis), play.Step{Delete: pod("early")},
				play.Step{BackgroundOn: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noRestoreBesideApp,
		},
		{
			name: "a replace drops annotations during a restore", requirement: "safety/manifest-decides-nothing", wanted: "no backup meanwhile, the app waits",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Replace: p.claim(claimName)}, wait(afterMillis),
				create(pod("early")), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).restoreIsGuarded,
		},
		{
			name: "a manifest is applied again, of a volume that started without a backup", requirement: "gitops/replace", wanted: "admitted, no restore",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), create(pod("late")), play.Step{BackedUp: true}, p.backup(), wait(afterMillis),
				play.Step{Replace: p.claim(claimName)}, wait(afterMillis)),
			verify: func(f *found) {
				f.mayChange("the manifest may not be applied again, as GitOps does without end")
				f.neverRestored()
			},
		},
		{
			name: "a manifest is applied again as it is in Git", requirement: "gitops/replace", wanted: "admitted, no restore",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), create(pod("late")),
				play.Step{BackedUp: true}, wait(afterMillis), play.Step{Replace: p.claim(claimName)}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) {
				f.mayChange("the manifest may not be applied again, as GitOps does without end")
				f.notRestoredAgain()
			},
		},
		{
			name: "the label goes during a restore", requirement: "safety/label-is-not-the-gate", wanted: "no backup meanwhile, the app waits",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), selects(p.PVC, false), wait(afterMillis),
				create(pod("early")), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).restoreIsGuarded,
		},
		{
			name: "the label goes while backups are held", requirement: "safety/label-is-not-the-gate", wanted: "no backup",
			play: p.scene(p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis),
				selects(p.PVC, false), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupLetIn,
		},
		{
			name: "the label's value changes while backups are held", requirement: "safety/label-is-not-the-gate", wanted: "no backup",
			play: p.scene(p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis),
				selects(p.PVC.Of("another"), true), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupLetIn,
		},
		{
			name: "Kyverno is scaled to zero during a restore", requirement: "resilience/kyverno-scaled-to-zero", wanted: "no backup meanwhile, the app waits",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{WebhooksGone: true},
				create(pod("early")), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).restoreIsGuarded,
		},
		{
			name: "Kyverno is scaled to zero while backups are held", requirement: "resilience/kyverno-scaled-to-zero", wanted: "no backup",
			play: p.scene(p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis),
				play.Step{WebhooksGone: true}, play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupLetIn,
		},
		{
			name: "Kyverno does not answer while backups are held", requirement: "resilience/kyverno-scaled-to-zero", wanted: "no backup",
			play: p.scene(p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis),
				play.Step{AdmissionOff: true}, play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupLetIn,
		},
		{
			name: "a manifest drops annotations while Kyverno is away", requirement: "safety/manifest-decides-nothing", wanted: "no backup meanwhile, the app waits",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{WebhooksGone: true}, play.Step{Replace: p.claim(claimName)}, wait(afterMillis),
				create(pod("early")), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).restoreIsGuarded,
		},
		{
			name: "a PVC is created while Kyverno does not answer", requirement: "resilience/kyverno-down", wanted: "admitted, no RD, no backup",
			play: p.scene(p.backup(), play.Step{AdmissionOff: true}, create(p.claim(claimName)), wait(afterMillis), play.Step{AdmissionOn: true},
				create(pod("early")), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.asPromisedOfTheUnknown(); f.podsStart(); f.noBackupLetIn() },
		},
		{
			name: "Kyverno scans while it does not answer, and there is a new PVC", requirement: "resilience/kyverno-down-catches-up", wanted: "says it is undecided", feature: "catches-up",
			play: p.scene(p.backup(), play.Step{AdmissionOff: true}, create(p.claim(claimName)), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis),
				play.Step{AdmissionOn: true}, wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).saysUndecided,
		},
		{
			name: "another webhook adds the label later", requirement: "safety/label-by-webhook", wanted: "restored, or no backup",
			play: p.scene(p.backup(), play.Step{Create: p.unlabelled(), Later: map[string]any{"metadata": p.PVC.Metadata(true)}},
				wait(afterMillis), play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).restoredOrHeld,
		},
		{
			name: "a PVC is created twice, and once more by a dry run", requirement: "safety/request-that-came-to-nothing", wanted: "nothing for PVCs that are not there",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), create(p.claim(claimName)), wait(afterMillis),
				play.Step{Create: p.claim(claimName + "-2"), DryRun: true}, wait(afterMillis)),
			verify: (*found).nothingForNobody,
		},
		{
			name: "another webhook refuses the PVC", requirement: "safety/request-that-came-to-nothing", wanted: "nothing for PVCs that are not there",
			play:   p.scene(p.backup(), play.Step{Create: p.claim(claimName), Refused: "exceeded quota"}, wait(afterMillis)),
			verify: (*found).nothingForNobody,
		},
		{
			name: "Kyverno does not answer during a restore", requirement: "resilience/kyverno-down", wanted: "no backup meanwhile, the app waits",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{AdmissionOff: true},
				create(pod("early")), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).restoreIsGuarded,
		},
		{
			name: "a backup tool brings a restore back", requirement: "safety/ownerless-destination", wanted: "nothing is restored again",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				play.Step{BringBack: anyOf(destination)}, wait(afterMillis),
				play.Step{Restored: true}, wait(afterMillis)), // without a backup's mover beside it, which could keep it back
			verify: (*found).notRestoredAgain,
		},
		{
			name: "a restore that is done is deleted", requirement: "resilience/finished-destination-deleted", wanted: "the app starts, backups, no restore",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				play.Step{Delete: anyOf(destination)}, annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis),
				create(pod("late")), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.podsStart(); f.backedUp(); f.notRestoredAgain() },
		},
		{
			name: "a ReplicationSource is deleted", requirement: "safety/own-repository", wanted: "backups go on",
			play: p.scene(p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis), play.Step{Scan: true},
				wait(afterMillis), play.Step{BackedUp: true}, p.backup(), wait(afterMillis), play.Step{Delete: anyOf(source)}, annotate("example.com/touched", "yes"), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis),
				play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).backedUpAtTheEnd,
		},
		{
			name: "Kyverno loses what it was asked to make, and scans", requirement: "resilience/restore-made-up-for", wanted: "RD and the app starts, or says what to do",
			play: p.scene(p.backup(), play.Step{BackgroundLost: true}, create(p.claim(claimName)), wait(afterMillis), play.Step{BackgroundOn: true}, wait(afterMillis),
				play.Step{Scan: true}, wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), create(pod("late"))),
			verify: (*found).madeUpFor,
		},
		{
			name: "a person pauses backups, and Kyverno scans", requirement: "resilience/hourly-scan", wanted: "they stay paused",
			play: p.scene(create(p.claim(claimName)), wait(afterMillis), pauses(source, true),
				wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: func(f *found) { f.staysPaused(source) },
		},
		{
			name: "Kyverno is away, and pods without such a PVC start", requirement: "resilience/blast-radius", wanted: "they are admitted",
			play: p.scene(create(p.unlabelled()), wait(afterMillis), play.Step{AdmissionOff: true},
				create(pod("early")), create(inAnother(pod("late"))), create(withoutVolumes(pod("none")))),
			verify: (*found).podsStart,
		},
	}
	for _, content := range []struct {
		field string
		value any
	}{
		{"volumeName", "pv-1"},
		{"dataSource", map[string]any{"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snapshot-1"}},
		{"dataSource", map[string]any{"kind": "PersistentVolumeClaim", "name": "another"}},
		{"dataSourceRef", map[string]any{"apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": restoredName}},
	} {
		claim := p.claim(claimName)
		claim["spec"].(map[string]any)[content.field] = content.value
		all = append(all, situation{
			name: strings.TrimSpace("a PVC comes with content: " + content.field + " " + kindOf(content.value)), requirement: "safety/volume-with-content", wanted: "no restore, backups",
			play:   withRestored(p.scene(p.backup(), create(claim), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis), play.Step{Scan: true}, wait(afterMillis))),
			verify: func(f *found) { f.neverRestored(); f.backedUp() },
		})
	}
	all = append(all, p.keptVolumes()...)
	if p.Override.OfRestore() {
		all = append(all, p.overridden(), p.overriddenAtWork(), p.overriddenWhenGone())
	}
	for _, cluster := range []string{"another-cluster", ""} {
		theirs := p
		theirs.S3 = p.S3.OfCluster(cluster)
		all = append(all, situation{
			name: strings.TrimSpace("a backup of another cluster " + cluster), requirement: "safety/another-cluster", wanted: "RS to its own path, no RD", feature: verdict.ClusterInPath,
			play:   p.scene(theirs.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.repositoryIs(p.endpoint); f.neverRestored(); f.backedUp() },
		})
	}
	return all
}

// kindOf is the kind of what fills a PVC. Empty: a name does.
func kindOf(source any) string {
	fields, _ := source.(map[string]any)
	kind, _ := fields["kind"].(string)
	return kind
}

// keptVolumes are the situations of a volume that names a PVC in its claimRef, which Kubernetes gives to the next PVC of that name, and of
// volumes that it gives to another one or to nobody.
func (p plot) keptVolumes() (all []situation) {
	for _, kept := range []struct {
		how    string
		volume map[string]any
		before []play.Step
	}{
		{"claimRef", volumeFor(namespace, claimName), nil},
		{"claimRef with an empty uid", claimedBy(volumeFor(namespace, claimName), ""), nil},
		{"and a pod waits", volumeFor(namespace, claimName), []play.Step{create(pod("early"))}},
	} {
		steps := slices.Concat(kept.before, []play.Step{p.backup(), create(p.claim(claimName)), wait(afterMillis), {Movers: true}, wait(afterMillis), {Scan: true}, wait(afterMillis)})
		all = append(all, situation{
			name: "a PVC comes with content: a volume is kept for it, " + kept.how, requirement: "safety/volume-with-content", wanted: "no restore, backups",
			play:   withVolume(kept.volume, p.scene(steps...)),
			verify: func(f *found) { f.neverRestored(); f.backedUp() },
		})
	}
	all = append(all, situation{
		name: "a PVC comes with content: a volume is kept for it, and is too small", requirement: "safety/volume-with-content", wanted: "no restore over it, no backup of another",
		play:   withVolume(small(volumeFor(namespace, claimName)), p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis))),
		verify: (*found).restoredOrKept,
	})
	for _, other := range []struct {
		how    string
		volume map[string]any
	}{
		{"of an earlier PVC of its name", claimedBy(volumeFor(namespace, claimName), "5d9b3c1e-2f64-4a0b-8c77-0e1d2c3b4a59")},
		{"for a PVC of another namespace", volumeFor(elsewhere, claimName)},
		{"for a PVC of another name", volumeFor(namespace, twinName)},
		{"for it, and is being deleted", leaving(volumeFor(namespace, claimName))},
	} {
		all = append(all, situation{
			name: "a PVC comes without content: a volume is kept " + other.how, requirement: "safety/volume-with-content", wanted: "RD into the PVC",
			play:   withVolume(other.volume, p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis))),
			verify: func(f *found) { f.hasDestination(afterMillis); f.restoreLetIn() },
		})
	}
	return all
}

// keptVolume is the name of a volume with content.
const keptVolume = "pv-2"

// volumeFor is a volume with content that is kept for a PVC.
func volumeFor(namespace, claim string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolume", "metadata": map[string]any{"name": keptVolume},
		"spec": map[string]any{
			"capacity": map[string]any{"storage": "256Mi"}, "accessModes": []any{"ReadWriteOnce"}, "persistentVolumeReclaimPolicy": "Retain",
			"storageClassName": "standard", "hostPath": map[string]any{"path": "/data"},
			"claimRef": map[string]any{"namespace": namespace, "name": claim},
		},
	}
}

// unclaimed is a volume with content that nobody has, of a class.
func unclaimed(class string) map[string]any {
	volume := volumeFor("", "")
	spec := volume["spec"].(map[string]any)
	spec["storageClassName"] = class
	delete(spec, "claimRef")
	return volume
}

// claimedBy makes of a volume one that is kept for the PVC with this UID.
func claimedBy(volume map[string]any, uid string) map[string]any {
	volume["spec"].(map[string]any)["claimRef"].(map[string]any)["uid"] = uid
	return volume
}

// small makes of a volume one that has less than PVCs request. Kubernetes gives it only to a PVC that names it.
func small(volume map[string]any) map[string]any {
	volume["spec"].(map[string]any)["capacity"] = map[string]any{"storage": "1Mi"}
	return volume
}

// leaving makes of a volume one that is deleted and still there.
func leaving(volume map[string]any) map[string]any {
	merge(volume["metadata"].(map[string]any), map[string]any{"deletionTimestamp": "2026-11-23T01:59:00Z", "finalizers": []any{"kubernetes.io/pv-protection"}})
	return volume
}

// withVolume is a situation in which a volume is there, and one of another class that nobody claims.
func withVolume(volume map[string]any, s play.Situation) play.Situation {
	free := unclaimed("another-class")
	free["metadata"] = map[string]any{"name": "pv-1"}
	s.Objects = append(s.Objects, free, volume)
	return s
}

// overriddenAtWork is a restore that a person gives up while its mover writes.
func (p plot) overriddenAtWork() situation {
	return situation{
		name: "a restore is overridden at work", requirement: "safety/restore-beside-app", wanted: "the app waits for the mover's end, and starts",
		play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, p.override(), create(pod("early")), wait(afterMillis),
			play.Step{Movers: true}, wait(afterMillis), create(pod("late"))),
		verify: func(f *found) { f.noAppBesideRestore(); f.lateStarts() },
	}
}

// overriddenWhenGone is a restore that a person gives up, and has deleted already.
func (p plot) overriddenWhenGone() situation {
	return situation{
		name: "a restore is deleted, and overridden", requirement: "safety/restore-beside-app", wanted: "the app starts, and backups",
		play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Delete: anyOf(destination)}, p.override(), wait(afterMillis),
			create(pod("late")), play.Step{Movers: true}, wait(afterMillis)),
		verify: func(f *found) { f.podsStart(); f.noRestoreBesideApp(); f.backedUp() },
	}
}

// overridden is a restore that a person gives up.
func (p plot) overridden() situation {
	return situation{
		name: "a restore is overridden", requirement: "safety/restore-beside-app", wanted: "the app starts, and the restore is over",
		play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis),
			p.override(), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis), // the mover that is at work ends
			create(pod("late")), play.Step{Movers: true}, wait(afterMillis),
			selects(p.PVC, false), wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
		verify: func(f *found) { f.podsStart(); f.noRestoreBesideApp() },
	}
}

// override is what a person does who takes the volume as it is.
func (p plot) override() play.Step {
	return annotate(p.Override.Annotation, string(p.Override.Value))
}

// restoredName is the ReplicationDestination of somebody who fills volumes without the policy.
const restoredName = "destination-1"

// withRestored is a situation in which it is there, and done.
func withRestored(s play.Situation) play.Situation {
	s.Objects = append(s.Objects, merge(anyOf(destination), map[string]any{
		"metadata": map[string]any{"name": restoredName, "namespace": namespace},
		"spec":     map[string]any{"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"repository": "theirs", "copyMethod": "Snapshot"}},
		"status": map[string]any{
			"lastManualSync": "once", "lastSyncTime": "2026-11-01T00:00:00Z",
			"latestImage": map[string]any{"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snapshot-1"},
		},
	}))
	return s
}

// anyOf is the first of VolSync's objects of a kind.
func anyOf(kind string) map[string]any {
	return map[string]any{"apiVersion": "volsync.backube/v1alpha1", "kind": kind, "metadata": map[string]any{"namespace": namespace}}
}

func withoutVolumes(pod map[string]any) map[string]any {
	delete(pod["spec"].(map[string]any), "volumes")
	return pod
}

// isRestore says of a pod whether it is one that VolSync restores with.
func isRestore(e play.Event) bool { return moves(e, "restore") }

// moverGate is the policy that is to keep movers' pods back, or else the one that makes what they are for.
func (f *found) moverGate(kind string) string {
	return cmp.Or(f.subjects.admits("pods", "Pod"), f.subjects.admits("jobs", "Job"), f.subjects.makes(kind))
}

// noRestoreBesideApp wants no restore's mover to be let in after an app's pod that uses the PVC, also where that is gone by then.
func (f *found) noRestoreBesideApp() {
	app := ""
	for _, e := range f.sent("Pod") {
		switch {
		case e.What != play.Admitted:
		case !isMover(e):
			app = object(e).GetName()
		case app != "" && overwrites(e):
			gate := f.moverGate(destination)
			f.missing(gate, gate, "VolSync may restore (pod %s) after pod %s was let in, which uses the PVC: what the app writes is overwritten", object(e).GetName(), app)
			return
		}
	}
}

// noAppBesideRestore wants no app's early pod to be let in beside a restore's mover, which is there until VolSync ends it.
func (f *found) noAppBesideRestore() {
	mover := ""
	for _, e := range f.sent("Pod") {
		switch {
		case e.What != play.Admitted:
		case overwrites(e):
			mover = object(e).GetName()
		case mover != "" && object(e).GetName() == "early":
			gate := cmp.Or(f.subjects.admits("pods", "Pod"), f.subjects.makes(destination))
			f.missing(gate, gate, "pod early is let in beside the mover of a restore (pod %s), which still writes: what the app writes is overwritten", mover)
		}
	}
}

// lateStarts wants an app's late pod to be admitted.
func (f *found) lateStarts() {
	for _, e := range f.sent("Pod") {
		if e.What == play.Refusal && object(e).GetName() == "late" {
			f.wrongBy("refused", f.refusing(e, "pods", "Pod"), "pod late is refused: %s", e.Text)
		}
	}
}

// restoreIsGuarded wants neither a backup nor, where the policy promises that, the app to be let in while a restore is not done.
func (f *found) restoreIsGuarded() {
	f.noBackupWhileRestoring()
	if f.contract.Promises("gated-start") {
		f.appWaits()
	}
}

// madeUpFor wants the PVC to have a ReplicationDestination at last, and its app to start when that is done, or to say something else than
// when it was created: what a person can do.
func (f *found) madeUpFor() {
	e, admitted := f.claim()
	if !admitted {
		return
	}
	if slices.ContainsFunc(f.made(destination), f.intoClaim) {
		f.lateStarts()
		f.isFilled()
		return
	}
	first := f.decision(object(e))
	if pvc := f.atTheEnd("PersistentVolumeClaim", namespace, claimName); pvc != nil && f.decision(pvc) != first {
		return
	}
	maker := f.subjects.makes(destination)
	f.missing(maker, maker, "the request for a restore was lost, no ReplicationDestination is made later, and the PVC says no more than when it was created (%q)", first)
}

// restoredOrKept wants the PVC to be given the volume that is kept for it, with no restore into it, or else a restore or no backup.
func (f *found) restoredOrKept() {
	if pvc := f.atTheEnd("PersistentVolumeClaim", namespace, claimName); pvc != nil && stringAt(pvc, "spec", "volumeName") == keptVolume {
		f.neverRestored()
		return
	}
	f.restoredOrHeld()
}

// restoredOrHeld wants a restore, or no backup.
func (f *found) restoredOrHeld() {
	if len(f.made(destination)) == 0 {
		f.noBackupLetIn()
	}
}

// notRestoredAgain wants no restore's mover to be let in, and none to be asked for, once a restore is done.
func (f *found) notRestoredAgain() {
	if len(f.made(destination)) == 0 {
		f.blind = "nothing is restored in it, so nothing of it is seen: core/restore says why"
		return
	}
	done := false
	for _, e := range f.course.Events {
		if e.What == play.Admitted && isDone(object(e)) {
			done = true
		}
		if done && e.What == play.Made && !e.Again && stringAt(object(e), "spec", "restic", "destinationPVC") == claimName {
			f.wrongBy("restored again", e.Policy, "ReplicationDestination %s is made when the restore is long done: VolSync tries to restore over what the app wrote since", object(e).GetName())
			return
		}
		if done && e.What == play.Admitted && overwrites(e) {
			gate := f.moverGate(destination)
			f.missing(gate, gate, "VolSync may restore again (pod %s) when the restore is long done: what the app wrote since is overwritten", object(e).GetName())
			return
		}
	}
}

// backedUpAtTheEnd wants the mover of the last ReplicationSource to be let in.
func (f *found) backedUpAtTheEnd() {
	if len(f.made(source)) == 0 {
		f.noSource("no ReplicationSource is made for the PVC")
		return
	}
	for _, content := range f.course.Objects {
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() == "Pod" && isBackup(play.Event{By: play.JobController, Object: content}) {
			return
		}
	}
	if !slices.ContainsFunc(f.course.Objects, func(content map[string]any) bool { return content["kind"] == source }) {
		maker := f.subjects.makes(source)
		f.missing(maker, maker, "the ReplicationSource was deleted, and no other is made: there are no backups any more, and nobody says so")
		return
	}
	gate, why := f.held(source)
	f.missing(gate, gate, "no backup is let in any more after the ReplicationSource was deleted: the volume's own repository counts as an older one%s", why)
}

// held is the policy that keeps movers back: the one that refused one last, with what it said and what S3 answered, or else the one
// that is there for it.
func (f *found) held(kind string) (gate, why string) {
	gate = f.moverGate(kind)
	for _, e := range f.course.Events {
		if e.What == play.Strayed {
			why = f.because()
		}
	}
	for _, of := range []struct{ plural, kind string }{{"jobs", "Job"}, {"pods", "Pod"}} {
		refused := slices.DeleteFunc(f.sent(of.kind), func(e play.Event) bool {
			return e.What != play.Refusal || e.By != play.VolSync && e.By != play.JobController
		})
		if len(refused) > 0 {
			last := refused[len(refused)-1]
			return f.refusing(last, of.plural, of.kind), "; " + last.Text + f.because()
		}
	}
	return gate, why
}

// goesWithItsClaim wants nothing that was made for the PVC that is deleted to be left, and what was made for the other one to be there.
func (f *found) goesWithItsClaim() {
	for _, e := range f.made(source) {
		if name := stringAt(object(e), "spec", "sourcePVC"); name != claimName && !f.there(object(e)) {
			f.wrong(e.Policy, "ReplicationSource %s of PVC %s is taken away by the garbage collector: its owner is not the PVC", object(e).GetName(), name)
		}
	}
	left := func(e play.Event, o *unstructured.Unstructured, of string) {
		if !f.there(o) {
			return
		}
		if deletes := f.subjects.synchronizes(e.Policy); deletes {
			f.unknown = "only a cluster can tell: " + e.Policy + " synchronizes, so Kyverno may delete what it made, which is not played"
		}
		f.wrongBy("left "+o.GetKind(), e.Policy, "%s %s is left when PVC %s is deleted: %s", o.GetKind(), o.GetName(), claimName, of)
	}
	used, secrets := map[string]bool{}, map[string]play.Event{}
	for _, e := range slices.Concat(f.made(source), f.made(destination)) {
		o := object(e)
		secret := stringAt(o, "spec", "restic", "repository")
		if f.claimOf(e) != claimName {
			used[secret] = true
			continue
		}
		secrets[secret] = e
		left(e, o, "it has no owner reference to the PVC, and the next PVC of that name gets it")
	}
	if len(secrets) == 0 {
		f.blind = "nothing is made for the PVC, so nothing of it is seen: core/fresh says why"
	}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		secret := f.secret(namespace, name)
		if secret == nil { // the operator's goes with the ExternalSecret
			secret, _, _ = f.fromStore(namespace, name, "")
		}
		if secret == nil || used[name] || name == f.contract.BaseSecret.Name {
			continue
		}
		maker := secrets[name]
		maker.Policy = f.makerOf(secret, maker.Policy)
		left(maker, secret, "credentials for S3 and the repository outlive the volume, as it has no owner reference to the PVC")
	}
}

// there says whether an object is there at the end.
func (f *found) there(o *unstructured.Unstructured) bool {
	return f.atTheEnd(o.GetKind(), o.GetNamespace(), o.GetName()) != nil
}

// staysPaused wants what a person set on objects of a kind to be there at the end.
func (f *found) staysPaused(kind string) {
	for _, content := range f.course.Objects {
		o := &unstructured.Unstructured{Object: content}
		if o.GetKind() == kind && !volsync.Paused(o) {
			f.wrong(f.subjects.makes(kind), "%s %s was paused by a person, and runs again", kind, o.GetName())
		}
	}
}

// backedUp wants a backup's mover to be let in.
func (f *found) backedUp() {
	if len(f.made(source)) == 0 {
		f.noSource("no ReplicationSource is made for the PVC: it is never backed up")
		return
	}
	for _, e := range f.sent("Pod") {
		if isBackup(e) && e.What == play.Admitted {
			return
		}
	}
	gate, why := f.held(source)
	f.missing(gate, gate, "no backup of the PVC is let in: what it holds is never backed up%s", why)
	if changes := f.subjects.changes(); changes != "" {
		f.unknown = "only a cluster can tell: " + changes + onlyOnACluster
	}
}

// restoreLetIn wants a restore's mover to be let in.
func (f *found) restoreLetIn() {
	if len(f.made(destination)) == 0 {
		return
	}
	gate, why := f.moverGate(destination), ""
	for _, e := range f.sent("Pod") {
		switch {
		case !isRestore(e):
		case e.What == play.Admitted:
			return
		case e.What == play.Refusal:
			gate, why = f.refusing(e, "pods", "Pod"), "; "+e.Text
		}
	}
	f.missing(gate, gate, "no restore into the PVC is let in: it is never restored%s%s", why, f.because())
}

// podsStart wants all pods that are no movers' to be admitted.
func (f *found) podsStart() {
	for _, e := range f.sent("Pod") {
		if !isMover(e) && e.What == play.Refusal {
			f.wrongBy("refused", f.refusing(e, "pods", "Pod"), "pod %s is refused: %s", object(e).GetName(), e.Text)
		}
	}
}

// nothingForNobody wants no object to be made for a PVC that is not there.
func (f *found) nothingForNobody() {
	there := map[string]bool{}
	for _, content := range f.course.Objects {
		if o := (&unstructured.Unstructured{Object: content}); o.GetKind() == "PersistentVolumeClaim" {
			there[string(o.GetUID())] = true
			there[o.GetNamespace()+"/"+o.GetName()] = true
		}
	}
	for _, e := range f.course.Events {
		o := object(e)
		if e.What != play.Made || !slices.Contains([]string{source, destination, "Secret"}, o.GetKind()) {
			continue
		}
		for _, owner := range o.GetOwnerReferences() {
			if owner.Kind == "PersistentVolumeClaim" && !there[string(owner.UID)] {
				f.wrong(e.Policy, "%s %s is made for a PVC that is not there: its creation came to nothing", o.GetKind(), o.GetName())
				return
			}
		}
		if claim := f.claimOf(e); claim != "" && !there[o.GetNamespace()+"/"+claim] {
			f.wrong(e.Policy, "%s %s is made for PVC %s, which is not there: its creation came to nothing", o.GetKind(), o.GetName(), claim)
			return
		}
	}
}
