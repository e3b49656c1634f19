package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/smart-restore/conformance/harness/artifacts"
	"github.com/smart-restore/conformance/harness/redact"
)

var (
	podsResource   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	eventsResource = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

// Options of a Collector; the zero value collects everything as it is.
type Options struct {
	// Namespace selects the namespaces whose pods' logs are kept; nil is all.
	Namespace func(namespace string) bool
	// Events selects the namespaces whose events are kept; nil is all.
	Events func(namespace string) bool
	// Redact replaces secrets before anything reaches the disk; nil leaves all as it is.
	Redact *redact.Redactor
}

// Collector streams pods' logs and events into a folder until it is closed. It
// outlives outages of the API server, and never fails a run: what it could not
// get it counts, and says so in logs/_collector.txt.
type Collector struct {
	kube    *kube
	dir     artifacts.Dir
	options Options
	started time.Time

	// watching ends first, then streaming; closing is the time left to Close.
	watching, streaming         context.Context
	stopWatching, stopStreaming context.CancelFunc
	closing                     context.Context
	slots                       chan struct{} // final reads at a time
	watches, followers          sync.WaitGroup
	once                        sync.Once
	closeErr                    error

	mu        sync.Mutex
	closed    bool // no file is written from here on
	following map[string]*follower
	owners    map[string]string // log file → pod and container
	events    *os.File
	seen      map[string]bool // events written: UID and version
	pods      map[string]bool // UIDs seen
	counts    struct {
		lines, bytes, events, reconnects int
	}
	lost []string
}

// StartCollector begins to collect from config's cluster into a folder, as package artifacts names its files:
//
//	logs/<namespace>/<pod>-<container>.log  each line with its time, from the container's start; restarts follow on
//	logs/_collector.txt                     what was collected, and what was lost
//	events.jsonl                            an EventRecord a line
//
// The cluster need not answer yet. ctx is for starting only: the Collector
// lives until Close, so that it may be started in a set-up node whose context
// ends with it. An error means that the folder or the config is unusable.
func StartCollector(ctx context.Context, config *rest.Config, folder string, options Options) (*Collector, error) {
	dir := artifacts.Dir(folder)
	kube, err := newKube(config)
	if err != nil {
		return nil, fmt.Errorf("collect logs and events: %w", err)
	}
	if err := os.MkdirAll(dir.Logs(), 0o755); err != nil {
		return nil, fmt.Errorf("collect logs and events: %w", err)
	}
	events, err := os.OpenFile(dir.Events(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("collect logs and events: %w", err)
	}
	c := &Collector{
		kube: kube, dir: dir, options: options, started: time.Now(), events: events,
		slots:     make(chan struct{}, 16),
		following: map[string]*follower{}, owners: map[string]string{},
		seen: map[string]bool{}, pods: map[string]bool{},
	}
	forever := context.WithoutCancel(ctx)
	c.watching, c.stopWatching = context.WithCancel(forever)
	c.streaming, c.stopStreaming = context.WithCancel(forever)
	if err := c.writeSummary("running"); err != nil {
		_ = events.Close()
		return nil, fmt.Errorf("collect logs and events: %w", err)
	}
	c.watches.Go(c.guard("pods", func() { c.watch(podsResource, c.onPods, c.onPod) }))
	c.watches.Go(c.guard("events", func() { c.watch(eventsResource, c.onEvents, c.onEvent) }))
	return c, nil
}

// Close takes in what is left (a last look at pods and events, and the rest of
// every log that was still being written), as far as ctx's time allows, and
// ends the collection. Nothing is written after it. The error is about the
// summary file alone; what was lost is in there and in Lost. Closing twice is
// one closing.
func (c *Collector) Close(ctx context.Context) error {
	c.once.Do(func() { c.closeErr = c.close(ctx) })
	return c.closeErr
}

func (c *Collector) close(ctx context.Context) error {
	c.stopWatching()
	c.watches.Wait()

	var last sync.WaitGroup
	last.Go(c.guard("last look at pods", func() {
		c.lastLook(ctx, podsResource, c.onPods)
	}))
	last.Go(c.guard("last look at events", func() {
		c.lastLook(ctx, eventsResource, c.onEvents)
	}))
	last.Wait()

	c.closing = ctx
	c.stopStreaming() // followers see closing after this
	done := make(chan struct{})
	go func() {
		c.followers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// They end with ctx; what they still had to read is theirs to report.
		select {
		case <-done:
		case <-time.After(2 * time.Second):
			c.lose("%d logs were still being read when the time for closing was up", c.unfinished())
		}
	}
	c.mu.Lock()
	c.closed = true
	if err := c.events.Close(); err != nil {
		c.lost = append(c.lost, fmt.Sprintf("events.jsonl: %v", err))
	}
	c.mu.Unlock()
	return c.writeSummary("closed " + time.Now().Format(time.RFC3339Nano))
}

// Lost returns what could not be collected, a sentence each.
func (c *Collector) Lost() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lost)
}

