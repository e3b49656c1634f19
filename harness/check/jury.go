package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// Jury judges versions of a policy: which requirement catches each, that does not catch the policy itself.
type Jury struct {
	policy     *policy.Policy
	stage      Stage
	situations []situation
	blind      map[string]bool  // situations of which nothing can be said of the policy itself
	found      map[string]bool  // requirements that the policy itself does not hold
	relevant   map[string][]int // situations in which an object of the policy, kind/name, was evaluated
	// caught says by place, an object or a field of it, how many versions each situation has caught.
	caught map[string]map[int]int
}

// Catch is what a jury says of a version of the policy.
type Catch struct {
	// Requirement is the one that caught it. Empty: none did.
	Requirement string `json:"requirement,omitempty"`
	Situation   string `json:"situation,omitempty"`
	Text        string `json:"text,omitempty"`
	// All are the requirements that catch it, where all situations were played.
	All []string `json:"all,omitempty"`
	// Refused says that Kyverno or the API server does not take it: whoever applies it is told.
	Refused string `json:"refused,omitempty"`
	// Unknown is why some situation could not be judged, where nothing caught it.
	Unknown string `json:"unknown,omitempty"`
}

// ErrNotPlayed is about a policy that no version can be judged of.
type ErrNotPlayed struct{ Reason string }

func (e ErrNotPlayed) Error() string { return e.Reason }

// NewJury plays the policy itself, on a stage of its own, which Close ends.
func NewJury(ctx context.Context, p *policy.Policy, simulator interface {
	Stage(context.Context, play.Play) (Stage, error)
}) (*Jury, error) {
	if p.Templates != nil || len(p.Kyverno()) == 0 {
		return nil, ErrNotPlayed{"only a cluster can tell: what is applied with each PVC beside the policies is not played"}
	}
	given, all, err := playOf(p, time.Now())
	if err != nil {
		return nil, err
	}
	stage, err := simulator.Stage(ctx, given)
	if err != nil {
		return nil, err
	}
	j := &Jury{policy: p, stage: stage, situations: all, blind: map[string]bool{}, found: map[string]bool{}, relevant: map[string][]int{}, caught: map[string]map[int]int{}}
	if err = j.itself(); err == nil {
		err = j.again()
	}
	if err != nil {
		_ = stage.Close()
		return nil, err
	}
	return j, nil
}

// playOf is a policy with the situations in which it is played, from some time on.
func playOf(p *policy.Policy, began time.Time) (given play.Play, all []situation, err error) {
	given, place, err := givenOf(p, began)
	if err != nil {
		return given, nil, err
	}
	all = situations(place)
	for _, s := range all {
		s.play.Name = s.name
		given.Situations = append(given.Situations, s.play)
	}
	return given, all, nil
}

// givenOf is what a policy is played with, from some time on, in whatever happens.
func givenOf(p *policy.Policy, began time.Time) (given play.Play, place plot, err error) {
	s3 := p.Contract.S3
	given = play.Play{Endpoint: p.Endpoint.URL, Address: p.Endpoint.Addr.Addr(), Bucket: s3.Bucket, Marker: s3.Marker, MarkerBody: s3.MarkerBody, Policies: contents(p.Objects)}
	place = plot{Contract: p.Contract, endpoint: p.Endpoint.URL}
	if oracle := p.Contract.Oracle; oracle.Named() {
		_, _, port := oracle.Service()
		given.Oracle = &play.Oracle{Hosts: oracle.Hosts(), Port: port, Oracle: *oracle.Gateway(s3)}
	}
	if p.Endpoint.HTTPS() {
		certificates, err := authority.New(p.Endpoint.Hostname(), began)
		if err != nil {
			return given, place, err
		}
		place.ca, given.Certificates, given.Trusted = certificates.CA, certificates, s3.Trust == policy.TrustImages
	}
	return given, place, nil
}

func contents(objects []*unstructured.Unstructured) (all []map[string]any) {
	for _, o := range objects {
		all = append(all, o.Object)
	}
	return all
}

// Close ends the stage.
func (j *Jury) Close() error { return j.stage.Close() }

// itself is about the policy as it is.
func (j *Jury) itself() error {
	var all []int
	for i, s := range j.situations {
		if s.isFor(j.policy.Contract) {
			all = append(all, i)
		}
	}
	c, record, err := j.take(j.policy.Objects, nil, all)
	if err != nil {
		return err
	}
	for _, a := range record.Policies {
		if len(a.Problems) > 0 || a.Unjudged != "" {
			return ErrNotPlayed{cmp.Or(c.accepted(record.Policies))}
		}
	}
	for i, course := range record.Situations {
		for _, name := range course.Applied {
			j.relevant[name] = append(j.relevant[name], all[i])
		}
		j.relevant[""] = append(j.relevant[""], all[i])
	}
	for _, t := range c.Findings {
		j.found[t.Requirement] = true
	}
	for _, row := range c.Rows {
		j.blind[row.Situation] = row.Verdict == Unknown
	}
	return nil
}

// again is the jury's own test: what it judges after something else, it must not catch for that.
func (j *Jury) again() error {
	catch, err := j.Judge(j.policy.Objects, "", "", true)
	if err == nil && catch.Requirement != "" {
		err = fmt.Errorf("the simulator is wrong: the policy itself, played a second time, is caught by %s (%s): %s", catch.Requirement, catch.Situation, catch.Text)
	}
	return err
}

