package check

import (
	"cmp"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/check/play"
)

// bystanders are situations of objects that a policy has nothing to do with: PVCs without its label, Jobs and movers of others.
func (p plot) bystanders() []situation {
	return []situation{
		{
			name: "another value of the label", requirement: "core/unlabelled", wanted: "nothing",
			play:   p.scene(p.backup(), create(p.otherwise()), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).untouched,
		},
		{
			name: "PVCs without the label that nobody could back up", requirement: "core/unlabelled", wanted: "admitted, nothing",
			play: p.scene(create(block(p.unlabelled())), create(oncePod(p.unlabelledNamed(twinName))), create(p.unlabelledNamed(strings.Repeat("b", 80))),
				create(inAnother(block(p.otherwise()))), wait(afterMillis)),
			verify: (*found).leftAlone,
		},
		{
			name: "a PVC that nobody could back up is there already", requirement: "resilience/existing-volumes", wanted: "it may change", feature: "existing-volumes",
			play: withAll([]map[string]any{block(p.claim(claimName)), oncePod(p.claim(strings.Repeat("b", 80)))},
				p.scene(annotate("example.com/touched", "yes"), play.Step{Update: merge(reference(strings.Repeat("b", 80)), map[string]any{"metadata": map[string]any{
					"name": strings.Repeat("b", 80), "namespace": namespace, "annotations": map[string]any{"example.com/touched": "yes"},
				}})}, wait(afterMillis))),
			verify: func(f *found) { f.mayChange("a PVC that was there before the policy may not be changed any more") },
		},
		{
			name: "Kyverno is away, and a PVC without the label changes", requirement: "resilience/blast-radius", wanted: "it may",
			play: p.scene(create(p.unlabelled()), wait(afterMillis), play.Step{AdmissionOff: true}, annotate("example.com/touched", "yes"),
				create(pod("early"))), // it is bound then
			verify: func(f *found) { f.mayChange("a PVC without the label may not be changed"); f.podsStart() },
		},
		{
			name: "somebody backs up a PVC without the label", requirement: "core/unlabelled", wanted: "the mover runs, and pauses as told",
			play: p.scene(create(p.unlabelled()), create(ownSource(false)), play.Step{Movers: true}, wait(afterMillis),
				pauses(source, true), play.Step{Movers: true}, wait(afterMillis)),
			verify: (*found).leftAlone,
		},
		{
			name: "a pod uses a PVC without the label at once", requirement: "core/unlabelled", wanted: "it starts",
			play:   p.scene(p.backup(), create(p.unlabelled()), create(pod("early")), create(labelled(withScratch(pod("early-2"))))),
			verify: (*found).leftAlone,
		},
		{
			name: "somebody has paused backups of a PVC without the label", requirement: "core/unlabelled", wanted: "they stay paused",
			play:   p.scene(create(p.unlabelled()), create(ownSource(true)), wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: func(f *found) { f.leftAlone(); f.staysPaused(source) },
		},
		{
			name: "Jobs of others are paused", requirement: "core/unlabelled", wanted: "admitted",
			play: p.scene(create(p.unlabelled()), create(job("theirs", nil, nil)),
				create(job("volsync-src-theirs", map[string]any{"app.kubernetes.io/created-by": "volsync"}, nil)),
				create(job("labelled", nil, map[string]any{"smart-restore": "theirs"})), wait(afterMillis)),
			verify: (*found).leftAlone,
		},
		{
			name: "VolSync makes PVCs for itself", requirement: "safety/own-volumes", wanted: "nothing for VolSync's",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Create: p.volSyncsOwn(cacheName), By: play.VolSync},
				play.Step{Create: p.volSyncsOwn(longCacheName), By: play.VolSync}, wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).leavesVolSyncsAlone,
		},
		{
			name: "all PVCs are labelled later, VolSync's own too", requirement: "safety/own-volumes", wanted: "nothing for VolSync's", feature: "relabel",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), play.Step{Create: p.volSyncsOwn(cacheName), By: play.VolSync},
				play.Step{Create: p.volSyncsOwn(longCacheName), By: play.VolSync}, wait(1000), selectsNamed(cacheName, p.PVC, true), selectsNamed(longCacheName, p.PVC, true),
				wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).leavesVolSyncsAlone,
		},
		{
			name: "another webhook adds the label to VolSync's own PVCs", requirement: "safety/own-volumes", wanted: "admitted, nothing for VolSync's", feature: "relabel",
			play: p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis),
				play.Step{Create: p.volSyncsOwn(cacheName), By: play.VolSync, Later: map[string]any{"metadata": p.PVC.Metadata(true)}},
				play.Step{Create: p.volSyncsOwn(longCacheName), By: play.VolSync, Later: map[string]any{"metadata": p.PVC.Metadata(true)}},
				wait(afterMillis), play.Step{Scan: true}, wait(afterMillis)),
			verify: (*found).leavesVolSyncsAlone,
		},
	}
}

