package check

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// at is an event of a step.
func at(step int, e play.Event) play.Event { e.Step = step; return e }

// toBeFilled is the PVC, admitted, with a dataSourceRef to a ReplicationDestination.
func toBeFilled(from string) play.Event {
	claim := plan.claim(claimName)
	claim["spec"].(map[string]any)["dataSourceRef"] = map[string]any{"apiGroup": "volsync.backube", "kind": destination, "name": from}
	return play.Event{What: play.Admitted, Object: claim}
}

// bound is the PVC, bound by the PV controller.
func bound(claim play.Event) play.Event {
	o := (&unstructured.Unstructured{Object: claim.Object}).DeepCopy()
	o.Object["spec"].(map[string]any)["volumeName"] = "pv-1"
	return play.Event{What: play.Admitted, By: play.PVController, Object: o.Object}
}

// restoring is a ReplicationDestination of a name that the policy made.
func restoring(name, copyMethod string) play.Event {
	return made(1, destination, map[string]any{"name": name, "namespace": namespace}, map[string]any{
		"trigger": map[string]any{"manual": "once"}, "restic": map[string]any{"copyMethod": copyMethod},
	})
}

// done is a ReplicationDestination that VolSync reports done.
func done(rd play.Event) play.Event {
	o := (&unstructured.Unstructured{Object: rd.Object}).DeepCopy()
	o.Object["status"] = map[string]any{"lastManualSync": "once"}
	return play.Event{What: play.Admitted, By: play.VolSync, Object: o.Object}
}

// filledFrom says that the PVC is bound to what a ReplicationDestination restored.
func filledFrom(rd play.Event) play.Event {
	return play.Event{What: play.Populated, Text: namespace + "/" + claimName, Object: rd.Object}
}

// moving is a mover's pod that was admitted.
func moving(action, claim string) play.Event {
	mover := pod("mover-" + action)
	mover["spec"].(map[string]any)["containers"] = []any{map[string]any{"args": []any{action}}}
	mover["spec"].(map[string]any)["volumes"].([]any)[0].(map[string]any)["persistentVolumeClaim"] = map[string]any{"claimName": claim}
	return play.Event{What: play.Admitted, By: play.JobController, Object: mover}
}

// What each look takes down of PVCs that the populator fills.
func TestLooksAtThePopulator(t *testing.T) {
	claim, plain := toBeFilled("data-1"), play.Event{What: play.Admitted, Object: plan.claim(claimName)}
	rd := restoring("data-1", "Snapshot")
	early := play.Event{What: play.Admitted, Object: pod("early")}
	intoItsOwn, intoTheApps := moving("restore", "volsync-data-1-dest"), moving("restore", claimName)
	aside := restoring("always", "Snapshot")
	for name, c := range map[string]struct {
		look   func(*found)
		events []play.Event
		want   string // of the first problem; empty: there is none
	}{
		"it fills the PVC":                 {func(f *found) { f.hasDestination(1000) }, []play.Event{claim, rd}, ""},
		"it fills another":                 {func(f *found) { f.hasDestination(1000) }, []play.Event{claim, aside}, "it is not the PVC's dataSourceRef"},
		"by a snapshot":                    {(*found).restoresOnce, []play.Event{claim, rd}, ""},
		"by no snapshot":                   {(*found).restoresOnce, []play.Event{claim, restoring("data-1", "Direct")}, "wanted Snapshot"},
		"filled":                           {(*found).isFilled, []play.Event{claim, rd, filledFrom(rd)}, ""},
		"never filled":                     {(*found).isFilled, []play.Event{claim, rd}, "stays Pending"},
		"nothing to fill":                  {(*found).isFilled, []play.Event{plain}, ""},
		"restored":                         {(*found).neverRestored, []play.Event{claim, rd}, "ReplicationDestination data-1 is made"},
		"it always stands there":           {(*found).neverRestored, []play.Event{plain, aside}, ""},
		"it names its volume":              {(*found).neverRestored, []play.Event{{What: play.Admitted, Object: bound(claim).Object}}, ""},
		"it comes with its own":            {(*found).neverRestored, []play.Event{toBeFilled(restoredName)}, ""},
		"it waits for nobody":              {(*found).neverRestored, []play.Event{claim}, "which nobody makes: it is Pending for ever"},
		"the app waits for its volume":     {(*found).appWaits, []play.Event{claim, rd, early}, ""},
		"the app has its volume":           {(*found).appWaits, []play.Event{claim, rd, bound(claim), early}, "taken before the restore is done"},
		"the app has another volume":       {(*found).appWaits, []play.Event{plain, aside, early}, "taken before the restore is done"},
		"restore beside the app":           {(*found).noRestoreBesideApp, []play.Event{plain, early, intoTheApps}, "is overwritten"},
		"restore away from the app":        {(*found).noRestoreBesideApp, []play.Event{claim, early, intoItsOwn}, ""},
		"app beside a restore":             {(*found).noAppBesideRestore, []play.Event{plain, intoTheApps, early}, "is overwritten"},
		"app away from a restore":          {(*found).noAppBesideRestore, []play.Event{claim, intoItsOwn, early}, ""},
		"restored again":                   {(*found).notRestoredAgain, []play.Event{plain, rd, done(rd), intoTheApps}, "may restore again"},
		"restored again into its own":      {(*found).notRestoredAgain, []play.Event{claim, rd, done(rd), intoItsOwn}, ""},
		"of its own":                       {(*found).hasDestinationOfItsOwn, []play.Event{claim, rd, done(rd), at(3, toBeFilled("data-2")), at(3, restoring("data-2", "Snapshot"))}, ""},
		"from an earlier one":              {(*found).hasDestinationOfItsOwn, []play.Event{claim, rd, done(rd), at(3, claim), at(3, filledFrom(rd))}, "restored for an earlier one"},
		"from what it was given":           {(*found).annotationsDecideNothing, []play.Event{claim, rd, done(rd), at(3, claim), at(3, filledFrom(rd))}, "restored for an earlier one"},
		"the first one's is no other's":    {(*found).annotationsDecideNothing, []play.Event{claim, rd, done(rd), filledFrom(rd), at(3, plain)}, ""},
		"a copy's backup":                  {(*found).annotationsDecideNothing, []play.Event{plain, made(1, source, map[string]any{"name": "s", "namespace": namespace}, map[string]any{"sourcePVC": claimName}), at(2, plain), at(3, moving("backup", "volsync-s-src"))}, "because of annotations that came with the PVC"},
		"what is made for whoever is gone": {(*found).nothingForNobody, []play.Event{claim, restoring("data-1", "Snapshot")}, "is made for a PVC that is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			p := loaded(t, "")
			f := &found{course: play.Course{Events: c.events}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
			c.look(f)
			switch {
			case c.want == "" && len(f.problems) > 0:
				t.Errorf("found %+v", f.problems)
			case c.want != "" && (len(f.problems) == 0 || !strings.Contains(f.problems[0].text, c.want)):
				t.Errorf("got  %+v\nwant %s", f.problems, c.want)
			}
		})
	}
}

