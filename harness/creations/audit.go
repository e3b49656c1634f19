// Package creations knows what was created in the cluster, also what is gone again: from the API server's audit log or, on an
// external cluster, from a watch. Proofs that something was not created rest on it, so whatever it may have missed is an
// error.
package creations

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// AuditEvent is the part of an audit.k8s.io/v1 Event that specs look at.
type AuditEvent struct {
	AuditID    string `json:"auditID"`
	Stage      string `json:"stage"`
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	UserAgent string `json:"userAgent"`
	// ObjectRef.Name and UID are taken from the response where the request did
	// not have them (generateName), which needs audit level RequestResponse.
	ObjectRef      ObjectRef `json:"objectRef"`
	ResponseStatus struct {
		Code int32 `json:"code"`
	} `json:"responseStatus"`
	RequestReceivedTimestamp time.Time         `json:"requestReceivedTimestamp"`
	StageTimestamp           time.Time         `json:"stageTimestamp"`
	RequestObject            json.RawMessage   `json:"requestObject,omitempty"`
	ResponseObject           json.RawMessage   `json:"responseObject,omitempty"`
	Annotations              map[string]string `json:"annotations,omitempty"`
}

// ObjectRef names what a request was about.
type ObjectRef struct {
	Resource    string `json:"resource"`
	Namespace   string `json:"namespace"`
	Name        string `json:"name"`
	UID         string `json:"uid"`
	APIGroup    string `json:"apiGroup"`
	APIVersion  string `json:"apiVersion"`
	Subresource string `json:"subresource"`
}

// DryRun reports whether the request asked for nothing to be stored.
func (e AuditEvent) DryRun() bool {
	_, query, found := strings.Cut(e.RequestURI, "?")
	if !found {
		return false
	}
	values, err := url.ParseQuery(query)
	return err == nil && values.Has("dryRun")
}

// Succeeded reports whether the API server answered 2xx.
func (e AuditEvent) Succeeded() bool {
	return e.ResponseStatus.Code >= 200 && e.ResponseStatus.Code < 300
}

// Made reports whether the event stored a new object. A server-side apply or an
// update may create too; the API server answers 201 only when it did.
func (e AuditEvent) Made() bool {
	if e.ObjectRef.Subresource != "" || e.DryRun() || !e.Succeeded() {
		return false
	}
	return e.Verb == "create" || (e.ResponseStatus.Code == 201 && (e.Verb == "patch" || e.Verb == "update"))
}

// Query selects audit events; a zero field selects all.
type Query struct {
	// Since and Until bound the time the request was received, both inclusive.
	Since, Until time.Time
	// Resource is the plural, as in "persistentvolumeclaims".
	Resource        string
	Namespace, Name string
	Verbs           []string
	// Subresource is matched when not nil; a pointer to "" wants the object itself.
	Subresource *string
}

func (q Query) matches(e *AuditEvent) bool {
	at := e.RequestReceivedTimestamp
	return (q.Since.IsZero() || !at.Before(q.Since)) &&
		(q.Until.IsZero() || !at.After(q.Until)) &&
		(q.Resource == "" || q.Resource == e.ObjectRef.Resource) &&
		(q.Namespace == "" || q.Namespace == e.ObjectRef.Namespace) &&
		(q.Name == "" || q.Name == e.ObjectRef.Name) &&
		(len(q.Verbs) == 0 || slices.Contains(q.Verbs, e.Verb)) &&
		(q.Subresource == nil || *q.Subresource == e.ObjectRef.Subresource)
}

// ErrAuditGap says that part of the audit log was lost: deleted by rotation
// before it was read, cut short, or never written to its end by an API server
// that was killed. Nothing can be shown to be absent then.
var ErrAuditGap = errors.New("part of the audit log was lost before it was read")

// AuditLog reads the API server's audit log, JSON lines in a file that grows
// and is rotated (audit.log to audit-<timestamp>.log, as the API server does)
// while it is read. What was read stays in memory, so a query costs only what
// is new. It is safe for concurrent use.
type AuditLog struct {
	path string

	mu         sync.Mutex
	streams    []*auditStream
	rotated    map[string]bool // names of rotated files read to their end
	newest     time.Time       // latest requestReceivedTimestamp of any stage
	all        []*AuditEvent
	byResource map[string][]*AuditEvent
	lost       []lostLine
	gap        error
}

// auditStream is one file, followed by identity rather than by name. Holding it
// open keeps its inode from being reused and its rest readable after deletion.
type auditStream struct {
	file   *os.File
	info   os.FileInfo
	offset int64 // end of the last whole line read

	wasRotated bool // seen under the name of a rotated file
}

