package check

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// fakeStage says of each situation what it is told to, of the policies that it was given last.
type fakeStage struct {
	given    play.Play
	policies []map[string]any
	course   func(policies []map[string]any, s play.Situation) play.Course
	played   []string
	closed   bool
}

func (f *fakeStage) Stage(_ context.Context, given play.Play) (Stage, error) {
	f.given = given
	return f, nil
}

func (f *fakeStage) Take(take play.Take) (*play.Record, error) {
	if len(take.Policies) > 0 {
		f.policies = take.Policies
	}
	r := &play.Record{}
	for _, content := range f.policies {
		o := unstructured.Unstructured{Object: content}
		a := play.Acceptance{Kind: o.GetKind(), Name: o.GetName(), Called: 1}
		if o.GetAnnotations()["refused"] != "" {
			a.Problems = []play.Problem{{Text: "no such field"}}
		}
		if o.GetAnnotations()["unjudged"] != "" {
			a.Unjudged = "it lists what is not there"
		}
		r.Policies = append(r.Policies, a)
	}
	for _, i := range take.Situations {
		s := f.given.Situations[i]
		f.played = append(f.played, s.Name)
		course := f.course(f.policies, s)
		course.Name = s.Name
		r.Situations = append(r.Situations, course)
	}
	return r, nil
}

func (f *fakeStage) Close() error { f.closed = true; return nil }

// version is the policy's only object with an annotation.
func version(p *policy.Policy, annotation string) []*unstructured.Unstructured {
	o := p.Objects[0].DeepCopy()
	o.SetAnnotations(map[string]string{annotation: "yes"})
	return []*unstructured.Unstructured{o}
}

func annotated(policies []map[string]any, with string) bool {
	o := unstructured.Unstructured{Object: policies[0]}
	return o.GetAnnotations()[with] != ""
}

func TestAJuryFindsWhichRequirementCatchesAVersion(t *testing.T) {
	p := loaded(t, "")
	stage := &fakeStage{course: func(policies []map[string]any, s play.Situation) play.Course {
		course := nothing(s)
		switch {
		case annotated(policies, "restores") && s.Name == "no label":
			course.Events = append(course.Events, play.Event{What: play.Made, Object: map[string]any{"kind": "ReplicationDestination", "metadata": map[string]any{"name": "x"}}})
		case annotated(policies, "breaks") && s.Name == "no label":
			course.Error = "it was not played"
		}
		if s.Name == "no label" {
			course.Applied = []string{"GeneratingPolicy/p-restore"}
		}
		return course
	}}
	jury, err := NewJury(t.Context(), p, stage)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(annotation string, all bool) Catch {
		t.Helper()
		stage.played = nil
		catch, err := jury.Judge(version(p, annotation), "GeneratingPolicy/p-restore", "spec", all)
		if err != nil {
			t.Fatal(err)
		}
		return catch
	}
	// The policy does nothing, so most requirements are not held by it, and catch nothing.
	if catch := judge("same", false); catch.Requirement != "" || catch.Refused != "" || catch.Unknown != "" {
		t.Errorf("a version that behaves as the policy is caught: %+v", catch)
	}
	every := len(stage.played)
	if every < 50 {
		t.Errorf("a version that lives was played in %d situations", every)
	}
	if catch := judge("restores", false); catch.Requirement != "core/unlabelled" || catch.Situation != "no label" || !strings.Contains(catch.Text, "ReplicationDestination") {
		t.Errorf("%+v", catch)
	}
	if len(stage.played) > sizes[1] || stage.played[0] != "no label" {
		t.Errorf("the situation in which the object is evaluated does not come first: %v", stage.played)
	}
	if catch := judge("restores", true); catch.Requirement != "core/unlabelled" || !slices.Equal(catch.All, []string{"core/unlabelled"}) || len(stage.played) != every {
		t.Errorf("with all: %+v, after %d situations", catch, len(stage.played))
	}
	if catch := judge("refused", false); catch.Requirement != "" || !strings.Contains(catch.Refused, "Kyverno: no such field") || len(stage.played) > 0 {
		t.Errorf("%+v, after %d situations", catch, len(stage.played))
	}
	if catch := judge("unjudged", false); catch.Requirement != "" || !strings.Contains(catch.Unknown, "GeneratingPolicy/p-restore: it lists what is not there") || len(stage.played) > 0 {
		t.Errorf("%+v, after %d situations", catch, len(stage.played))
	}
	if catch := judge("breaks", false); catch.Requirement != "" || !strings.Contains(catch.Unknown, "it was not played") {
		t.Errorf("%+v", catch)
	}
	if order := jury.order("GeneratingPolicy/p-restore", "spec"); jury.situations[order[0]].name != "no label" || order[1] != 0 {
		t.Errorf("after what has caught versions of the field, the table's order is not kept: %v", order[:3])
	}
	if err := jury.Close(); err != nil || !stage.closed {
		t.Errorf("the stage is open: %v", err)
	}
}

func TestAJuryJudgesNoPolicyThatIsNotPlayed(t *testing.T) {
	p := loaded(t, "")
	p.Objects = version(p, "refused")
	stage := &fakeStage{course: func(_ []map[string]any, s play.Situation) play.Course { return nothing(s) }}
	_, err := NewJury(t.Context(), p, stage)
	var unplayed ErrNotPlayed
	if !errors.As(err, &unplayed) || !strings.Contains(err.Error(), "does not take GeneratingPolicy/p-restore") || !stage.closed {
		t.Errorf("want that Kyverno does not take it, found %v; the stage is closed: %v", err, stage.closed)
	}
}

// A simulator that keeps something of one take for the next one would have every mutant caught.
func TestAJuryTestsItself(t *testing.T) {
	takes := 0
	stage := &fakeStage{course: func(_ []map[string]any, s play.Situation) play.Course {
		course := nothing(s)
		if s.Name == "no label" {
			if takes++; takes > 1 {
				course.Events = append(course.Events, play.Event{What: play.Made, Object: map[string]any{"kind": "ReplicationDestination", "metadata": map[string]any{"name": "x"}}})
			}
		}
		return course
	}}
	if _, err := NewJury(t.Context(), loaded(t, ""), stage); err == nil || !strings.Contains(err.Error(), "played a second time, is caught by core/unlabelled") || !stage.closed {
		t.Errorf("want that the simulator is wrong, found %v", err)
	}
}
