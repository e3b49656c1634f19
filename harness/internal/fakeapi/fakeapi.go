// Package fakeapi is as much of an API server as tests of what observes one need.
package fakeapi

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

// Object is an object of the API.
type Object = map[string]any

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// At is the time of so many seconds on the clock of its logs.
func At(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

// API is as much of an API server as observers talk to: lists, watches
// with history, and container logs that grow.
type API struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	changed chan struct{} // closed at every change
	history []change

	// Below are changed with Do.

	Version int
	Oldest  int // watches from before it get 410
	Objects map[string]map[string]Object
	Logs    map[string]*ContainerLog // ns/pod/container
	Down    bool
	Mute    bool // streams stay open and say nothing
}

type change struct {
	version  int
	resource string
	kind     string
	object   json.RawMessage
}

// ContainerLog is a container's log.
type ContainerLog struct {
	Current, Previous []string
	Ended             bool
}

// New starts one, until the test ends.
func New(t *testing.T) *API {
	f := &API{t: t, changed: make(chan struct{}), Objects: map[string]map[string]Object{}, Logs: map[string]*ContainerLog{}}
	f.server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Stop)
	return f
}

// Stop ends the server and all that is connected to it.
func (f *API) Stop() {
	f.Do(func() { f.Down = true })
	f.HangUp()
	f.server.Close()
}

// HangUp ends all connections.
func (f *API) HangUp() { f.server.CloseClientConnections() }

// Config is how a client connects to it.
func (f *API) Config() *rest.Config { return &rest.Config{Host: f.server.URL} }

// Do changes the state under the lock and wakes whoever waits for a change.
func (f *API) Do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// Put stores an object of a resource (as in its list's path) and tells watches.
func (f *API) Put(resource string, o Object) {
	f.Do(func() {
		meta := o["metadata"].(Object)
		key := fmt.Sprint(meta["namespace"], "/", meta["name"])
		kind := "ADDED"
		if f.Objects[resource] == nil {
			f.Objects[resource] = map[string]Object{}
		}
		if _, there := f.Objects[resource][key]; there {
			kind = "MODIFIED"
		}
		f.Version++
		meta["resourceVersion"] = strconv.Itoa(f.Version)
		f.Objects[resource][key] = o
		f.Record(kind, resource, o)
	})
}

// Delete removes an object and tells watches.
func (f *API) Delete(resource, namespace, name string) {
	f.Do(func() {
		key := namespace + "/" + name
		o := f.Objects[resource][key]
		delete(f.Objects[resource], key)
		f.Version++
		o["metadata"].(Object)["resourceVersion"] = strconv.Itoa(f.Version)
		f.Record("DELETED", resource, o)
	})
}

// Record adds a change to what watches tell; call it in Do.
func (f *API) Record(kind, resource string, o Object) {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	f.history = append(f.history, change{f.Version, resource, kind, b})
}

// Log is a container's log; call it in Do.
func (f *API) Log(key string) *ContainerLog {
	if f.Logs[key] == nil {
		f.Logs[key] = &ContainerLog{}
	}
	return f.Logs[key]
}

// Say appends lines to a container's log; each is "<seconds, as in At> <text>".
func (f *API) Say(key string, lines ...string) {
	f.Do(func() {
		l := f.Log(key)
		for _, line := range lines {
			stamp, text, _ := strings.Cut(line, " ")
			s, err := strconv.ParseFloat(stamp, 64)
			if err != nil {
				panic(err)
			}
			l.Current = append(l.Current, At(s).Format(time.RFC3339Nano)+" "+text)
		}
	})
}

// End ends a container's log.
func (f *API) End(key string) { f.Do(func() { f.Log(key).Ended = true }) }

// Pod is one with a single container, in that state.
func Pod(namespace, name, uid, container string, restarts int, state string) Object {
	status := Object{"name": container, "restartCount": restarts, "state": Object{state: Object{}}}
	return Object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": Object{"namespace": namespace, "name": name, "uid": uid},
		"status":   Object{"containerStatuses": []any{status}},
	}
}

func (f *API) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	down := f.Down
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
	items, known := f.Objects[resource]
	if !known && resource != "pods" && resource != "events" {
		refuse(w, 404, "NotFound")
		return
	}
	list := []Object{}
	for _, o := range items {
		list = append(list, o)
	}
	apiVersion, kind := "v1", "List"
	if metadataOnly(r) {
		apiVersion, kind = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	answer(w, 200, Object{"apiVersion": apiVersion, "kind": kind, "metadata": Object{"resourceVersion": strconv.Itoa(f.Version)}, "items": list})
}

func metadataOnly(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
}

// asAsked is an object, or its metadata where the request asks for no more.
func asAsked(r *http.Request, whole json.RawMessage) json.RawMessage {
	if !metadataOnly(r) {
		return whole
	}
	var o Object
	if err := json.Unmarshal(whole, &o); err != nil {
		panic(err)
	}
	b, err := json.Marshal(Object{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]})
	if err != nil {
		panic(err)
	}
	return b
}

func (f *API) serveWatch(w http.ResponseWriter, r *http.Request, resource string, from int) {
	w.Header().Set("Content-Type", "application/json")
	for {
		f.mu.Lock()
		changed, oldest, down := f.changed, f.Oldest, f.Down
		news, version := slices.Clone(f.history), f.Version
		if f.Mute {
			news = nil
		}
		bookmarks := !f.Mute && r.URL.Query().Get("allowWatchBookmarks") == "true"
		f.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		if from < oldest {
			_ = json.NewEncoder(w).Encode(Object{"type": "ERROR", "object": Object{"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired"}})
			return
		}
		for _, c := range news {
			if c.resource == resource && c.version > from {
				from = c.version
				_ = json.NewEncoder(w).Encode(Object{"type": c.kind, "object": asAsked(r, c.object)})
			}
		}
		if bookmarks {
			_ = json.NewEncoder(w).Encode(Object{"type": "BOOKMARK", "object": asAsked(r, json.RawMessage(fmt.Sprintf(`{"apiVersion":"v1","kind":"Any","metadata":{"resourceVersion":"%d"}}`, version)))})
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func (f *API) serveLog(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/") // "", api, v1, namespaces, ns, pods, pod, log
	q := r.URL.Query()
	podKey := parts[4] + "/" + parts[6]
	key := podKey + "/" + q.Get("container")
	if q.Get("timestamps") != "true" {
		f.t.Errorf("log without times: %s", r.URL)
	}
	since, _ := time.Parse(time.RFC3339, q.Get("sinceTime"))
	wanted := func(line string) bool {
		stamp, _, _ := strings.Cut(line, " ")
		t, err := time.Parse(time.RFC3339Nano, stamp)
		return err != nil || !t.Before(since)
	}
	for sent := 0; ; {
		f.mu.Lock()
		_, there := f.Objects["pods"][podKey]
		l, changed, down := f.Log(key), f.changed, f.Down
		lines, ended := slices.Clone(l.Current), l.Ended
		previous := slices.Clone(l.Previous)
		if f.Mute && q.Get("follow") == "true" {
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

func answer(w http.ResponseWriter, code int, o Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o)
}

func refuse(w http.ResponseWriter, code int, reason string) {
	answer(w, code, Object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}
