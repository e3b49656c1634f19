package history

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/check/play"
)

// Violation is an invariant that was seen not to hold.
type Violation struct {
	// Invariant is a letter, and which way of breaking it, like a/over.
	Invariant string `json:"invariant"`
	// Text says what was seen.
	Text string `json:"text"`
	// Event is the number, from 1, of the event in which it was seen. 0: after all of them.
	Event int `json:"event"`
}

// app is a Deployment that uses a PVC.
type app struct {
	wanted bool
	pod    string // its pod's name; empty: it has none
	ran    bool   // that pod has started
	early  bool   // that pod was there before its PVC
	pods   int    // how many there have been
}

// volume is what a PVC, by its UID, is bound to.
type volume struct {
	content
	// appWrote says that what it holds is not known to be anywhere else: an app wrote it, or it came with the PVC.
	appWrote bool
	// brought says that it came with the PVC.
	brought bool
	// blind is since when nobody could know whether there is a backup, if that was so when the PVC was created.
	blind time.Time
	// unknown says that its decision has been that this is not known.
	unknown bool
	// claimed says that its decision came with the manifest, and nobody was there to replace it.
	claimed bool
	// accepted says that somebody has accepted it as it is. It stays so when a manifest drops that.
	accepted bool
	// missed says that it was created or labelled when the contract does not promise that anything comes of it.
	missed bool
	// unguarded says that the policy was removed before its restore was done, and the gates with it.
	unguarded bool
}

// run is a history that is being played.
type run struct {
	terms  Terms
	faults []Fault
	world  World

	parents      []int // of each version of content: the one that it was made of
	made         []int // and the event in which it was
	volumes      map[string]*volume
	repositories map[string]*repository // by path
	apps         map[string]*app
	images       map[string]content // of what VolSync's populator copies, by the UID of a ReplicationDestination
	before       map[string]content // what the last volume of a PVC held
	exported     map[string]map[string]any
	fault        *Fault
	movers       map[string]*mover // by the UID of the owner
	away         map[string]bool   // which of Kyverno's controllers are
	violation    *Violation
	event        int
	// stands is where the clock of schedules stands while something settles, and killed whose movers were killed at work: it is about pictures.
	stands time.Time
	killed map[string]bool
}

