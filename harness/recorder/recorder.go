// Package recorder writes what a spec sees into Ginkgo's report, in the entries that package verdict reads back.
//
// A verdict comes from these entries, not from Ginkgo's state alone: Ginkgo marks a spec as failed for whatever ended it,
// also for a defect of the suite. Only a recorded Fail is the verdict "fail". A spec passes only if its body returned and
// recorded neither Fail nor Unknown. What happens after the body, or outside of the recorder, is a suite error.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/smart-restore/conformance/harness/verdict"
)

// phase is how far Ginkgo is with a spec.
type phase int

const (
	inBody    phase = iota
	inCleanUp       // the body returned, gave up, or leaked: Ginkgo goes on without it
	over            // another spec may be running: nothing may reach Ginkgo any more
)

// Spec records one spec. Its methods are safe for concurrent use.
type Spec struct {
	id  string
	ctx context.Context

	mu     sync.Mutex
	phase  phase
	onFail []func(context.Context)
	only   string // why the body judges nothing: see LooksOnly
}

// current is the spec that this process runs. A process runs one at a time.
var current atomic.Pointer[Spec]

// dumpTimeout bounds what OnFailure registers.
const dumpTimeout = 40 * time.Second

// Register adds the nodes that a suite of recorded specs needs. Call it once, at the top level of the suite.
func Register() bool {
	// These nodes run before any DeferCleanup, whoever registered it: a body that still runs by then has leaked.
	ginkgo.JustAfterEach(func(ctx ginkgo.SpecContext) {
		if s := current.Load(); s != nil {
			s.enter(inCleanUp)
			if ginkgo.CurrentSpecReport().Failed() {
				s.dump(ctx)
			}
		}
	}, ginkgo.NodeTimeout(dumpTimeout))
	return ginkgo.ReportAfterEach(func(ginkgo.SpecReport) {
		if s := current.Load(); s != nil {
			s.enter(over)
		}
	})
}

// Run runs the body of a requirement's spec and records how it ended. Call it in the spec's node, with the node's context.
func Run(ctx context.Context, requirement verdict.Requirement, body func(*Spec)) {
	s := &Spec{id: requirement.ID, ctx: ctx}
	current.Store(s)
	add(verdict.NameRequirement, verdict.EntryRequirement(requirement))
	ended := verdict.BodyLeft
	defer func() {
		value := recover()
		if !s.leave(ended, value) {
			// Ginkgo has gone on to another node, and perhaps to another spec. All nodes share its failure state, so this
			// goroutine must not return to Ginkgo.
			select {}
		}
		if value != nil {
			panic(value)
		}
	}()
	body(s)
	s.returned()
	ended = verdict.BodyReturned
}

// leave records that the body is over. It reports whether Ginkgo still waits for it.
func (s *Spec) leave(ended string, panicked any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != inBody {
		return false
	}
	s.phase = inCleanUp
	if panicked != nil && !isGinkgos(panicked) {
		add(verdict.NameSuiteError, fmt.Sprintf("panic: %v%s", panicked, origin()))
	}
	add(verdict.NameBody, ended)
	return true
}

// isGinkgos reports whether Ginkgo itself panics, which is how its Fail and Skip end a node.
func isGinkgos(panicked any) bool {
	err, ok := panicked.(error)
	var ginkgos types.GinkgoError
	return ok && errors.As(err, &ginkgos)
}

// origin is where the panic that is being recovered began, as " (file:line)".
func origin() string {
	seen := false
	for frame := range frames() {
		if frame.Function == "runtime.gopanic" {
			seen = true
		} else if seen && !strings.HasPrefix(frame.Function, "runtime.") {
			return fmt.Sprintf(" (%s:%d)", shortened(frame.File), frame.Line)
		}
	}
	return ""
}

// shortened is the end of a file's path: its folder and its name.
func shortened(file string) string {
	parts := strings.Split(file, "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/")
}

func frames() func(func(runtime.Frame) bool) {
	pcs := make([]uintptr, 64)
	all := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)]) // from the caller of frames' caller on
	return func(yield func(runtime.Frame) bool) {
		for {
			frame, more := all.Next()
			if !yield(frame) || !more {
				return
			}
		}
	}
}

func (s *Spec) enter(p phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = max(s.phase, p)
}

// Evidence records one observation.
func (s *Spec) Evidence(kind, text string, data map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == over {
		s.late(text)
		return
	}
	add(verdict.NameEvidence, verdict.EntryEvidence(verdict.Evidence{Time: time.Now().UTC(), Kind: kind, Text: text, Data: data}))
}

// Fail ends the spec: the requirement does not hold. Where the spec's time is up, or the run was interrupted, its looks
// are cut off, so Fail is recorded as Unknown then.
func (s *Spec) Fail(reason string) { s.end(verdict.NameFail, reason) }

// Unknown ends the spec: whether the requirement holds could not be seen.
func (s *Spec) Unknown(reason string) { s.end(verdict.NameUnknown, reason) }

