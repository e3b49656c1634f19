// Package check finds what can be found about a policy without a cluster: whether Kyverno takes it, and what it makes Kyverno
// do in each situation, over the whole fault table. The simulator is Kyverno's own engine (fixtures/_simulator).
package check

import (
	"cmp"
	"context"
	"fmt"
	"path"
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
	OK       Verdict = "ok"             // the policy did what is wanted
	Finding  Verdict = "fail"           // it did not
	Expected Verdict = "fail, expected" // it did not, and its contract says so
	Unknown  Verdict = "unknown"        // it cannot be told without a cluster
)

// Report is the result of a check.
type Report struct {
	Policy  string `json:"policy"`
	Name    string `json:"name"`
	Kyverno string `json:"kyverno,omitempty"`
	// MadeFor are the stacks that the policy is made for, where the simulator is none of them.
	MadeFor []string `json:"madeFor,omitempty"`
	Rows    []Row    `json:"rows"`
	// Findings are what is wrong, the rows' too. Those that follow from an earlier one say so.
	Findings []Trouble `json:"findings"`
	// Notes are what may be a mistake: something that the contract says otherwise. They fail nothing.
	Notes []Note `json:"notes,omitempty"`
	// NotSeen are the failures that the contract expects and the check did not see.
	NotSeen []NotSeen `json:"notSeen,omitempty"`
	// Unplayed is why nothing could be said of the policy: it was read, and no situation could be judged. Empty: some were.
	Unplayed string `json:"unplayed,omitempty"`
	// Refused is why make e2e would not start: no stack has what the policy names. Empty: one has.
	Refused string `json:"refused,omitempty"`
	// NotLookedAt is what this check says nothing about, of this policy.
	NotLookedAt []string `json:"notLookedAt"`
	Millis      int64    `json:"millis"`
}

