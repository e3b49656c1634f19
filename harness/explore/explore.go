// Package explore looks where nobody has looked: it plays random histories with a policy on Kyverno's own engine, and says in which
// one an invariant does not hold (harness/explore/history). It knows no cluster.
package explore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/explore/history"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
)

// Simulator plays histories with a policy.
type Simulator interface {
	Explore(ctx context.Context, given history.Given, tell func(history.Message)) error
}

// Options are how it is explored.
type Options struct {
	For  time.Duration
	Seed uint64
	// First says to stop at the first finding.
	First bool
	// Folder is where findings are written. Empty: they are not.
	Folder string
	// Control is a good policy that the one under test is a patch of: what it breaks, too, is no finding. It may be nil.
	Control *policy.Policy
	// Workers is how many histories are played at a time. 0: one for each processor.
	Workers int
}

// Finding is an invariant that a history breaks.
type Finding struct {
	history.Finding
	File string
	// Expected is what the contract says about it: the requirement, and why it is not held. Empty: it promises the invariant.
	Expected string
}

// Report is what came of it.
type Report struct {
	Policy  *policy.Policy
	Kyverno string
	Options
	// Unknown is why nothing can be said of the policy. Empty: it was played.
	Unknown string
	// NotAsked is why e is not asked of it. Empty: it is.
	NotAsked          string
	Histories, Events int
	Took              time.Duration
	Findings          []Finding
	// Unplayed are histories that could not be played to their end, and one reason.
	Unplayed string
}

// OK says whether every invariant that the contract promises holds in every history that was played.
func (r *Report) OK() bool { return !r.Broken() && r.Untold() == "" }

// Broken says whether an invariant that the contract promises does not hold in some history.
func (r *Report) Broken() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Expected == "" })
}

// Untold is why it cannot be told whether every invariant holds. Empty: it can.
func (r *Report) Untold() string {
	switch {
	case r.Unknown != "":
		return r.Unknown
	case r.Unplayed != "":
		return "a history could not be played to its end: " + r.Unplayed
	case r.Histories == 0 && len(r.Findings) == 0:
		return "no history was played to its end"
	}
	return ""
}

// promises are the requirements that say of one sort of event what an invariant says of all. A contract whose expectedFailures name one does
// not promise the invariant.
var promises = map[string][]string{
	"a": {"safety/restore-beside-app", "safety/volume-with-content", "resilience/background-controller-down", "resilience/volsync-down"},
	"b": {"safety/good-snapshot-survives", "safety/backup-during-restore", "core/s3-down/refused"}, "b/overwritten": {"safety/bucket-forgets"},
	"c": {"safety/isolation", "safety/stale-destination"},
	"d": {"safety/no-app-before-restore", "safety/restore-beside-app"},
	"e": {"resilience/rights-missing", "resilience/killed-mover", "resilience/told", "resilience/restore-made-up-for"},
	"f": {"safety/late-restore"},
}

// expected is why a contract does not promise an invariant. Empty: it does.
func expected(c policy.Contract, invariant string) string {
	of, known := promises[invariant]
	if letter, _, _ := strings.Cut(invariant, "/"); !known {
		of = promises[letter]
	}
	reasons := c.Reasons()
	for _, id := range of { // the closest first
		if reason := reasons[id]; reason != "" {
			return id + ": " + reason
		}
	}
	return ""
}

