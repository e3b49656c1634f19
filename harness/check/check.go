// Package check finds what can be found about a policy without a cluster: whether Kyverno takes it, and what it makes Kyverno
// do in each situation, over the whole fault table. The simulator is Kyverno's own engine (fixtures/_simulator).
package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Simulator plays situations with a policy.
type Simulator interface {
	Play(ctx context.Context, given play.Play) (*play.Record, error)
}

// Verdict is what is said of a row.
type Verdict string

// The verdicts.
const (
	OK       Verdict = "ok"       // the policy did what is wanted
	Finding  Verdict = "finding"  // it did not
	Expected Verdict = "expected" // it did not, and its contract says so
	Unknown  Verdict = "unknown"  // it cannot be told without a cluster
)

// Report is the result of a check.
type Report struct {
	Policy string `json:"policy"`
	Name   string `json:"name"`
	Engine string `json:"engine,omitempty"`
	// MadeFor are the stacks that the policy is made for, where the simulator is none of them.
	MadeFor []string `json:"madeFor,omitempty"`
	Rows    []Row    `json:"rows"`
	// Findings are what is wrong, the rows' too.
	Findings []Trouble `json:"findings"`
	// NotCalled are the policies that nothing in the situations was about: nothing is said of them.
	NotCalled []string `json:"notCalled,omitempty"`
	Millis    int64    `json:"millis"`
}

// Row is one situation.
type Row struct {
	Situation   string  `json:"situation"`
	Requirement string  `json:"requirement"`
	Restores    string  `json:"restores"`   // yes, no, or when
	BacksUp     string  `json:"backsUp"`    // the same of a ReplicationSource
	Admitted    string  `json:"admitted"`   // yes, or no
	TookMillis  int64   `json:"tookMillis"` // of the admission, by the situation's own clock
	Wanted      string  `json:"wanted"`
	Verdict     Verdict `json:"verdict"`
	Text        string  `json:"text,omitempty"`
}

// Trouble is one finding.
type Trouble struct {
	Requirement string  `json:"requirement"`
	Verdict     Verdict `json:"verdict"` // Finding or Expected
	Policy      string  `json:"object,omitempty"`
	File        string  `json:"file,omitempty"`
	Line        int     `json:"line,omitempty"`
	Text        string  `json:"text"`
}

// OK says whether nothing is wrong that the contract does not expect. What is unknown is not wrong.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Findings, func(t Trouble) bool { return t.Verdict == Finding })
}

// Requirements are those that a check looks at. Of none of them it sees as much as the specs do.
func Requirements() []string {
	all := []string{policy.Restores, policy.BacksUp, policy.Label, policy.InBucket, policy.Accepted, policy.Acts, tokenLeak}
	for _, s := range situations(plot{Contract: policy.Default()}) {
		all = append(all, s.requirement)
	}
	return all
}

// tokenLeak is looked at in every situation.
const tokenLeak = "safety/token-leak"

// Run checks a policy. Its error is about what kept it from doing so.
func Run(ctx context.Context, p *policy.Policy, stack string, simulator Simulator) (*Report, error) {
	began := time.Now()
	r := &Report{Policy: p.Path, Name: p.Contract.Name}
	if err := p.Contract.CheckStack(stack, []string{stack}); err != nil {
		r.MadeFor = p.Contract.Stacks
	}
	c := &checker{Report: r, contract: p.Contract, subjects: subjectsOf(p), reasons: p.Contract.Reasons()}
	for _, f := range policy.FindingsIn(p.Check()) {
		c.trouble(f.Requirement, problem{text: f.Text}, "")
	}
	all := situations(plot{p.Contract, p.Endpoint.URL})
	given := play.Play{Endpoint: p.Endpoint.URL, Bucket: p.Contract.S3.Bucket}
	for _, o := range p.Objects {
		given.Policies = append(given.Policies, o.Object)
	}
	for _, s := range all {
		s.play.Name = s.name
		given.Situations = append(given.Situations, s.play)
	}
	record, err := simulator.Play(ctx, given)
	if err != nil {
		return nil, err
	}
	if len(record.Situations) != len(all) {
		return nil, fmt.Errorf("the simulator played %d of %d situations", len(record.Situations), len(all))
	}
	r.Engine = record.Engine
	reason := c.accepted(record.Policies)
	for i, s := range all {
		if s.feature == "" || p.Contract.Promises(s.feature) {
			c.row(s, record.Situations[i], reason)
		}
	}
	if reason == "" {
		c.acts(record)
	}
	r.Millis = time.Since(began).Milliseconds()
	return r, nil
}

