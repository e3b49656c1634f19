package history

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var toyFaults = []Fault{
	{Name: "refused", Unknown: true, Movers: Fails}, {Name: "amnesia", Unknown: true, Movers: Forgets}, {Name: "empty-bucket", Unknown: true, Movers: NoDisk}, {Name: "list-lies", Movers: Lists}, {Name: "read-only", Movers: ReadOnly},
}

// story reads events: "what whom how", one after the other.
func story(t *testing.T, lines ...string) (events []Event) {
	t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		e := Event{Do: words[0]}
		for _, word := range words[1:] {
			if strings.Contains(word, "/") {
				e.PVC = word
			} else {
				e.How = word
			}
		}
		if err := e.Check(toyFaults); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func TestInvariants(t *testing.T) {
	// waits lets the app in when the restore is done, and a backup when no restore is under way.
	waits := func(w *toy, pod map[string]any) bool {
		name := at(pod, "metadata", "name")
		for _, d := range w.List(destination) {
			open := at(d, "status", "lastManualSync") == ""
			if open && !strings.HasPrefix(name, "replicationdestination-") && at(d, "metadata", "namespace") == at(pod, "metadata", "namespace") {
				return true
			}
		}
		return false
	}
	decides := func(decision string, make func(*toy, map[string]any)) func(*toy, map[string]any) {
		return func(w *toy, pvc map[string]any) {
			mapAt(pvc, "metadata")["annotations"] = map[string]any{"toy/decision": decision}
			make(w, pvc)
		}
	}
	for name, c := range map[string]struct {
		policy  func(*toy, map[string]any)
		refuses func(*toy, map[string]any) bool
		events  []string
		want    string // the invariant; empty: all hold
		event   int
	}{
		"backed up and restored, the app waits": {careless, waits, []string{
			"create shop/data clean", "start shop/data", "hour", "delete shop/data app-first", "create shop/data clean", "start shop/data", "wait", "wait", "write shop/data", "hour",
		}, "", 0},
		"the app does not wait": {plan, nil, []string{
			"backup shop/data", "create shop/data clean", "start shop/data", "wait", "wait",
		}, "a", 5},
		"the app writes on, on what was restored": {careless, waits, []string{
			"backup shop/data", "create shop/data clean", "wait", "wait", "start shop/data", "write shop/data", "wait", "hour", "hour",
		}, "", 0},
		"a restore is done again beside the app": {func(w *toy, pvc map[string]any) { w.make(pvc, key(pvc), source, destination) }, nil, []string{
			"backup shop/data", "create shop/data clean", "wait", "wait", "start shop/data", "write shop/data", "destination shop/data deleted", "wait",
		}, "", 0},
		"a volume with content is restored over": {plan, nil, []string{"backup shop/data", "create shop/data volume", "wait", "wait"}, "a", 4},
		"an undecided volume is backed up into the old repository, in the same hour": {careless, nil, []string{
			"backup shop/data", "backup shop/data", "s3-down refused", "create shop/data clean", "start shop/data", "s3-up", "wait", "wait",
		}, "b/removed", 8},
		"in another hour, it hides the good one": {careless, waits, []string{
			"backup shop/data", "hour", "s3-down refused", "create shop/data clean", "start shop/data", "s3-up", "wait", "wait",
			"delete shop/data app-first", "create shop/data clean", "wait", "wait",
		}, "b/hidden", 12},
		"somebody accepts it": {careless, waits, []string{
			"backup shop/data", "s3-down refused", "create shop/data clean", "start shop/data", "accept shop/data", "s3-up", "wait", "wait",
		}, "", 0},
		"a repository is made over another, while S3 has forgotten it": {careless, nil, []string{
			"create shop/data clean", "start shop/data", "hour", "s3-down amnesia", "hour",
		}, "b/overwritten", 5},
		"S3 forgets while a mover is at work, and none begins meanwhile": {func(w *toy, pvc map[string]any) { w.make(pvc, key(pvc), source) }, func(w *toy, _ map[string]any) bool { return w.down }, []string{
			"backup shop/data", "create shop/data volume", "wait", "s3-down amnesia", "wait",
		}, "", 0},
		"a restore makes it, too": {careless, waits, []string{"backup shop/data", "create shop/data clean", "s3-down amnesia", "wait"}, "b/overwritten", 4},
		"S3 gets its disk back while a mover tries to make a repository": {careless, waits, []string{
			"backup shop/data", "create shop/data clean", "s3-down empty-bucket", "wait", "s3-up",
		}, "b/overwritten", 5},
		"S3 gets its disk back at the end": {careless, waits, []string{
			"backup shop/data", "create shop/data clean", "s3-down empty-bucket", "wait",
		}, "b/overwritten", 0},
		"S3 gets its disk back, and no mover has begun without it": {careless, func(w *toy, o map[string]any) bool { return w.down || waits(w, o) }, []string{
			"backup shop/data", "create shop/data clean", "s3-down empty-bucket", "wait", "s3-up", "wait", "wait",
		}, "", 0},
		"one repository for two PVCs": {func(w *toy, pvc map[string]any) { w.make(pvc, "all", source) }, nil, []string{
			"create shop/data clean", "start shop/data", "create office/data clean", "start office/data", "wait", "wait", "hour",
		}, "c", 6},
		"the app starts as if it were restored": {decides("restore", careless), nil, []string{
			"backup shop/data", "create shop/data clean", "start shop/data",
		}, "d", 3},
		"a pod that was there before its PVC, which goes on saying that it is restored": {decides("restore", func(*toy, map[string]any) {}), nil, []string{
			"start shop/data", "backup shop/data", "create shop/data clean",
		}, "d", 0},
		"nothing was found, and nobody says so": {decides("restore", careless), waits, []string{
			"backup shop/data", "create shop/data clean", "s3-down list-lies", "wait", "wait", "start shop/data",
		}, "d", 6},
		"it is never backed up, and does not say so": {func(*toy, map[string]any) {}, nil, []string{"create shop/data clean"}, "e/backup", 0},
		"it is never backed up, and says so":         {decides("unknown: S3 did not answer", func(*toy, map[string]any) {}), nil, []string{"create shop/data clean"}, "", 0},
		"the app never starts":                       {careless, func(_ *toy, pod map[string]any) bool { return mapAt(pod, "spec") != nil }, []string{"create shop/data clean"}, "e/start", 0},
		"unknown, and restored": {decides("unknown: S3 did not answer", func(w *toy, pvc map[string]any) { w.make(pvc, key(pvc), source, destination) }), waits, []string{
			"backup shop/data", "create shop/data clean", "wait",
		}, "f", 3},
		"nobody could ask, and it is restored": {func(w *toy, pvc map[string]any) { w.make(pvc, key(pvc), destination) }, waits, []string{
			"backup shop/data", "s3-down refused", "create shop/data clean", "wait",
		}, "f", 4},
		"a killed mover's lock ends all backups": {careless, nil, []string{
			"create shop/data clean", "start shop/data", "wait", "killed shop/data at-work", "hour", "hour",
		}, "", 0},
		"somebody accepts it, and a tool takes that off": {careless, waits, []string{
			"backup shop/data", "s3-down refused", "create shop/data clean", "start shop/data", "accept shop/data", "strip shop/data", "s3-up", "wait", "wait",
		}, "", 0},
		"a volume that is kept is restored over": {plan, nil, []string{"backup shop/data", "create shop/data kept-volume", "wait", "wait"}, "a", 4},
		"a volume that is kept is backed up": {func(w *toy, pvc map[string]any) { w.make(pvc, key(pvc), source) }, nil, []string{
			"backup shop/data", "create shop/data kept-volume", "start shop/data", "hour", "delete shop/data app-first", "create shop/data kept-volume", "hour",
		}, "", 0},
		"credentials that are empty, and nobody backs up": {func(w *toy, pvc map[string]any) {
			w.make(pvc, key(pvc), source)
			namespace, _ := split(key(pvc))
			if at(w.Get("Secret", namespace, "base"), "data", "RESTIC_PASSWORD") == "" {
				mapAt(w.Get("Secret", namespace, "data"), "data")["RESTIC_PASSWORD"] = ""
			}
		}, nil, []string{"secret is-empty", "create shop/data clean", "start shop/data", "hour"}, "e/backup", 0},
		"the policy is removed while a volume is restored, and its gate with it": {decides("restore", plan), waits, []string{
			"backup shop/data", "create shop/data clean", "policy is-removed", "start shop/data", "wait", "wait", "policy is-applied-again",
		}, "", 0},
		"the policy is applied again, and restores over what was written without it": {plan, waits, []string{
			"backup shop/data", "policy is-removed", "create shop/data clean", "start shop/data", "write shop/data", "policy is-applied-again", "wait", "wait",
		}, "a", 8},
		"the policy is removed after the restore, and restores again": {decides("restore", plan), waits, []string{
			"backup shop/data", "create shop/data clean", "wait", "wait", "start shop/data", "write shop/data",
			"policy is-removed", "destination shop/data deleted", "source shop/data deleted", "policy is-applied-again", "policy is-applied-again", "wait", "wait",
		}, "a", 13},
		"S3 forgets while the policy is removed: nobody is there to gate movers": {careless, waits, []string{
			"create shop/data clean", "start shop/data", "hour", "policy is-removed", "s3-down amnesia", "hour",
		}, "", 0},
		"nothing is made while the policy is removed, and all is well after": {careless, waits, []string{"policy is-removed", "create shop/data clean", "start shop/data"}, "", 0},
		"what is not there cannot be deleted":                                {careless, nil, []string{"delete shop/data app-first", "killed shop/data at-work", "write shop/data", "accept shop/data", "strip shop/data", "stop shop/data"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newToy()
			w.policy, w.refuses = c.policy, c.refuses
			v, err := Play(w, toyTerms(), toyFaults, story(t, c.events...))
			if err != nil {
				t.Fatal(err)
			}
			if v == nil {
				v = &Violation{}
			}
			if v.Invariant != c.want || v.Event != c.event {
				t.Errorf("%q at event %d (%s), want %q at %d", v.Invariant, v.Event, v.Text, c.want, c.event)
			}
			if c.want != "" {
				if letter, _, _ := strings.Cut(c.want, "/"); Invariants[letter] == "" {
					t.Errorf("nobody says what %s is", letter)
				}
			}
		})
	}
}

// Where nobody promises to act for a PVC that is labelled later, or for one that was created while Kyverno was away, nothing has to come of it.
func TestWhatIsNotPromisedIsMissed(t *testing.T) {
	for name, c := range map[string]struct {
		promise func(*Terms)
		events  []string
	}{
		"labelled by another webhook": {func(terms *Terms) { terms.Relabels = true }, []string{"create shop/data labelled-later"}},
		"requests that are lost":      {func(terms *Terms) { terms.CatchesUp = true }, []string{"background loses-requests", "create shop/data clean"}},
	} {
		for want, promise := range map[string]func(*Terms){"": func(*Terms) {}, "e/backup": c.promise} {
			t.Run(name+" "+want, func(t *testing.T) {
				terms := toyTerms()
				promise(&terms)
				w := newToy()
				w.policy = func(w *toy, pvc map[string]any) {
					if !w.lost {
						careless(w, pvc)
					}
				}
				v, err := Play(w, terms, toyFaults, story(t, c.events...))
				if err != nil || v == nil && want != "" || v != nil && v.Invariant != want {
					t.Errorf("%+v, %v, want %q", v, err, want)
				}
			})
		}
	}
}

// A volume that is kept for a PVC which is not created is kept for no later one.
func TestAVolumeIsKeptForOnePVC(t *testing.T) {
	w := newToy()
	w.full = true
	if v, err := Play(w, toyTerms(), toyFaults, story(t, "create shop/data kept-volume")); err != nil || v != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if all := w.List("PersistentVolume"); len(all) > 0 {
		t.Errorf("it is there still: %v", all)
	}
}

// plan makes a destination where there is a backup, and nothing holds the app back.
func plan(w *toy, pvc map[string]any) {
	if w.backups[key(pvc)] {
		w.make(pvc, key(pvc), destination)
	}
}

// What was found once is found again.
func TestRecordedHistories(t *testing.T) {
	policies := map[string]func(*toy, map[string]any){"careless": careless, "plan": plan}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var recorded struct {
				Policy, Invariant string
				Events            []Event
			}
			if err := yaml.Unmarshal(raw, &recorded); err != nil {
				t.Fatal(err)
			}
			policy := policies[recorded.Policy]
			if policy == nil {
				t.Fatalf("there is no policy %q", recorded.Policy)
			}
			for _, e := range recorded.Events {
				if err := e.Check(toyFaults); err != nil {
					t.Fatal(err)
				}
			}
			w := newToy()
			w.policy = policy
			v, err := Play(w, toyTerms(), toyFaults, recorded.Events)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if v != nil {
				got = v.Invariant
			}
			if got != recorded.Invariant {
				t.Errorf("%q, want %q", got, recorded.Invariant)
			}
		})
	}
}