// newRun begins a history.
func newRun(world World, terms Terms, faults []Fault) (*run, error) {
	r := &run{
		terms: terms, faults: faults, world: world, parents: []int{0}, made: []int{0}, volumes: map[string]*volume{}, repositories: map[string]*repository{},
		apps: map[string]*app{}, images: map[string]content{}, before: map[string]content{}, exported: map[string]map[string]any{}, movers: map[string]*mover{}, away: map[string]bool{},
		killed: map[string]bool{},
	}
	for _, o := range slices.Concat(terms.Namespaces, terms.Base) {
		if err := world.Store(clone(o)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// now is what schedules go by.
func (r *run) now() time.Time {
	if !r.stands.IsZero() {
		return r.stands
	}
	return r.world.Now()
}

// happens lets the event happen whose number, from 1, is r.event.
func (r *run) happens(e Event) error {
	r.stands = time.Time{}
	if err := r.do(e); err != nil {
		return fmt.Errorf("event %d, %s: %w", r.event, e.Words(), err)
	}
	return r.look()
}

// Play plays a history. It returns the first violation, if there is one.
func Play(world World, terms Terms, faults []Fault, events []Event) (*Violation, error) {
	r, err := newRun(world, terms, faults)
	if err != nil {
		return nil, err
	}
	for i, e := range events {
		r.event = i + 1
		if err := r.happens(e); err != nil {
			return nil, err
		}
		if r.violation != nil {
			return r.violation, nil
		}
	}
	r.event = 0
	if err := r.heal(); err != nil {
		return nil, fmt.Errorf("when all is well again: %w", err)
	}
	return r.violation, nil
}

// broken takes down the first violation.
func (r *run) broken(invariant, format string, args ...any) {
	if r.violation == nil {
		r.violation = &Violation{Invariant: invariant, Text: fmt.Sprintf(format, args...), Event: r.event}
	}
}

// The lengths of what passes.
const (
	soon      = 30 * time.Second
	afterHour = 5 * time.Minute
)

// do does one event. What cannot happen, as a PVC that is not there cannot be deleted, does not.
func (r *run) do(e Event) error {
	pvc := r.claim(e.PVC)
	switch e.Do {
	case nothing:
		return nil
	case "create":
		if pvc != nil {
			return nil
		}
		return r.create(e)
	case "backup":
		if pvc == nil {
			r.earlierBackup(e.PVC)
			return r.world.Do(play.Step{Backup: r.terms.Paths[e.PVC]})
		}
		return nil
	case "start":
		r.app(e.PVC).wanted = true
		return r.startApp(e.PVC)
	case "stop":
		return r.stopApp(e.PVC)
	case "write":
		if v, a := r.volumeOf(e.PVC), r.app(e.PVC); v != nil && a.ran {
			r.write(v, e.PVC)
		}
		return nil
	case "wait":
		return r.pass(soon)
	case "hour":
		return r.hour()
	case "day":
		return r.day()
	case "delete":
		if pvc == nil {
			return nil
		}
		return r.delete(e, pvc)
	case "s3-down":
		i := slices.IndexFunc(r.faults, func(f Fault) bool { return f.Name == e.How })
		if r.fault != nil || i < 0 {
			return nil
		}
		r.fault = &r.faults[i]
		return r.beginOutage()
	case "s3-up":
		if r.fault == nil {
			return nil
		}
		r.fault = nil
		for _, v := range r.volumes {
			v.blind = time.Time{} // somebody can ask now
		}
		r.writable()
		return r.world.Do(play.Step{Heal: true})
	case "killed":
		return r.kill(e.PVC, e.How == "in-forget")
	case "again":
		return r.again(e, pvc)
	case "label", "unlabel":
		change := r.terms.Selected
		if e.Do == "unlabel" {
			change = r.terms.Unselected
		} else if v := r.volumeOf(e.PVC); v != nil && (r.away["policy"] || !r.terms.Relabels) {
			v.missed = true
		}
		return r.change(e.PVC, pvc, map[string]any{"metadata": change})
	case "annotate":
		return r.change(e.PVC, pvc, map[string]any{"metadata": map[string]any{"annotations": map[string]any{"example.com/touched": fmt.Sprint(r.event)}}})
	case "accept":
		if r.terms.Accept == "" || pvc == nil {
			return nil
		}
		err := r.change(e.PVC, pvc, map[string]any{"metadata": map[string]any{"annotations": map[string]any{r.terms.Accept: r.acceptance(pvc)}}})
		if v := r.volumeOf(e.PVC); v != nil && at(r.claim(e.PVC), "metadata", "annotations", r.terms.Accept) == r.acceptance(pvc) {
			v.accepted = true
		}
		return err
	case "strip":
		if pvc == nil {
			return nil
		}
		namespace, name := split(e.PVC)
		return r.world.Do(play.Step{Strip: reference("v1", "PersistentVolumeClaim", namespace, name), Subresource: "status"})
	case "resize":
		return r.change(e.PVC, pvc, map[string]any{"spec": map[string]any{"resources": map[string]any{"requests": map[string]any{"storage": "300Mi"}}}})
	case "source", "destination":
		return r.takeAway(e)
	case "admission":
		r.away[e.Do] = e.How != "is-back"
		return r.world.Do(map[string]play.Step{"dies": {AdmissionOff: true}, "is-scaled-to-0": {WebhooksGone: true}, "is-back": {AdmissionOn: true}}[e.How])
	case "background":
		r.away[e.Do] = e.How != "is-back"
		return r.world.Do(map[string]play.Step{"goes": {BackgroundOff: true}, "loses-requests": {BackgroundLost: true}, "is-back": {BackgroundOn: true}}[e.How])
	case "policy":
		return r.policy(e.How == "is-applied-again")
	case "scan":
		return r.world.Do(play.Step{Scan: true})
	case "secret":
		return r.secret(e.How)
	}
	return fmt.Errorf("there is no event %q", e.Do)
}

// policy takes the policy away, or applies it again.
func (r *run) policy(applied bool) error {
	if applied == !r.away["policy"] {
		return nil
	}
	r.away["policy"] = !applied
	if applied {
		return r.world.Do(play.Step{PolicyBack: true})
	}
	for _, claim := range PVCs {
		pvc := r.claim(claim)
		if v := r.volumeOf(claim); v != nil && (v.version == 0 || v.half) && (r.terms.Annotation == "" || matches(r.terms.Restore, at(pvc, "metadata", "annotations", r.terms.Annotation))) {
			v.missed, v.unguarded = true, true
		}
	}
	return r.world.Do(play.Step{PolicyGone: true})
}

// claim is a PVC. Nil: it is not there.
func (r *run) claim(key string) map[string]any {
	if key == "" {
		return nil
	}
	namespace, name := split(key)
	return r.world.Get("PersistentVolumeClaim", namespace, name)
}

// manifest is a PVC's, as it is in Git.
func (r *run) manifest(key string, selected bool) map[string]any {
	namespace, name := split(key)
	o := clone(r.terms.Claim)
	metadata := mapAt(o, "metadata")
	if !selected {
		metadata = map[string]any{}
		for field, values := range r.terms.Unselected {
			of := map[string]any{}
			for k, v := range values.(map[string]any) {
				if v != nil { // of a patch, nil says what must not be there
					of[k] = v
				}
			}
			metadata[field] = of
		}
		o["metadata"] = metadata
	}
	metadata["namespace"], metadata["name"] = namespace, name
	return o
}

// decided puts a decision into a manifest, as of an earlier life of its PVC.
func (r *run) decided(o map[string]any, decision string) {
	if r.terms.Annotation == "" {
		return
	}
	metadata := mapAt(o, "metadata")
	annotations, _ := metadata["annotations"].(map[string]any)
	annotations = maps.Clone(annotations)
	if annotations == nil {
		annotations = map[string]any{}
	}
	annotations[r.terms.Annotation] = decision
	metadata["annotations"] = annotations
}

func (r *run) create(e Event) error {
	o := r.manifest(e.PVC, e.How != "unlabelled" && e.How != "labelled-later")
	step := play.Step{Create: o}
	kept := reference("v1", "PersistentVolume", "", "kept-"+strings.ReplaceAll(e.PVC, "/", "-"))
	switch e.How {
	case "annotated":
		if exported := r.exported[e.PVC]; exported != nil {
			mapAt(o, "metadata")["annotations"] = maps.Clone(exported)
		}
	case "annotated-fresh":
		r.decided(o, r.terms.Fresh)
	case "annotated-restore":
		r.decided(o, r.terms.Restore)
	case "volume":
		mapAt(o, "spec")["volumeName"] = at(kept, "metadata", "name")
	case "kept-volume":
		if err := r.world.Store(r.keptFor(e.PVC, clone(kept))); err != nil {
			return err
		}
	case "labelled-later":
		step.Later = map[string]any{"metadata": clone(r.terms.Selected)}
	case "data-source":
		source := map[string]any{"kind": "PersistentVolumeClaim", "name": "template"}
		mapAt(o, "spec")["dataSource"] = source
	case "refused":
		step.Refused = "exceeded quota"
	case "dry-run":
		step.DryRun = true
	}
	blind := r.fault != nil && r.fault.Unknown
	if err := r.world.Do(step); err != nil {
		return err
	}
	pvc := r.claim(e.PVC)
	if pvc == nil {
		if e.How == "kept-volume" { // nor is it kept for a later one
			return r.world.Do(play.Step{Delete: kept})
		}
		return nil
	}
	v := &volume{missed: r.away["policy"] || !r.terms.CatchesUp && (r.away["admission"] || r.away["background"]) || !r.terms.Relabels && e.How == "labelled-later"}
	v.claimed = (r.away["admission"] || r.away["policy"]) && strings.HasPrefix(e.How, "annotated")
	if blind {
		v.blind = r.world.Now()
	}
	if slices.Contains([]string{"volume", "kept-volume", "data-source"}, e.How) { // it is newer than any backup: that of before, or a clone
		v.content = r.newVersion(r.before[e.PVC].version, e.PVC)
		v.appWrote, v.brought = true, true
	}
	r.volumes[uid(pvc)] = v
	return nil
}

// keptFor makes of a volume one that names a PVC in its claimRef. Kubernetes gives it to the next one of that name.
func (r *run) keptFor(claim string, volume map[string]any) map[string]any {
	namespace, name := split(claim)
	volume["spec"] = map[string]any{
		"capacity": map[string]any{"storage": "1Gi"}, "accessModes": []any{"ReadWriteOnce"}, "persistentVolumeReclaimPolicy": "Retain",
		"hostPath": map[string]any{"path": "/data"}, "claimRef": map[string]any{"namespace": namespace, "name": name},
	}
	return volume
}

// earlierBackup is one of a cluster that is gone, where this PVC's repository is.
func (r *run) earlierBackup(key string) {
	repo := r.repositoryAt(r.terms.Paths[key])
	was := 0
	if repo.lastGood != nil {
		was = repo.lastGood.version
	}
	s := &snapshot{content: r.newVersion(was, key), time: r.world.Now(), uid: "of-before", good: true}
	repo.snapshots = append(repo.snapshots, s)
	repo.save(s)
	r.before[key] = s.content
}

// repositoryAt is the one of a path, which is made if it is not there.
func (r *run) repositoryAt(path string) *repository {
	if r.repositories[path] == nil {
		r.repositories[path] = &repository{password: r.password()}
	}
	return r.repositories[path]
}

// password is that of the base Secret as it was at first.
func (r *run) password() string {
	for _, o := range r.terms.Base {
		if data := mapAt(o, "data"); data != nil {
			return decode(at(data, r.terms.PasswordKey))
		}
	}
	return ""
}

func (r *run) newVersion(parent int, of string) content {
	r.parents, r.made = append(r.parents, parent), append(r.made, r.event)
	return content{version: len(r.parents) - 1, of: of}
}

// descends says whether a version was made of another one, or is it.
func (r *run) descends(version, of int) bool {
	for version > of {
		version = r.parents[version]
	}
	return version == of
}

// write is an app's, into what is there.
func (r *run) write(v *volume, key string) {
	v.content = r.newVersion(v.version, key)
	v.appWrote = true
}

func (r *run) app(key string) *app {
	if r.apps[key] == nil {
		r.apps[key] = &app{}
	}
	return r.apps[key]
}

func (r *run) volumeOf(key string) *volume {
	if pvc := r.claim(key); pvc != nil {
		return r.volumes[uid(pvc)]
	}
	return nil
}

// startApp lets the ReplicaSet make the app's pod, if it has none.
func (r *run) startApp(key string) error {
	a := r.app(key)
	if !a.wanted || a.pod != "" {
		return nil
	}
	namespace, name := split(key)
	a.pods++
	pod := fmt.Sprintf("app-%s-%d", name, a.pods)
	err := r.world.Do(play.Step{Create: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": pod, "namespace": namespace, "labels": map[string]any{"app": name}},
		"spec": map[string]any{
			"containers": []any{map[string]any{"name": "app", "image": "app"}},
			"volumes":    []any{map[string]any{"name": "data", "persistentVolumeClaim": map[string]any{"claimName": name}}},
		},
	}})
	if err != nil {
		return err
	}
	if r.world.Get("Pod", namespace, pod) != nil {
		a.pod, a.ran, a.early = pod, false, r.claim(key) == nil
	}
	return r.runApp(key)
}

// runApp lets the app's pod start, where its PVC is bound.
func (r *run) runApp(key string) error {
	r.fill()
	a, pvc := r.app(key), r.claim(key)
	if a.pod == "" || a.ran || pvc == nil || at(pvc, "status", "phase") != "Bound" {
		return nil
	}
	v := r.volumes[uid(pvc)]
	if v == nil {
		return nil
	}
	a.ran = true
	r.appStarts(key, pvc, v)
	if v.version == 0 || v.half {
		r.write(v, key) // it finds nothing that it can use, and initialises
	}
	return nil
}

func (r *run) stopApp(key string) error {
	a := r.app(key)
	a.wanted = false
	return r.removePod(key)
}

func (r *run) removePod(key string) error {
	a := r.app(key)
	if a.pod == "" {
		return nil
	}
	namespace, _ := split(key)
	o := reference("v1", "Pod", namespace, a.pod)
	a.pod, a.ran = "", false
	return r.world.Do(play.Step{Delete: o})
}

func reference(apiVersion, kind, namespace, name string) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"namespace": namespace, "name": name}}
}