// checker fills a report.
type checker struct {
	*Report
	contract policy.Contract
	subjects subjects
	reasons  map[string]string // of expected failures
}

// trouble takes down a finding.
func (c *checker) trouble(requirement string, p problem, field string) Verdict {
	t := Trouble{Requirement: requirement, Verdict: Finding, Policy: p.policy, Text: p.text}
	if reason, expected := c.reasons[requirement]; expected {
		t.Verdict, t.Text = Expected, p.text+" (as its contract says: "+reason+")"
	}
	t.File, t.Line = c.subjects.position(p.policy, field)
	c.Findings = append(c.Findings, t)
	return t.Verdict
}

// accepted takes down why Kyverno does not take policies, and returns why nothing can be said of what the whole does, if so.
func (c *checker) accepted(all []play.Acceptance) (reason string) {
	var refused, unjudged []string
	for _, a := range all {
		name := a.Kind + "/" + a.Name
		for _, p := range a.Problems {
			text := verdict.FirstLine(p.Text)
			if p.Field != "" {
				text = p.Field + ": " + text
			}
			c.trouble(policy.Accepted, problem{text: "Kyverno does not take it: " + text, policy: name}, p.Field)
		}
		switch {
		case len(a.Problems) > 0:
			refused = append(refused, name)
		case a.Unjudged != "":
			unjudged = append(unjudged, name)
		case a.Called == 0:
			c.NotCalled = append(c.NotCalled, name)
		}
	}
	switch {
	case len(refused) > 0:
		c.NotCalled = nil // nothing was played
		return "cannot be judged before Kyverno takes " + strings.Join(refused, ", ")
	case len(unjudged) > 0:
		return "cannot be judged without a cluster: " + strings.Join(unjudged, ", ")
	}
	return ""
}

// acts is about a policy that Kyverno takes and that does nothing.
func (c *checker) acts(record *play.Record) {
	for _, a := range record.Policies {
		if a.Called > 0 {
			return
		}
	}
	c.trouble(policy.Acts, problem{text: fmt.Sprintf("none of its policies is about a PVC labelled %s=%s", c.contract.PVC.Label, c.contract.PVC.Value)}, "")
}

// row judges one situation.
func (c *checker) row(s situation, course play.Course, reason string) {
	row := Row{Situation: s.name, Requirement: s.requirement, Wanted: s.wanted, Verdict: OK}
	if reason == "" && course.Error != "" {
		reason = "cannot be judged without a cluster: " + course.Error
	}
	if reason != "" {
		row.Verdict, row.Text = Unknown, reason
		row.Restores, row.BacksUp, row.Admitted = "?", "?", "?"
		c.Rows = append(c.Rows, row)
		return
	}
	f := &found{course: course, contract: c.contract, subjects: c.subjects}
	row.describe(f)
	s.verify(f)
	if f.unknown != "" {
		row.Verdict, row.Text = Unknown, f.unknown
		f.problems = nil
	}
	for _, p := range f.problems {
		row.Verdict = c.trouble(s.requirement, p, "")
		if row.Text == "" {
			row.Text = p.text
		}
	}
	leak := &found{course: course, contract: c.contract, subjects: c.subjects}
	leak.noToken()
	for _, p := range leak.problems {
		if !slices.ContainsFunc(c.Findings, func(t Trouble) bool { return t.Requirement == tokenLeak }) {
			c.trouble(tokenLeak, p, "")
		}
	}
	c.Rows = append(c.Rows, row)
}

// describe says what happened.
func (r *Row) describe(f *found) {
	e, admitted := f.claim()
	r.Admitted, r.TookMillis = "no", e.TookMillis
	if admitted {
		r.Admitted = "yes"
	}
	when := func(kind string) string {
		made := f.made(kind)
		if len(made) == 0 {
			return "no"
		}
		if late := f.since(made[0]); late >= time.Second {
			return "after " + seconds(late)
		}
		return "yes"
	}
	r.Restores, r.BacksUp = when(destination), when(source)
}
