package replay

import (
	"context"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/smart-restore/conformance/harness/claim"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/s3down"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
	"github.com/smart-restore/conformance/harness/volsync"
)

// among is a player in a namespace ns that has these objects, whose S3 is down.
func among(t *testing.T, objects ...client.Object) *player {
	t.Helper()
	contract := policy.Default()
	contract.Decisions = policy.Decisions{Annotation: "a/decision", Restore: "restore", Fresh: "fresh", Unknown: "unknown: .+"}
	e := env.Offline(t.TempDir(), env.Parts{
		API: fake.NewClientBuilder().WithObjects(objects...).Build(), Times: timing.Default(),
		Testbed: &testbed.Testbed{Contract: contract, Store: &objectstore.Handle{Bucket: "bucket"}},
	}).In("ns", "explore/replay", &recorded.Reporter{})
	repos := repository.Of(e)
	s3 := s3down.Of(e, repos)
	p := newPlayer(map[string]Place{"shop": {Env: e, Claims: claim.Of(e, repos, s3), Repositories: repos, S3: s3}})
	p.pictured, p.blind = true, true
	return p
}

func worked(kind string, spec, status map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec, "status": status, "metadata": map[string]any{"namespace": "ns", "name": "data-1"}}}
	o.SetGroupVersionKind(volsync.Source)
	if kind == volsync.Destination.Kind {
		o.SetGroupVersionKind(volsync.Destination)
	}
	return o
}

func TestAPictureOfACluster(t *testing.T) {
	pvc := &corev1.PersistentVolumeClaim{}
	pvc.Namespace, pvc.Name, pvc.Annotations = "ns", "data", map[string]string{"a/decision": "unknown: S3 did not answer"}
	p := among(t, pvc,
		worked(volsync.Source.Kind, map[string]any{"sourcePVC": "data", "paused": true}, nil),
		worked(volsync.Destination.Kind, map[string]any{"restic": map[string]any{"destinationPVC": "data"}, "trigger": map[string]any{"manual": "once"}}, nil))
	p.subjects["shop/data"].wanted = true
	got := p.picture(context.Background(), history.Event{Do: "create"})
	for key, want := range map[string]picture.PVC{
		"shop/data":   {Claim: picture.There, Decision: "unknown", Source: picture.Paused, Destination: picture.Held, App: picture.Held},
		"shop/data-2": {Claim: picture.None, Source: picture.None, Destination: picture.None, App: picture.Off},
	} {
		if got[key] != want {
			t.Errorf("%s: %+v, want %+v", key, got[key], want)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d PVCs, want those of the namespace: %+v", len(got), got)
	}
}

func TestHowLongNothingMoves(t *testing.T) {
	held := func() *unstructured.Unstructured {
		return worked(volsync.Source.Kind, map[string]any{"sourcePVC": "data", "trigger": map[string]any{"schedule": "0 * * * *"}}, nil)
	}
	job := &batchv1.Job{Status: batchv1.JobStatus{Failed: 1}}
	job.Namespace, job.Name = "ns", "volsync-src-data-1"
	for name, c := range map[string]struct {
		objects []client.Object
		blind   bool
		calm    time.Duration
		working bool
	}{
		"nothing is there":                   {nil, false, quiet, false},
		"what is held may be tried again":    {[]client.Object{held()}, false, patient, false},
		"nobody lets it in while S3 is down": {[]client.Object{held()}, true, quiet, false},
		"what has failed is tried again":     {[]client.Object{held(), job}, false, quiet, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := among(t, c.objects...)
			p.blind = c.blind
			if calm, working := p.calm(t.Context()); calm != c.calm || working != c.working {
				t.Errorf("%s, working: %v, want %s, %v", calm, working, c.calm, c.working)
			}
		})
	}
}