// delete takes a PVC away: a pod that uses it keeps it, so that goes first. The ReplicaSet then makes another one at once, unless the app was
// scaled to 0.
func (r *run) delete(e Event, pvc map[string]any) error {
	if e.How == "app-first" {
		r.app(e.PVC).wanted = false
	}
	if err := r.removePod(e.PVC); err != nil {
		return err
	}
	namespace, name := split(e.PVC)
	if err := r.world.Do(play.Step{Delete: reference("v1", "PersistentVolumeClaim", namespace, name)}); err != nil || r.claim(e.PVC) != nil {
		return err
	}
	if annotations := mapAt(pvc, "metadata", "annotations"); annotations != nil {
		r.exported[e.PVC] = maps.Clone(annotations)
		maps.DeleteFunc(r.exported[e.PVC], func(k string, _ any) bool { return strings.HasPrefix(k, "pv.kubernetes.io/") })
	}
	if v := r.volumes[uid(pvc)]; v != nil && v.version != 0 && !v.half {
		r.before[e.PVC] = v.content
	}
	delete(r.volumes, uid(pvc))
	return r.startApp(e.PVC)
}

// again is a manifest that is applied to a PVC that is there.
func (r *run) again(e Event, pvc map[string]any) error {
	if pvc == nil {
		return nil
	}
	if v := r.volumes[uid(pvc)]; v != nil && (r.away["admission"] || r.away["policy"]) && strings.HasPrefix(e.How, "replace-annotated") {
		v.claimed = true
	}
	o := r.manifest(e.PVC, true)
	switch e.How {
	case "create":
		return r.world.Do(play.Step{Create: o})
	case "replace-annotated-fresh":
		r.decided(o, r.terms.Fresh)
	case "replace-annotated-restore":
		r.decided(o, r.terms.Restore)
	}
	return r.world.Do(play.Step{Replace: o})
}

