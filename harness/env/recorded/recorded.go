// Package recorded is a Reporter for unit tests: it keeps what a part of a spec reports, and how it ends.
package recorded

import (
	"context"
	"time"
)

// Reporter ends a spec by panicking, as Ginkgo does, and keeps its clean-ups.
type Reporter struct {
	Evidences, SuiteErrors []string
	CleanUps               []func(context.Context) error
}

// End is how a part of a spec ended: pass, fail or unknown.
type End struct{ How, Reason string }

// Evidence implements env.Reporter.
func (r *Reporter) Evidence(kind, text string, _ map[string]any) {
	r.Evidences = append(r.Evidences, kind+": "+text)
}

// Fail implements env.Reporter.
func (r *Reporter) Fail(reason string) { panic(End{"fail", reason}) }

// Unknown implements env.Reporter.
func (r *Reporter) Unknown(reason string) { panic(End{"unknown", reason}) }

// SuiteError implements env.Reporter.
func (r *Reporter) SuiteError(text string) { r.SuiteErrors = append(r.SuiteErrors, text) }

// CleanUp implements env.Reporter.
func (r *Reporter) CleanUp(_ string, within time.Duration, do func(context.Context) error) {
	r.CleanUps = append(r.CleanUps, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		return do(ctx)
	})
}

// Outcome runs a part of a spec and says how it ended.
func Outcome(do func()) (end End) {
	defer func() {
		if e := recover(); e != nil {
			var ok bool
			if end, ok = e.(End); !ok {
				panic(e)
			}
		}
	}()
	do()
	return End{How: "pass"}
}