func TestWhatBecomesOfVolSyncsObjects(t *testing.T) {
	type fields = map[string]any
	scheduled, asked := fields{"trigger": fields{"schedule": "0 * * * *"}}, fields{"trigger": fields{"manual": "now"}}
	pods := func(phases ...corev1.PodPhase) (all []corev1.Pod) {
		for _, phase := range phases {
			all = append(all, corev1.Pod{Status: corev1.PodStatus{Phase: phase}})
		}
		return all
	}
	job := func(failed, succeeded int32) *batchv1.Job {
		return &batchv1.Job{Status: batchv1.JobStatus{Failed: failed, Succeeded: succeeded}}
	}
	for name, c := range map[string]struct {
		spec, status fields
		job          *batchv1.Job
		pods         []corev1.Pod
		want         string
	}{
		"it was synced":         {scheduled, fields{"lastSyncTime": "2026-11-27T11:00:00Z"}, nil, nil, picture.Done},
		"it was done":           {asked, fields{"lastSyncTime": "2026-11-27T11:00:00Z", "lastManualSync": "now"}, nil, nil, picture.Done},
		"it is asked for again": {asked, fields{"lastSyncTime": "2026-11-27T11:00:00Z", "lastManualSync": "before"}, nil, nil, picture.Held},
		"no Job":                {scheduled, nil, nil, nil, picture.Held},
		"a Job without a pod":   {scheduled, nil, job(0, 0), nil, picture.Held},
		"a pod that waits":      {scheduled, nil, job(0, 0), pods(corev1.PodPending), picture.Works},
		"a pod that runs":       {scheduled, nil, job(1, 0), pods(corev1.PodFailed, corev1.PodRunning), picture.Works},
		"a pod has failed, and none has come yet":  {scheduled, nil, job(1, 0), pods(corev1.PodFailed), ""},
		"a pod was killed, and none has come yet":  {scheduled, nil, job(1, 0), nil, ""},
		"VolSync has not said yet that it is over": {scheduled, nil, job(0, 1), pods(corev1.PodSucceeded), ""},
		"paused": {fields{"paused": true}, nil, job(0, 0), nil, picture.Paused},
	} {
		t.Run(name, func(t *testing.T) {
			o := &unstructured.Unstructured{Object: fields{"spec": c.spec, "status": c.status}}
			if got := becomes(o, c.job, c.pods); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestContentHasTheNameThatTheModelGivesIt(t *testing.T) {
	p := &player{parents: map[string]string{}, names: map[string]string{}, event: 3}
	written := p.content("written by its app", &subject{key: "shop/data"}, "")
	for content, want := range map[string]string{"": picture.Nothing, written: picture.Content("shop/data", 3), "torn": `what nobody wrote: "torn"`} {
		if got := p.holds(content); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}

func TestWhatTheNewestSnapshotHolds(t *testing.T) {
	s := &subject{}
	for _, c := range []struct {
		ids  []string
		held map[string]string
		want string
	}{
		{[]string{"b"}, map[string]string{"b": "first"}, "first"},
		{[]string{"b", "a"}, map[string]string{"a": "second"}, "second"},
		{[]string{"b"}, nil, "first"}, // the newer one is gone
	} {
		if s.newest(c.ids, c.held); s.latest != c.want {
			t.Errorf("of %v: %q, want %q", c.ids, s.latest, c.want)
		}
	}
}

// A backup that nobody has asked for is of what the volume holds now, and the history's is of what it held in its last hour.
func TestASchedulesTimeThatIsNotTheHistorys(t *testing.T) {
	of := func(uid, last, manual string) unstructured.Unstructured {
		o := unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"trigger": map[string]any{"manual": manual}}, "status": map[string]any{"lastSyncTime": last}}}
		o.SetUID(types.UID(uid))
		return o
	}
	s := &subject{}
	for i, c := range []struct {
		do     string
		source unstructured.Unstructured
		want   bool
	}{
		{"create", of("a", "", ""), false},
		{"start", of("a", "11:01", ""), false}, // the first one
		{"write", of("a", "12:00", ""), true},  // by itself
		{"write", of("a", "12:00", ""), true},  // and nobody has asked since
		{"hour", of("a", "12:03", "now"), false},
		{"s3-up", of("a", "12:05", "now"), false}, // what was asked for comes late
		{"source", of("b", "12:06", ""), false},   // another one
	} {
		if got := s.scheduled([]unstructured.Unstructured{c.source}, history.Event{Do: c.do}); got != c.want {
			t.Errorf("event %d, %s: %v", i+1, c.do, got)
		}
	}
}
