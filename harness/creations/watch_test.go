package creations

import (
	"errors"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/internal/fakeapi"
)

const (
	destinations = "volsync.backube/v1alpha1/namespaces/ns/replicationdestinations"
	sources      = "volsync.backube/v1alpha1/namespaces/ns/replicationsources"
	secretsOfNS  = "namespaces/ns/secrets"
	podsOfNS     = "namespaces/ns/pods"
	claimsOfNS   = "namespaces/ns/persistentvolumeclaims"
)

func watching(t *testing.T) (*fakeapi.API, *Watch) {
	t.Helper()
	f := fakeapi.New(t)
	f.Do(func() {
		for _, resource := range []string{destinations, sources, secretsOfNS, podsOfNS, claimsOfNS} {
			f.Objects[resource] = map[string]fakeapi.Object{}
		}
		f.Version = 7
	})
	w, err := NewWatch(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return f, w
}

func destination(name, pvc string) fakeapi.Object {
	return fakeapi.Object{
		"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
		"metadata": fakeapi.Object{"namespace": "ns", "name": name, "uid": "uid-of-" + name, "managedFields": []any{fakeapi.Object{"manager": "background-controller", "operation": "Update"}}},
		"spec":     fakeapi.Object{"restic": fakeapi.Object{"destinationPVC": pvc}},
	}
}

// covered waits until all before now is seen.
func covered(t *testing.T, w *Watch) {
	t.Helper()
	now := time.Now()
	for deadline := now.Add(10 * time.Second); ; {
		ok, err := w.Covers(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the watch never says that it is up to date")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWatchKnowsWhatCameAndWent(t *testing.T) {
	f, w := watching(t)
	f.Put(secretsOfNS, fakeapi.Object{"apiVersion": "v1", "kind": "Secret", "metadata": fakeapi.Object{"namespace": "ns", "name": "before", "uid": "1"}})
	if err := w.Follow(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	f.Put(destinations, destination("data-restore", "data"))
	f.Delete(destinations, "ns", "data-restore")
	f.Put(secretsOfNS, fakeapi.Object{"apiVersion": "v1", "kind": "Secret", "metadata": fakeapi.Object{"namespace": "ns", "name": "data-secret", "uid": "2",
		"ownerReferences": []any{fakeapi.Object{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data", "uid": "3"}}}})
	covered(t, w)

	made, err := w.Created(t.Context(), "replicationdestinations", "ns", since)
	if err != nil || len(made) != 1 || !made[0].For("data", "") || made[0].User != "background-controller" {
		t.Errorf("got %+v, %v, wanted the one that is gone again", made, err)
	}
	made, err = w.Created(t.Context(), "secrets", "ns", since)
	if err != nil || len(made) != 1 || made[0].Name != "data-secret" || !made[0].For("data", "3") {
		t.Errorf("got %+v, %v, wanted the Secret that came since", made, err)
	}
	made, err = w.Created(t.Context(), "replicationsources", "ns", since)
	if err != nil || len(made) != 0 {
		t.Errorf("got %+v, %v, wanted none", made, err)
	}
}

func TestWatchDoesNotCoverWhatItWasNotTold(t *testing.T) {
	f, w := watching(t)
	f.Do(func() { f.Mute = true })
	if err := w.Follow(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	f.Put(destinations, destination("data-restore", "data"))
	now := time.Now()
	for range 20 {
		if ok, err := w.Covers(t.Context(), now); ok || err != nil {
			t.Fatalf("got %v, %v of a watch that has said nothing", ok, err)
		}
	}
	f.Do(func() { f.Mute = false })
	covered(t, w)
	if made, err := w.Created(t.Context(), "replicationdestinations", "ns", time.Time{}); err != nil || len(made) != 1 {
		t.Errorf("got %+v, %v", made, err)
	}
}

func TestWatchWithAGapSaysSo(t *testing.T) {
	f, w := watching(t)
	f.Do(func() { f.Oldest = 100 })
	if err := w.Follow(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	w.running.Wait() // each ends at its gap
	if _, err := w.Created(t.Context(), "replicationdestinations", "ns", time.Time{}); !errors.Is(err, ErrWatchGap) {
		t.Errorf("got %v, wanted a gap", err)
	}
	if _, err := w.Covers(t.Context(), time.Now()); !errors.Is(err, ErrWatchGap) {
		t.Errorf("got %v, wanted a gap", err)
	}
}

func TestWatchOfAnotherNamespaceIsAnError(t *testing.T) {
	_, w := watching(t)
	if err := w.Follow(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Created(t.Context(), "replicationdestinations", "elsewhere", time.Time{}); err == nil {
		t.Error("what is not watched was said to have none")
	}
	w.Leave("ns")
	if _, err := w.Created(t.Context(), "replicationdestinations", "ns", time.Time{}); err == nil {
		t.Error("what is no longer watched was said to have none")
	}
}

// What is seen is dated by the clock that its questions are meant by: this host's may be hours off the API server's.
func TestTheWatchDatesByTheClockItIsGiven(t *testing.T) {
	f, w := watching(t)
	clock := func() time.Time { return time.Now().Add(time.Hour) }
	w.Now = clock
	if err := w.Follow(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	since := clock()
	f.Put(destinations, destination("data-restore", "data"))
	covered(t, w)
	made, err := w.Created(t.Context(), "replicationdestinations", "ns", since)
	if err != nil || len(made) != 1 {
		t.Errorf("%v, %v", made, err)
	}
}
