package history

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/check/play"
)

// toy is a World with a policy that is a few lines of Go.
type toy struct {
	now     time.Time
	objects map[string]map[string]any // kind/namespace/name
	uids    int
	policy  func(w *toy, pvc map[string]any) // what is made for a new PVC
	refuses func(w *toy, pod map[string]any) bool
	backups map[string]bool
	down    bool
	ends    bool // time ends an outage
	full    bool // a quota refuses PVCs
	lost    bool // what is asked of Kyverno's background controller
	gone    bool // the policy was removed
}

func newToy() *toy {
	return &toy{now: time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC), objects: map[string]map[string]any{}, backups: map[string]bool{}}
}

func idOf(o map[string]any) string { return at(o, "kind") + "/" + key(o) }

func (w *toy) put(o map[string]any) {
	metadata := mapAt(o, "metadata")
	if metadata["uid"] == nil {
		w.uids++
		metadata["uid"] = fmt.Sprintf("uid-%d", w.uids)
	}
	w.objects[idOf(o)] = o
}

func (w *toy) Do(step play.Step) error {
	switch {
	case step.Create != nil:
		o := clone(step.Create)
		if w.objects[idOf(o)] != nil || step.DryRun || step.Refused != "" || at(o, "kind") == "Pod" && w.refuses != nil && !w.gone && w.refuses(w, o) || at(o, "kind") == "PersistentVolumeClaim" && w.full {
			return nil
		}
		w.put(o)
		if at(o, "kind") == "PersistentVolumeClaim" {
			o["status"] = map[string]any{"phase": "Bound"}
			if w.policy != nil && !w.gone && step.Later == nil { // what comes later, nobody sees
				w.policy(w, o)
			}
			w.merge(o, step.Later)
		}
	case step.Update != nil:
		if o := w.objects[idOf(step.Update)]; o != nil {
			w.merge(o, step.Update)
		}
	case step.Replace != nil:
		if o := w.objects[idOf(step.Replace)]; o != nil && at(o, "kind") == "Secret" {
			o["data"] = clone(step.Replace)["data"]
		}
	case step.Strip != nil:
		delete(mapAt(w.objects[idOf(step.Strip)], "metadata"), "annotations")
	case step.PolicyGone:
		w.gone = true
	case step.PolicyBack:
		w.gone = false
		for _, pvc := range w.List("PersistentVolumeClaim") { // for all that has nothing
			if namespace, name := split(key(pvc)); w.policy != nil && w.Get(source, namespace, name) == nil && w.Get(destination, namespace, name) == nil {
				w.policy(w, pvc)
			}
		}
	case step.BackgroundLost:
		w.lost = true
	case step.BackgroundOn:
		w.lost = false
	case step.Delete != nil:
		gone := w.objects[idOf(step.Delete)]
		delete(w.objects, idOf(step.Delete))
		for id, o := range w.objects {
			if gone != nil && at(o, "owner") == uid(gone) {
				delete(w.objects, id)
			}
		}
	case step.Backup != "":
		w.backups[step.Backup] = true
	case step.Outage != nil:
		w.down = true
	case step.Heal:
		w.down = false
	case step.WaitMillis > 0:
		w.now = w.now.Add(time.Duration(step.WaitMillis) * time.Millisecond)
		w.down = w.down && !w.ends
	}
	return nil
}

// merge merges the labels and annotations of a patch into an object.
func (w *toy) merge(o, patch map[string]any) {
	for field, values := range mapAt(patch, "metadata") {
		if of, is := values.(map[string]any); is {
			had, _ := mapAt(o, "metadata")[field].(map[string]any)
			merged := maps.Clone(had)
			if merged == nil {
				merged = map[string]any{}
			}
			maps.Copy(merged, of)
			mapAt(o, "metadata")[field] = merged
		}
	}
}

func (w *toy) Now() time.Time { return w.now }

