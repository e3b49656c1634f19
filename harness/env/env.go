package env

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/blind"
	"github.com/smart-restore/conformance/harness/explore/picture"
	"github.com/smart-restore/conformance/harness/observe"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/text"
)

// PrivilegedMovers is VolSync's switch for movers that may keep files of several owners. Without it a mover cannot
// give files to anybody else, and reports success all the same: the app's namespace needs it, as most real ones do.
const PrivilegedMovers = "volsync.backube/privileged-movers"

// Reporter takes what a spec sees. Fail and Unknown do not return.
type Reporter interface {
	await.Reporter
	// SuiteError says that the suite itself failed, which ends no spec and changes no verdict of one, but the run's.
	SuiteError(text string)
	// CleanUp has do called when the spec has ended, however it ended, with a time of its own. The last one registered is
	// called first. Its error is the suite's, and changes no verdict.
	CleanUp(what string, within time.Duration, do func(context.Context) error)
}

// Env is one spec's namespace, and the verbs by which it waits: Arrange, Eventually and Throughout.
type Env struct {
	*Suite
	await.Verbs
	ID        string // the requirement's
	Namespace string
	Started   time.Time // on the API server's clock

	report Reporter
	spec   *spec
}

// spec is what all namespaces of a spec share.
type spec struct {
	siblings []string
	names    string // begins the names of its PVCs where the path in the bucket does not begin with the namespace; else empty
	made     map[string]types.UID
	healed   []func(time.Time)
}

// New is a spec in a namespace that is yet to be made: see CreateNamespace.
func (s *Suite) New(id string, report Reporter) *Env {
	return s.In(s.Testbed.Namespace(text.Slug(id)+"-"+RandomSuffix()), id, report)
}

// In is a spec in a namespace of this name.
func (s *Suite) In(namespace, id string, report Reporter) *Env {
	e := &Env{Suite: s, ID: id, Namespace: namespace, Started: s.Now(), report: report, spec: &spec{made: map[string]types.UID{}}}
	if s.Testbed != nil && s.Testbed.Contract.S3.Path != "" && !s.Testbed.Contract.S3.NamespaceFirst() { // unit tests have none
		e.spec.names = s.Testbed.Namespace(RandomSuffix() + "-")
	}
	e.Verbs = await.Verbs{Reporter: progress{e, report}, Times: s.times}
	return e
}

// progress is a Reporter that shows evidence to a person who watches, too.
type progress struct {
	env *Env
	Reporter
}

// Evidence records one observation.
func (p progress) Evidence(kind, text string, data map[string]any) {
	p.Reporter.Evidence(kind, text, data)
	// That progress cannot be written changes no verdict.
	_ = p.env.appendLine(p.env.Artifacts.Progress(), ProgressLine{Time: time.Now(), Spec: p.env.ID, Text: text})
}

// PVC is what a PVC of a spec is called that the spec calls so. Where the path in the bucket does not begin with the namespace, its
// name has to be the spec's own: specs would share repositories, or what their faults go by. A long name stays as long as it is.
func (e *Env) PVC(name string) string {
	const plenty = 40
	switch before := e.spec.names; {
	case strings.HasPrefix(name, before):
		return name
	case len(name) > plenty:
		return before + name[len(before):]
	default:
		return before + name
	}
}

// KeyPrefix begins the keys in the bucket of all that is the namespace's.
func (e *Env) KeyPrefix() string {
	return e.Testbed.Contract.S3.NamespacePrefix(e.Namespace, e.spec.names)
}

// Sibling is the same spec in another namespace of its own, whose name is the first one's with this at the end.
func (e *Env) Sibling(ctx context.Context, suffix string) *Env { return e.Beside(ctx, "", suffix) }

// Beside is the same spec in another namespace of its own, whose name has this before and after the first one's. What all names of a run
// begin with stays at the beginning.
func (e *Env) Beside(ctx context.Context, before, after string) *Env {
	sibling := *e
	sibling.Namespace = e.beside(before, after)
	e.spec.siblings = append(e.spec.siblings, sibling.Namespace)
	sibling.CreateNamespace(ctx)
	return &sibling
}

func (e *Env) beside(before, after string) string {
	head := e.Testbed.Namespace("")
	return head + before + strings.TrimPrefix(e.Namespace, head) + after
}

// CreateNamespace makes the spec's namespace, with what the policy needs in it.
func (e *Env) CreateNamespace(ctx context.Context) {
	labels := map[string]string{runs.Label: e.Testbed.RunID}
	maps.Copy(labels, e.Testbed.Contract.NamespaceLabels)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        e.Namespace,
		Labels:      labels,
		Annotations: map[string]string{PrivilegedMovers: "true"},
	}}
	e.create(ctx, namespace)
	e.spec.made[e.Namespace] = namespace.UID
	if e.watch != nil {
		e.Must(e.watch.Follow(ctx, e.Namespace))
	}
	e.Arrange(ctx, "the base Secret in namespace "+e.Namespace, e.Times.Gone, func(ctx context.Context) (await.State, error) {
		return await.Reached(), errors.Join(e.ApplyBaseSecret(ctx, e.Namespace), e.ApplySecretStore(ctx, e.Namespace))
	})
}

