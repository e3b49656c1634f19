package creations

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/smart-restore/conformance/harness/observe"
)

// ErrWatchGap says that the API server could not say what happened between two looks. Nothing can be shown to be absent
// then.
var ErrWatchGap = errors.New("the watch has a gap")

const (
	// watchPeriod is for how long one request watches. An API server says, before it ends a watch, up to which version it
	// has sent everything (a bookmark): that is how quiet is told from late.
	watchPeriod = 5 * time.Second
	// watchRetry is the pause after a watch that could not be begun.
	watchRetry = 500 * time.Millisecond
)

// Watch knows what was made in the namespaces that it follows, from when it follows them: also what is gone again. It
// stands in for the audit log in a cluster that has none of ours. It says less: who made an object it takes from the
// object itself, and of Secrets it reads no more than their metadata.
type Watch struct {
	// Now is the clock by which what is seen is dated, and since of Created is meant. Set it before Follow.
	Now func() time.Time

	dynamic  dynamic.Interface
	metadata metadata.Interface
	ctx      context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	streams map[string]*watchStream // by resource and namespace
	asked   map[time.Time]map[*watchStream]uint64
}

// watchStream is one resource in one namespace.
type watchStream struct {
	resource  schema.GroupVersionResource
	namespace string
	ctx       context.Context // ends when it is no longer followed
	stop      context.CancelFunc
	list      func(context.Context, metav1.ListOptions) (version string, objects []watched, err error)
	watch     func(context.Context, metav1.ListOptions) (watch.Interface, error)

	// Under the Watch's lock.
	version string // up to which everything was seen
	created []CreatedObject
	seen    map[string]bool // UIDs
	gap     error
}

// watched is what of an object is looked at.
type watched interface {
	metav1.Object
}

var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// watchedResources are what a policy makes, VolSync's movers, and the copies that they read.
var watchedResources = []schema.GroupVersionResource{
	{Group: "volsync.backube", Version: "v1alpha1", Resource: "replicationsources"},
	{Group: "volsync.backube", Version: "v1alpha1", Resource: "replicationdestinations"},
	secrets,
	{Version: "v1", Resource: "pods"},
	{Version: "v1", Resource: "persistentvolumeclaims"},
}

// NewWatch watches nothing yet: see Follow.
func NewWatch(config *rest.Config) (*Watch, error) {
	c := observe.ClientConfig(config)
	objects, err := dynamic.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	metas, err := metadata.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	return newWatch(objects, metas), nil
}

