package timeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/text"
)

var auditedKinds = map[string]Kind{
	"persistentvolumeclaims": Claim, "replicationsources": Source, "replicationdestinations": Destination, "secrets": Secret,
}

// moverPrefix begins the names of what VolSync makes for itself.
const moverPrefix = "volsync-"

// readAudit takes from the API server's audit log what became of PVCs, replication objects and Secrets. Nearly all of the
// log is about something else, so a line is parsed only if its URI and verb, which stand before any object, are of interest.
func (w *world) readAudit(path string) error {
	return eachLine(path, func(line []byte) {
		line = creations.WholeEvent(line)
		request, ok := requestOf(line)
		if !ok || w.owner(request.namespace) == nil {
			return
		}
		e, err := creations.ParseEvent(line)
		if err != nil || e.Stage != "ResponseComplete" || e.DryRun() {
			return
		}
		if b := w.in(request.namespace, e.RequestReceivedTimestamp); b != nil {
			b.audited(request, *e)
		}
	})
}

// request is what the head of a line of the audit log says.
type request struct {
	namespace, resource, name, subresource, verb string
	kind                                         Kind
}

// requestOf finds out, without parsing the line, whether it is about something that a timeline shows.
func requestOf(line []byte) (request, bool) {
	const uri, verb = `"requestURI":"`, `"verb":"`
	_, rest, found := bytes.Cut(line, []byte(uri))
	if !found {
		return request{}, false
	}
	path, rest, found := bytes.Cut(rest, []byte{'"'})
	if !found {
		return request{}, false
	}
	_, rest, found = bytes.Cut(rest, []byte(verb))
	if !found {
		return request{}, false
	}
	word, _, _ := bytes.Cut(rest, []byte{'"'})
	r := request{verb: string(word)}
	if !slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.verb) {
		return r, false
	}
	path, _, _ = bytes.Cut(path, []byte{'?'})
	_, after, found := strings.Cut(string(path), "/namespaces/")
	if !found {
		return r, false
	}
	parts := strings.Split(after, "/")
	if len(parts) < 2 {
		return r, false
	}
	r.namespace, r.resource = parts[0], parts[1]
	if len(parts) > 2 {
		r.name = parts[2]
	}
	if len(parts) > 3 {
		r.subresource = parts[3]
	}
	r.kind = auditedKinds[r.resource]
	return r, r.kind != ""
}

type objectKey struct{ resource, namespace, name string }

// life is an object's from its creation until it is gone.
type life struct {
	lane     *Lane
	from     time.Time
	text     string
	busy     time.Time // since when it synchronizes; zero: it does not
	last     stored
	deleting bool
}

// stored is the part of an object, as the API server answered, whose changes are shown.
type stored struct {
	Metadata struct {
		Name              string
		UID               string
		DeletionTimestamp *time.Time
		Finalizers        []string
		Annotations       map[string]string
		Labels            map[string]string
	}
	Spec struct {
		VolumeName string
		Resources  struct{ Requests map[string]string }
	}
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string }
		Mover      struct{ Result, Logs string } `json:"latestMoverStatus"`
		ManualSync string                        `json:"lastManualSync"`
		SyncTime   string                        `json:"lastSyncTime"`
	}
}

func (s stored) synchronizing() (on bool, reason, message string) {
	for _, c := range s.Status.Conditions {
		if c.Type == "Synchronizing" {
			return c.Status == "True", c.Reason, c.Message
		}
	}
	return false, "", ""
}

func (b *builder) audited(r request, e creations.AuditEvent) {
	at, ok := e.StageTimestamp, e.Succeeded()
	if at.IsZero() || at.After(b.To) {
		at = e.RequestReceivedTimestamp
	}
	if r.verb == "deletecollection" {
		if ok {
			b.endAll(r.resource, r.namespace, at)
		}
		return
	}
	var now stored
	_ = json.Unmarshal(e.ResponseObject, &now) // of a Secret there is none, of a deletion it may be a Status
	name := r.name
	if name == "" {
		name = e.ObjectRef.Name
	}
	if name == "" {
		name = now.Metadata.Name
	}
	key := objectKey{r.resource, r.namespace, name}
	who := person(e.User.Username)
	if !ok {
		if r.verb == "create" && e.ResponseStatus.Code != 409 {
			b.objectLane(r, name).point(Point{At: at, State: Bad, class: "refused",
				Text: short(fmt.Sprintf("%s %s, asked for by %s, is refused (HTTP status %d)%s", title(r.kind), name, who, e.ResponseStatus.Code, refusal(e.ResponseObject)))})
		}
		return
	}
	l := b.lives[key]
	switch {
	case e.Made():
		b.end(key, at)
		took := at.Sub(e.RequestReceivedTimestamp)
		text := fmt.Sprintf("%s %s made by %s", title(r.kind), name, who)
		if r.kind == Claim {
			text = fmt.Sprintf("PVC %s made by %s, admitted in %.2f s", name, who, took.Seconds())
			if decision := annotationsOf(now.Metadata.Annotations, nil); decision != "" {
				text += "; " + decision
			}
		}
		l = &life{lane: b.objectLane(r, name), from: at, text: text, last: now}
		b.lives[key] = l
		l.lane.point(Point{At: at, Text: short(text), class: "made"})
	case r.verb == "delete":
		if l == nil {
			return
		}
		if !l.deleting {
			l.deleting = true
			l.lane.point(Point{At: at, Text: short(fmt.Sprintf("%s %s deleted by %s", title(r.kind), name, who)), class: "deleted"})
		}
		if now.Metadata.DeletionTimestamp == nil || len(now.Metadata.Finalizers) == 0 {
			b.end(key, at)
		}
	case l != nil:
		l.changed(r, name, who, now, at)
		if now.Metadata.DeletionTimestamp != nil && len(now.Metadata.Finalizers) == 0 {
			b.end(key, at)
		}
	}
}

