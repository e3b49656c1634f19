package check

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/outage"
)

// hourMillis is an hour.
const hourMillis = 3_600_000

// told are situations in which a PVC must say that something is wrong, and must not when it is over.
func (p plot) told() []situation {
	const requirement = "resilience/told"
	scan := []play.Step{{Scan: true}, wait(afterMillis)}
	steps := func(all ...any) play.Situation {
		var flat []play.Step
		for _, one := range all {
			switch one := one.(type) {
			case play.Step:
				flat = append(flat, one)
			case []play.Step:
				flat = append(flat, one...)
			}
		}
		return p.scene(flat...)
	}
	return slices.Concat(p.acceptedVolumes(), p.leftOut(), []situation{
		{
			name: "no backup runs, then one does, then none does any more", requirement: requirement, wanted: "says so, but when all is well", feature: "visible-decision",
			play: steps(create(p.claim(claimName)), wait(3*hourMillis), scan, play.Step{BackedUp: true}, wait(3*afterMillis), scan, wait(p.lapsesMillis()), scan),
			verify: func(f *found) {
				const never, well, lapsed = 3, 7, 10
				f.saysMore(never, well, "no backup of it was made for hours")
				f.saysMore(lapsed, well, "no backup of it was made any more, by its schedule and for hours beyond that")
			},
		},
		{
			name: "a restore takes long", requirement: requirement, wanted: "says so, until it is done", feature: "visible-decision",
			play: steps(p.backup(), create(p.claim(claimName)), wait(hourMillis), scan, play.Step{Restored: true}, wait(1000), play.Step{BackedUp: true}, wait(3*afterMillis), scan),
			verify: func(f *found) {
				if len(f.made(destination)) == 0 {
					f.blind = "nothing is restored in it, so nothing of it is seen: core/restore says why"
					return
				}
				const late, well = 4, 10
				f.saysMore(late, well, "it was not restored for an hour")
			},
		},
		{
			name: "backups wait until somebody decides", requirement: requirement, wanted: "says so", feature: "visible-decision",
			play: steps(p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), play.Step{Heal: true}, wait(3*afterMillis), scan, p.decided(),
				wait(afterMillis), play.Step{BackedUp: true}, wait(3*afterMillis), scan),
			verify: func(f *found) {
				switch {
				case len(f.made(source)) == 0:
					f.blind = noSource
					return
				case p.Override.Annotation == "":
					f.blind = noWayToDecide
					return
				}
				const waits, well = 7, 13
				f.saysMore(waits, well, "its backups wait until somebody decides")
			},
		},
	})
}

// leftOut are situations in namespaces that Kyverno is not asked about by default.
func (p plot) leftOut() (all []situation) {
	for _, namespace := range play.LeftOut {
		claim := p.claim(claimName)
		claim["metadata"].(map[string]any)["namespace"] = namespace
		all = append(all, situation{
			name: "a PVC in namespace " + namespace, requirement: "resilience/told", wanted: "refused, or RS, or says so", feature: "visible-decision",
			play:   p.scene(create(claim), wait(afterMillis)),
			verify: (*found).backedUpOrSaysSo,
		})
	}
	return all
}

// backedUpOrSaysSo wants a PVC to be refused, to get a ReplicationSource, or to say what was decided about it.
func (f *found) backedUpOrSaysSo() {
	e, admitted := f.claim()
	if !admitted || len(f.made(source)) > 0 || f.decision(object(e)) != "" {
		return
	}
	f.wrong(f.decider(), "a PVC with the label is admitted in namespace %s, which Kyverno leaves out by default, and gets no ReplicationSource: it is never backed up, and nobody says so",
		object(e).GetNamespace())
}