// Note is something that may be a mistake.
type Note struct {
	Policy string `json:"object,omitempty"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Text   string `json:"text"`
}

// NotSeen is a failure that is expected, and was not seen.
type NotSeen struct {
	Requirement string `json:"requirement"`
	Reason      string `json:"reason"` // why the check did not see it
}

// Row is one situation.
type Row struct {
	Situation   string  `json:"situation"`
	Requirement string  `json:"requirement"`
	Restores    string  `json:"restores"`   // whether a ReplicationDestination was made: yes, no, or after how long
	BacksUp     string  `json:"backsUp"`    // the same of a ReplicationSource; not whether a backup may run
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
	File        string  `json:"file"`
	Line        int     `json:"line"`
	Text        string  `json:"text"`
	// Situation is the one that it was found in. Empty: it is not about one.
	Situation string `json:"situation,omitempty"`
	// Follows is the number, from 1, of the finding with the same cause, if there is one before it.
	Follows int `json:"follows,omitempty"`
}

// OK says whether nothing is wrong that the contract does not expect. A situation that is unknown is not wrong, but where all are, nothing is
// in order.
func (r *Report) OK() bool {
	return r.Unplayed == "" && !slices.ContainsFunc(r.Findings, func(t Trouble) bool { return t.Verdict == Finding })
}

// saysSomething says whether a situation was judged.
func (r *Report) saysSomething() bool {
	return len(r.Rows) == 0 || slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Verdict != Unknown })
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

// Run checks a policy with the simulator of a stack. Its error is about what kept it from doing so.
func Run(ctx context.Context, p *policy.Policy, stack string, simulator Simulator) (*Report, error) {
	began := time.Now()
	r := &Report{Policy: p.Path, Name: p.Contract.Name}
	if len(p.Contract.Stacks) > 0 && !slices.ContainsFunc(p.Contract.Stacks, func(pattern string) bool { is, _ := path.Match(pattern, stack); return is }) {
		r.MadeFor = p.Contract.Stacks
	}
	c := &checker{Report: r, contract: p.Contract, subjects: subjectsOf(p), reasons: p.Contract.Reasons(), applied: applied{}, causes: map[string]int{}}
	if p.Templates != nil {
		if err := c.templates(p); err != nil {
			return nil, err
		}
	}
	if len(p.Kyverno()) == 0 {
		for _, f := range policy.FindingsIn(p.Check()) {
			c.trouble(f.Requirement, c.static(f))
		}
		c.notSeen("nothing was played")
		c.notPlayed()
		r.Millis = time.Since(began).Milliseconds()
		return r, nil
	}
	given, all, err := playOf(p, began)
	if err != nil {
		return nil, err
	}
	record, err := simulator.Play(ctx, given)
	if err != nil {
		return nil, err
	}
	if len(record.Situations) != len(all) {
		return nil, fmt.Errorf("the simulator played %d of %d situations", len(record.Situations), len(all))
	}
	r.Kyverno = record.Kyverno
	for _, a := range record.Policies {
		if len(a.Problems) == 0 && a.Unjudged == "" && a.Kind != policy.NativeBinding {
			c.applied[a.Kind+"/"+a.Name] = a.Called
		}
	}
	for _, f := range policy.FindingsIn(p.Check()) {
		c.trouble(f.Requirement, c.static(f))
	}
	c.unbound(p)
	refused, unjudged := c.accepted(record.Policies)
	reason := cmp.Or(refused, unjudged)
	switch {
	case reason == "" && p.Templates != nil:
		reason = "only a cluster can tell: what is applied with each PVC beside the policies is not played"
	case reason == "":
		c.acts()
	}
	for i, s := range all {
		if s.isFor(p.Contract) {
			c.row(s, record.Situations[i], reason)
		}
	}
	// That a policy is refused is a finding, and what is wrong with templates has been read.
	if refused == "" && p.Templates == nil && !r.saysSomething() {
		r.Unplayed = cmp.Or(unjudged, r.Rows[0].Text)
	}
	r.Notes = notesOn(p, c.subjects)
	c.notSeen(reason)
	c.notLookedAt(p, reason)
	r.Millis = time.Since(began).Milliseconds()
	return r, nil
}

// checker fills a report.
type checker struct {
	*Report
	contract policy.Contract
	subjects subjects
	reasons  map[string]string // of expected failures
	applied  applied
	causes   map[string]int // verdict and cause → the number of the first finding with them
}

// trouble takes down a finding.
func (c *checker) trouble(requirement string, p problem) Verdict {
	t := Trouble{Requirement: requirement, Situation: p.situation, Verdict: Finding, Policy: p.policy, Text: p.text}
	if reason, expected := c.reasons[requirement]; expected {
		t.Verdict, t.Text = Expected, p.text+" (as its contract says: "+reason+")"
	}
	t.File, t.Line = c.subjects.position(p.policy, p.field)
	if p.line > 0 {
		t.Line = p.line
	}
	cause := p.cause
	if cause == "" {
		cause = p.policy + " " + p.text
	}
	// What is expected does not hide what is not, nor what is expected for another reason.
	cause = string(t.Verdict) + " " + c.reasons[requirement] + " " + cause
	if t.Follows = c.causes[cause]; t.Follows == 0 {
		c.causes[cause] = len(c.Findings) + 1
	}
	c.Findings = append(c.Findings, t)
	return t.Verdict
}

// static is a finding about the policy's text as a problem. Selectors that name another label are the cause of what follows.
func (c *checker) static(f *policy.Finding) problem {
	p := problem{text: f.Text}
	if f.Requirement != policy.Label {
		return p
	}
	for _, s := range c.subjects.all {
		if selects, line := c.subjects.otherLabel(s.name, c.contract.PVC); selects != "" {
			p.policy, p.line, p.cause = s.name, line, "selectors "+selects
			return p
		}
	}
	return p
}

// unbound is about policies of the API server's own that nothing binds.
func (c *checker) unbound(p *policy.Policy) {
	bound := map[string]bool{}
	for _, o := range p.Judged() {
		if o.GetKind() == policy.NativeBinding {
			bound[stringAt(o, "spec", "policyName")] = true
		}
	}
	for _, o := range p.Judged() {
		if o.GetKind() == policy.NativePolicy && !bound[o.GetName()] {
			name := o.GetKind() + "/" + o.GetName()
			c.trouble(policy.Acts, problem{text: "it enforces nothing: no " + policy.NativeBinding + " names it as its policyName", policy: name, cause: "unbound " + name})
		}
	}
}

// accepted takes down why policies are not taken, and returns why nothing can be said of what the whole does: one is refused, or one cannot
// be judged. Empty: none is.
func (c *checker) accepted(all []play.Acceptance) (refused, unjudged string) {
	var refusals, unknowns []string
	for _, a := range all {
		name := a.Kind + "/" + a.Name
		for _, p := range a.Problems {
			text := verdict.WholeFirstLine(p.Text) // what is to be done often stands at its end
			if p.Field != "" {
				text = p.Field + ": " + text
			}
			// An expression that does not compile makes those that use it not compile either.
			c.trouble(policy.Accepted, problem{text: taker(name) + " does not take it: " + text, policy: name, field: p.Field, cause: "accepted " + name})
		}
		if a.NotReady != "" {
			c.trouble(policy.Accepted, problem{text: "Kyverno takes it, and never reports it as ready: " + a.NotReady, policy: name, cause: "not ready " + a.NotReady})
		}
		switch {
		case len(a.Problems) > 0:
			refusals = append(refusals, taker(name)+" does not take "+name)
		case a.Unjudged != "":
			unknowns = append(unknowns, name+" ("+a.Unjudged+")")
		}
	}
	if len(refusals) > 0 {
		refused = "nothing was tried: " + strings.Join(refusals, ", ")
	}
	if len(unknowns) > 0 {
		unjudged = "only a cluster can tell: " + strings.Join(unknowns, ", ")
	}
	return refused, unjudged
}

// taker is who takes a policy, kind/name, or does not.
func taker(name string) string {
	if isNative(name) {
		return "the API server"
	}
	return "Kyverno"
}

// acts is about a policy that Kyverno takes and that does nothing.
func (c *checker) acts() {
	for name, calls := range c.applied {
		if calls > 0 && !isNative(name) {
			return
		}
	}
	p := problem{text: fmt.Sprintf("none of its policies is about a PVC %s", c.contract.PVC), cause: "acts"}
	for _, s := range c.subjects.all {
		if selects, line := c.subjects.otherLabel(s.name, c.contract.PVC); selects != "" {
			p.text += ": " + selects
			p.policy, p.line, p.cause = s.name, line, "selectors "+selects
			break
		}
	}
	c.trouble(policy.Acts, p)
}

// notSeen says which failures that the contract expects were not seen.
func (c *checker) notSeen(reason string) {
	looksAt := Requirements()
	for _, e := range c.contract.ExpectedFailures {
		switch seen := slices.ContainsFunc(c.Findings, func(t Trouble) bool { return t.Requirement == e.Requirement }); {
		case seen:
		case !slices.Contains(looksAt, e.Requirement):
			c.NotSeen = append(c.NotSeen, NotSeen{e.Requirement, "only a cluster can show it"})
		case slices.ContainsFunc(c.Rows, func(r Row) bool { return r.Requirement == e.Requirement && r.Verdict == Unknown }):
			c.NotSeen = append(c.NotSeen, NotSeen{e.Requirement, "it is unknown here"})
		case reason != "":
			c.NotSeen = append(c.NotSeen, NotSeen{e.Requirement, reason})
		default:
			c.NotSeen = append(c.NotSeen, NotSeen{e.Requirement, "in the situations that were played, nothing of it is wrong"})
		}
	}
}

// row judges one situation.
func (c *checker) row(s situation, course play.Course, reason string) {
	row := Row{Situation: s.name, Requirement: s.requirement, Wanted: s.wanted, Verdict: OK}
	if reason == "" && course.Error != "" {
		reason = "only a cluster can tell: " + course.Error
	}
	if reason != "" {
		row.Verdict, row.Text = Unknown, reason
		row.Restores, row.BacksUp, row.Admitted = "?", "?", "?"
		c.Rows = append(c.Rows, row)
		return
	}
	f := &found{course: course, contract: c.contract, subjects: c.subjects, applied: c.applied}
	row.describe(f)
	s.verify(f)
	f.forbidden()
	if f.unknown != "" {
		row.Verdict, row.Text = Unknown, f.unknown
		f.problems = nil
	} else if f.blind != "" && len(f.problems) == 0 {
		row.Verdict, row.Text = Unknown, f.blind
	}
	for _, p := range f.problems {
		p.situation = s.name
		row.Verdict = c.trouble(s.requirement, p)
		if row.Text == "" {
			row.Text = p.text
		}
	}
	leak := &found{course: course, contract: c.contract, subjects: c.subjects}
	leak.noToken()
	for _, p := range leak.problems {
		if !slices.ContainsFunc(c.Findings, func(t Trouble) bool { return t.Requirement == tokenLeak }) {
			p.situation = s.name
			c.trouble(tokenLeak, p)
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
