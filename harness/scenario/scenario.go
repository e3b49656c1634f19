package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/observe"
	"github.com/smart-restore/conformance/harness/runs"
)

// lookAgain is when a wait looks again: often at first, since most ends come within a second; then less, for the API server
// has a run's other specs to serve.
var lookAgain = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 1.2, Steps: 10, Cap: 600 * time.Millisecond}

const (
	pollInterval = 150 * time.Millisecond
	// lookTimeout bounds one look of a wait: the API server answers within milliseconds.
	lookTimeout = 10 * time.Second
)

// PrivilegedMovers is VolSync's switch for movers that may keep files of several owners. Without it a mover cannot
// give files to anybody else, and reports success all the same: the app's namespace needs it, as most real ones do.
const PrivilegedMovers = "volsync.backube/privileged-movers"

// Scenario is one spec's world: a namespace of its own, and what happens in it.
type Scenario struct {
	*Suite
	ID        string // the requirement's
	Namespace string
	Started   time.Time

	report   Reporter
	siblings *[]string // more namespaces of the spec's
	made     map[string]types.UID
	// situations are the rows of the decision table that the spec is about.
	situations *[]*situation
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// Start makes the spec's namespace, with what the policy needs in it.
func (s *Suite) Start(ctx context.Context, id string, report Reporter) *Scenario {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(id), "-"), "-")
	sc := &Scenario{
		siblings: new([]string), situations: new([]*situation), made: map[string]types.UID{},
		Suite: s, ID: id, report: report, Started: time.Now(),
		Namespace: s.Testbed.Namespace(fmt.Sprintf("%s-%s", name, strings.ToLower(randomSuffix()))),
	}
	sc.createNamespace(ctx)
	return sc
}

// Sibling is the same spec in another namespace of its own, called like the first with this at the end.
func (sc *Scenario) Sibling(ctx context.Context, suffix string) *Scenario {
	sibling := *sc
	sibling.Namespace += suffix
	*sc.siblings = append(*sc.siblings, sibling.Namespace)
	sibling.createNamespace(ctx)
	return &sibling
}

func (sc *Scenario) createNamespace(ctx context.Context) {
	labels := map[string]string{runs.Label: sc.Testbed.RunID}
	maps.Copy(labels, sc.Testbed.Contract.NamespaceLabels)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        sc.Namespace,
		Labels:      labels,
		Annotations: map[string]string{PrivilegedMovers: "true"},
	}}
	sc.must(sc.API.Create(ctx, namespace))
	sc.made[sc.Namespace] = namespace.UID
	if sc.watch != nil {
		sc.must(sc.watch.Follow(ctx, sc.Namespace))
	}
	sc.must(sc.applyBaseSecret(ctx, sc.Namespace))
}

// Finish deletes the spec's namespaces, those that it made itself, and what it left in the bucket. It does not wait for
// the namespaces to be gone. It is safe to call again.
func (sc *Scenario) Finish(ctx context.Context) error {
	sc.recordDecisions(ctx)
	*sc.situations = nil // recorded
	var problems []error
	for namespace, uid := range sc.made {
		if sc.watch != nil {
			sc.watch.Leave(namespace)
		}
		problems = append(problems,
			client.IgnoreNotFound(sc.API.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, client.Preconditions{UID: &uid})),
			sc.Testbed.Store.RemovePrefix(ctx, sc.Testbed.Credentials, sc.Testbed.Contract.S3.NamespacePrefix(namespace)))
	}
	return errors.Join(problems...)
}

// Dump writes everything in the spec's namespaces to the artifacts, and returns the folder.
func (sc *Scenario) Dump(ctx context.Context) (string, error) {
	dir := filepath.Join(sc.Artifacts, "dumps", notInNames.ReplaceAllString(sc.ID, "-"))
	err := observe.DumpNamespace(ctx, sc.Config, sc.Namespace, dir, sc.Redactor)
	for _, namespace := range *sc.siblings {
		err = errors.Join(err, observe.DumpNamespace(ctx, sc.Config, namespace, filepath.Join(dir, namespace), sc.Redactor))
	}
	return dir, err
}

// Step says what the spec is doing: in the terminal, and as evidence.
func (sc *Scenario) Step(format string, args ...any) {
	sc.Evidence("step", fmt.Sprintf(format, args...), nil)
}

// Evidence records one observation.
func (sc *Scenario) Evidence(kind, text string, data map[string]any) {
	sc.report.Evidence(kind, text, data)
	// Progress is for a person who watches: that it cannot be written changes no verdict.
	_ = sc.appendLine(ProgressFile, ProgressLine{Time: time.Now(), Spec: sc.ID, Text: text})
}

// Failf ends the spec: the requirement does not hold.
func (sc *Scenario) Failf(format string, args ...any) { sc.report.Fail(fmt.Sprintf(format, args...)) }

// Unknownf ends the spec: whether the requirement holds could not be seen.
func (sc *Scenario) Unknownf(format string, args ...any) {
	sc.report.Unknown(fmt.Sprintf(format, args...))
}

// must ends the spec as unknown where the harness itself failed.
func (sc *Scenario) must(err error) {
	if err != nil {
		sc.Unknownf("the harness failed: %v", err)
	}
}

// look is one look of a wait: whether the end state is reached, what was seen instead, and a terminal state, if any,
// from which it cannot be reached any more.
type look func(ctx context.Context) (done bool, seen string, terminal error)

// unseen is the error of a look that could not see: the API server did not answer.
type unseen struct{ error }

// blind is the result of a look that ended with this error of the API server's. That an object is not there is seen.
func blind(err error) (bool, string, error) {
	if apierrors.IsNotFound(err) {
		return false, err.Error(), nil
	}
	return false, "", unseen{err}
}

// eventually waits for an end state. It looks at once, stops early on a terminal state, and says on failure what was
// wanted, what was seen last and since when. Where the last look could not see, the spec is unknown.
func (sc *Scenario) eventually(ctx context.Context, want string, within time.Duration, l look) {
	start := time.Now()
	seen, since := "nothing yet", start
	var lastUnseen error
	waitCtx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := lookAgain.DelayFunc().Until(waitCtx, true, true, func(context.Context) (bool, error) {
		// Its own time: a look that the wait's end cut off would see nothing.
		lookCtx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		done, now, terminal := l(lookCtx)
		lastUnseen = nil
		if errors.As(terminal, &unseen{}) {
			lastUnseen = terminal
			return false, nil
		}
		if ctx.Err() == nil && now != "" && now != seen { // a look that is cut off sees nothing
			seen, since = now, time.Now()
		}
		return done, terminal
	})
	switch {
	case err == nil:
		sc.Evidence("seen", fmt.Sprintf("%s, after %.1f s", want, time.Since(start).Seconds()), nil)
	case ctx.Err() != nil:
		sc.Unknownf("interrupted while waiting for: %s; last seen: %s", want, seen)
	case lastUnseen != nil:
		sc.Unknownf("could not see whether: %s, within %s: %v; last seen: %s, %.1f s ago", want, within, lastUnseen, seen, time.Since(since).Seconds())
	case ranOut(err):
		sc.Failf("wanted: %s within %s\nlast seen: %s, for %.1f s", want, within, seen, time.Since(since).Seconds())
	default:
		sc.Failf("wanted: %s\nfound, which rules it out: %v (last seen: %s)", want, err, seen)
	}
}

// ranOut tells a wait that ran out from one that was ended by a terminal state.
func ranOut(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

func decode[T any](raw []byte) (T, error) {
	var value T
	err := json.Unmarshal(raw, &value)
	return value, err
}