// The gateway ends an outage by itself: one that lasts is begun again before anybody acts.
func TestAnOutageLasts(t *testing.T) {
	w := newToy()
	w.policy, w.ends = careless, true
	w.refuses = func(w *toy, _ map[string]any) bool { return w.down }
	v, err := Play(w, toyTerms(), toyFaults, story(t, "create shop/data volume", "wait", "wait", "s3-down amnesia", "hour", "day", "s3-up"))
	if err != nil || v != nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// What is backed up once a day is waited for that long.
func TestTheEndLastsUntilTheScheduleComes(t *testing.T) {
	for schedule, want := range map[string]int{"": 3, "@hourly": 3, "*/5 * * * *": 3, "30 2 * * *": 26, "0 */6 * * *": 8} {
		if got := (Terms{Schedule: schedule}).healing(); got != want {
			t.Errorf("%q: %d hours, want %d", schedule, got, want)
		}
	}
}

func TestUnlockTakesOldLocksOnly(t *testing.T) {
	now := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	repo := &repository{locks: []lock{{now.Add(-time.Minute), false}, {now.Add(-time.Hour), true}}}
	if !repo.exclusive() {
		t.Error("an exclusive lock is not seen")
	}
	repo.unlock(now)
	if len(repo.locks) != 1 || repo.exclusive() {
		t.Errorf("%+v is left, want the young one", repo.locks)
	}
}

func TestRetention(t *testing.T) {
	began := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		minutes []int // of snapshots, oldest first
		keep    Retain
		want    []int
	}{
		"the newest of each hour, and the oldest":  {[]int{0, 10, 70, 80}, Retain{Hourly: 24}, []int{0, 10, 80}},
		"the oldest, where some count is left":     {[]int{0, 10}, Retain{Hourly: 24}, []int{0, 10}},
		"no more than there are to be":             {[]int{0, 60, 120}, Retain{Hourly: 2}, []int{60, 120}},
		"the last":                                 {[]int{0, 60, 120}, Retain{Last: 1}, []int{120}},
		"the newest of each day, and of each hour": {[]int{0, 60, 1440, 1500}, Retain{Hourly: 1, Daily: 7}, []int{0, 60, 1500}},
		"nothing to keep":                          {nil, Retain{Hourly: 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var all []*snapshot
			for _, m := range c.minutes {
				all = append(all, &snapshot{time: began.Add(time.Duration(m) * time.Minute)})
			}
			var got []int
			for _, s := range retained(all, c.keep) {
				got = append(got, int(s.time.Sub(began).Minutes()))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("kept %v, want %v", got, c.want)
			}
		})
	}
}

