package check

import (
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// forbidden is how a policy ends that asks for what Kyverno may not do.
const forbidden = `failed to generate resources: permission denied: secrets is forbidden: User "system:serviceaccount:kyverno:kyverno-background-controller" cannot create resource "secrets" in API group "" in the namespace "shop": no ClusterRole with the label x: "true" allows it`

// What Kyverno may not do is one finding, whatever comes of it.
func TestARightThatLacksIsOneFinding(t *testing.T) {
	r := run(t, loaded(t, ""), fake{acceptances: taken, course: func(s play.Situation) play.Course {
		c := nothing(s)
		c.Events = append(c.Events, play.Event{What: play.Failed, Policy: "GeneratingPolicy/p-restore", Text: forbidden})
		return c
	}})
	all := causes(r)
	if len(all) != 1 || all[0].Requirement != "core/fresh" || all[0].Policy != "GeneratingPolicy/p-restore" || !strings.Contains(all[0].Text, forbidden) {
		t.Errorf("want one finding, found %d: %+v", len(all), all)
	}
	for _, row := range r.Rows {
		if row.Verdict != Finding {
			t.Errorf("%+v", row)
		}
	}
}

// It is one where nothing else is wrong, too.
func TestARightThatLacksIsFoundWhereAllElseIsRight(t *testing.T) {
	r := run(t, loaded(t, ""), fake{acceptances: taken, course: func(s play.Situation) play.Course {
		c := good(s)
		if s.Name == "no backup" {
			c.Events = append(c.Events, play.Event{What: play.Failed, Policy: "GeneratingPolicy/p-restore", Text: forbidden})
		}
		return c
	}})
	if all := r.Findings; len(all) != 1 || all[0].Requirement != "core/fresh" || !strings.HasPrefix(all[0].Text, "it ends in an error: ") {
		t.Errorf("%+v", all)
	}
}

func TestAPolicyThatIsNeverReady(t *testing.T) {
	acceptances := []play.Acceptance{{Kind: "GeneratingPolicy", Name: "p-restore", Called: 1, NotReady: "somebody may not list things"}}
	r := run(t, loaded(t, ""), fake{acceptances: acceptances, course: good})
	if all := r.Findings; len(all) != 1 || all[0].Requirement != policy.Accepted || all[0].Line != 2 || !strings.HasSuffix(all[0].Text, "never reports it as ready: somebody may not list things") {
		t.Errorf("%+v", all)
	}
	if got := row(t, r, "core/restore"); got.Verdict != OK {
		t.Errorf("what it does is not judged: %+v", got)
	}
}

func TestWhatGoesWithAPVC(t *testing.T) {
	gone := map[string]any{"name": claimName, "namespace": namespace, "uid": "u"}
	stays := map[string]any{"name": claimName + "-2", "namespace": namespace, "uid": "v"}
	backs := func(of map[string]any, secret string) play.Event {
		return made(1, source, of, map[string]any{"sourcePVC": of["name"], "restic": map[string]any{"repository": secret}})
	}
	restores := func(of map[string]any, secret string) play.Event {
		return made(1, destination, of, map[string]any{"restic": map[string]any{"destinationPVC": of["name"], "repository": secret}})
	}
	secret := func(name string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name, "namespace": namespace}}
	}
	const synchronizes = `"evaluation": {"synchronize": {"enabled": true}}, "generate": []`
	for name, c := range map[string]struct {
		policy  string
		events  []play.Event
		left    []map[string]any // at the end
		want    string           // empty: nothing is wrong
		unknown bool
		blind   bool
	}{
		"all goes": {events: []play.Event{backs(gone, "one"), restores(gone, "one"), backs(stays, "two")},
			left: []map[string]any{backs(stays, "two").Object, secret("two")}},
		"the Secret stays": {events: []play.Event{backs(gone, "one")}, left: []map[string]any{secret("one")},
			want: "Secret one is left when PVC data is deleted: credentials for S3"},
		"the ReplicationSource stays": {events: []play.Event{backs(gone, "one")}, left: []map[string]any{backs(gone, "one").Object},
			want: "ReplicationSource data is left when PVC data is deleted"},
		"the ReplicationDestination stays": {events: []play.Event{restores(gone, "one")}, left: []map[string]any{restores(gone, "one").Object},
			want: "ReplicationDestination data is left when PVC data is deleted"},
		"a Secret that the other PVC uses, too, stays": {events: []play.Event{backs(gone, "one"), backs(stays, "one")},
			left: []map[string]any{backs(stays, "one").Object, secret("one")}},
		"the base Secret stays": {events: []play.Event{backs(gone, policy.Default().BaseSecret.Name)}, left: []map[string]any{secret(policy.Default().BaseSecret.Name)}},
		"the other one's goes, too": {events: []play.Event{backs(gone, "one"), backs(stays, "two")},
			want: "ReplicationSource data-2 of PVC data-2 is taken away"},
		"Kyverno may delete it": {policy: synchronizes, events: []play.Event{backs(gone, "one")}, left: []map[string]any{secret("one")}, unknown: true},
		"nothing was made":      {blind: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &found{course: play.Course{Events: c.events, Objects: c.left}, contract: policy.Default(), applied: applied{}}
			f.subjects.all = []subject{{name: "GeneratingPolicy/p-restore", text: strings.ReplaceAll("{"+c.policy+"}", ": ", ":")}}
			f.goesWithItsClaim()
			if (f.unknown != "") != c.unknown || (f.blind != "") != c.blind {
				t.Errorf("unknown %q, blind %q", f.unknown, f.blind)
			}
			switch {
			case c.unknown:
			case c.want == "" && len(f.problems) > 0, c.want != "" && (len(f.problems) != 1 || !strings.HasPrefix(f.problems[0].text, c.want)):
				t.Errorf("got  %+v\nwant %q", f.problems, c.want)
			}
		})
	}
}

// What kept a mover back is named, with what it said.
func TestWhatHoldsAMoverBack(t *testing.T) {
	job := map[string]any{"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "volsync-src-data", "namespace": namespace}}
	f := &found{course: play.Course{Events: []play.Event{
		{What: play.Asked, Text: "GET /x → 403"},
		{What: play.Refusal, By: play.VolSync, Object: job, Text: "Policy gate failed: it is not known"},
	}}}
	f.subjects.all = []subject{{name: "ValidatingPolicy/another", text: `"resources":["jobs"]`}, {name: "ValidatingPolicy/gate", text: `"resources":["jobs"]`}}
	if gate, why := f.held(source); gate != "ValidatingPolicy/gate" || why != "; Policy gate failed: it is not known (GET /x → 403)" {
		t.Errorf("got %q, %q", gate, why)
	}
}
