package timeline

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is a line of events.jsonl.
type event struct {
	Time, Seen                               time.Time
	Namespace, Object, Type, Reason, Message string
}

// at is when it happened. Kubernetes keeps whole seconds; that it was seen is known better, and comes within a moment.
func (e event) at() time.Time {
	if late := e.Seen.Sub(e.Time); late >= 0 && late < 3*time.Second {
		return e.Seen
	}
	return e.Time
}

var (
	controllers = []string{"kyverno", "volsync-system", "csi-driver"}
	// ofNamespace finds the namespace in what Kyverno says about an object, as in "Pod core-fresh-abcdef/app: fail".
	ofNamespace = regexp.MustCompile(`\b([a-z0-9][a-z0-9-]*)/[a-z0-9]`)
	// podOfJob splits a mover's pod from its random end.
	podOfJob = regexp.MustCompile(`^(` + moverPrefix + `.*)-[a-z0-9]{5}$`)
)

// readEvents takes movers and pods, what Kyverno says of the spec's objects, and controllers that come and go.
func (w *world) readEvents(path string) error {
	var all []event
	err := eachLine(path, func(line []byte) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			return
		}
		policy := strings.HasSuffix(kindOf(e.Object), "Policy")
		if policy || slices.Contains(controllers, e.Namespace) || w.owner(e.Namespace) != nil {
			all = append(all, e)
		}
	})
	slices.SortStableFunc(all, func(a, b event) int { return a.at().Compare(b.at()) })
	pods := map[string]*pod{}
	for _, e := range all {
		kind, name, _ := strings.Cut(e.Object, "/")
		switch {
		case strings.HasSuffix(kind, "Policy"):
			w.policyEvent(name, e)
		case slices.Contains(controllers, e.Namespace):
			w.controllerEvent(kind, name, e)
		default:
			if b := w.in(e.Namespace, e.at()); b != nil {
				b.event(kind, name, e, pods)
			}
		}
	}
	for _, p := range pods {
		p.end(p.b.To, Plain)
	}
	return err
}

func kindOf(object string) string {
	kind, _, _ := strings.Cut(object, "/")
	return kind
}

func (w *world) policyEvent(name string, e event) {
	for _, match := range ofNamespace.FindAllStringSubmatch(e.Message, -1) {
		if b := w.in(match[1], e.at()); b != nil {
			state := Plain
			if e.Type == "Warning" {
				state = Warn
			}
			b.lane(Policy, "Kyverno").point(Point{At: e.at(), State: state, class: name + ": " + e.Reason, Text: short(name + ": " + strings.ReplaceAll(e.Message, match[1]+"/", ""))})
			return
		}
	}
}

// controllerEvent is every running spec's business.
func (w *world) controllerEvent(kind, name string, e event) {
	if kind != "Pod" || !slices.Contains([]string{"Killing", "Started", "BackOff", "OOMKilling"}, e.Reason) {
		return
	}
	for _, b := range w.specs {
		if at := e.at(); !at.Before(b.From) && !at.After(b.To) {
			state := Plain
			if e.Reason != "Started" {
				state = Warn
			}
			b.lane(Controller, "Kyverno, VolSync").point(Point{At: at, State: state, class: e.Reason, Text: short(name + ": " + e.Message)})
		}
	}
}

// pod is one whose end has not been seen.
type pod struct {
	b       *builder
	lane    *Lane
	name    string
	from    time.Time // when it was made
	started time.Time
	ended   bool
}

func (p *pod) end(at time.Time, state State) {
	if p.ended {
		return
	}
	p.ended = true
	if p.started.IsZero() {
		p.lane.Spans = append(p.lane.Spans, Span{From: p.from, To: at, Text: "pod " + p.name + " waits"})
		return
	}
	if p.started.After(p.from) {
		p.lane.Spans = append(p.lane.Spans, Span{From: p.from, To: p.started, Text: "pod " + p.name + " waits"})
	}
	if state == Plain {
		state = Busy
	}
	p.lane.Spans = append(p.lane.Spans, Span{From: p.started, To: at, State: state, Text: "pod " + p.name + " runs"})
}

func (b *builder) event(kind, name string, e event, pods map[string]*pod) {
	at := e.at()
	state := Plain
	if e.Type == "Warning" {
		state = Warn
	}
	podNamed := func(name string) *pod {
		key := e.Namespace + "/" + name
		if p := pods[key]; p != nil && !p.ended {
			return p
		}
		kind, shown := Pod, name
		if match := podOfJob.FindStringSubmatch(name); match != nil {
			kind, shown = Mover, match[1]
		}
		lane := b.lane(kind, b.named(e.Namespace, shown))
		p := &pod{b: b, lane: lane, name: name, from: at}
		pods[key] = p
		return p
	}
	switch kind {
	case "Job":
		lane := b.lane(Mover, b.named(e.Namespace, name))
		switch e.Reason {
		case "SuccessfulCreate":
			podNamed(strings.TrimPrefix(e.Message, "Created pod: "))
		case "Completed":
			b.endPods(pods, lane, at, Good)
			lane.point(Point{At: at, State: Good, class: "completed", Text: "Job " + name + " completed"})
		default:
			lane.point(Point{At: at, State: state, class: e.Reason, Text: short("Job " + name + ": " + e.Message)})
		}
	case "Pod":
		p := podNamed(name)
		switch e.Reason {
		case "Started":
			if p.started.IsZero() {
				p.started = at
			}
		case "Killing":
			p.end(at, Plain)
		case "Scheduled", "Pulled", "Created", "Pulling":
		default:
			p.lane.point(Point{At: at, State: state, class: e.Reason, Text: short("pod " + name + ": " + e.Message)})
		}
	case "ReplicationSource", "ReplicationDestination":
		if state == Warn {
			k := Source
			if kind == "ReplicationDestination" {
				k = Destination
			}
			b.lane(k, b.named(e.Namespace, name)).point(Point{At: at, State: Warn, class: e.Reason, Text: short(name + ": " + e.Message)})
		}
	case "PersistentVolumeClaim":
		if state == Warn && !strings.HasPrefix(name, moverPrefix) {
			b.lane(Claim, b.named(e.Namespace, name)).point(Point{At: at, State: Warn, class: e.Reason, Text: short(name + ": " + e.Message)})
		}
	}
}

func (b *builder) endPods(pods map[string]*pod, lane *Lane, at time.Time, state State) {
	for _, p := range pods {
		if p.lane == lane {
			p.end(at, state)
		}
	}
}