func newWatch(objects dynamic.Interface, metas metadata.Interface) *Watch {
	w := &Watch{Now: time.Now, dynamic: objects, metadata: metas, streams: map[string]*watchStream{}, asked: map[time.Time]map[*watchStream]uint64{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// Close ends all watches.
func (w *Watch) Close() error {
	w.stop()
	w.running.Wait()
	return nil
}

// Leave ends the watch of a namespace, and forgets what was made there.
func (w *Watch) Leave(namespace string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, s := range w.streams {
		if s.namespace == namespace {
			s.stop()
			delete(w.streams, key)
		}
	}
}

// Follow watches a namespace from now on. What is in it already counts as made now.
func (w *Watch) Follow(ctx context.Context, namespace string) error {
	for _, resource := range watchedResources {
		s := w.newStream(resource, namespace)
		version, objects, err := s.list(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("watch %s in %s: %w", resource.Resource, namespace, err)
		}
		s.version = version
		for _, object := range objects {
			s.take(object, w.Now())
		}
		w.mu.Lock()
		w.streams[resource.Resource+"/"+namespace] = s
		w.mu.Unlock()
		w.running.Go(func() { w.follow(s) })
	}
	return nil
}

// newStream is a stream of whole objects or, of Secrets, of their metadata.
func (w *Watch) newStream(resource schema.GroupVersionResource, namespace string) *watchStream {
	s := &watchStream{resource: resource, namespace: namespace, seen: map[string]bool{}}
	s.ctx, s.stop = context.WithCancel(w.ctx)
	if resource == secrets {
		client := w.metadata.Resource(resource).Namespace(namespace)
		s.watch = client.Watch
		s.list = func(ctx context.Context, o metav1.ListOptions) (string, []watched, error) {
			list, err := client.List(ctx, o)
			if err != nil {
				return "", nil, err
			}
			return list.ResourceVersion, itemsOf(list), nil
		}
		return s
	}
	client := w.dynamic.Resource(resource).Namespace(namespace)
	s.watch = client.Watch
	s.list = func(ctx context.Context, o metav1.ListOptions) (string, []watched, error) {
		list, err := client.List(ctx, o)
		if err != nil {
			return "", nil, err
		}
		return list.GetResourceVersion(), itemsOf(list), nil
	}
	return s
}

// itemsOf are the objects of a list.
func itemsOf(list runtime.Object) (objects []watched) {
	_ = meta.EachListItem(list, func(item runtime.Object) error { // a list of ours has items that are objects
		objects = append(objects, item.(watched))
		return nil
	})
	return objects
}

// follow watches from where it was, again and again, until the Watch is closed or there is a gap.
func (w *Watch) follow(s *watchStream) {
	seconds := int64(watchPeriod / time.Second)
	for s.ctx.Err() == nil {
		w.mu.Lock()
		version := s.version
		w.mu.Unlock()
		stream, err := s.watch(s.ctx, metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds})
		if err == nil {
			err = w.drain(s, stream)
		}
		if err != nil && (apierrors.IsGone(err) || apierrors.IsResourceExpired(err)) {
			w.mu.Lock()
			s.gap = fmt.Errorf("%w: %s in %s after version %s: %w", ErrWatchGap, s.resource.Resource, s.namespace, version, err)
			w.mu.Unlock()
			return
		}
		if err != nil { // nothing is lost: it goes on from the same version
			select {
			case <-s.ctx.Done():
			case <-time.After(watchRetry):
			}
		}
	}
}

// drain takes in a watch's events until it ends.
func (w *Watch) drain(s *watchStream, stream watch.Interface) error {
	defer stream.Stop()
	for event := range stream.ResultChan() {
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		object, ok := event.Object.(watched)
		if !ok {
			continue
		}
		w.mu.Lock()
		if event.Type != watch.Bookmark {
			s.take(object, w.Now())
		}
		s.version = object.GetResourceVersion()
		w.mu.Unlock()
	}
	return nil
}

// take notes an object that was not seen before.
func (s *watchStream) take(object watched, now time.Time) {
	if s.seen[string(object.GetUID())] {
		return
	}
	s.seen[string(object.GetUID())] = true
	made := CreatedObject{
		Name: object.GetName(), Namespace: object.GetNamespace(), UID: string(object.GetUID()), Time: now,
		User: maker(object), Raw: rawOf(object),
	}
	s.created = append(s.created, made)
}

// maker is who made an object, as its managed fields have it: the program, not the account.
func maker(object metav1.Object) string {
	for _, field := range object.GetManagedFields() {
		if field.Subresource == "" {
			return field.Manager
		}
	}
	return "somebody"
}

// rawOf is the object as CreatedObject.For reads it.
func rawOf(object watched) map[string]any {
	if whole, ok := object.(*unstructured.Unstructured); ok {
		return whole.Object
	}
	var owners []any
	for _, owner := range object.GetOwnerReferences() {
		owners = append(owners, map[string]any{"kind": owner.Kind, "name": owner.Name, "uid": string(owner.UID)})
	}
	return map[string]any{"metadata": map[string]any{"ownerReferences": owners}}
}

// Created returns what was made of a resource (plural) in a namespace since then, oldest first, also what is gone again;
// its times are when it was seen. An error means that the answer may be incomplete; it wraps ErrWatchGap where it stays so.
func (w *Watch) Created(_ context.Context, resource, namespace string, since time.Time) ([]CreatedObject, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.streams[resource+"/"+namespace]
	if s == nil {
		return nil, fmt.Errorf("%s in %s are not watched", resource, namespace)
	}
	if s.gap != nil {
		return nil, s.gap
	}
	var created []CreatedObject
	for _, object := range s.created {
		if !object.Time.Before(since) {
			created = append(created, object)
		}
	}
	return created, nil
}

// Covers says whether everything that was made before t has been seen. The first call for a t asks the API server for
// its version, which must be at t or later; it is covered once each watch was told that it is past that.
func (w *Watch) Covers(ctx context.Context, t time.Time) (bool, error) {
	w.mu.Lock()
	wanted := w.asked[t]
	var streams []*watchStream
	for _, s := range w.streams {
		streams = append(streams, s)
	}
	w.mu.Unlock()
	if wanted == nil {
		wanted = map[*watchStream]uint64{}
		for _, s := range streams {
			version, _, err := s.list(ctx, metav1.ListOptions{Limit: 1})
			if err != nil {
				return false, err
			}
			if wanted[s], err = parseVersion(version); err != nil {
				return false, err
			}
		}
		w.mu.Lock()
		w.asked[t] = wanted
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, version := range wanted {
		if s.gap != nil {
			return false, s.gap
		}
		reached, err := parseVersion(s.version)
		if err != nil || reached < version {
			return false, err
		}
	}
	delete(w.asked, t)
	return true, nil
}

// parseVersion reads a resource version. They can be compared as numbers, since Kubernetes 1.35 by promise.
func parseVersion(version string) (uint64, error) {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the API server's versions are no numbers: %w", err)
	}
	return n, nil
}