// The names of cache volumes of VolSync's, which it makes of those of its ReplicationSources.
var (
	cacheName     = "volsync-src-data-0123abcd-cache"
	longCacheName = "volsync-src-" + strings.Repeat("a", 40) + "-0123abcd-cache"
)

// volSyncsOwn is a PVC without the label that VolSync has made for itself.
func (p plot) volSyncsOwn(name string) map[string]any {
	claim := p.unlabelledNamed(name)
	metadata := claim["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	metadata["labels"] = merge(map[string]any{"app.kubernetes.io/created-by": "volsync"}, labels)
	return claim
}

// otherwise is a PVC whose label has a value that the policy says nothing of. Where all are selected but those that opt out, it is one of these.
func (p plot) otherwise() map[string]any {
	if p.PVC.Label == "" && len(p.PVC.Annotations) == 0 {
		return p.unlabelled()
	}
	p.PVC = p.PVC.Of("another")
	return p.claim(claimName)
}

func (p plot) unlabelledNamed(name string) map[string]any {
	return merge(p.claim(name), map[string]any{"metadata": p.metadata(name, false)})
}

// block makes of a PVC a block device.
func block(claim map[string]any) map[string]any {
	claim["spec"].(map[string]any)["volumeMode"] = "Block"
	return claim
}

// oncePod makes of a PVC one that one pod may use.
func oncePod(claim map[string]any) map[string]any {
	claim["spec"].(map[string]any)["accessModes"] = []any{"ReadWriteOncePod"}
	return claim
}

// ownSource is a ReplicationSource that somebody made by hand.
func ownSource(paused bool) map[string]any {
	return merge(anyOf(source), map[string]any{
		"metadata": map[string]any{"name": "theirs", "namespace": namespace},
		"spec": map[string]any{
			"sourcePVC": claimName, "paused": paused, "trigger": map[string]any{"schedule": "0 3 * * *"},
			"restic": map[string]any{"repository": "theirs", "copyMethod": "Direct"},
		},
	})
}

// job is one that is paused: it has no pods yet.
func job(name string, labels, ofPods map[string]any) map[string]any {
	metadata := map[string]any{"name": name, "namespace": namespace}
	if labels != nil {
		metadata["labels"] = labels
	}
	template := map[string]any{}
	if ofPods != nil {
		template["labels"] = ofPods
	}
	return map[string]any{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": map[string]any{
		"parallelism": int64(0), "template": map[string]any{"metadata": template, "spec": map[string]any{
			"restartPolicy": "Never", "containers": []any{map[string]any{"name": "job", "image": "job"}},
		}},
	}}
}

// mayChange wants every PVC that was sent to be admitted.
func (f *found) mayChange(otherwise string) {
	for _, e := range f.sent("PersistentVolumeClaim") {
		if e.What == play.Refusal {
			f.wrongBy("refused", f.refusing(e, "persistentvolumeclaims", "PersistentVolumeClaim"), "%s: %s", otherwise, e.Text)
		}
	}
}

// leftAlone wants everything that was sent to be admitted, and nothing to be made or changed by a policy.
func (f *found) leftAlone() {
	for _, e := range f.course.Events {
		switch o := object(e); e.What {
		case play.Refusal:
			f.wrongBy("refused", f.refusing(e, strings.ToLower(o.GetKind())+"s", o.GetKind()), "%s %s is refused, and the policy has nothing to do with it: %s", o.GetKind(), o.GetName(), e.Text)
		case play.Made, play.Changed:
			f.wrongBy("unlabelled", e.Policy, "a PVC without the label gets %s %s", o.GetKind(), o.GetName())
		}
	}
}

// leavesVolSyncsAlone wants VolSync's own PVCs to be admitted, and nothing to be made for them or written on them: the backup of one would
// have a cache volume of its own, which is labelled, too, and so on.
func (f *found) leavesVolSyncsAlone() {
	f.mayChange("a PVC that VolSync makes for itself is refused, and backups or restores with it")
	own := []string{cacheName, longCacheName}
	for _, e := range f.course.Events {
		o := object(e)
		switch {
		case e.What == play.Made && slices.Contains(own, f.claimOf(e)):
			f.wrongBy("VolSync's own", e.Policy, "%s %s is made for a PVC that VolSync has made for itself: its mover has one, too, and so on without end", o.GetKind(), o.GetName())
		case o.GetKind() == "PersistentVolumeClaim" && slices.Contains(own, o.GetName()) && (e.What == play.Admitted || e.What == play.Changed):
			if written := f.decision(o); written != "" {
				writer := cmp.Or(e.Policy, f.subjects.admits("persistentvolumeclaims", "PersistentVolumeClaim"))
				f.wrongBy("written on VolSync's own", writer, "a PVC that VolSync has made for itself is written on: %s", written)
			}
		}
	}
}
