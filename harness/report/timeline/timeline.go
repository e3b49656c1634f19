// Package timeline lays out, for each spec of a run and on one clock, what the run's artifacts say: the PVC and what was
// made for it, movers, requests to S3, faults, and what the spec saw. It reads artifacts only, and changes no verdict.
package timeline

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/text"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Kind is what a lane is about.
type Kind string

// The kinds, in the order in which a timeline lists them.
const (
	Fault       Kind = "fault"       // S3 down, or slow
	Suite       Kind = "suite"       // what the spec did and saw
	Claim       Kind = "pvc"         // a PersistentVolumeClaim
	Source      Kind = "source"      // a ReplicationSource
	Destination Kind = "destination" // a ReplicationDestination
	Secret      Kind = "secret"
	Mover       Kind = "mover" // a Job of VolSync's, with its pods
	Pod         Kind = "pod"   // any other pod of the spec's
	Policy      Kind = "policy"
	Controller  Kind = "controller" // pods of Kyverno and VolSync coming and going
	S3          Kind = "s3"         // requests that reached the endpoint
)

var kinds = []Kind{Fault, Suite, Claim, Source, Destination, Secret, Mover, Pod, Policy, Controller, S3}

// State says how a mark is to be read.
type State string

// The states.
const (
	Plain State = ""
	Good  State = "good"
	Warn  State = "warn" // what may be, and may matter
	Bad   State = "bad"
	Busy  State = "busy" // at work, of a span
)

// Timeline is one spec's. All times are the host's: the cluster, the gateway and the suite run on one machine.
type Timeline struct {
	From, To time.Time
	// Failed is when the spec gave up; zero where it did not, or nobody knows.
	Failed     time.Time
	Namespaces []string // the spec's own, the first one first
	Lanes      []Lane
	// LeftOut is how many lanes and marks were too many to keep.
	LeftOut int
}

// Lane is one line of a timeline.
type Lane struct {
	Kind   Kind
	Name   string
	Spans  []Span
	Points []Point
}

// Span is something that lasted.
type Span struct {
	From, To time.Time
	State    State
	Text     string
}

// Point is something that happened, or Count things that happened as good as at once.
type Point struct {
	At    time.Time
	State State
	Text  string
	Count int // 0 and 1 are one
	// class is what points have in common that can be counted together, as "GET 200".
	class string
}

// Limits bound a timeline. What is more is counted together, or left out and counted.
type Limits struct {
	Lanes  int // of one kind
	Points int // columns of a lane, in each of which points of one state become one
}

// Default is enough for every spec so far but the storm.
var Default = Limits{Lanes: 8, Points: 60}

// Run is all that there is to show of a run.
type Run struct {
	// Missing says what could not be read, and so is in no timeline.
	Missing []string

	specs map[string]*builder
}

// Read takes from the artifacts in the folder what there is of each requirement in the report that was tried.
func Read(folder string, report *verdict.Report) *Run {
	w := newWorld(report)
	run := &Run{specs: w.specs}
	dir := artifacts.Dir(folder)
	for _, source := range []struct {
		file string
		read func(string) error
	}{{dir.Progress(), w.readProgress}, {dir.AuditLog(), w.readAudit}, {dir.Events(), w.readEvents}, {dir.GatewayLog(), w.readRequests}} {
		err := source.read(source.file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			run.Missing = append(run.Missing, dir.Below(source.file)+" is not there")
		case err != nil:
			run.Missing = append(run.Missing, fmt.Sprintf("%s was not read to its end: %v", dir.Below(source.file), err))
		}
	}
	for _, spec := range w.specs {
		spec.endLives()
	}
	return run
}

// Of is the timeline of a requirement, within the limits; nil where it was not tried.
func (r *Run) Of(id string, limits Limits) *Timeline {
	if b := r.specs[id]; b != nil {
		return b.timeline(limits)
	}
	return nil
}

// world is everything while it is being read.
type world struct {
	specs map[string]*builder
	slugs []slug // longest first
	owned map[string]*builder
}

type slug struct {
	name *regexp.Regexp
	spec *builder
}

// tail is how much longer than its spec a timeline is: what a spec ends by is written down a little later.
const tail = 500 * time.Millisecond

func newWorld(report *verdict.Report) *world {
	w := &world{specs: map[string]*builder{}, owned: map[string]*builder{}}
	for _, result := range report.Requirements {
		if result.Started.IsZero() || !result.Ended.After(result.Started) || result.Verdict == verdict.NotPromised {
			continue
		}
		b := &builder{id: result.ID, lanes: map[laneKey]*Lane{}, lives: map[objectKey]*life{}, Timeline: Timeline{
			From: result.Started, To: result.Ended.Add(tail), Failed: result.FailedAt,
		}}
		b.evidence(result)
		w.specs[result.ID] = b
		// A spec's namespaces are named after it, with a random suffix: see Suite.Start of harness/scenario.
		w.slugs = append(w.slugs, slug{regexp.MustCompile("^" + regexp.QuoteMeta(text.Slug(result.ID)) + "-[a-z2-7]{6}(-[a-z0-9-]+)?$"), b})
	}
	slices.SortFunc(w.slugs, func(a, b slug) int { return len(b.name.String()) - len(a.name.String()) })
	return w
}

// owner is the spec that a namespace is of; nil: none of this run's.
func (w *world) owner(namespace string) *builder {
	if b, known := w.owned[namespace]; known {
		return b
	}
	var owner *builder
	for _, s := range w.slugs {
		if s.name.MatchString(namespace) {
			owner = s.spec
			break
		}
	}
	w.owned[namespace] = owner
	return owner
}