// create makes an object of the spec's own, and tries again while the API server cannot be asked.
func (e *Env) create(ctx context.Context, object client.Object) {
	e.Arrange(ctx, fmt.Sprintf("%T %s", object, object.GetName()), e.Times.Gone, func(ctx context.Context) (await.State, error) {
		err := e.API.Create(ctx, object)
		if apierrors.IsAlreadyExists(err) { // made by a try whose answer was lost
			err = e.API.Get(ctx, client.ObjectKeyFromObject(object), object)
		}
		return await.Reached(), err
	})
}

// Finish deletes the spec's namespaces, those that it made itself, and what it left in the bucket. It does not wait for
// the namespaces to be gone.
func (e *Env) Finish(ctx context.Context) error { return e.senses.CleanUp(e.remove)(ctx) }

func (e *Env) remove(ctx context.Context) error {
	var problems []error
	for namespace, uid := range e.spec.made {
		if e.watch != nil {
			e.watch.Leave(namespace)
		}
		problems = append(problems,
			client.IgnoreNotFound(e.API.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, client.Preconditions{UID: &uid})),
			e.Testbed.Store.RemovePrefix(ctx, e.Testbed.Credentials, e.Testbed.Contract.S3.NamespacePrefix(namespace, e.spec.names)))
	}
	return errors.Join(problems...)
}

// Dump writes everything in the spec's namespaces to the artifacts, and returns the folder.
func (e *Env) Dump(ctx context.Context) (string, error) {
	dir := e.Artifacts.Dump(e.ID)
	err := observe.DumpNamespace(ctx, e.Config, e.Namespace, dir, e.Redactor)
	for _, namespace := range e.spec.siblings {
		err = errors.Join(err, observe.DumpNamespace(ctx, e.Config, namespace, filepath.Join(dir, namespace), e.Redactor))
	}
	return dir, err
}

// SuiteError says that the suite itself failed, which ends no spec and changes no verdict of one, but the run's.
func (e *Env) SuiteError(text string) { e.report.SuiteError(text) }

// Step says what the spec is doing: in the terminal, and as evidence.
func (e *Env) Step(format string, args ...any) {
	e.Evidence("step", fmt.Sprintf(format, args...), nil)
}

// Failf ends the spec: the requirement does not hold.
func (e *Env) Failf(format string, args ...any) { e.Fail(fmt.Sprintf(format, args...)) }

// Unknownf ends the spec: whether the requirement holds could not be seen.
func (e *Env) Unknownf(format string, args ...any) { e.Unknown(fmt.Sprintf(format, args...)) }

// Do has the API server or S3 do something that may be done twice, and tries again while they cannot be asked. If they never can,
// the spec is unknown.
func (e *Env) Do(ctx context.Context, do func(context.Context) error) {
	e.Arrange(ctx, "an answer to what the suite asked for", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		return await.Reached(), do(ctx)
	})
}

// Must ends the spec as unknown if the suite itself failed.
func (e *Env) Must(err error) {
	if err != nil {
		e.Unknownf("the suite could not continue: %v", err)
	}
}

// Proven records that something must not happen until the end of the run: it is looked at again then.
func (e *Env) Proven(a absence.Absence) { e.Must(e.appendLine(e.Artifacts.Absences(), a)) }

// Pictured writes down what there was after an event of a history.
func (e *Env) Pictured(of picture.Picture) { e.Must(e.appendLine(e.Artifacts.Pictures(), of)) }

// Undo registers how to put back what the spec just took from what all share. It is done when the spec calls the returned
// function, else when the spec has ended, however it ended: tried again and again in a time of its own. If it cannot be done,
// that is an error of the suite's.
func (e *Env) Undo(what string, undo func(context.Context) error) (now func(context.Context)) {
	var mu sync.Mutex
	done, said := false, false
	undo = e.senses.Undo(undo)
	once := func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if done {
			return nil
		}
		err := undo(ctx)
		done = err == nil
		return err
	}
	e.report.CleanUp("put back "+what, e.Times.Undo, func(ctx context.Context) error {
		for {
			err := once(ctx)
			if err == nil || errors.Is(err, blind.ErrBroken) {
				return err
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(e.Times.PollMax):
			}
		}
	})
	return func(ctx context.Context) {
		e.Arrange(ctx, what+" put back", e.Times.Undo, func(context.Context) (await.State, error) {
			// Its own time: controllers take longer than one look.
			err := once(ctx)
			if errors.Is(err, blind.ErrBroken) {
				return await.RuledOut("%v", err), nil
			}
			return await.Reached(), err
		})
		if !said {
			e.Step("%s put back", what)
		}
		said = true
	}
}

// AfterOutage has do called whenever an outage of S3 has ended, with the time.
func (e *Env) AfterOutage(do func(time.Time)) { e.spec.healed = append(e.spec.healed, do) }

// OutageEnded tells those of AfterOutage.
func (e *Env) OutageEnded() {
	for _, do := range e.spec.healed {
		do(e.Now())
	}
}

// Gone is a look for an object that is to be gone. That it is not found is a state; any other error is none.
func (s *Suite) Gone(object client.Object) await.Look {
	return func(ctx context.Context) (await.State, error) {
		switch err := s.API.Get(ctx, client.ObjectKeyFromObject(object), object); {
		case apierrors.IsNotFound(err):
			return await.Reached(), nil
		case err != nil:
			return await.State{}, err
		}
		return await.NotYet("it is there, finalizers %v", object.GetFinalizers()), nil
	}
}

// RandomSuffix makes a name one that nobody else has.
func RandomSuffix() string { return strings.ToLower(rand.Text()[:6]) }
