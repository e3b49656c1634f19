package claim

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/volsync"
)

func pvcThat(phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: types.UID("u-1")}, Status: corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

// restores is the ReplicationDestination that fills the PVC, with what VolSync keeps of its mover's log.
func restores(logs string) *unstructured.Unstructured {
	d := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
		"lastSyncTime": "2026-11-26T12:00:00Z", "latestMoverStatus": map[string]any{"result": "Successful", "logs": logs},
	}}}
	d.SetGroupVersionKind(volsync.Destination)
	d.SetNamespace("ns")
	d.SetName("restore")
	return d
}

func TestAPVCIsBoundToItsData(t *testing.T) {
	const found, nothing = "restoring snapshot 01234567 to .", "No eligible snapshots found"
	for name, c := range map[string]struct {
		phase corev1.PersistentVolumeClaimPhase
		logs  string // empty: there is no ReplicationDestination
		want  string
		from  string // what VolSync filled its volume from; empty: it did not
	}{
		"bound, and restored":                   {corev1.ClaimBound, found, "pass", "ns/restore"},
		"bound, and nothing restores":           {corev1.ClaimBound, "", "fail", "ns/restore"},
		"bound, and nothing found to restore":   {corev1.ClaimBound, nothing, "fail", "ns/restore"},
		"never bound, though it was restored":   {corev1.ClaimPending, found, "fail", "ns/restore"},
		"never bound, and nothing was restored": {corev1.ClaimPending, "", "fail", "ns/restore"},
		"lost":                                  {corev1.ClaimLost, found, "fail", "ns/restore"},
		"bound to another volume, and restored": {corev1.ClaimBound, found, "fail", ""},
	} {
		t.Run(name, func(t *testing.T) {
			pvc := pvcThat(c.phase)
			pvc.Spec.VolumeName = "pv-1"
			volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-1", Annotations: map[string]string{populatedFrom: c.from}}}
			objects := []client.Object{pvc, volume}
			if c.logs != "" {
				objects = append(objects, restores(c.logs))
			}
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(objects...).Build()})
			e := claims.env
			e.Times.Mover, e.Times.Poll, e.Times.PollMax = 50*time.Millisecond, time.Millisecond, time.Millisecond
			claim := claims.claim("data")
			claim.UID, claim.populatedBy = "u-1", "restore"
			if got := recorded.Outcome(func() { claim.BoundToItsData(t.Context()) }); got.How != c.want {
				t.Errorf("%+v, wanted %s", got, c.want)
			}
		})
	}
}

func TestAPVCStaysPending(t *testing.T) {
	another := pvcThat(corev1.ClaimBound)
	another.Name = "other"
	for name, c := range map[string]struct {
		phase  corev1.PersistentVolumeClaimPhase
		others []string
		want   string
	}{
		"Pending":              {corev1.ClaimPending, nil, "pass"},
		"bound":                {corev1.ClaimBound, nil, "fail"},
		"Pending, beside":      {corev1.ClaimPending, []string{"data"}, "pass"},
		"another is bound":     {corev1.ClaimPending, []string{"other"}, "fail"},
		"another is not there": {corev1.ClaimPending, []string{"gone"}, "unknown"},
	} {
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(pvcThat(c.phase), another).Build()})
			var others []*Claim
			for _, other := range c.others {
				others = append(others, claims.claim(other))
			}
			return func() { claims.claim("data").StaysPending(t.Context(), "meanwhile", others...) }
		})
	}
}