func TestAMadeUpEventIsRefused(t *testing.T) {
	for want, e := range map[string]Event{
		`there is no event "explode"`: {Do: "explode"},
		"create happens to a PVC":     {Do: "create", How: "clean"},
		"one of the ways clean":       {Do: "create", PVC: "shop/data", How: "twice"},
		"one of the ways refused":     {Do: "s3-down", How: "unplugged"},
	} {
		if err := e.Check(toyFaults); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", e, err, want)
		}
	}
}

func TestEveryEventIsPlayed(t *testing.T) {
	for _, k := range kinds {
		hows := k.ways(toyFaults)
		if len(hows) == 0 {
			hows = []string{""}
		}
		for _, how := range hows {
			e := Event{Do: k.do, How: how}
			if k.one {
				e.PVC = "shop/data"
			}
			if words := e.Words(); words == k.do || strings.Contains(words, "%!") {
				t.Errorf("%+v is said as %q", e, words)
			}
			w := newToy()
			w.policy = careless
			if _, err := Play(w, toyTerms(), toyFaults, append(story(t, "create shop/data clean", "start shop/data"), e)); err != nil {
				t.Errorf("%+v: %v", e, err)
			}
		}
	}
}

// explored is what is told of a toy policy.
func explored(given Given, policy func(*toy, map[string]any)) (findings []Finding, histories int) {
	given.Faults = toyFaults
	Explore(given, func(events []Event) (*Violation, error) {
		w := newToy()
		w.policy = policy
		return Play(w, toyTerms(), toyFaults, events)
	}, func(m Message) {
		histories += m.Histories
		if m.Finding != nil {
			findings = append(findings, *m.Finding)
		}
	})
	return findings, histories
}