// in is the spec that a namespace is of, if the moment is one of its; the namespace is then noted. On a stack that is kept
// there are namespaces of earlier runs.
func (w *world) in(namespace string, at time.Time) *builder {
	b := w.owner(namespace)
	if b == nil || at.Before(b.From) || at.After(b.To) {
		return nil
	}
	if !slices.Contains(b.Namespaces, namespace) {
		b.Namespaces = append(b.Namespaces, namespace)
	}
	return b
}

type laneKey struct {
	kind Kind
	name string
}

// builder is a timeline in the making.
type builder struct {
	Timeline
	id    string
	lanes map[laneKey]*Lane
	order []*Lane
	lives map[objectKey]*life
	said  bool // the spec's evidence is in the report
}

func (b *builder) lane(kind Kind, name string) *Lane {
	key := laneKey{kind, name}
	if l, ok := b.lanes[key]; ok {
		return l
	}
	l := &Lane{Kind: kind, Name: name}
	b.lanes[key] = l
	b.order = append(b.order, l)
	return l
}

func (l *Lane) point(p Point) { l.Points = append(l.Points, p) }

// named is an object's name as a lane shows it: one in a further namespace of the spec's has that namespace's end with it.
func (b *builder) named(namespace, name string) string {
	if len(b.Namespaces) > 0 && namespace != b.Namespaces[0] {
		return name + " (" + strings.TrimPrefix(namespace, b.Namespaces[0]) + ")"
	}
	return name
}

// timeline orders and bounds what was collected.
func (b *builder) timeline(limits Limits) *Timeline {
	t := b.Timeline
	lanes := slices.Clone(b.order)
	slices.SortStableFunc(lanes, func(x, y *Lane) int {
		return cmp.Or(slices.Index(kinds, x.Kind)-slices.Index(kinds, y.Kind), x.first().Compare(y.first()), strings.Compare(x.Name, y.Name))
	})
	perKind := map[Kind]int{}
	for _, lane := range lanes {
		perKind[lane.Kind]++
		if perKind[lane.Kind] > limits.Lanes {
			t.LeftOut += len(lane.Spans) + len(lane.Points)
			continue
		}
		l := Lane{Kind: lane.Kind, Name: lane.Name, Spans: slices.Clone(lane.Spans), Points: slices.Clone(lane.Points)}
		slices.SortStableFunc(l.Points, func(x, y Point) int { return x.At.Compare(y.At) })
		slices.SortStableFunc(l.Spans, func(x, y Span) int { return cmp.Or(x.From.Compare(y.From), strings.Compare(x.Text, y.Text)) })
		for i := range l.Spans {
			l.Spans[i].From, l.Spans[i].To = t.clip(l.Spans[i].From), t.clip(l.Spans[i].To)
		}
		if l.Kind != Suite || len(l.Points) > 4*limits.Points {
			l.Points = condense(l.Points, t.From, t.To.Sub(t.From), limits.Points)
		}
		if most := 2 * limits.Points; len(l.Spans) > most {
			t.LeftOut += len(l.Spans) - most
			l.Spans = l.Spans[:most]
		}
		t.Lanes = append(t.Lanes, l)
	}
	return &t
}

func (t *Timeline) clip(at time.Time) time.Time {
	if at.Before(t.From) {
		return t.From
	}
	if at.After(t.To) {
		return t.To
	}
	return at
}

func (l *Lane) first() time.Time {
	var at time.Time
	for _, p := range l.Points {
		if at.IsZero() || p.At.Before(at) {
			at = p.At
		}
	}
	for _, s := range l.Spans {
		if at.IsZero() || s.From.Before(at) {
			at = s.From
		}
	}
	return at
}

// condense makes one point of those of one state that fall into one of so many columns. Points are sorted by time.
func condense(points []Point, from time.Time, length time.Duration, columns int) []Point {
	if len(points) <= 1 || columns <= 0 || length <= 0 {
		return points
	}
	type cell struct {
		column int
		state  State
	}
	var order []cell
	cells := map[cell][]Point{}
	for _, p := range points {
		c := cell{int(int64(p.At.Sub(from)) * int64(columns) / int64(length)), p.State}
		if cells[c] == nil {
			order = append(order, c)
		}
		cells[c] = append(cells[c], p)
	}
	if len(order) == len(points) {
		return points
	}
	var out []Point
	for _, c := range order {
		out = append(out, together(cells[c]))
	}
	return out
}

// together is several points as one: at the first one's time, with what there was of each class.
func together(points []Point) Point {
	if len(points) == 1 {
		return points[0]
	}
	counts, classes, total := map[string]int{}, []string{}, 0
	for _, p := range points {
		class := cmp.Or(p.class, p.Text)
		if counts[class] == 0 {
			classes = append(classes, class)
		}
		counts[class] += max(1, p.Count)
		total += max(1, p.Count)
	}
	const most = 5
	var parts []string
	for i, class := range classes {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d sorts more", len(classes)-most))
			break
		}
		if counts[class] == 1 {
			parts = append(parts, class)
		} else {
			parts = append(parts, fmt.Sprintf("%d × %s", counts[class], class))
		}
	}
	return Point{At: points[0].At, State: points[0].State, Count: total, Text: strings.Join(parts, ", ")}
}

// maxText bounds what one mark says; the whole is in the artifacts.
const maxText = 300

func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText-1]) + "…"
	}
	return text
}