// change merges a patch into a PVC.
func (r *run) change(key string, pvc, patch map[string]any) error {
	if pvc == nil {
		return nil
	}
	namespace, name := split(key)
	o := reference("v1", "PersistentVolumeClaim", namespace, name)
	for field, value := range clone(patch) {
		if field == "metadata" {
			maps.Copy(mapAt(o, "metadata"), value.(map[string]any))
		} else {
			o[field] = value
		}
	}
	return r.world.Do(play.Step{Update: o})
}

func (r *run) acceptance(pvc map[string]any) string {
	namespace, name := split(key(pvc))
	return strings.NewReplacer("{uid}", uid(pvc), "{namespace}", namespace, "{pvc}", name).Replace(r.terms.AcceptValue)
}

// accepted says whether somebody has accepted a volume as it is.
func (r *run) accepted(pvc map[string]any) bool {
	v := r.volumes[uid(pvc)]
	return v != nil && v.accepted
}

// takeAway deletes what VolSync works on for a PVC, or brings it back as backup tools do.
func (r *run) takeAway(e Event) error {
	kind := map[string]string{"source": "ReplicationSource", "destination": "ReplicationDestination"}[e.Do]
	for _, o := range r.world.List(kind) {
		if r.whose(o) != e.PVC {
			continue
		}
		namespace, name := split(key(o))
		sought := reference("volsync.backube/v1alpha1", kind, namespace, name)
		r.lose(uid(o)) // its Job and its pod go with it
		step := play.Step{Delete: sought}
		if e.How == "brought-back" {
			step = play.Step{BringBack: sought}
		}
		if err := r.world.Do(step); err != nil {
			return err
		}
		return r.world.Do(play.Step{Collect: true})
	}
	return nil
}