// take plays some situations with objects, and judges what came of it. The report goes on from takes before.
func (j *Jury) take(objects []*unstructured.Unstructured, c *checker, which []int) (*checker, *play.Record, error) {
	take := play.Take{Situations: which}
	if c == nil {
		take.Policies = contents(objects)
		version := *j.policy
		version.Objects = objects
		c = &checker{Report: &Report{}, contract: j.policy.Contract, subjects: subjectsOf(&version), reasons: j.policy.Contract.Reasons(), applied: applied{}, causes: map[string]int{}}
		for _, f := range policy.FindingsIn(version.Check()) {
			c.trouble(f.Requirement, c.static(f))
		}
		c.unbound(&version)
	}
	record, err := j.stage.Take(take)
	if err != nil {
		return nil, nil, err
	}
	if len(record.Situations) != len(which) {
		return nil, nil, fmt.Errorf("the simulator played %d of %d situations", len(record.Situations), len(which))
	}
	for _, a := range record.Policies {
		if a.Kind != policy.NativeBinding {
			c.applied[a.Kind+"/"+a.Name] = a.Called
		}
	}
	for i, n := range which {
		c.row(j.situations[n], record.Situations[i], "")
	}
	return c, record, nil
}

// sizes are how many situations are played at a time until one catches what is judged.
var sizes = []int{0, general, 4, 8, 16, 32}

// general is how many situations at the beginning of the table say whether a policy works at all.
const general = 3

// Judge judges a version of which one object, kind/name, is another one in a field, or gone. With all, it plays every situation, too,
// after one has caught it.
func (j *Jury) Judge(objects []*unstructured.Unstructured, object, field string, all bool) (Catch, error) {
	place := object + " " + field
	order := j.order(object, field)
	var c *checker
	var record *play.Record
	var err error
	for round := 0; round == 0 || len(order) > 0; round++ {
		n := len(order)
		if round < len(sizes) && !all {
			n = min(n, sizes[round])
		}
		which := order[:n]
		order = order[n:]
		if c, record, err = j.take(objects, c, which); err != nil {
			return Catch{}, err
		}
		if said, is := notPlayed(record); is {
			return said, nil
		}
		if catch, caught := j.catch(c); caught {
			for _, i := range which {
				if j.situations[i].name == catch.Situation {
					j.note(place, i)
					j.note(object, i)
				}
			}
			return catch, nil
		}
	}
	c.accepted(record.Policies) // what is never ready
	c.acts()
	catch, _ := j.catch(c)
	for _, row := range c.Rows {
		if row.Verdict == Unknown && !j.blind[row.Situation] && catch.Requirement == "" && catch.Unknown == "" {
			catch.Unknown = row.Situation + ": " + row.Text
		}
	}
	return catch, nil
}

// notPlayed is what is said of a version that is not taken, or of which the simulator cannot tell what it does: what was played is without it.
func notPlayed(record *play.Record) (said Catch, is bool) {
	for _, a := range record.Policies {
		if len(a.Problems) > 0 {
			return Catch{Refused: taker(a.Kind+"/"+a.Name) + ": " + a.Problems[0].Text}, true
		}
	}
	for _, a := range record.Policies {
		if a.Unjudged != "" {
			return Catch{Unknown: a.Kind + "/" + a.Name + ": " + a.Unjudged}, true
		}
	}
	return Catch{}, false
}

// catch is the first finding of a requirement that the policy itself holds.
func (j *Jury) catch(c *checker) (catch Catch, caught bool) {
	for _, t := range c.Findings {
		if j.found[t.Requirement] {
			continue
		}
		if !caught {
			catch, caught = Catch{Requirement: t.Requirement, Situation: t.Situation, Text: t.Text}, true
		}
		if !slices.Contains(catch.All, t.Requirement) {
			catch.All = append(catch.All, t.Requirement)
		}
	}
	return catch, caught
}

func (j *Jury) note(place string, situation int) {
	if j.caught[place] == nil {
		j.caught[place] = map[int]int{}
	}
	j.caught[place][situation]++
}

// order is that in which situations are played, so that what catches a version says what is wrong with it: first those that show whether
// the policy works at all, then those that have caught versions of the same field, then those in which the object was evaluated, those
// first that have caught most versions of it, then the rest. Of a field that says what is done, and not when, the rest shows nothing.
func (j *Jury) order(object, field string) []int {
	place := object + " " + field
	rank := func(i int) int {
		switch is := slices.Contains(j.relevant[object], i); {
		case is && i < general:
			return 0
		case j.caught[place][i] > 0:
			return 1
		case is:
			return 2
		}
		return 3
	}
	order := slices.Clone(j.relevant[""])
	if len(j.relevant[object]) > 0 && slices.ContainsFunc(actions, func(prefix string) bool { return strings.HasPrefix(field, prefix) }) {
		order = slices.DeleteFunc(order, func(i int) bool { return rank(i) == 3 })
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(j.caught[place][b], j.caught[place][a]), cmp.Compare(j.caught[object][b], j.caught[object][a]))
	})
	return order
}

// actions are how fields of Kyverno's CEL policies and of the API server's own begin that are read once one applies.
var actions = []string{"spec.variables[", "spec.validations[", "spec.mutations[", "spec.generate["}