// lostLine is what an API server was killed in the middle of writing.
type lostLine struct {
	uri   string    // "" where not even that was written
	until time.Time // when it was over at the latest; zero: not known yet
}

// OpenAudit returns the audit log at path on this machine. The file need not
// exist yet; reads fail with fs.ErrNotExist as long as it does not.
func OpenAudit(path string) *AuditLog {
	return &AuditLog{path: path, rotated: map[string]bool{}, byResource: map[string][]*AuditEvent{}}
}

// Close releases the files. The log must not be used after it.
func (a *AuditLog) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.streams {
		_ = s.file.Close()
	}
	a.streams = nil
	return nil
}

// Events returns the events of stage ResponseComplete that q selects, oldest
// request first. Their raw objects are shared: do not change them. An error
// means that the answer may be incomplete, so that nothing can be concluded
// from an event's absence; it wraps fs.ErrNotExist while there is no log, and
// ErrAuditGap when part of it was lost.
func (a *AuditLog) Events(ctx context.Context, q Query) ([]AuditEvent, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.read(ctx); err != nil {
		return nil, err
	}
	for _, l := range a.lost {
		if (l.until.IsZero() || !q.Since.After(l.until)) && (l.uri == "" || strings.Contains(l.uri, "/"+q.Resource)) {
			return nil, fmt.Errorf("%w: the API server was killed while it wrote a line (%s, before %s)", ErrAuditGap, cmp.Or(l.uri, "of an unknown request"), l.until.Format(time.RFC3339))
		}
	}
	from := a.all
	if q.Resource != "" {
		from = a.byResource[q.Resource]
	}
	var out []AuditEvent
	for _, e := range from {
		if q.matches(e) {
			out = append(out, *e)
		}
	}
	slices.SortStableFunc(out, func(x, y AuditEvent) int {
		return x.RequestReceivedTimestamp.Compare(y.RequestReceivedTimestamp)
	})
	return out, nil
}

// Covers reports whether the log has been seen to be written past t: an event
// whose request was received after t has been read. Absence within a window is
// shown only once the window's end is covered. An event is written when its
// request has been answered, so let the window end later than the longest
// request it is about may take (a create: the webhooks' time-outs).
func (a *AuditLog) Covers(ctx context.Context, t time.Time) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.read(ctx); err != nil {
		return false, err
	}
	return a.newest.After(t), nil
}

// CreatedObject is an object that the API server stored, whether or not it
// still exists.
type CreatedObject struct {
	Name, Namespace, UID string
	// Time is when the API server received the request.
	Time time.Time
	// User is who made it; Kyverno's and VolSync's service accounts differ.
	User string
	// Raw is the object as stored or, where the audit level leaves that out, as
	// sent; nil at level Metadata.
	Raw map[string]any
}