func TestTheSameSeedFindsTheSameShortHistory(t *testing.T) {
	given := Given{Seed: 1, Workers: 1, Histories: 200, First: true}
	first, _ := explored(given, careless)
	again, _ := explored(given, careless)
	if len(first) != 1 || len(again) != 1 || !slices.Equal(first[0].Events, again[0].Events) {
		t.Fatalf("found %+v, and then %+v", first, again)
	}
	if len(first[0].Events) > 8 {
		t.Errorf("the shortest history has %d events: %+v", len(first[0].Events), first[0].Events)
	}
	w := newToy()
	w.policy = careless
	if v, err := Play(w, toyTerms(), toyFaults, first[0].Events); err != nil || v == nil || v.Invariant != first[0].Invariant {
		t.Errorf("played again: %+v, %v, want %s", v, err, first[0].Invariant)
	}
}

func TestTheShortestHistoryIsOfThePlainestPVC(t *testing.T) {
	got := Shorter(story(t, "hour", "create shop/data-2 clean", "start office/data-2", "write shop/data-2"), func(events []Event) bool {
		return len(events) >= 2 && events[len(events)-2].Do == "create" && events[len(events)-1].Do == "write" && events[len(events)-1].PVC == events[len(events)-2].PVC
	})
	if want := story(t, "create shop/data clean", "write shop/data"); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestWorkersShareTheHistories(t *testing.T) {
	nothing := func(w *toy, pvc map[string]any) { w.make(pvc, key(pvc), source) }
	_, one := explored(Given{Seed: 1, Workers: 1, Histories: 20}, nothing)
	if one < 20 {
		t.Errorf("%d histories were played, want at least 20", one)
	}
}
