// Package volsync reads VolSync's objects.
package volsync

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/smart-restore/conformance/harness/install"
)

// The kinds that a policy makes.
var (
	Source      = install.ReplicationSource
	Destination = install.ReplicationDestination
	Kinds       = []schema.GroupVersionKind{Source, Destination}
)

// Over says whether a mover has ended.
func Over(mover *corev1.Pod) bool {
	return mover.Status.Phase == corev1.PodSucceeded || mover.Status.Phase == corev1.PodFailed
}

// WantsPods says whether the Job of a mover is to have pods now: VolSync makes the Job of what is paused, too.
func WantsPods(job *batchv1.Job) bool {
	suspended := job.Spec.Suspend != nil && *job.Spec.Suspend
	none := job.Spec.Parallelism != nil && *job.Spec.Parallelism == 0
	return !suspended && !none && job.Spec.ManagedBy == nil && job.DeletionTimestamp == nil
}

// Nested is a text in an object; empty: there is none.
func Nested(object *unstructured.Unstructured, fields ...string) string {
	value, _, _ := unstructured.NestedString(object.Object, fields...)
	return value
}

// SourceOf says whether an object is a ReplicationSource of a PVC of this name.
func SourceOf(o *unstructured.Unstructured, pvc string) bool {
	return Nested(o, "spec", "sourcePVC") == pvc
}

// DestinationOf says whether an object is a ReplicationDestination into a PVC of this name.
func DestinationOf(o *unstructured.Unstructured, pvc string) bool {
	return Nested(o, "spec", "restic", "destinationPVC") == pvc
}

// OwnedByAnother says whether an object belongs to a PVC with another UID.
func OwnedByAnother(o *unstructured.Unstructured, uid string) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(owner metav1.OwnerReference) bool {
		return owner.Kind == "PersistentVolumeClaim" && string(owner.UID) != uid
	})
}

// TriggerDone says whether VolSync has done what the object's manual trigger asks for. Where there is none, it has: whether a restore is done,
// Synced says.
func TriggerDone(o *unstructured.Unstructured) bool {
	return Nested(o, "spec", "trigger", "manual") == Nested(o, "status", "lastManualSync")
}

// Synced says whether VolSync has done what it was last asked for: by the manual trigger, or at all.
func Synced(o *unstructured.Unstructured) bool {
	return TriggerDone(o) && (Nested(o, "spec", "trigger", "manual") != "" || Nested(o, "status", "lastSyncTime") != "")
}

// Paused says whether an object is paused: VolSync then makes its mover's Job, but no pod of it.
func Paused(o *unstructured.Unstructured) bool {
	paused, _, _ := unstructured.NestedBool(o.Object, "spec", "paused")
	return paused
}

// OfAMoment says whether a ReplicationSource backs up a copy of its PVC, as that was when the sync began, and not the PVC itself.
func OfAMoment(source *unstructured.Unstructured) bool {
	return Nested(source, "spec", "restic", "copyMethod") != "Direct"
}

// Working says whether a sync of the object has begun and is not over.
func Working(o *unstructured.Unstructured) bool { return !WorkingSince(o).IsZero() }

// WorkingSince is when the sync began that is not over, to the second; the zero time: there is none.
func WorkingSince(o *unstructured.Unstructured) time.Time {
	since, err := time.Parse(time.RFC3339, Nested(o, "status", "lastSyncStartTime"))
	if err != nil {
		return time.Time{}
	}
	return since
}

// Began is when the last sync that is over began, to the second; the zero time: none is over.
func Began(o *unstructured.Unstructured) time.Time {
	ended, err := time.Parse(time.RFC3339, Nested(o, "status", "lastSyncTime"))
	took, errTook := time.ParseDuration(Nested(o, "status", "lastSyncDuration"))
	if err != nil || errTook != nil {
		return time.Time{}
	}
	return ended.Add(-took)
}

// Progress is what VolSync says of its work on an object.
func Progress(object *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, condition := range conditions {
		if c, ok := condition.(map[string]any); ok && c["type"] == "Synchronizing" {
			return fmt.Sprintf("%s %s: %v, %v", object.GetKind(), object.GetName(), c["reason"], c["message"])
		}
	}
	return fmt.Sprintf("%s %s has no status yet", object.GetKind(), object.GetName())
}

// restoring matches what VolSync keeps of a restic that has restored a snapshot, of the log of a mover that was successful.
var restoring = regexp.MustCompile(`(?mi)^\s*restoring\b`)

// RestoredASnapshot says whether a ReplicationDestination has restored a snapshot: VolSync calls a restore of a repository that has
// none, or that its mover has just made, a success, too.
func RestoredASnapshot(o *unstructured.Unstructured) bool {
	return Nested(o, "status", "lastSyncTime") != "" && Nested(o, "status", "latestMoverStatus", "result") == "Successful" &&
		restoring.MatchString(Nested(o, "status", "latestMoverStatus", "logs"))
}