func (c *Collector) lose(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = append(c.lost, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (c *Collector) unfinished() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, f := range c.following {
		if !f.finished.Load() {
			n++
		}
	}
	return n
}

// guard keeps a defect in the collector from taking the run down with it.
func (c *Collector) guard(what string, f func()) func() {
	return func() {
		defer func() {
			if r := recover(); r != nil {
				c.lose("%s: the collector panicked: %v", what, r)
			}
		}()
		f()
	}
}

func (c *Collector) writeSummary(state string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b bytes.Buffer
	fmt.Fprintf(&b, "started %s\nstate %s\n", c.started.Format(time.RFC3339Nano), state)
	fmt.Fprintf(&b, "pods seen %d\ncontainers followed %d\nlog lines %d\nlog bytes %d\nevents %d\nwatches resumed %d\nlost %d\n",
		len(c.pods), len(c.following), c.counts.lines, c.counts.bytes, c.counts.events, c.counts.reconnects, len(c.lost))
	for _, l := range c.lost {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return os.WriteFile(c.dir.CollectorSummary(), c.options.Redact.Bytes(b.Bytes()), 0o644)
}

// retry is the pause before attempt n (from 0) after a failure.
func retry(n int) time.Duration {
	return min(100*time.Millisecond<<min(n, 5), 2*time.Second)
}

// wait pauses; it reports whether ctx still goes on.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// watch lists a resource of all namespaces and follows its changes until the
// collector stops watching, through any outage.
func (c *Collector) watch(resource schema.GroupVersionResource, onList func([]unstructured.Unstructured), onEvent func(watch.EventType, *unstructured.Unstructured)) {
	ctx := c.watching
	client := c.kube.dynamic.Resource(resource)
	version, failures, listed := "", 0, false
	for ctx.Err() == nil {
		if version == "" {
			list, err := client.List(ctx, metav1.ListOptions{})
			if err != nil {
				if !wait(ctx, retry(failures)) {
					return
				}
				failures++
				continue
			}
			if listed && resource == podsResource {
				c.lose("the watch on pods had to start anew: pods that came and went just before may be missing")
			}
			listed, failures = true, 0
			onList(list.Items)
			version = list.GetResourceVersion()
		}
		w, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true})
		if err != nil {
			if expired(err) {
				version = ""
			}
			if !wait(ctx, retry(failures)) {
				return
			}
			failures++
			continue
		}
		version, failures = c.drainWatch(w, version, failures, onEvent)
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.counts.reconnects++
		c.mu.Unlock()
		if !wait(ctx, retry(failures)) {
			return
		}
		failures++
	}
}

// drainWatch hands on a watch's events until it ends, and returns the version
// to go on from ("" is to list anew) and the failures in a row.
func (c *Collector) drainWatch(w watch.Interface, version string, failures int, onEvent func(watch.EventType, *unstructured.Unstructured)) (string, int) {
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			if expired(apierrors.FromObject(e.Object)) {
				return "", failures
			}
			return version, failures
		}
		o, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		failures = 0
		version = o.GetResourceVersion()
		if e.Type != watch.Bookmark {
			onEvent(e.Type, o)
		}
	}
	return version, failures
}

func expired(err error) bool {
	return apierrors.IsGone(err) || apierrors.IsResourceExpired(err)
}

// lastLook lists once more; a cluster that is gone by now loses what came since
// the watch's last event.
func (c *Collector) lastLook(ctx context.Context, resource schema.GroupVersionResource, onList func([]unstructured.Unstructured)) {
	list, err := c.kube.dynamic.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		c.lose("last look at %s: %v", resource.Resource, err)
		return
	}
	onList(list.Items)
}

// EventRecord is a line of events.jsonl.
type EventRecord struct {
	// Time is when it happened last (the API's own precision: mostly seconds);
	// Seen is when the collector saw it.
	Time      time.Time `json:"time"`
	Seen      time.Time `json:"seen"`
	Namespace string    `json:"namespace"`
	Object    string    `json:"object"` // Kind/name
	Type      string    `json:"type"`
	Reason    string    `json:"reason"`
	Message   string    `json:"message"`
	Count     int64     `json:"count"`
	Source    string    `json:"source,omitempty"`
}

func (c *Collector) onEvents(items []unstructured.Unstructured) {
	for i := range items {
		c.onEvent(watch.Added, &items[i])
	}
}

func (c *Collector) onEvent(t watch.EventType, o *unstructured.Unstructured) {
	if t == watch.Deleted { // expiry, or its namespace went
		return
	}
	if c.options.Events != nil && !c.options.Events(o.GetNamespace()) {
		return
	}
	record := eventRecord(o)
	record.Seen = time.Now()
	line, err := json.Marshal(record)
	if err != nil {
		c.lose("event %s/%s: %v", o.GetNamespace(), o.GetName(), err)
		return
	}
	line = append(c.options.Redact.Bytes(line), '\n')
	key := string(o.GetUID()) + "@" + o.GetResourceVersion()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.seen[key] {
		return
	}
	c.seen[key] = true
	c.counts.events++
	if _, err := c.events.Write(line); err != nil {
		c.lost = append(c.lost, fmt.Sprintf("an event: %v", err))
	}
}