// stopped is the panic that ends whoever calls Fail or Unknown when the body is over.
type stopped struct{ reason string }

func (s stopped) String() string { return s.reason }

func (s *Spec) end(name, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != inBody {
		if s.phase == over {
			s.late(reason)
		}
		panic(stopped{reason})
	}
	if err := context.Cause(s.ctx); err != nil && name == verdict.NameFail {
		name, reason = verdict.NameUnknown, fmt.Sprintf("%s (seen after the spec was told to stop: %v)", reason, err)
	}
	if s.only != "" {
		s.skip(fmt.Sprintf("%s. Tried all the same, %s: %s", s.only, map[string]string{verdict.NameFail: "this came of it", verdict.NameUnknown: "nothing could be seen"}[name], reason))
	}
	add(name, reason)
	ginkgo.Fail(name+": "+reason, callerInSpec())
}

// LooksOnly has the body judge nothing: the policy does not promise the requirement, and what the body sees of it is a note in that.
func (s *Spec) LooksOnly(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.only = reason
}

// returned ends a spec that judges nothing, and whose body saw nothing that is not as the requirement has it.
func (s *Spec) returned() {
	s.mu.Lock()
	only := s.only
	s.mu.Unlock()
	if only != "" {
		s.skip(only + ". Tried all the same, it came about this time")
	}
}

// NotPromised skips the spec: the policy does not promise the requirement.
func (s *Spec) NotPromised(reason string) { s.skip(reason) }

func (s *Spec) skip(reason string) {
	add(verdict.NameNotPromised, verdict.EntryNotPromised(reason))
	ginkgo.Skip(reason, callerInSpec())
}

// callerInSpec is how many frames above its caller the spec itself is: the first function that is not in the harness.
func callerInSpec() int {
	n := 0
	for frame := range frames() {
		if !strings.Contains(frame.Function, "/harness/") {
			return n
		}
		n++
	}
	return 0
}

// SuiteError records that something went wrong that is not about the requirement. The run is not good then; the spec goes
// on, and its verdict stays what it is.
func (s *Spec) SuiteError(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == over {
		s.late(text)
		return
	}
	add(verdict.NameSuiteError, text)
}

// late says in Ginkgo's log what a body says that leaked and whose spec is over: the report has no place for it.
func (s *Spec) late(text string) {
	fmt.Fprintf(os.Stderr, "%s is over, and still says: %s\n", s.id, text)
}

// OnFailure registers what is to be done before any clean-up if the spec did not pass: to keep what there is to see.
func (s *Spec) OnFailure(do func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onFail = append(s.onFail, do)
}

func (s *Spec) dump(ctx context.Context) {
	s.mu.Lock()
	all := s.onFail
	s.mu.Unlock()
	for _, do := range all {
		if err := guarded(ctx, func(ctx context.Context) error { do(ctx); return nil }); err != nil {
			s.SuiteError("what there was to see could not be kept: " + err.Error())
		}
	}
}

const cleanUpAttempts = 3

// cleanUpPause is the pause between two attempts of a clean-up.
var cleanUpPause = time.Second

// CleanUp registers a clean-up that runs when the body is over, whatever ended it: the one registered last runs first. It
// has its own time, and is tried again within that. What it does must be safe to do twice. If it fails in the end, that is
// a suite error and the spec's verdict stays.
func (s *Spec) CleanUp(what string, within time.Duration, do func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == over {
		panic(stopped{what + " cannot be registered: the spec is over"})
	}
	ginkgo.DeferCleanup(func(ctx ginkgo.SpecContext) {
		// A tenth of the time is left for saying that it failed.
		bounded, cancel := context.WithTimeout(ctx, within-within/10)
		defer cancel()
		if err := tryAgain(bounded, do); err != nil {
			s.SuiteError(fmt.Sprintf("%s: %v", what, err))
		}
		if s.isOver() {
			select {} // it leaked: see Run
		}
	}, ginkgo.NodeTimeout(within))
}

func (s *Spec) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == over
}

// tryAgain tries until it succeeds, each time with an even share of the time that is left.
func tryAgain(ctx context.Context, do func(context.Context) error) (err error) {
	deadline, _ := ctx.Deadline()
	for left := cleanUpAttempts; left > 0; left-- {
		attempt, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		err = guarded(attempt, do)
		cancel()
		if err == nil || left == 1 {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(cleanUpPause):
		}
	}
	return err
}

// guarded makes an error of a panic, and of a Fail or Unknown that was called in a clean-up.
func guarded(ctx context.Context, do func(context.Context) error) (err error) {
	defer func() {
		switch value := recover().(type) {
		case nil:
		case stopped:
			err = errors.New(value.reason)
		default:
			err = fmt.Errorf("panic: %v%s", value, origin())
		}
	}()
	return do(ctx)
}

func add(name, value string) {
	ginkgo.AddReportEntry(name, value, ginkgo.ReportEntryVisibilityNever)
}