// acceptedVolumes are situations in which a person takes a volume as it is whose backups wait, and in which a manifest then drops that: before
// there is a backup, and after it.
func (p plot) acceptedVolumes() []situation {
	const requirement, wanted, noMore = "resilience/told", "backups, also later", ", and a manifest dropped that"
	accepted := func(more ...play.Step) play.Situation {
		return p.scene(append([]play.Step{p.backup(), p.begin(outage.Held), create(p.claim(claimName)), wait(outageMillis), {Heal: true}, wait(afterMillis), {Movers: true},
			wait(afterMillis), p.override(), wait(afterMillis)}, more...)...)
	}
	const accept, dropped, end = 8, 11, 16
	drop := []play.Step{{Strip: reference(claimName)}, wait(afterMillis), {Scan: true}, wait(afterMillis)}
	if p.Override.Annotation == "" {
		return nil
	}
	return []situation{
		{
			name: "somebody takes a volume as it is whose backups wait", requirement: requirement, wanted: wanted, feature: "visible-decision",
			play:   accepted(slices.Concat([]play.Step{{BackedUp: true}}, drop, []play.Step{{BackedUp: true}, wait(afterMillis)})...),
			verify: func(f *found) { f.backedUpAsAccepted(accept, dropped, ""); f.backedUpAsAccepted(dropped, end, noMore) },
		},
		{
			name: "somebody takes a volume as it is whose backups wait, and a manifest drops that", requirement: requirement, wanted: wanted, feature: "visible-decision",
			play:   accepted(slices.Concat(drop, []play.Step{{BackedUp: true}, wait(afterMillis)})...),
			verify: func(f *found) { f.backedUpAsAccepted(accept, end, noMore) },
		},
	}
}

// backedUpAsAccepted wants a backup of a PVC whose volume a person has taken as it is to be let in from one step on and before another.
func (f *found) backedUpAsAccepted(from, to int, but string) {
	if len(f.made(source)) == 0 {
		f.blind = noSource
		return
	}
	if !slices.ContainsFunc(f.backups(), func(e play.Event) bool { return from <= e.Step && e.Step < to }) {
		gate, why := f.held(source)
		f.missing(gate, gate, "somebody took the PVC's volume as it is (%s)%s, and no backup of it is let in%s", f.contract.Override.Annotation, but, why)
	}
}

// noWayToDecide is why it is not known what a PVC says when somebody has decided.
const noWayToDecide = "the contract names no way to decide (override)"

// lapsesMillis is when a volume has no longer been backed up: its schedule has come twice, and hours have passed.
func (p plot) lapsesMillis() int64 {
	const beyond = 3 * hourMillis
	twice, err := history.Span(p.Schedule, 2)
	if err != nil { // a schedule of each PVC's own: no PVC waits longer than a day
		return 48*hourMillis + beyond
	}
	return twice.Milliseconds() + beyond
}

// decided is a person who accepts the volume as it is, where a policy has a word for that.
func (p plot) decided() play.Step {
	if p.Override.Annotation == "" {
		return wait(1)
	}
	return p.override()
}

// moments are what differs between what a PVC says at one time and at another one, though it says the same.
var moments = regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`)

// says are the annotations of the PVC at the end of a step, without the moments in them.
func (f *found) says(step int) map[string]string {
	var last map[string]string
	for _, e := range f.course.Events {
		o := object(e)
		seen := e.What == play.Admitted || e.What == play.Changed
		if e.Step <= step && seen && o.GetKind() == "PersistentVolumeClaim" && o.GetName() == claimName {
			last = o.GetAnnotations()
		}
	}
	all := maps.Clone(last)
	for key, value := range all {
		all[key] = moments.ReplaceAllString(value, "…")
	}
	return all
}

// saysMore wants the PVC to say something at the end of a step that it does not say at the end of another one, when all is well.
func (f *found) saysMore(step, well int, what string) {
	if _, admitted := f.claim(); !admitted || len(f.made(source)) == 0 && f.contract.BackupSource.Late() {
		return
	}
	then := f.says(well)
	for key, value := range f.says(step) {
		if value != "" && then[key] != value {
			return
		}
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(then)) {
		all = append(all, fmt.Sprintf("%s: %q", key, then[key]))
	}
	writer := f.subjects.admits("persistentvolumeclaims", "PersistentVolumeClaim")
	f.missing(writer, writer, "%s, and the PVC says nothing that it does not say when all is well (%s)", what, strings.Join(all, ", "))
}