// Run plays random histories with a policy. Its error is about what kept it from doing so. A report beside an error has what was found until
// then.
func Run(ctx context.Context, p *policy.Policy, simulator Simulator, o Options, log *progress.Log) (*Report, error) {
	r := &Report{Policy: p, Options: o}
	if r.Unknown = notPlayed(p); r.Unknown != "" {
		return r, nil
	}
	r.NotAsked = check.Unplayed(p)
	if o.Workers == 0 {
		o.Workers = runtime.NumCPU()
	}
	given, err := check.Setting(p)
	if err != nil {
		return nil, err
	}
	given.Seed, given.Workers, given.Millis, given.First = o.Seed, o.Workers, o.For.Milliseconds(), o.First
	if o.Control != nil {
		for _, object := range o.Control.Objects {
			given.Control = append(given.Control, object.Object)
		}
	}
	task := log.Task("histories of %s with seed %d", p.Contract.Name, o.Seed)
	began := time.Now()
	outer := ctx
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var all sync.WaitGroup
	problems := make([]error, o.Workers)
	for worker := range o.Workers {
		all.Go(func() {
			mine := given
			mine.Worker = worker
			problems[worker] = simulator.Explore(ctx, mine, func(m history.Message) {
				mu.Lock()
				defer mu.Unlock()
				r.take(m)
				task.Status("%d histories, %d findings", r.Histories, len(r.Findings))
				if o.First && len(r.Findings) > 0 || r.Unknown != "" {
					stop()
				}
			})
		})
	}
	all.Wait()
	r.Took = time.Since(began)
	err = errors.Join(problems...)
	if r.Unknown != "" || o.First && len(r.Findings) > 0 {
		err = nil // it was stopped
	}
	if errors.Is(outer.Err(), context.Canceled) {
		err = fmt.Errorf("interrupted: %w", outer.Err())
	}
	if o.Folder != "" {
		err = errors.Join(err, r.write(o.Folder))
	}
	return r, task.Done(err)
}

// take takes down what a worker says.
func (r *Report) take(m history.Message) {
	if m.Policies != nil {
		r.Kyverno, r.Unknown = m.Kyverno, unknown(m.Policies)
	}
	r.Histories += m.Histories
	r.Events += m.Events
	if m.Unplayed != "" {
		r.Unplayed = m.Unplayed
	}
	if m.Finding == nil || r.NotAsked != "" && strings.HasPrefix(m.Finding.Invariant, "e") {
		return
	}
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Invariant == m.Finding.Invariant })
	switch {
	case i < 0:
		r.Findings = append(r.Findings, Finding{Finding: *m.Finding, Expected: expected(r.Policy.Contract, m.Finding.Invariant)})
	case len(m.Finding.Events) < len(r.Findings[i].Events): // another worker's, of the same: the shorter one is told
		m.Finding.Millis = min(m.Finding.Millis, r.Findings[i].Millis)
		r.Findings[i].Finding = *m.Finding
	}
}

// unknown is why nothing can be said, by what Kyverno and the API server say of the policies.
func unknown(all []play.Acceptance) string {
	var reasons []string
	for _, a := range all {
		for _, p := range a.Problems {
			reasons = append(reasons, fmt.Sprintf("%s/%s is not taken: %s", a.Kind, a.Name, strings.TrimSpace(p.Field+" "+p.Text)))
		}
		if a.Unjudged != "" {
			reasons = append(reasons, fmt.Sprintf("only a cluster can tell: %s/%s (%s)", a.Kind, a.Name, a.Unjudged))
		}
	}
	return strings.Join(reasons, "; ")
}

// write writes the findings into files.
func (r *Report) write(folder string) error {
	for i := range r.Findings {
		f := &r.Findings[i]
		path := filepath.Join(folder, fileName(r.Policy.Contract.Name, f.Invariant))
		file := File{Policy: r.Policy.Contract.Name, Seed: int64(r.Seed), Invariant: f.Invariant, Found: f.Text, Events: f.Events}
		if err := file.Write(path); err != nil {
			return err
		}
		f.File = path
	}
	return nil
}

// notPlayed is why histories of a policy cannot be played. Empty: they can.
func notPlayed(p *policy.Policy) string {
	if len(p.Kyverno()) == 0 || p.Templates != nil {
		return "only a cluster can tell: what it applies with each PVC is not played"
	}
	return ""
}