// Created returns what was created of a resource (plural) in a namespace (""
// is all) by requests received since then, oldest first: also what has been
// deleted again, and what a server-side apply made. Refused requests and dry
// runs are left out. Errors are those of Events.
func (a *AuditLog) Created(ctx context.Context, resource, namespace string, since time.Time) ([]CreatedObject, error) {
	itself := ""
	events, err := a.Events(ctx, Query{
		Since: since, Resource: resource, Namespace: namespace,
		Verbs: storing, Subresource: &itself,
	})
	if err != nil {
		return nil, err
	}
	var out []CreatedObject
	for _, e := range events {
		if !e.Made() {
			continue
		}
		o := CreatedObject{
			Name: e.ObjectRef.Name, Namespace: e.ObjectRef.Namespace, UID: e.ObjectRef.UID,
			Time: e.RequestReceivedTimestamp, User: e.User.Username,
		}
		raw := e.ResponseObject
		if len(raw) == 0 || isStatus(raw) {
			raw = e.RequestObject
		}
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &o.Raw); err != nil {
				return nil, fmt.Errorf("audit event %s: object of the %s of %s %s/%s: %w", e.AuditID, e.Verb, resource, o.Namespace, o.Name, err)
			}
			if o.Name == "" { // at level Request, where the API server made the name
				o.Name = (&unstructured.Unstructured{Object: o.Raw}).GetGenerateName() + "…"
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// For reports whether the object is for this PVC: its spec names the PVC as
// destination or source in any of VolSync's movers, or the PVC owns it. Where
// uid is not "" an owner must have it too, so that the objects of an earlier
// PVC of that name are told apart.
func (o CreatedObject) For(pvc, uid string) bool {
	spec, _ := o.Raw["spec"].(map[string]any)
	if spec["sourcePVC"] == pvc {
		return true
	}
	for _, mover := range spec {
		if m, ok := mover.(map[string]any); ok && m["destinationPVC"] == pvc {
			return true
		}
	}
	return o.ownedBy(func(owner map[string]any) bool {
		return owner["kind"] == "PersistentVolumeClaim" && owner["name"] == pvc && (uid == "" || owner["uid"] == uid)
	})
}

// ForAnother reports whether the object is for a PVC, as For has it, and for none of this name.
func (o CreatedObject) ForAnother(pvc string) bool {
	if o.For(pvc, "") {
		return false
	}
	spec, _ := o.Raw["spec"].(map[string]any)
	names := func(in map[string]any, field string) bool { name, _ := in[field].(string); return name != "" }
	if names(spec, "sourcePVC") {
		return true
	}
	for _, mover := range spec {
		if m, ok := mover.(map[string]any); ok && names(m, "destinationPVC") {
			return true
		}
	}
	return o.ownedBy(func(owner map[string]any) bool { return owner["kind"] == "PersistentVolumeClaim" })
}

// IsOf reports whether the object belongs to one of this kind and name.
func (o CreatedObject) IsOf(kind, name string) bool {
	return o.ownedBy(func(owner map[string]any) bool { return owner["kind"] == kind && owner["name"] == name })
}

func (o CreatedObject) ownedBy(is func(owner map[string]any) bool) bool {
	meta, _ := o.Raw["metadata"].(map[string]any)
	owners, _ := meta["ownerReferences"].([]any)
	return slices.ContainsFunc(owners, func(owner any) bool {
		of, _ := owner.(map[string]any)
		return is(of)
	})
}

// BacksUp reports whether the object is a pod of VolSync's that reads one of these PVCs for a backup. VolSync has one for restores, too,
// which it names otherwise.
func (o CreatedObject) BacksUp(pvcs ...string) bool {
	pod := unstructured.Unstructured{Object: o.Raw}
	labels := pod.GetLabels()
	if !strings.HasPrefix(cmp.Or(labels["batch.kubernetes.io/job-name"], labels["job-name"]), "volsync-src-") {
		return false
	}
	volumes, _, _ := unstructured.NestedSlice(o.Raw, "spec", "volumes")
	return slices.ContainsFunc(volumes, func(volume any) bool {
		of, _ := volume.(map[string]any)
		claim, _, _ := unstructured.NestedString(of, "persistentVolumeClaim", "claimName")
		return slices.Contains(pvcs, claim)
	})
}

// read takes in all that was written since the last call.
func (a *AuditLog) read(ctx context.Context) error {
	if a.gap != nil {
		return a.gap
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := a.discover(); err != nil {
		return err
	}
	for _, s := range slices.Clone(a.streams) {
		if err := a.drain(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// discover opens files that are new and lets go of rotated ones that have been
// read to their end.
func (a *AuditLog) discover() error {
	var present map[*auditStream]string
	// A rotation while the folder is listed hides a file from that listing: it
	// is missing only when it stays so.
	for range 5 {
		var err error
		if present, err = a.list(); err != nil {
			return err
		}
		if !slices.ContainsFunc(a.streams, func(s *auditStream) bool { return present[s] == "" }) {
			break
		}
	}
	if len(present) == 0 && len(a.streams) == 0 && len(a.rotated) == 0 {
		return fmt.Errorf("audit log: %w", &fs.PathError{Op: "open", Path: a.path, Err: fs.ErrNotExist})
	}
	base := filepath.Base(a.path)
	a.streams = slices.DeleteFunc(a.streams, func(s *auditStream) bool {
		name := present[s]
		if name == base {
			return false
		}
		info, err := s.file.Stat()
		atEnd := err == nil && info.Size() <= s.offset
		switch {
		case name != "":
			s.wasRotated = true
			if !atEnd {
				return false
			}
			// The API server closes a file before it renames it: nothing follows
			// what is in there now.
			a.rotated[name] = true
		case s.wasRotated && atEnd:
			// Deleted after it was read: no loss.
		default:
			if _, err := os.Stat(a.path); errors.Is(err, fs.ErrNotExist) {
				return false // between rename and re-creation
			}
			// The rest of this file can still be read, but others may have come
			// and gone unseen between it and the present one.
			a.gap = fmt.Errorf("%w: a file was deleted by rotation", ErrAuditGap)
		}
		_ = s.file.Close()
		return true
	})
	return a.gap
}

// list opens what is new in the log's folder and returns the streams that have
// a name there.
func (a *AuditLog) list() (map[*auditStream]string, error) {
	dir, base := filepath.Split(a.path)
	ext := filepath.Ext(base)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	present := map[*auditStream]string{}
	for _, entry := range entries {
		name := entry.Name()
		rotated := strings.HasPrefix(name, strings.TrimSuffix(base, ext)+"-") && strings.HasSuffix(name, ext)
		if a.rotated[name] || (name != base && !rotated) {
			continue
		}
		s, err := a.stream(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated since the folder was listed
		}
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		present[s] = name
	}
	return present, nil
}

// stream returns the stream of the file that has this name now.
func (a *AuditLog) stream(path string) (*auditStream, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	for _, s := range a.streams {
		if os.SameFile(s.info, info) {
			return s, file.Close()
		}
	}
	s := &auditStream{file: file, info: info}
	a.streams = append(a.streams, s)
	return s, nil
}

// drain reads the whole lines that s has gained. A last line without its end
// is left for the next time.
func (a *AuditLog) drain(ctx context.Context, s *auditStream) error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	size := info.Size()
	if size < s.offset {
		a.gap = fmt.Errorf("%w: %s was cut from %d to %d bytes", ErrAuditGap, a.path, s.offset, size)
		return a.gap
	}
	if size == s.offset {
		return nil
	}
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, s.offset, size-s.offset), 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if s.wasRotated { // nobody writes this line to its end any more
				s.offset += int64(len(line))
				a.lose(line)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		s.offset += int64(len(line))
		a.take(line)
	}
}

// take parses one line and keeps its event.
func (a *AuditLog) take(line []byte) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return
	}
	whole := WholeEvent(line)
	e, err := ParseEvent(whole)
	if err != nil {
		a.lose(line)
		return
	}
	a.lose(line[:len(line)-len(whole)])
	if e.RequestReceivedTimestamp.After(a.newest) {
		a.newest = e.RequestReceivedTimestamp
	}
	// What was lost before an event was over by then.
	for i := range a.lost {
		if a.lost[i].until.IsZero() {
			a.lost[i].until = a.newest
		}
	}
	if e.Stage != "ResponseComplete" {
		return
	}
	a.all = append(a.all, e)
	a.byResource[e.ObjectRef.Resource] = append(a.byResource[e.ObjectRef.Resource], e)
}

var (
	stageOf = regexp.MustCompile(`"stage":"(\w+)"`)
	uriOf   = regexp.MustCompile(`"requestURI":"([^"]*)"`)
	verbOf  = regexp.MustCompile(`"verb":"(\w+)"`)
)

// lose notes a line that was cut off, unless what is left of it shows that it was about nothing that was stored.
func (a *AuditLog) lose(head []byte) {
	word := func(of *regexp.Regexp) string {
		if found := of.FindSubmatch(head); found != nil {
			return string(found[1])
		}
		return ""
	}
	stage, verb := word(stageOf), word(verbOf)
	if len(head) == 0 || stage != "" && stage != "ResponseComplete" || verb != "" && !slices.Contains(storing, verb) {
		return
	}
	a.lost = append(a.lost, lostLine{uri: word(uriOf)})
}

// storing are the verbs of requests that may store a new object.
var storing = []string{"create", "update", "patch"}

// WholeEvent is the event at the end of a line of an audit log, which is nearly always the line. An API server that was
// killed leaves half a line, and its successor appends to it.
func WholeEvent(line []byte) []byte {
	if from := bytes.LastIndex(line, []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/`)); from > 0 {
		return line[from:]
	}
	return line
}

// ParseEvent reads a WholeEvent.
func ParseEvent(line []byte) (*AuditEvent, error) {
	var e AuditEvent
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, err
	}
	if e.Stage == "" {
		return nil, errors.New("not an audit event")
	}
	if (e.ObjectRef.Name == "" || e.ObjectRef.UID == "") && e.Verb == "create" && len(e.ResponseObject) > 0 {
		var o struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name, Namespace, UID string
			} `json:"metadata"`
		}
		// A list or a Status has no name of its own.
		if json.Unmarshal(e.ResponseObject, &o) == nil && o.Kind != "Status" && e.ObjectRef.Subresource == "" {
			if e.ObjectRef.Name == "" {
				e.ObjectRef.Name = o.Metadata.Name
			}
			if e.ObjectRef.UID == "" {
				e.ObjectRef.UID = o.Metadata.UID
			}
		}
	}
	return &e, nil
}

// isStatus reports whether an object is an answer about a request rather than
// the object that was asked for.
func isStatus(raw json.RawMessage) bool {
	var o struct {
		Kind string `json:"kind"`
	}
	return json.Unmarshal(raw, &o) == nil && o.Kind == "Status"
}
