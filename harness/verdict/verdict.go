// Package verdict turns what specs observed into a judgement: a requirement is
// one sentence, evidence is one observation, a verdict is pass, fail or
// unknown, and a report says all of it about one run.
//
// Only what was seen passes. A spec that could not see (the fault was not on,
// the positive control failed, the log was not there), that was skipped, or
// that never ran although it was selected is unknown, and unknown fails a run.
//
// Only what was seen fails, too. A spec's verdict comes from what package
// recorder wrote into Ginkgo's report: fail beats unknown, unknown beats pass. A
// panic, a time-out, a failed clean-up or an expectation outside of the recorder
// is no verdict on the policy: it leaves the requirement unknown, or is an error
// of the suite, and either fails the run.
package verdict

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a run says about one requirement.
type Verdict string

// The verdicts. Unknown fails the run as Fail does, and reads differently.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Unknown Verdict = "unknown"
	// NotPromised is the verdict on a requirement of a feature that the policy
	// does not promise, or that the stack lacks something for: it was not judged. It does not fail the run.
	NotPromised Verdict = "not-promised"
)

var verdicts = []Verdict{Pass, Fail, Unknown, NotPromised}

// Levels of requirements, in the order in which reports list them.
const (
	Core       = "core"
	Safety     = "safety"
	Resilience = "resilience"
	GitOps     = "gitops"
	Scale      = "scale"
	// OtherLevel is where those are counted that have none.
	OtherLevel = "other"
)

var levels = []string{Core, Safety, Resilience, GitOps, Scale}

// Levels lists the levels.
func Levels() []string { return slices.Clone(levels) }

// LevelOf is the level that an ID begins with; empty: none.
func LevelOf(id string) string {
	level, _, found := strings.Cut(id, "/")
	if found && slices.Contains(levels, level) {
		return level
	}
	return ""
}

// Compare orders requirements as reports list them: by level, those that have
// none last, then by ID.
func Compare(a, b Requirement) int {
	rank := func(level string) int {
		if i := slices.Index(levels, level); i >= 0 {
			return i
		}
		return len(levels)
	}
	return cmp.Or(cmp.Compare(rank(a.Level), rank(b.Level)), cmp.Compare(a.ID, b.ID))
}

// Requirement is one sentence about the policy under test.
type Requirement struct {
	// ID is stable: it names the spec, its JUnit case and its section in the
	// docs, as in "core/s3-down/refused".
	ID       string `json:"id"`
	Sentence string `json:"sentence,omitempty"`
	Level    string `json:"level,omitempty"` // core, safety, resilience, gitops or scale
	// Feature is the one of Features that it belongs to; empty: every policy
	// has to meet it.
	Feature string `json:"feature,omitempty"`
}

// Evidence is one observation.
type Evidence struct {
	Time time.Time `json:"time,omitzero"`
	// Kind says where it was seen, as in "audit", "bucket", "volume".
	Kind string         `json:"kind"`
	Text string         `json:"text"`
	Data map[string]any `json:"data,omitempty"`
}

// Kinds of evidence whose Data others read.
const (
	// KindFault is a fault that was put on or taken away: fault (its name), on.
	KindFault = "fault"
)

// Names of the Ginkgo report entries by which a suite records; FromGinkgo
// reads them back. The values are those of the Entry functions:
//
//	AddReportEntry(verdict.NameEvidence, verdict.EntryEvidence(e), ReportEntryVisibilityNever)
const (
	NameRequirement = "requirement"
	NameEvidence    = "evidence"
	NameNotPromised = "not-promised"
	// NameFail is why the requirement does not hold. Nothing but this entry makes
	// the verdict fail.
	NameFail = "fail"
	// NameUnknown is why the spec could not see.
	NameUnknown = "unknown"
	// NameSuiteError is what went wrong that is not about the requirement.
	NameSuiteError = "suite-error"
	// NameBody is how the spec's body ended: BodyReturned or BodyLeft. A spec
	// without it has a body that never ended.
	NameBody = "body"
)

// How a spec's body ended.
const (
	BodyReturned = "returned" // by itself, at its end: only then can the spec pass
	BodyLeft     = "left"     // by Fail, Unknown, Skip or a panic
)

// EntryRequirement returns the value of an entry of NameRequirement.
func EntryRequirement(r Requirement) string {
	b, err := json.Marshal(r)
	if err != nil { // three strings always encode
		panic(err)
	}
	return string(b)
}

// EntryEvidence returns the value of an entry of NameEvidence. Data that JSON
// cannot hold is kept as text: evidence is never lost for its form.
func EntryEvidence(e Evidence) string {
	b, err := json.Marshal(e)
	if err != nil {
		e.Data = map[string]any{"text": fmt.Sprintf("%+v", e.Data)}
		if b, err = json.Marshal(e); err != nil { // a year beyond 9999
			e.Time = time.Time{}
			b, _ = json.Marshal(e)
		}
	}
	return string(b)
}

// EntryNotPromised returns the value of an entry of NameNotPromised: why the
// spec was not tried.
func EntryNotPromised(reason string) string { return reason }

// Quote makes value safe on make's command line in a shell.
func Quote(value string) string {
	const plain = "abcdefghijklmnopqrstuvwxyz0123456789/-_.:"
	if value != "" && strings.Trim(strings.ToLower(value), plain) == "" {
		return value
	}
	return "'" + strings.NewReplacer("'", `'\''`, "$", "$$").Replace(value) + "'"
}

// RerunLine returns the command that runs one requirement alone.
func RerunLine(id string) string {
	const plain = "abcdefghijklmnopqrstuvwxyz0123456789/-_"
	if id != "" && strings.Trim(strings.ToLower(id), plain) == "" {
		return "make e2e FOCUS=" + id
	}
	// FOCUS is a regular expression, and passes through make and a shell.
	var b strings.Builder
	for _, r := range id {
		switch {
		case strings.ContainsRune(`\.+*?()|[]{}^$'"`+"`", r):
			b.WriteByte('.') // any character: an exact match needs no more
		default:
			b.WriteRune(r)
		}
	}
	return "make e2e FOCUS='" + b.String() + "'"
}
