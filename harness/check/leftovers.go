package check

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/outage"
)

// leftovers are situations in which something of before is still there: movers that failed or are at work, pods, a PVC that is being
// deleted, what a person has set.
func (p plot) leftovers() []situation {
	others := []map[string]any{
		withoutVolumes(pod("no-volumes")), using("others", pod("others")), withScratch(using("others", pod("others-2"))),
		withScratch(withoutVolumes(pod("scratch"))), ephemeral(pod("ephemeral")), labelled(withoutVolumes(pod("app"))),
	}
	all := []situation{
		{
			name: "backup, and other apps of the namespace run already", requirement: "core/restore", wanted: "RD, the app starts",
			play: withAll(others, p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis),
				create(pod("late")))),
			verify: (*found).startsRestored,
		},
		{
			name: "a restore of an earlier PVC is at work", requirement: "safety/stale-destination", wanted: "RD of its own",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Movers: true}, wait(1000),
				play.Step{Delete: p.claim(claimName)}, create(p.claim(claimName)), wait(afterMillis)),
			verify: (*found).hasDestinationOfItsOwn,
		},
		{
			name: "a pod comes while its PVC is being deleted, and created again", requirement: "safety/recreate-race", wanted: "RD of its own", feature: "gated-start",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true}, wait(afterMillis), create(pod("late")),
				play.Step{Deleting: p.claim(claimName)}, create(pod("next")), play.Step{Delete: pod("late")}, play.Step{Delete: p.claim(claimName)},
				create(p.claim(claimName)), wait(afterMillis)),
			verify: (*found).hasDestinationOfItsOwn,
		},
		{
			name: "a PVC is being deleted, and other apps start", requirement: "core/fresh", wanted: "they start",
			play: p.scene(create(p.claim(claimName)), create(p.claim(twinName)), wait(1000), create(pod("one")), play.Step{Deleting: p.claim(claimName)},
				create(using(twinName, pod("twin"))), create(withoutVolumes(pod("none"))), create(withScratch(withoutVolumes(pod("scratch"))))),
			verify: (*found).podsStart,
		},
		{
			name: "S3 forgets the repository before a restore begins", requirement: "safety/backup-during-restore", wanted: "no backup mover meanwhile",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), p.begin(outage.Named("404-key")), wait(afterMillis),
				play.Step{Scan: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).noBackupWhileRestoring,
		},
		{
			name: "a restore found nothing, its app runs, and Kyverno scans", requirement: "core/s3-down/list-lies", wanted: "says what was decided",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Restored: true, Said: "No eligible snapshots found"}, wait(afterMillis),
				create(pod("late")), play.Step{Scan: true}, wait(afterMillis), play.Step{Delete: anyOf(destination)}, play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).saysTheSame,
		},
		{
			name: "the app of an outage runs, and Kyverno scans", requirement: "core/s3-down/500", wanted: "says what was decided",
			play: p.scene(p.backup(), p.begin(outage.Named("500")), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(afterMillis),
				create(pod("late")), play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).saysTheSame,
		},
		{
			name: "a person pauses a restore, and Kyverno scans", requirement: "resilience/hourly-scan", wanted: "it stays paused",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), pauses(destination, true),
				wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: func(f *found) { f.staysPaused(destination) },
		},
		{
			name: "a backup is killed", requirement: "resilience/killed-mover", wanted: "the next one removes its lock",
			play:   p.scene(create(p.claim(claimName)), wait(afterMillis), play.Step{Failing: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.unlocks(source) },
		},
		{
			name: "a restore is killed", requirement: "resilience/killed-mover", wanted: "the next one removes its lock",
			play:   p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Failing: true}, wait(afterMillis), play.Step{Movers: true}, wait(afterMillis)),
			verify: func(f *found) { f.unlocks(destination) },
		},
	}
	for _, before := range []struct {
		name  string
		steps []play.Step
	}{
		{"after a restore", []play.Step{p.backup(), create(p.claim(claimName)), wait(afterMillis), {Restored: true}, wait(afterMillis)}},
		{"of a PVC that came with content", []play.Step{p.backup(), create(p.withContent()), wait(afterMillis)}},
		{"after an outage", []play.Step{p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), {Heal: true}, wait(afterMillis), {Scan: true}, wait(afterMillis)}},
	} {
		steps := append(before.steps, pauses(source, true),
			wait(afterMillis), play.Step{Scan: true}, wait(afterMillis))
		all = append(all, situation{
			name: "a person pauses backups " + before.name + ", and Kyverno scans", requirement: "resilience/hourly-scan", wanted: "they stay paused",
			play: p.scene(steps...), verify: func(f *found) { f.staysPaused(source) },
		})
	}
	return all
}

// withContent is a PVC of a volume that is there.
func (p plot) withContent() map[string]any {
	claim := p.claim(claimName)
	claim["spec"].(map[string]any)["volumeName"] = "pv-1"
	return claim
}

// withAll is with, for several.
func withAll(objects []map[string]any, s play.Situation) play.Situation {
	for _, object := range objects {
		s = with(object, s)
	}
	return s
}

// unlocks wants a mover's pod, that comes after one of the same Job that failed, to remove the locks that are stale: restic keeps to the
// lock of one that was killed, and nothing else removes it.
func (f *found) unlocks(kind string) {
	is := isBackup
	if kind == destination {
		is = isRestore
	}
	all := slices.DeleteFunc(f.sent("Pod"), func(e play.Event) bool { return !is(e) })
	pods := slices.DeleteFunc(slices.Clone(all), func(e play.Event) bool { return e.What != play.Admitted })
	switch {
	case len(pods) == 1 && all[len(all)-1].What == play.Refusal:
		gate, why := f.held(kind)
		f.missing(gate, gate, "no mover is let in any more after one that was killed%s", why)
		return
	case len(pods) < 2:
		f.blind = "no second pod of a mover is let in, so nothing of it is seen"
		return
	}
	for _, e := range f.made(kind) {
		if stringAt(object(e), "spec", "restic", "unlock") != "" {
			return
		}
	}
	last := pods[len(pods)-1]
	containers, _, _ := unstructured.NestedSlice(last.Object, "spec", "containers")
	for _, container := range containers {
		content, _ := container.(map[string]any)
		if args, _, _ := unstructured.NestedStringSlice(content, "args"); slices.Contains(args, "unlock") {
			return
		}
	}
	gate := f.moverGate(kind)
	f.missing(gate, gate, "pod %s comes after one that was killed, and does not remove stale locks (no argument unlock, and no spec.restic.unlock)", object(last).GetName())
}

// saysTheSame wants the PVC to say at the end what it said was decided when it was created.
func (f *found) saysTheSame() {
	e, admitted := f.claim()
	key := f.contract.Decisions.Annotation
	if !admitted || key == "" || !f.contract.Promises("visible-decision") {
		return
	}
	for _, content := range f.course.Objects {
		o := &unstructured.Unstructured{Object: content}
		if was, is := object(e).GetAnnotations()[key], o.GetAnnotations()[key]; o.GetKind() == "PersistentVolumeClaim" && o.GetName() == claimName && is != was {
			f.missing(f.decider(), f.decider(), "the PVC says %q of what was decided, and said %q when it was", is, was)
		}
	}
}