// objectLane is the lane of an object: its own, but for Secrets, which share one, and for what VolSync makes for a mover.
func (b *builder) objectLane(r request, name string) *Lane {
	switch {
	case r.kind == Secret:
		return b.lane(Secret, "all")
	case r.kind == Claim && strings.HasPrefix(name, moverPrefix):
		return b.lane(Mover, b.named(r.namespace, strings.TrimSuffix(name, "-cache")))
	}
	return b.lane(r.kind, b.named(r.namespace, name))
}

// changed shows what of a change a person wants to know.
func (l *life) changed(r request, name, who string, now stored, at time.Time) {
	say := func(state State, class, format string, args ...any) {
		l.lane.point(Point{At: at, State: state, class: class, Text: short(fmt.Sprintf(format, args...))})
	}
	was := l.last
	l.last = now
	if r.kind == Claim {
		if was.Spec.VolumeName == "" && now.Spec.VolumeName != "" {
			say(Good, "bound", "PVC %s has its volume", name)
		}
		if text := annotationsOf(now.Metadata.Annotations, was.Metadata.Annotations); text != "" {
			say(Plain, "annotated", "PVC %s annotated by %s: %s", name, who, text)
		}
		if text := annotationsOf(now.Metadata.Labels, was.Metadata.Labels); text != "" {
			say(Plain, "labelled", "PVC %s labelled by %s: %s", name, who, text)
		}
		if a, b := was.Spec.Resources.Requests["storage"], now.Spec.Resources.Requests["storage"]; a != b && a != "" && b != "" {
			say(Plain, "resized", "PVC %s resized by %s: %s to %s", name, who, a, b)
		}
		return
	}
	on, reason, message := now.synchronizing()
	_, reasonBefore, messageBefore := was.synchronizing()
	if on && l.busy.IsZero() {
		l.busy = at
	}
	if !on && !l.busy.IsZero() {
		l.lane.Spans = append(l.lane.Spans, Span{From: l.busy, To: at, State: Busy, Text: name + " synchronizes"})
		l.busy = time.Time{}
	}
	if reason == "Error" && (reasonBefore != reason || messageBefore != message) {
		say(Warn, "error", "%s: %s", name, message)
	}
	if result := now.Status.Mover.Result; result != "" && (result != was.Status.Mover.Result || now.Status.SyncTime != was.Status.SyncTime || now.Status.ManualSync != was.Status.ManualSync) {
		state := Good
		if result != "Successful" {
			state = Bad
		}
		why := text.LastLines(now.Status.Mover.Logs, 1)
		if why != "" {
			why = ": " + why
		}
		say(state, result, "%s: the mover's result is %s%s", name, result, why)
	}
}

// end ends an object's life, if it has one.
func (b *builder) end(key objectKey, at time.Time) {
	l := b.lives[key]
	if l == nil {
		return
	}
	delete(b.lives, key)
	if !l.busy.IsZero() {
		l.lane.Spans = append(l.lane.Spans, Span{From: l.busy, To: at, State: Busy, Text: key.name + " synchronizes"})
	}
	if l.lane.Kind != Secret && l.lane.Kind != Mover { // several share that lane
		l.lane.Spans = append(l.lane.Spans, Span{From: l.from, To: at, Text: l.text})
	}
}

func (b *builder) endAll(resource, namespace string, at time.Time) {
	for _, key := range b.living() {
		if key.resource == resource && key.namespace == namespace {
			b.end(key, at)
		}
	}
}

func (b *builder) endLives() {
	for _, key := range b.living() {
		b.end(key, b.To)
	}
}

// living lists the objects that are not gone, always in the same order.
func (b *builder) living() []objectKey {
	return slices.SortedFunc(maps.Keys(b.lives), func(x, y objectKey) int {
		return strings.Compare(x.resource+"/"+x.namespace+"/"+x.name, y.resource+"/"+y.namespace+"/"+y.name)
	})
}

func title(k Kind) string {
	return map[Kind]string{Claim: "PVC", Source: "ReplicationSource", Destination: "ReplicationDestination", Secret: "Secret"}[k]
}

// person is who a user name stands for.
func person(user string) string {
	const account = "system:serviceaccount:"
	namespace, name, _ := strings.Cut(strings.TrimPrefix(user, account), ":")
	switch {
	case user == "kubernetes-admin":
		return "the suite"
	case strings.HasPrefix(user, account) && namespace == "kyverno":
		return "Kyverno"
	case strings.HasPrefix(user, account) && namespace == "volsync-system":
		return "VolSync"
	case strings.HasPrefix(user, account):
		return name
	}
	return user
}

// annotationsOf is what is new or different in annotations or labels, but for what Kubernetes itself writes.
func annotationsOf(now, was map[string]string) string {
	changed := map[string]string{}
	for key, value := range now {
		if before, had := was[key]; (!had || before != value) && !text.OfKubernetes(key) {
			changed[key] = value
		}
	}
	var parts []string
	if len(changed) > 0 {
		parts = append(parts, text.Pairs(changed))
	}
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if _, still := now[key]; !still && !text.OfKubernetes(key) {
			parts = append(parts, key+" removed")
		}
	}
	return strings.Join(parts, ", ")
}

func refusal(raw []byte) string {
	var status struct{ Message string }
	if json.Unmarshal(raw, &status) == nil && status.Message != "" {
		return ": " + status.Message
	}
	return ""
}