// Replay plays one history with a policy.
func Replay(ctx context.Context, p *policy.Policy, simulator Simulator, file string) (*Report, error) {
	r := &Report{Policy: p}
	given, err := check.Setting(p)
	if err != nil {
		return nil, err
	}
	f, err := Read(file, given.Faults)
	if err != nil {
		return nil, err
	}
	if r.Unknown = notPlayed(p); r.Unknown != "" {
		return r, nil
	}
	r.NotAsked = check.Unplayed(p)
	given.Replay = f.Events
	if err := simulator.Explore(ctx, given, r.take); err != nil && r.Unknown == "" {
		return nil, err
	}
	for i := range r.Findings {
		r.Findings[i].File = file
	}
	return r, nil
}

// Foreseen is what a history comes to without a cluster.
type Foreseen struct {
	// Pictures are taken after each event, and Violation is what ends it. Nil: nothing does.
	Pictures  []picture.Picture
	Violation *history.Violation
}

// Foresee plays one history with a policy, and takes pictures.
func Foresee(ctx context.Context, p *policy.Policy, simulator Simulator, events []history.Event) (*Foreseen, error) {
	if why := notPlayed(p); why != "" {
		return nil, errors.New(why)
	}
	given, err := check.Setting(p)
	if err != nil {
		return nil, err
	}
	given.Replay, given.Pictures = events, true
	f, why := &Foreseen{}, ""
	err = simulator.Explore(ctx, given, func(m history.Message) {
		why = cmp.Or(why, m.Unplayed, unknown(m.Policies))
		if m.Done {
			f.Pictures, f.Violation = m.Pictures, m.Violation
		}
	})
	if why != "" {
		return nil, errors.New(why)
	}
	return f, err
}

// Text prints a report.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	if r.Unknown != "" {
		fmt.Fprintf(&b, "unknown  %s: %s\n", r.Policy.Contract.Name, r.Unknown)
		_, err := io.WriteString(w, b.String())
		return err
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int { return strings.Compare(a.Invariant, b.Invariant) })
	for _, f := range r.Findings {
		letter, _, _ := strings.Cut(f.Invariant, "/")
		verdict := "fail"
		if f.Expected != "" {
			verdict = "fail, expected"
		}
		fmt.Fprintf(&b, "%s  %s: %s\n    %s\n", verdict, f.Invariant, history.Invariants[letter], f.Text)
		for _, line := range words(f.Events, f.Event) {
			fmt.Fprintf(&b, "      %s\n", line)
		}
		if f.Event == 0 {
			fmt.Fprintf(&b, "          then everything is well again, and hours pass\n")
		}
		if f.Expected != "" {
			fmt.Fprintf(&b, "    as its contract says of %s\n", f.Expected)
		}
		if f.Millis > 0 {
			fmt.Fprintf(&b, "    found after %s, in history %d of a worker\n", progress.Duration(time.Duration(f.Millis)*time.Millisecond), f.Histories)
		}
		if f.File != "" {
			fmt.Fprintf(&b, "    again: make explore REPLAY=%s POLICY=%s\n", f.File, r.Policy.Path)
			fmt.Fprintf(&b, "    on a cluster: make e2e REPLAY=%s POLICY=%s\n", f.File, r.Policy.Path)
		}
	}
	if r.NotAsked != "" {
		fmt.Fprintf(&b, "not asked  e: %s\n", r.NotAsked)
	}
	untold := r.Untold()
	if untold != "" {
		fmt.Fprintf(&b, "unknown  %s\n", untold)
	}
	if r.Took > 0 {
		fmt.Fprintf(&b, "%d histories of %d events in %s, %d a second, with seed %d: %d findings\n",
			r.Histories, r.Events/max(1, r.Histories), progress.Duration(r.Took), int(float64(r.Histories)/r.Took.Seconds()), r.Seed, len(r.Findings))
	} else if len(r.Findings) == 0 && untold == "" {
		fmt.Fprintln(&b, "every invariant holds in this history")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