// Each sentence of a contract about the unknown is judged by itself.
func TestTheUnknownIsAsPromised(t *testing.T) {
	empty, waits := play.Event{What: play.Admitted, Object: plan.claim(claimName)}, toBeFilled("data-1")
	refused := play.Event{What: play.Refusal, Object: plan.claim(claimName), Text: "nobody knows"}
	rd := restoring("data-1", "Snapshot")
	for _, c := range []struct {
		unknown string
		events  []play.Event
		want    string // empty: it is as promised
	}{
		{policy.StartsEmpty, []play.Event{empty}, ""},
		{policy.StartsEmpty, []play.Event{waits, rd}, "is made"},
		{policy.StartsEmpty, []play.Event{refused}, "the PVC is refused: nobody knows"},
		{policy.Waits, []play.Event{waits, rd}, ""},
		{policy.Waits, []play.Event{waits}, ""}, // somebody may make it when S3 is back
		{policy.Waits, []play.Event{empty}, "it is bound and empty"},
		{policy.Waits, []play.Event{refused}, "the PVC is refused: nobody knows"},
		{policy.IsRefused, []play.Event{refused}, ""},
		{policy.IsRefused, []play.Event{empty}, "the contract says that it is refused"},
		{policy.IsRefused, []play.Event{waits, rd}, "the contract says that it is refused"},
	} {
		p := loaded(t, "unknown: "+c.unknown+"\n")
		of := plot{Contract: p.Contract, endpoint: url}
		i := slices.IndexFunc(situations(of), func(s situation) bool { return s.name == "S3 down: refused" })
		for look, verify := range map[string]func(*found){"alone": (*found).asPromisedOfTheUnknown, "in its row": situations(of)[i].verify} {
			f := &found{course: play.Course{Events: append(slices.Clone(c.events), made(1, source, map[string]any{"name": "s"}, map[string]any{"sourcePVC": claimName}))}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
			verify(f)
			if c.want == "" && len(f.problems) > 0 || c.want != "" && (len(f.problems) == 0 || !strings.Contains(f.problems[0].text, c.want)) {
				t.Errorf("%s, %s: got %+v, want %q", c.unknown, look, f.problems, c.want)
			}
		}
	}
}

// Where no PVC starts empty, nothing is said of one that did.
func TestNoEmptyStart(t *testing.T) {
	for unknown, want := range map[string]bool{policy.StartsEmpty: true, policy.Waits: false, policy.IsRefused: false} {
		of := plan
		of.Unknown = unknown
		all := situations(of)
		for _, requirement := range judgesAnEmptyStart {
			if is := slices.ContainsFunc(all, func(s situation) bool { return s.requirement == requirement }); is != want {
				t.Errorf("%s: %s: %v", unknown, requirement, is)
			}
		}
	}
}

// A ReplicationDestination that comes with each PVC is no restore by itself. What VolSync restores by one into a volume that an app may use,
// nobody sees here.
func TestARestoreThatIsAlwaysThere(t *testing.T) {
	plain := play.Event{What: play.Admitted, Object: plan.claim(claimName)}
	into := made(1, destination, map[string]any{"name": "data", "namespace": namespace}, map[string]any{"restic": map[string]any{"destinationPVC": claimName}})
	for name, c := range map[string]struct {
		restores string
		events   []play.Event
		problems int
		blind    bool
	}{
		"decided, before it is bound": {policy.WhenDecided, []play.Event{toBeFilled("data-1"), restoring("data-1", "Snapshot")}, 1, false},
		"decided, into the volume":    {policy.WhenDecided, []play.Event{plain, into}, 1, false},
		"always, before it is bound":  {policy.Always, []play.Event{toBeFilled("data-1"), restoring("data-1", "Snapshot")}, 0, false},
		"always, into the volume":     {policy.Always, []play.Event{plain, into}, 0, true},
	} {
		p := loaded(t, "restores: "+c.restores+"\n")
		f := &found{course: play.Course{Events: c.events}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
		said := slices.ContainsFunc(situations(plot{p.Contract, url, ""}), func(s situation) bool { return strings.Contains(s.wanted, "no RD") })
		if said != (c.restores == policy.WhenDecided) {
			t.Errorf("%s: that no ReplicationDestination is wanted is said: %v", name, said)
		}
		if f.neverRestored(); len(f.problems) != c.problems || (f.blind != "") != c.blind {
			t.Errorf("%s: found %+v, blind %q", name, f.problems, f.blind)
		}
	}
}

// That a ReplicationSource is not there yet which comes later than the PVC is nobody's fault.
func TestALateSourceIsNotMissing(t *testing.T) {
	p := loaded(t, "backupSource: {when: bound}\n")
	events := []play.Event{{What: play.Admitted, Object: plan.claim(claimName)}}
	for name, look := range map[string]func(*found){
		"of a PVC": func(f *found) { f.hasSource(1000) }, "of several": (*found).repositoriesDiffer, "of a long name": (*found).worksOrRefused,
		"to be backed up": (*found).backedUp, "to be backed up again": (*found).backedUpAtTheEnd,
	} {
		f := &found{course: play.Course{Events: events}, contract: p.Contract, subjects: subjectsOf(p), applied: applied{}}
		if look(f); len(f.problems) > 0 || !strings.Contains(f.unknown, "comes later than the PVC") {
			t.Errorf("%s: found %+v, unknown: %q", name, f.problems, f.unknown)
		}
		f = &found{course: play.Course{Events: events}, contract: plan.Contract, subjects: subjectsOf(p), applied: applied{}}
		if look(f); len(f.problems) == 0 {
			t.Errorf("%s: nothing is found where it is to come with the PVC", name)
		}
	}
}

// Annotations that a PVC is sent with, since they select it or keep it from being selected, are nobody's decision.
func TestWhatSelectsAPVCIsNoDecision(t *testing.T) {
	f := &found{contract: policy.Contract{PVC: policy.PVC{Annotations: map[string]string{"a/backup": "yes"}, OptOut: map[string]string{"a/exclude": "true"}}}}
	for want, annotations := range map[string]map[string]string{
		"":                         {"a/backup": "yes", "a/exclude": "true", "volume.kubernetes.io/selected-node": "n"},
		"a/backup: no, b/said: so": {"b/said": "so", "a/backup": "no", "a/exclude": "true"},
	} {
		o := &unstructured.Unstructured{}
		o.SetAnnotations(annotations)
		if got := f.decision(o); got != want {
			t.Errorf("%v: got %q, wanted %q", annotations, got, want)
		}
	}
}

// By contract, a refusal says why: that a webhook's time was up is no reason that a person can act on.
func TestARefusalHasWords(t *testing.T) {
	for name, c := range map[string]struct {
		unknown, text string
		fails         bool
	}{
		"by the policy":        {policy.IsRefused, "Policy oracle failed: it is not known whether there is a backup", false},
		"nobody waited":        {policy.IsRefused, `failed calling webhook "mutate.kyverno.svc-fail": no answer within 15s`, true},
		"it promises no words": {policy.StartsEmpty, `failed calling webhook "mutate.kyverno.svc-fail": no answer within 15s`, false},
	} {
		f := &found{contract: policy.Contract{Unknown: c.unknown}, course: play.Course{Events: []play.Event{{What: play.Refusal, Object: reference(claimName), Text: c.text}}}}
		if f.refusedWithWords(); (len(f.problems) > 0) != c.fails {
			t.Errorf("%s: %v", name, f.problems)
		}
	}
}
