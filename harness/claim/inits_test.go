package claim

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/volsync"
)

// backsUp is a ReplicationSource of the PVC; synced: its first sync is over.
func backsUp(name string, synced bool) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"sourcePVC": "data"}}}
	if synced {
		_ = unstructured.SetNestedField(o.Object, "2026-11-26T12:00:00Z", "status", "lastSyncTime")
	}
	o.SetGroupVersionKind(volsync.Source)
	o.SetNamespace("ns")
	o.SetName(name)
	return o
}

// restoresOnce is a ReplicationDestination into the PVC.
func restoresOnce(done bool) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"destinationPVC": "data"},
	}}}
	if done {
		_ = unstructured.SetNestedField(o.Object, "once", "status", "lastManualSync")
	}
	o.SetGroupVersionKind(volsync.Destination)
	o.SetNamespace("ns")
	o.SetName("restore")
	return o
}

// Each mover that uses the PVC's repository is waited for: of two ReplicationSources, too.
func TestInitsHeld(t *testing.T) {
	for name, c := range map[string]struct {
		objects []client.Object
		held    []string
		want    string
	}{
		"one alone":                         {[]client.Object{backsUp("a", true)}, []string{"10.0.0.1:1"}, "pass"},
		"a backup beside a restore":         {[]client.Object{backsUp("a", true), restoresOnce(false)}, []string{"10.0.0.1:1", "10.0.0.2:1"}, "pass"},
		"a restore that is not there yet":   {[]client.Object{backsUp("a", true), restoresOnce(false)}, []string{"10.0.0.1:1"}, "unknown"},
		"a restore that is done":            {[]client.Object{backsUp("a", true), restoresOnce(true)}, []string{"10.0.0.1:1"}, "pass"},
		"two backups":                       {[]client.Object{backsUp("a", true), backsUp("b", true)}, []string{"10.0.0.1:1", "10.0.0.2:1"}, "pass"},
		"one of two backups is not there":   {[]client.Object{backsUp("a", true), backsUp("b", true)}, []string{"10.0.0.1:1"}, "unknown"},
		"there is no ReplicationSource yet": {nil, nil, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			page := gateway.RecordsPage{}
			for _, from := range c.held {
				page.Records = append(page.Records, gateway.Record{Client: from, InFlight: true, Rule: "ns-hold-inits"})
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(page) }))
			defer server.Close()
			api := fake.NewClientBuilder().WithObjects(c.objects...).Build()
			claims, _ := claimsOf(t, env.Parts{API: api, Gateway: fault.New(server.URL, "")})
			e := claims.env
			e.Times.Mover, e.Times.Poll, e.Times.PollMax = 20*time.Millisecond, time.Millisecond, time.Millisecond
			if got := recorded.Outcome(func() { claims.claim("data").InitsHeld(t.Context()) }); got.How != c.want {
				t.Errorf("%+v, wanted %s", got, c.want)
			}
		})
	}
}

func TestBackupsRun(t *testing.T) {
	mover := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mover", Labels: map[string]string{batchv1.JobNameLabel: "volsync-src-a"}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for name, c := range map[string]struct {
		objects   []client.Object
		want, run string
	}{
		"the first sync is over":          {[]client.Object{backsUp("a", true), restoresOnce(false)}, "pass", "runs"},
		"held back beside a restore":      {[]client.Object{backsUp("a", false), restoresOnce(false)}, "pass", "held back"},
		"at work beside a restore":        {[]client.Object{backsUp("a", false), restoresOnce(false), mover}, "fail", ""},
		"held back beside nothing":        {[]client.Object{backsUp("a", false)}, "fail", ""},
		"held back after a restore's end": {[]client.Object{backsUp("a", false), restoresOnce(true)}, "fail", ""},
	} {
		run := false
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(c.objects...).Build()})
			return func() { run = claims.claim("data").BackupsRun(t.Context()) }
		})
		if c.want == "pass" && run != (c.run == "runs") {
			t.Errorf("%s: run is %v, wanted: it %s", name, run, c.run)
		}
	}
}