func (w *toy) Get(kind, namespace, name string) map[string]any {
	return w.objects[kind+"/"+namespace+"/"+name]
}

func (w *toy) List(kind string) (all []map[string]any) {
	for _, o := range w.objects {
		if at(o, "kind") == kind {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b map[string]any) int { return cmp.Compare(key(a), key(b)) })
	return all
}

func (w *toy) Populated() map[string]string { return nil }

func (w *toy) mover(owner map[string]any) map[string]any {
	namespace, name := split(key(owner))
	return map[string]any{"kind": "Pod", "metadata": map[string]any{"namespace": namespace, "name": strings.ToLower(at(owner, "kind")) + "-" + name}}
}

func (w *toy) Move(owner map[string]any) (map[string]any, error) {
	pod := w.mover(owner)
	if w.refuses != nil && w.refuses(w, pod) {
		return nil, nil
	}
	w.put(pod)
	return pod, nil
}

func (w *toy) Pod(owner map[string]any) map[string]any { return w.objects[idOf(w.mover(owner))] }

func (w *toy) Ended(owner map[string]any, failed bool, status map[string]any) error {
	delete(w.objects, idOf(w.mover(owner)))
	if o := w.objects[idOf(owner)]; o != nil && !failed {
		o["status"] = status
	}
	return nil
}

func (w *toy) Store(object map[string]any) error {
	w.put(object)
	return nil
}

// toyTerms are those of toy policies.
func toyTerms() Terms {
	terms := Terms{
		Claim: map[string]any{
			"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": map[string]any{},
			"metadata": map[string]any{"labels": map[string]any{"backup": "hourly"}},
		},
		Selected:   map[string]any{"labels": map[string]any{"backup": "hourly"}},
		Unselected: map[string]any{"labels": map[string]any{"backup": nil}},
		Bucket:     "s3:http://s3/b/", Paths: map[string]string{}, PasswordKey: "RESTIC_PASSWORD", StartsEmpty: true, Gates: true,
		Annotation: "toy/decision", Restore: "restore", Fresh: "fresh", Unknown: "unknown.*", Accept: "toy/accept", AcceptValue: "{uid}",
	}
	for _, namespace := range []string{"shop", "office"} {
		terms.Base = append(terms.Base, map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"namespace": namespace, "name": "base"},
			"data": map[string]any{"RESTIC_PASSWORD": encode("secret")},
		})
	}
	for _, pvc := range PVCs {
		terms.Paths[pvc] = pvc
	}
	return terms
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// make puts what VolSync needs for a PVC, in its name: a Secret for this repository, and the objects.
func (w *toy) make(pvc map[string]any, path string, kinds ...string) {
	namespace, name := split(key(pvc))
	metadata := func() map[string]any { return map[string]any{"namespace": namespace, "name": name} }
	w.put(map[string]any{"kind": "Secret", "metadata": metadata(), "owner": uid(pvc), "data": map[string]any{
		"RESTIC_REPOSITORY": encode("s3:http://s3/b/" + path), "RESTIC_PASSWORD": encode("secret"),
	}})
	for _, kind := range kinds {
		spec := map[string]any{"restic": map[string]any{"repository": name, "copyMethod": "Direct", "retain": map[string]any{"hourly": int64(24)}}}
		switch kind {
		case source:
			spec["sourcePVC"], spec["trigger"] = name, map[string]any{"schedule": "0 * * * *"}
		case destination:
			spec["trigger"] = map[string]any{"manual": uid(pvc)}
			mapAt(spec, "restic")["destinationPVC"] = name
		}
		w.put(map[string]any{"kind": kind, "metadata": metadata(), "owner": uid(pvc), "spec": spec})
	}
}

// careless makes a source always, and a destination where there is a backup. It holds nobody back.
func careless(w *toy, pvc map[string]any) {
	kinds := []string{source}
	if w.backups[key(pvc)] && !w.down {
		kinds = append(kinds, destination)
	}
	w.make(pvc, key(pvc), kinds...)
}
