package observe

import (
	"errors"
	"testing"
	"time"
)

const (
	destinations = "volsync.backube/v1alpha1/namespaces/ns/replicationdestinations"
	sources      = "volsync.backube/v1alpha1/namespaces/ns/replicationsources"
	secrets      = "namespaces/ns/secrets"
)

func watching(t *testing.T) (*fakeAPI, *Watch) {
	t.Helper()
	f := newFakeAPI(t)
	f.do(func() {
		for _, resource := range []string{destinations, sources, secrets} {
			f.objects[resource] = map[string]object{}
		}
		f.version = 7
	})
	w, err := NewWatch(f.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return f, w
}

func destination(name, pvc string) object {
	return object{
		"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination",
		"metadata": object{"namespace": "ns", "name": name, "uid": "uid-of-" + name, "managedFields": []any{object{"manager": "background-controller", "operation": "Update"}}},
		"spec":     object{"restic": object{"destinationPVC": pvc}},
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
		wait(t.Context(), time.Millisecond)
	}
}

func TestWatchKnowsWhatCameAndWent(t *testing.T) {
	f, w := watching(t)
	f.put(secrets, object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"namespace": "ns", "name": "before", "uid": "1"}})
	if err := w.Follow(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	f.put(destinations, destination("data-restore", "data"))
	f.delete(destinations, "ns", "data-restore")
	f.put(secrets, object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"namespace": "ns", "name": "data-secret", "uid": "2",
		"ownerReferences": []any{object{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data", "uid": "3"}}}})
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
	f.do(func() { f.mute = true })
	if err := w.Follow(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	f.put(destinations, destination("data-restore", "data"))
	now := time.Now()
	for range 20 {
		if ok, err := w.Covers(t.Context(), now); ok || err != nil {
			t.Fatalf("got %v, %v of a watch that has said nothing", ok, err)
		}
	}
	f.do(func() { f.mute = false })
	covered(t, w)
	if made, err := w.Created(t.Context(), "replicationdestinations", "ns", time.Time{}); err != nil || len(made) != 1 {
		t.Errorf("got %+v, %v", made, err)
	}
}

func TestWatchWithAGapSaysSo(t *testing.T) {
	f, w := watching(t)
	f.do(func() { f.oldest = 100 })
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
