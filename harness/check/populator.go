package check

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
	perclaim "github.com/smart-restore/conformance/harness/subject" // a subject is something else here
)

// A PVC whose dataSourceRef names a ReplicationDestination is Pending until VolSync's volume populator has filled its volume. The restore
// writes into a PVC of VolSync's own, never into the app's, and pods wait for the volume by themselves. So what counts is what the PVC is
// bound to.

// populatedBy is the ReplicationDestination that is to fill a PVC's volume. Empty: there is none.
func populatedBy(pvc *unstructured.Unstructured) string {
	if stringAt(pvc, "spec", "dataSourceRef", "apiGroup") != perclaim.Group || stringAt(pvc, "spec", "dataSourceRef", "kind") != destination {
		return ""
	}
	return stringAt(pvc, "spec", "dataSourceRef", "name")
}

// claimOf is the PVC of a ReplicationSource or a ReplicationDestination: the one that it names, or the one that is filled from it. Empty:
// there is none.
func (f *found) claimOf(e play.Event) string {
	o := object(e)
	claim := cmp.Or(stringAt(o, "spec", "sourcePVC"), stringAt(o, "spec", "restic", "destinationPVC"))
	if claim != "" || o.GetKind() != destination {
		return claim
	}
	for _, sent := range f.sent("PersistentVolumeClaim") {
		if pvc := object(sent); pvc.GetNamespace() == o.GetNamespace() && populatedBy(pvc) == o.GetName() {
			return pvc.GetName()
		}
	}
	return ""
}

// intoClaim says whether a ReplicationDestination restores into the PVC, or fills its volume.
func (f *found) intoClaim(e play.Event) bool { return f.claimOf(e) == claimName }

// fills says whether a ReplicationDestination restores into no PVC that it names, but fills the volume of one that names it.
func (f *found) fills(e play.Event) bool {
	return stringAt(object(e), "spec", "restic", "destinationPVC") == "" && f.claimOf(e) != ""
}

// overwrites says of a pod whether it is a restore's that writes into an app's PVC.
func overwrites(e play.Event) bool {
	into := mounted(e)
	return isRestore(e) && (!strings.HasPrefix(into, "volsync-") || !strings.HasSuffix(into, "-dest"))
}

// savedBy is the PVC whose data a backup's pod reads: the one that it mounts, or the one of which that is a copy.
func (f *found) savedBy(e play.Event) string {
	for _, rs := range f.made(source) {
		if mounted(e) == "volsync-"+object(rs).GetName()+"-src" {
			return f.claimOf(rs)
		}
	}
	return mounted(e)
}

// waitsForVolume says of a pod whether it cannot start yet, because the PVC that it mounts was to be filled and not bound when the pod was
// sent.
func (f *found) waitsForVolume(pod play.Event) (waits bool) {
	for _, e := range f.course.Events {
		switch o := object(e); {
		case o.GetKind() == "Pod" && o.GetName() == object(pod).GetName():
			return waits
		case e.What == play.Admitted && o.GetKind() == "PersistentVolumeClaim" && o.GetName() == mounted(pod) && o.GetNamespace() == object(pod).GetNamespace():
			waits = populatedBy(o) != "" && stringAt(o, "spec", "volumeName") == ""
		}
	}
	return waits
}

// isFilled wants the PVC, where its volume is to be filled, to be bound to that when the restore is done.
func (f *found) isFilled() {
	e, admitted := f.claim()
	if from := populatedBy(object(e)); admitted && from != "" && len(f.problems) == 0 && len(f.filled()) == 0 {
		gate, why := f.held(destination)
		f.missing(gate, gate, "PVC %s stays Pending: its volume is to be filled by ReplicationDestination %s, which never is done%s", claimName, from, why)
	}
}

// filled are the events in which the PVC was bound to a volume that the populator filled.
func (f *found) filled() (all []play.Event) {
	for _, e := range f.course.Events {
		if e.What == play.Populated && e.Text == namespace+"/"+claimName {
			all = append(all, e)
		}
	}
	return all
}

// notFilledFromBefore wants no PVC to be bound to what was restored before it was sent, in this step: for an earlier PVC of its name, which
// has written and was backed up since.
func (f *found) notFilledFromBefore(step int) {
	for _, e := range f.filled() {
		name := object(e).GetName()
		before := slices.ContainsFunc(f.course.Events, func(done play.Event) bool {
			return done.Step < step && done.What == play.Admitted && isDone(object(done)) && object(done).GetName() == name
		})
		if e.Step >= step && before {
			decider := f.decider()
			f.missing(decider, decider, "the PVC is bound to what ReplicationDestination %s restored for an earlier one: what was written and backed up since is missing, and the next backup pushes it out", name)
		}
	}
}

// decider is the policy that decides what a PVC is filled from: the one that asks S3, or else the first that sees PVCs.
func (f *found) decider() string {
	return cmp.Or(f.subjects.asks(), f.subjects.admits("persistentvolumeclaims", "PersistentVolumeClaim"))
}

// notForNobody wants the PVC not to wait for a ReplicationDestination that nobody makes. The one that a PVC comes with is there, and a PVC
// that names its volume waits for none.
func (f *found) notForNobody() {
	e, admitted := f.claim()
	from := populatedBy(object(e))
	if !admitted || from == "" || from == restoredName || stringAt(object(e), "spec", "volumeName") != "" {
		return
	}
	if !slices.ContainsFunc(f.made(destination), func(rd play.Event) bool { return object(rd).GetName() == from }) {
		f.wrongBy("for nobody", f.decider(), "PVC %s waits for ReplicationDestination %s, which nobody makes: it is Pending for ever%s", claimName, from, f.because())
	}
}

// asPromisedOfTheUnknown wants of a PVC, of which nobody can know whether there is a backup, what the contract says of it.
func (f *found) asPromisedOfTheUnknown() {
	e, admitted := f.claim()
	switch f.contract.Unknown {
	case policy.IsRefused:
		if admitted {
			f.wrongBy("admitted", f.decider(), "the PVC is admitted while nobody knows whether there is a backup, and the contract says that it is refused (unknown: %s)%s", policy.IsRefused, f.because())
		}
	case policy.Waits:
		f.admittedInTime()
		if admitted && populatedBy(object(e)) == "" {
			f.wrongBy("waits for nobody", f.decider(), "the PVC has no dataSourceRef to a ReplicationDestination, so it is bound and empty while nobody knows whether there is a backup; the contract says that it waits (unknown: %s)%s", policy.Waits, f.because())
		}
	default:
		f.admittedInTime()
		f.neverRestored()
	}
}

// refusedWithWords wants a PVC that is refused, by the contract, to be so by the policy and not because nobody waits for it any longer.
func (f *found) refusedWithWords() {
	e, admitted := f.claim()
	if f.contract.Unknown == policy.IsRefused && !admitted && strings.Contains(e.Text, "failed calling webhook") {
		f.wrongBy("no words", f.slowest(), "the PVC is refused without a word that a person can act on: %s%s", e.Text, f.because())
	}
}

// ofTheUnknown is what is wanted of a PVC while nobody can know whether there is a backup of it, in a row's words.
func (p plot) ofTheUnknown() string {
	switch p.Unknown {
	case policy.IsRefused:
		return "refused"
	case policy.Waits:
		return "it waits, no backup"
	}
	return "RS, no RD, no backup, also later"
}

// judgesAnEmptyStart are the requirements about a volume that started empty because nobody could know whether there is a backup of it: their
// specs have the label policy.JudgesAnEmptyStart.
var judgesAnEmptyStart = []string{"safety/late-restore", "safety/own-repository", "safety/good-snapshot-survives"}