func eventRecord(o *unstructured.Unstructured) EventRecord {
	var e struct {
		InvolvedObject struct{ Kind, Name, Namespace string } `json:"involvedObject"`
		Reason         string                                 `json:"reason"`
		Message        string                                 `json:"message"`
		Type           string                                 `json:"type"`
		Count          int64                                  `json:"count"`
		EventTime      string                                 `json:"eventTime"`
		FirstTimestamp string                                 `json:"firstTimestamp"`
		LastTimestamp  string                                 `json:"lastTimestamp"`
		Series         struct {
			Count            int64  `json:"count"`
			LastObservedTime string `json:"lastObservedTime"`
		} `json:"series"`
		Source              struct{ Component string } `json:"source"`
		ReportingController string                     `json:"reportingComponent"`
	}
	// Through JSON: an event's times may be null.
	if b, err := o.MarshalJSON(); err == nil {
		_ = json.Unmarshal(b, &e)
	}
	r := EventRecord{
		Namespace: e.InvolvedObject.Namespace, Object: e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name,
		Type: e.Type, Reason: e.Reason, Message: e.Message,
		Count: max(e.Count, e.Series.Count, 1), Source: e.Source.Component,
	}
	if r.Source == "" {
		r.Source = e.ReportingController
	}
	if r.Namespace == "" {
		r.Namespace = o.GetNamespace()
	}
	r.Time = o.GetCreationTimestamp().Time
	for _, s := range []string{e.FirstTimestamp, e.EventTime, e.LastTimestamp, e.Series.LastObservedTime} {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil && t.After(r.Time) {
			r.Time = t
		}
	}
	return r
}

// podView is the part of a pod that says which of its containers have a log.
type podView struct {
	Status struct {
		Init      []containerView `json:"initContainerStatuses"`
		Main      []containerView `json:"containerStatuses"`
		Ephemeral []containerView `json:"ephemeralContainerStatuses"`
	} `json:"status"`
}

type containerView struct {
	Name         string         `json:"name"`
	RestartCount int            `json:"restartCount"`
	State        containerState `json:"state"`
	LastState    containerState `json:"lastState"`
}

type containerState struct {
	Running    map[string]any `json:"running"`
	Terminated map[string]any `json:"terminated"`
}

// onPods takes in a whole list: a pod that is not in it is gone.
func (c *Collector) onPods(items []unstructured.Unstructured) {
	there := map[string]bool{}
	for i := range items {
		there[string(items[i].GetUID())] = true
		c.onPod(watch.Added, &items[i])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.following {
		if uid := f.now().uid; !there[uid] {
			f.podGone(uid)
		}
	}
}

func (c *Collector) onPod(t watch.EventType, o *unstructured.Unstructured) {
	namespace, name, uid := o.GetNamespace(), o.GetName(), string(o.GetUID())
	if c.options.Namespace != nil && !c.options.Namespace(namespace) {
		return
	}
	var pod podView
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &pod); err != nil {
		c.lose("pod %s/%s: %v", namespace, name, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.pods[uid] = true
	for _, s := range slices.Concat(pod.Status.Init, pod.Status.Main, pod.Status.Ephemeral) {
		if s.State.Running == nil && s.State.Terminated == nil && s.LastState.Terminated == nil {
			continue // has not said anything yet
		}
		f := c.following[namespace+"/"+name+"/"+s.Name]
		at := instance{uid, s.RestartCount}
		switch {
		case t == watch.Deleted && (f == nil || f.now().uid != uid):
			c.lost = append(c.lost, fmt.Sprintf("%s/%s %s: the pod was deleted before its log could be read", namespace, name, s.Name))
		case f == nil:
			f = &follower{
				c: c, namespace: namespace, pod: name, container: s.Name,
				path: c.logFile(namespace, name, s.Name), changed: make(chan struct{}, 1),
			}
			f.update(at, s.State.Running != nil)
			c.following[namespace+"/"+name+"/"+s.Name] = f
			c.followers.Go(c.guard(f.String(), f.run))
		default:
			f.update(at, s.State.Running != nil)
		}
	}
	if t == watch.Deleted {
		for _, f := range c.following {
			f.podGone(uid)
		}
	}
}

// logFile names a container's log, each container's own.
func (c *Collector) logFile(namespace, pod, container string) string {
	owner := pod + "_" + container
	file := c.dir.ContainerLog(namespace, pod, container)
	if o, taken := c.owners[file]; taken && o != owner {
		file = c.dir.ContainerLogApart(namespace, pod, container)
	}
	c.owners[file] = owner
	return file
}

// gone reports whether an error of reading a log says that the pod is no more.
func gone(err error) bool { return apierrors.IsNotFound(err) }

// refused reports whether an error of reading a log says that there is no such
// instance of the container.
func refused(err error) bool { return apierrors.IsBadRequest(err) }
