package history

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/explore/picture"
)

func TestPictures(t *testing.T) {
	decides := func(w *toy, pvc map[string]any) {
		decision := "fresh"
		if w.backups[key(pvc)] {
			decision = "restore"
		}
		mapAt(pvc, "metadata")["annotations"] = map[string]any{"toy/decision": decision}
		careless(w, pvc)
	}
	// waits holds the app and backups back until the restore is done.
	waits := func(w *toy, pod map[string]any) bool {
		restores := strings.HasPrefix(at(pod, "metadata", "name"), "replicationdestination-")
		return w.down || !restores && slices.ContainsFunc(w.List(destination), func(d map[string]any) bool { return at(d, "status", "lastManualSync") == "" })
	}
	of := func(event int) string { return picture.Content("shop/data", event) }
	bare := picture.PVC{Claim: picture.None, Source: picture.None, Destination: picture.None, App: picture.Off, Latest: picture.None}
	for name, c := range map[string]struct {
		policy  func(*toy, map[string]any)
		refuses func(*toy, map[string]any) bool
		events  []string
		want    []picture.PVC // of shop/data, after each event
	}{
		"backed up": {decides, waits, []string{"create shop/data clean", "start shop/data", "write shop/data", "hour"}, []picture.PVC{
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Off, Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Runs, Volume: of(2), Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Runs, Volume: of(3), Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Runs, Volume: of(3), Latest: of(3)},
		}},
		"restored": {decides, waits, []string{"backup shop/data", "create shop/data clean", "start shop/data"}, []picture.PVC{
			{Claim: picture.None, Source: picture.None, Destination: picture.None, App: picture.Off, Latest: of(1)},
			{Claim: picture.There, Decision: "restore", Source: picture.Done, Destination: picture.Done, App: picture.Off, Latest: of(1)},
			{Claim: picture.There, Decision: "restore", Source: picture.Done, Destination: picture.Done, App: picture.Runs, Volume: of(1), Latest: of(1)},
		}},
		"held while S3 is away": {decides, waits, []string{"s3-down refused", "create shop/data clean", "s3-up"}, []picture.PVC{
			bare,
			{Claim: picture.There, Decision: "fresh", Source: picture.Held, Destination: picture.None, App: picture.Off, Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Off, Latest: picture.None},
		}},
		"at work while S3 is away": {decides, nil, []string{"s3-down refused", "create shop/data clean", "start shop/data"}, []picture.PVC{
			bare,
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Off, Latest: picture.None}, // an empty volume is not sent anywhere
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Runs, Volume: of(3), Latest: picture.None},
		}},
		"paused": {func(w *toy, pvc map[string]any) {
			careless(w, pvc)
			for _, o := range w.List(source) {
				mapAt(o, "spec")["paused"] = true
			}
		}, func(*toy, map[string]any) bool { return true }, []string{"create shop/data clean"}, []picture.PVC{
			{Claim: picture.There, Decision: picture.None, Source: picture.Paused, Destination: picture.None, App: picture.Off, Latest: picture.None},
		}},
		"an app that is held": {decides, func(_ *toy, pod map[string]any) bool { return mapAt(pod, "spec") != nil }, []string{"create shop/data clean", "start shop/data"}, []picture.PVC{
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Off, Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Held, Latest: picture.None},
		}},
		"killed at work: nobody knows whether its lock is left": {decides, nil, []string{"backup shop/data", "create shop/data clean", "killed shop/data at-work"}, []picture.PVC{
			{Claim: picture.None, Source: picture.None, Destination: picture.None, App: picture.Off, Latest: of(1)},
			{Claim: picture.There, Decision: "restore"},
			{Claim: picture.There, Decision: "restore", Destination: picture.Done, App: picture.Off},
		}},
		"a schedule comes in an hour, and not while it settles": {decides, nil, []string{"create shop/data clean", "start shop/data", "s3-down read-only", "hour", "s3-up"}, []picture.PVC{
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Off, Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Runs, Volume: of(2), Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Runs, Volume: of(2), Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Works, Destination: picture.None, App: picture.Runs, Volume: of(2), Latest: picture.None},
			{Claim: picture.There, Decision: "fresh", Source: picture.Done, Destination: picture.None, App: picture.Runs, Volume: of(2), Latest: of(2)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newToy()
			w.policy, w.refuses = c.policy, c.refuses
			pictures, v, err := Pictures(w, toyTerms(), toyFaults, story(t, c.events...))
			if err != nil || v != nil {
				t.Fatalf("%+v, %v", v, err)
			}
			if len(pictures) != len(c.want) {
				t.Fatalf("%d pictures, want %d", len(pictures), len(c.want))
			}
			for i, p := range pictures {
				if p["shop/data"] != c.want[i] {
					t.Errorf("after event %d:\n%+v, want\n%+v", i+1, p["shop/data"], c.want[i])
				}
			}
		})
	}
}

func TestPicturesEndWithAViolation(t *testing.T) {
	w := newToy()
	w.policy = plan
	pictures, v, err := Pictures(w, toyTerms(), toyFaults, story(t, "backup shop/data", "start shop/data", "create shop/data clean", "hour"))
	if err != nil || v == nil || v.Invariant != "a" || v.Event != 3 || len(pictures) != 2 {
		t.Errorf("%d pictures, %+v, %v, want 2 and a in event 3", len(pictures), v, err)
	}
}

func TestPictured(t *testing.T) {
	for name, c := range map[string]struct {
		events []string
		want   string // empty: pictures can be taken
	}{
		"nobody is killed":         {[]string{"wait", "hour"}, ""},
		"what an event begins":     {[]string{"create shop/data clean", "killed shop/data at-work"}, ""},
		"the first":                {[]string{"killed shop/data at-work"}, "event 1, a mover of shop/data is killed: at work: wanted an event before it"},
		"what is over by then":     {[]string{"create shop/data clean", "wait", "killed shop/data at-work"}, "event 3"},
		"after the full hour, too": {[]string{"create shop/data clean", "hour", "killed shop/data at-work"}, "event 3"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Pictured(story(t, c.events...))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// On a cluster, nothing takes as long as it takes a schedule to come.
func TestNoScheduleComesWhileItSettles(t *testing.T) {
	w := newToy()
	w.policy = careless
	w.now = time.Date(2026, 11, 23, 2, 59, 40, 0, time.UTC)
	pictures, v, err := Pictures(w, toyTerms(), toyFaults, story(t, "create shop/data clean", "start shop/data", "nothing"))
	if err != nil || v != nil {
		t.Fatal(v, err)
	}
	if w.now.Hour() != 3 {
		t.Fatalf("it is %s: the full hour has not come", w.now)
	}
	if got := pictures[1]["shop/data"]; got.Source != picture.Done || got.Latest != picture.None {
		t.Errorf("%+v, want that nothing was backed up since it was created", got)
	}
}
