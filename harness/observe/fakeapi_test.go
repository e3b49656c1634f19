package observe

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

type object = map[string]any

// fakeAPI is as much of an API server as observers talk to: lists, watches
// with history, and container logs that grow.
type fakeAPI struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	changed chan struct{} // closed at every change
	version int
	oldest  int // watches from before it get 410
	objects map[string]map[string]object
	history []change
	logs    map[string]*fakeLog // ns/pod/container
	down    bool
	mute    bool // streams stay open and say nothing
}

type change struct {
	version  int
	resource string
	kind     string
	object   json.RawMessage
}

type fakeLog struct {
	current, previous []string
	ended             bool
}

func newFakeAPI(t *testing.T) *fakeAPI {
	f := &fakeAPI{t: t, changed: make(chan struct{}), objects: map[string]map[string]object{}, logs: map[string]*fakeLog{}}
	f.server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.stop)
	return f
}

// stop ends the server and all that is connected to it.
func (f *fakeAPI) stop() {
	f.do(func() { f.down = true })
	f.server.CloseClientConnections()
	f.server.Close()
}

func (f *fakeAPI) config() *rest.Config { return &rest.Config{Host: f.server.URL} }

// do changes the state under the lock and wakes whoever waits for a change.
func (f *fakeAPI) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// put stores an object of a resource (as in its list's path) and tells watches.
func (f *fakeAPI) put(resource string, o object) {
	f.do(func() {
		meta := o["metadata"].(object)
		key := fmt.Sprint(meta["namespace"], "/", meta["name"])
		kind := "ADDED"
		if f.objects[resource] == nil {
			f.objects[resource] = map[string]object{}
		}
		if _, there := f.objects[resource][key]; there {
			kind = "MODIFIED"
		}
		f.version++
		meta["resourceVersion"] = strconv.Itoa(f.version)
		f.objects[resource][key] = o
		f.record(kind, resource, o)
	})
}

func (f *fakeAPI) delete(resource, namespace, name string) {
	f.do(func() {
		key := namespace + "/" + name
		o := f.objects[resource][key]
		delete(f.objects[resource], key)
		f.version++
		o["metadata"].(object)["resourceVersion"] = strconv.Itoa(f.version)
		f.record("DELETED", resource, o)
	})
}

func (f *fakeAPI) record(kind, resource string, o object) {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	f.history = append(f.history, change{f.version, resource, kind, b})
}

func (f *fakeAPI) log(key string) *fakeLog {
	if f.logs[key] == nil {
		f.logs[key] = &fakeLog{}
	}
	return f.logs[key]
}

// say appends lines to a container's log; each is "<seconds after t0> <text>".
func (f *fakeAPI) say(key string, lines ...string) {
	f.do(func() {
		l := f.log(key)
		for _, line := range lines {
			stamp, text, _ := strings.Cut(line, " ")
			s, err := strconv.ParseFloat(stamp, 64)
			if err != nil {
				panic(err)
			}
			l.current = append(l.current, at(s).Format(time.RFC3339Nano)+" "+text)
		}
	})
}

func (f *fakeAPI) end(key string) { f.do(func() { f.log(key).ended = true }) }

func pod(namespace, name, uid, container string, restarts int, state string) object {
	status := object{"name": container, "restartCount": restarts, "state": object{state: object{}}}
	return object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"namespace": namespace, "name": name, "uid": uid},
		"status":   object{"containerStatuses": []any{status}},
	}
}

func (f *fakeAPI) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	path := r.URL.Path
	if strings.HasSuffix(path, "/log") {
		f.serveLog(w, r)
		return
	}
	resource := strings.TrimPrefix(strings.TrimPrefix(path, "/api/v1/"), "/apis/")
	q := r.URL.Query()
	if q.Get("watch") == "true" {
		from, err := strconv.Atoi(q.Get("resourceVersion"))
		if err != nil {
			f.t.Errorf("watch without a version: %s", r.URL)
		}
		f.serveWatch(w, r, resource, from)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	items, known := f.objects[resource]
	if !known && resource != "pods" && resource != "events" {
		refuse(w, 404, "NotFound")
		return
	}
	list := []object{}
	for _, o := range items {
		list = append(list, o)
	}
	apiVersion, kind := "v1", "List"
	if metadataOnly(r) {
		apiVersion, kind = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	answer(w, 200, object{"apiVersion": apiVersion, "kind": kind, "metadata": object{"resourceVersion": strconv.Itoa(f.version)}, "items": list})
}

func metadataOnly(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
}

// asAsked is an object, or its metadata where the request asks for no more.
func asAsked(r *http.Request, whole json.RawMessage) json.RawMessage {
	if !metadataOnly(r) {
		return whole
	}
	var o object
	if err := json.Unmarshal(whole, &o); err != nil {
		panic(err)
	}
	b, err := json.Marshal(object{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]})
	if err != nil {
		panic(err)
	}
	return b
}

func (f *fakeAPI) serveWatch(w http.ResponseWriter, r *http.Request, resource string, from int) {
	w.Header().Set("Content-Type", "application/json")
	for {
		f.mu.Lock()
		changed, oldest, down := f.changed, f.oldest, f.down
		news, version := slices.Clone(f.history), f.version
		if f.mute {
			news = nil
		}
		bookmarks := !f.mute && r.URL.Query().Get("allowWatchBookmarks") == "true"
		f.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		if from < oldest {
			_ = json.NewEncoder(w).Encode(object{"type": "ERROR", "object": object{"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired"}})
			return
		}
		for _, c := range news {
			if c.resource == resource && c.version > from {
				from = c.version
				_ = json.NewEncoder(w).Encode(object{"type": c.kind, "object": asAsked(r, c.object)})
			}
		}
		if bookmarks {
			_ = json.NewEncoder(w).Encode(object{"type": "BOOKMARK", "object": asAsked(r, json.RawMessage(fmt.Sprintf(`{"apiVersion":"v1","kind":"Any","metadata":{"resourceVersion":"%d"}}`, version)))})
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func (f *fakeAPI) serveLog(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/") // "", api, v1, namespaces, ns, pods, pod, log
	q := r.URL.Query()
	podKey := parts[4] + "/" + parts[6]
	key := podKey + "/" + q.Get("container")
	if q.Get("timestamps") != "true" {
		f.t.Errorf("log without times: %s", r.URL)
	}
	since, _ := time.Parse(time.RFC3339, q.Get("sinceTime"))
	wanted := func(line string) bool {
		t, ok := lineTime([]byte(line))
		return !ok || !t.Before(since)
	}
	for sent := 0; ; {
		f.mu.Lock()
		_, there := f.objects["pods"][podKey]
		l, changed, down := f.log(key), f.changed, f.down
		lines, ended := slices.Clone(l.current), l.ended
		previous := slices.Clone(l.previous)
		if f.mute && q.Get("follow") == "true" {
			lines = lines[:sent]
		}
		f.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		if !there && sent == 0 {
			refuse(w, 404, "NotFound")
			return
		}
		if q.Get("previous") == "true" {
			if previous == nil {
				refuse(w, 400, "BadRequest")
				return
			}
			lines, ended = previous, true
		}
		for ; sent < len(lines); sent++ {
			if wanted(lines[sent]) {
				_, _ = fmt.Fprintln(w, lines[sent])
			}
		}
		w.(http.Flusher).Flush()
		if q.Get("follow") != "true" || ended {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func answer(w http.ResponseWriter, code int, o object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o)
}

func refuse(w http.ResponseWriter, code int, reason string) {
	answer(w, code, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}