// moverPod is a pod of a Job that uses a PVC, on a node or on none.
func moverPod(job, pvc, node string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "of-" + job, Labels: map[string]string{batchv1.JobNameLabel: job}},
		Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: pvc},
		}}}},
		Status: corev1.PodStatus{Phase: phase},
	}
}

func TestFirstMover(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		seen string
	}{
		"on a node":            {moverPod("volsync-src-a", "data", "two", corev1.PodRunning), "uses PVC data on node two"},
		"on no node":           {moverPod("volsync-src-a", "data", "", corev1.PodPending), "no mover of PVC data ran"},
		"of another PVC":       {moverPod("volsync-src-a", "other", "two", corev1.PodRunning), "no mover of PVC data ran"},
		"none":                 {nil, "no mover of PVC data ran"},
		"a Job of somebody's":  {moverPod("backup", "data", "two", corev1.PodRunning), "no mover of PVC data ran"},
		"one that restores it": {moverPod("volsync-dst-a", "data", "one", corev1.PodSucceeded), "uses PVC data on node one"},
	} {
		var r *recorded.Reporter
		inBubble(t, name, "pass", "", func(t *testing.T) func() {
			api := fake.NewClientBuilder()
			if c.pod != nil {
				api.WithObjects(c.pod)
			}
			var claims *Claims
			claims, r = claimsOf(t, env.Parts{API: api.Build()})
			return func() { claims.claim("data").FirstMover(t.Context()) }
		})
		if said := strings.Join(r.Evidences, "\n"); !strings.Contains(said, c.seen) {
			t.Errorf("%s: said %q, wanted %q", name, said, c.seen)
		}
	}
}

// VolSync shortens the name of a Job that would be too long.
func TestTheNameOfAMoversJob(t *testing.T) {
	long := strings.Repeat("a", 52)
	for name, want := range map[string]string{
		"a": "volsync-src-a", long[:51]: "volsync-src-" + long[:51],
		long: fmt.Sprintf("volsync-src-%08x", crc32.ChecksumIEEE([]byte(long))),
	} {
		if got := moverOf(backsUp(name, true)); got != want {
			t.Errorf("%s: got %s, wanted %s", name, got, want)
		}
	}
}

func TestMoverNode(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"it runs":                 {moverPod("volsync-src-a", "data", "two", corev1.PodRunning), "pass"},
		"it does not run":         {moverPod("volsync-src-a", "data", "two", corev1.PodPending), "unknown"},
		"a mover of another runs": {moverPod("volsync-src-b", "data", "two", corev1.PodRunning), "unknown"},
	} {
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(c.pod).Build()})
			return func() {
				if node := claims.MoverNode(t.Context(), backsUp("a", true)); node != "two" {
					t.Errorf("on %q, wanted two", node)
				}
			}
		})
	}
}

// A mover of the claim's counts also where it uses a volume of its own.
func TestNoMoverDone(t *testing.T) {
	populates := restoresOnce(false)
	unstructured.RemoveNestedField(populates.Object, "spec", "restic", "destinationPVC")
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"a backup of the PVC":             {moverPod("volsync-src-a", "data", "two", corev1.PodSucceeded), "unknown"},
		"a backup of a copy":              {moverPod("volsync-src-a", "volsync-a-src", "two", corev1.PodSucceeded), "unknown"},
		"a restore before it is bound":    {moverPod("volsync-dst-restore", "volsync-restore-dest", "two", corev1.PodSucceeded), "unknown"},
		"a mover that is not done":        {moverPod("volsync-src-a", "volsync-a-src", "two", corev1.PodRunning), "pass"},
		"a backup of a copy of another's": {moverPod("volsync-src-b", "volsync-b-src", "two", corev1.PodSucceeded), "pass"},
		"a Job of somebody's":             {moverPod("backup", "data", "two", corev1.PodSucceeded), "pass"},
	} {
		inBubble(t, name, c.want, "", func(t *testing.T) func() {
			claims, _ := claimsOf(t, env.Parts{API: fake.NewClientBuilder().WithObjects(c.pod, backsUp("a", true), populates.DeepCopy()).Build()})
			claim := claims.claim("data")
			claim.populatedBy = "restore"
			return func() { claim.NoMoverDone(t.Context()) }
		})
	}
}