// A warning that comes with each restore counts once a restore would be done, and if it is so.
func TestWarningsOfThePopulator(t *testing.T) {
	done := restores("")
	_ = unstructured.SetNestedField(done.Object, "volsync-data", "status", "latestImage", "name")
	for name, c := range map[string]struct {
		reason      string
		destination *unstructured.Unstructured
		age         time.Duration
		complains   bool
	}{
		"no destination, at first":              {destinationMissing, nil, time.Second, false},
		"no destination, in the end":            {destinationMissing, nil, time.Hour, true},
		"no destination, and there is one now":  {destinationMissing, restores(""), time.Hour, false},
		"nothing restored, at first":            {noLatestImage, restores(""), time.Second, false},
		"nothing restored, in the end":          {noLatestImage, restores(""), time.Hour, true},
		"nothing restored, and it is now":       {noLatestImage, done, time.Hour, false},
		"nothing restored, and nothing does so": {noLatestImage, nil, time.Hour, false},
		"another warning":                       {"ProvisioningFailed", done, time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			objects := []client.Object{pvcThat(corev1.ClaimPending), &corev1.Event{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "e"}, Type: corev1.EventTypeWarning, Reason: c.reason,
				InvolvedObject: corev1.ObjectReference{Kind: "PersistentVolumeClaim", Name: "data"},
			}}
			if c.destination != nil {
				objects = append(objects, c.destination)
			}
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(objects...).Build()})
			claim := claims.claim("data")
			claim.populatedBy, claim.CreatedAt = "restore", claims.env.Now().Add(-c.age)
			if told, err := claim.complains(t.Context(), claim); err != nil || (told != "") != c.complains {
				t.Errorf("told %q, %v", told, err)
			}
		})
	}
}

func TestNoRestoreIsCalledASuccess(t *testing.T) {
	failed := restores("")
	_ = unstructured.SetNestedField(failed.Object, "Failed", "status", "latestMoverStatus", "result")
	for name, c := range map[string]struct {
		objects []client.Object
		want    string
	}{
		"none":    {nil, "pass"},
		"failed":  {[]client.Object{failed}, "pass"},
		"success": {[]client.Object{restores("No eligible snapshots found")}, "fail"},
	} {
		claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(c.objects...).Build()})
		claim := claims.claim("data")
		claim.populatedBy = "restore"
		if got := recorded.Outcome(func() { claim.NoSuccessSoFar(t.Context(), "meanwhile") }); got.How != c.want {
			t.Errorf("%s: %+v, wanted %s", name, got, c.want)
		}
	}
}

func TestOnlySnapshotsThatAreNotReadyAreDeleted(t *testing.T) {
	snapshot := func(name string, status map[string]any) *unstructured.Unstructured {
		s := &unstructured.Unstructured{Object: map[string]any{"status": status}}
		s.SetGroupVersionKind(volumeSnapshot)
		s.SetNamespace("ns")
		s.SetName(name)
		s.SetUID(types.UID("uid-of-" + name))
		return s
	}
	ready := snapshot("ready", map[string]any{"readyToUse": true})
	for name, c := range map[string]struct {
		objects []client.Object
		want    string
	}{
		"two are not ready": {[]client.Object{ready, snapshot("never", map[string]any{"readyToUse": false}), snapshot("new", nil)}, "pass"},
		"all are ready":     {[]client.Object{ready}, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			api := fake.NewClientBuilder().WithObjects(c.objects...).Build()
			claims, _ := claimsOf(t, env.Parts{API: api})
			if got := recorded.Outcome(func() { claims.UnreadySnapshots(t.Context())(t.Context()) }); got.How != c.want {
				t.Errorf("%+v, wanted %s", got, c.want)
			}
			left, err := claims.list(t.Context(), volumeSnapshot)
			if err != nil || len(left) != 1 || left[0].GetName() != "ready" {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

// A clone, and a volume made from a snapshot, are asked for as such, and a PVC that is made from something else is not taken for one.
func TestAVolumeIsMadeFromItsOrigin(t *testing.T) {
	group := volumeSnapshot.Group
	snapshot := Origin{corev1.TypedObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: "s"}, "made from s"}
	for name, c := range map[string]struct {
		from *corev1.TypedObjectReference
		want string
	}{
		"it":           {&snapshot.from, "pass"},
		"nothing":      {nil, "fail"},
		"another":      {&corev1.TypedObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: "t"}, "fail"},
		"another kind": {&corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "s"}, "fail"},
	} {
		pvc := pvcThat(corev1.ClaimPending)
		pvc.Spec.DataSourceRef = c.from
		claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(pvc).Build()})
		if got := recorded.Outcome(func() { claims.claim("data").isStillFrom(t.Context(), snapshot) }); got.How != c.want {
			t.Errorf("%s: %+v, wanted %s", name, got, c.want)
		}
	}
	if origin := (&Claim{Name: "data"}).Itself(); origin.from.Kind != "PersistentVolumeClaim" || origin.from.APIGroup != nil || origin.from.Name != "data" {
		t.Errorf("a clone is of %+v", origin.from)
	}
}