// secret changes the base Secrets.
func (r *run) secret(how string) error {
	for _, o := range r.terms.Base {
		namespace, name := split(key(o))
		sent := clone(o)
		there := r.world.Get("Secret", namespace, name) != nil
		step := play.Step{Create: sent}
		switch {
		case how == "goes":
			step = play.Step{Delete: reference("v1", "Secret", namespace, name)}
		case there:
			step = play.Step{Replace: sent}
		}
		switch data := mapAt(sent, "data"); how {
		case "has-another-password":
			data[r.terms.PasswordKey] = base64.StdEncoding.EncodeToString([]byte("another-one"))
		case "is-empty":
			for k := range data {
				data[k] = ""
			}
		}
		if err := r.world.Do(step); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) beginOutage() error { return r.world.Do(play.Step{Outage: &r.fault.Outage}) }

// sight is what movers see of S3.
func (r *run) sight() Sight {
	if r.fault == nil {
		return Works
	}
	return r.fault.Movers
}

// hour lets the time pass to five minutes past the next full hour, in which Kyverno scans and VolSync's schedules come.
func (r *run) hour() error {
	now := r.world.Now()
	next := now.Truncate(time.Hour).Add(time.Hour + 10*time.Second)
	if err := r.pass(next.Sub(now)); err != nil {
		return err
	}
	if err := r.world.Do(play.Step{Scan: true}); err != nil {
		return err
	}
	return r.pass(afterHour)
}

// day lets 24 hours pass in which the cluster is off.
func (r *run) day() error {
	if err := r.wait(24 * time.Hour); err != nil {
		return err
	}
	return r.pass(soon)
}

// wait lets time pass. An outage goes on, which the gateway ends by itself.
func (r *run) wait(d time.Duration) error {
	if err := r.world.Do(play.Step{WaitMillis: d.Milliseconds()}); err != nil || r.fault == nil {
		return err
	}
	return r.beginOutage()
}

// pass lets time pass, and then all act whom somebody waits for: movers that were at work end, VolSync begins others, ReplicaSets make pods.
func (r *run) pass(d time.Duration) error {
	if err := r.wait(d); err != nil {
		return err
	}
	if err := r.world.Do(play.Step{Collect: true}); err != nil {
		return err
	}
	for _, v := range r.volumes {
		if !v.blind.IsZero() && r.fault != nil && r.fault.Unknown && r.world.Now().Sub(v.blind) >= soon {
			v.unknown = true
		}
	}
	if err := r.volsync(); err != nil {
		return err
	}
	for _, key := range PVCs {
		if err := r.startApp(key); err != nil {
			return err
		}
		if err := r.runApp(key); err != nil {
			return err
		}
	}
	return nil
}

func clone(o map[string]any) map[string]any { return deep(o).(map[string]any) }

func deep(value any) any {
	switch v := value.(type) {
	case map[string]any:
		all := make(map[string]any, len(v))
		for k, one := range v {
			all[k] = deep(one)
		}
		return all
	case []any:
		all := make([]any, len(v))
		for i, one := range v {
			all[i] = deep(one)
		}
		return all
	}
	return value
}

func decode(text string) string {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return string(raw)
}
