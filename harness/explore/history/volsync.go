package history

import (
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/smart-restore/conformance/harness/check/play"
)

// What VolSync 0.14 does with ReplicationSources and ReplicationDestinations. V is github.com/backube/volsync@v0.14.0, and M there is
// internal/controller/statemachine/machine.go.

const (
	source      = "ReplicationSource"
	destination = "ReplicationDestination"
)

// mover is one that has a pod.
type mover struct {
	owner map[string]any // the ReplicationSource or ReplicationDestination, as it was when the pod was made
	claim string         // the PVC whose volume it reads or writes, namespace/name
	uid   string         // of that PVC
	// image is the copy that a backup reads, where copyMethod is not Direct.
	image  *content
	unlock bool // it begins with `restic unlock`
	inits  bool // it tries to make a repository, which it did not find, in a bucket that takes no writes
	// ungated says that it began while the policy was removed: nobody could keep it from making a repository over another.
	ungated bool
}

func isSource(o map[string]any) bool { return at(o, "kind") == source }

// whose is the PVC, namespace/name, that a ReplicationSource backs up, or a ReplicationDestination restores into. VolSync makes one of its
// own for a destination that names none.
func (r *run) whose(o map[string]any) string {
	namespace, name := split(key(o))
	if isSource(o) {
		return namespace + "/" + at(o, "spec", "sourcePVC")
	}
	if pvc := at(o, "spec", "restic", "destinationPVC"); pvc != "" {
		return namespace + "/" + pvc
	}
	for _, pvc := range r.world.List("PersistentVolumeClaim") {
		if at(pvc, "metadata", "namespace") == namespace && at(pvc, "spec", "dataSourceRef", "kind") == destination && at(pvc, "spec", "dataSourceRef", "name") == name {
			return key(pvc)
		}
	}
	return ""
}

// volsync lets movers end that were at work, and then VolSync do what is due.
func (r *run) volsync() error {
	for _, id := range sortedKeys(r.movers) {
		if err := r.end(id); err != nil {
			return err
		}
	}
	for _, kind := range []string{destination, source} {
		for _, o := range r.world.List(kind) {
			if r.movers[uid(o)] == nil && r.due(o) {
				if err := r.begin(o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// due says whether there is to be a mover: M shouldSync and doInitialState, by the status, which says in which state it is.
func (r *run) due(o map[string]any) bool {
	last := at(o, "status", "lastSyncTime")
	if trigger := at(o, "spec", "trigger", "manual"); trigger != "" {
		return last == "" || trigger != at(o, "status", "lastManualSync")
	}
	if at(o, "spec", "trigger", "schedule") == "" || last == "" {
		return true // without a trigger, again and again; and the first time at once
	}
	next, err := time.Parse(time.RFC3339, at(o, "status", "nextSyncTime"))
	return err != nil || !r.now().Before(next)
}

// repositoryOf is where a mover's Secret says that its repository is, and with which password. VolSync makes no Job without both:
// V/internal/controller/mover/restic/mover.go, validateRepository.
func (r *run) repositoryOf(o map[string]any) (path, password string, ok bool) {
	namespace, _ := split(key(o))
	secret := r.world.Get("Secret", namespace, at(o, "spec", "restic", "repository"))
	if secret == nil {
		return "", "", false
	}
	address, password := decode(at(secret, "data", "RESTIC_REPOSITORY")), decode(at(secret, "data", "RESTIC_PASSWORD"))
	return strings.TrimPrefix(address, r.terms.Bucket), password, address != "" && password != ""
}

// begin lets VolSync make a mover's Job, and the Job controller its pod: V/…/mover.go, Synchronize.
func (r *run) begin(o map[string]any) error {
	claim := r.whose(o)
	if isSource(o) && r.claim(claim) == nil { // ensureSourcePVC
		return nil
	}
	if !isSource(o) && at(o, "spec", "restic", "destinationPVC") != "" && r.claim(claim) == nil { // ensureDestinationPVC
		return nil
	}
	if _, _, ok := r.repositoryOf(o); !ok {
		return nil
	}
	pod, err := r.world.Move(o)
	r.fill()
	if err != nil || pod == nil {
		return err
	}
	m := &mover{owner: o, claim: claim, uid: uid(r.claim(claim)), ungated: r.away["policy"], unlock: unlocks(pod) || r.shouldUnlock(o)}
	v := r.volumes[m.uid]
	if isSource(o) && at(o, "spec", "restic", "copyMethod") != "Direct" && v != nil {
		image := v.content
		m.image = &image
	}
	r.movers[uid(o)] = m
	if !isSource(o) || v != nil && v.version != 0 { // check_contents comes first
		switch r.sight() {
		case Forgets:
			r.initialize(m, o)
		case NoDisk:
			m.inits = true
		}
	}
	if !isSource(o) {
		r.restoreBegins(m, v)
	}
	return nil
}

// unlocks says whether a pod's arguments begin with unlock.
func unlocks(pod map[string]any) bool {
	containers, _ := mapAt(pod, "spec")["containers"].([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		args, _ := container["args"].([]any)
		if slices.Contains(args, any("unlock")) {
			return true
		}
	}
	return false
}

// shouldUnlock is V/…/mover.go, shouldUnlock.
func (r *run) shouldUnlock(o map[string]any) bool {
	unlock := at(o, "spec", "restic", "unlock")
	return isSource(o) && unlock != "" && unlock != at(o, "status", "restic", "lastUnlocked")
}

// end lets a mover come to its end, with S3 as it is now.
func (r *run) end(id string) error {
	m := r.movers[id]
	delete(r.movers, id)
	namespace, name := split(key(m.owner))
	o := r.world.Get(at(m.owner, "kind"), namespace, name)
	if o == nil || uid(o) != id {
		return nil
	}
	if r.world.Pod(o) == nil { // it was paused, or its Job is gone
		r.lockLeft(m, false)
		return nil
	}
	result := r.backup
	if !isSource(o) {
		result = r.restore
	}
	said, done := result(m, o)
	if !done {
		return r.world.Ended(o, true, nil)
	}
	return r.world.Ended(o, false, r.status(o, said))
}

// status is what VolSync writes when a sync is done: M transitionToCleaningUp.
func (r *run) status(o map[string]any, said string) map[string]any {
	now := r.world.Now().UTC()
	status := map[string]any{"lastSyncTime": now.Format(time.RFC3339), "latestMoverStatus": map[string]any{"result": "Successful", "logs": said}}
	if trigger := at(o, "spec", "trigger", "manual"); trigger != "" {
		status["lastManualSync"] = trigger
	} else if schedule, err := cron.ParseStandard(at(o, "spec", "trigger", "schedule")); err == nil {
		status["nextSyncTime"] = schedule.Next(now).Format(time.RFC3339)
	}
	if unlock := at(o, "spec", "restic", "unlock"); unlock != "" {
		status["restic"] = map[string]any{"lastUnlocked": unlock}
	}
	return status
}

// open is restic's way to a repository: V/mover-restic/entry.sh, ensure_initialized, which a backup and a restore begin with. It makes the
// repository where it is not found: so what S3 forgets while a mover is at work makes it fail, and no more.
func (r *run) open(m *mover, o map[string]any) (repo *repository, ok bool) {
	path, password, known := r.repositoryOf(o)
	sight := r.sight()
	if !known || sight == Fails || sight == Forgets || sight == NoDisk || m.inits {
		return nil, false
	}
	repo = r.repositories[path]
	if repo == nil {
		if sight == ReadOnly {
			return nil, false
		}
		return r.initialize(m, o), true
	}
	return repo, repo.password == password // wrong password: restic's exit code 12
}

// initialize is `restic init`, which has seen no repository: R/internal/repository/repository.go, Init.
func (r *run) initialize(m *mover, o map[string]any) *repository {
	path, password, known := r.repositoryOf(o)
	if !known {
		return nil
	}
	if was := r.repositories[path]; was != nil && was.lastGood != nil && !m.ungated {
		r.broken("b/overwritten", "a mover of %s made a repository over the one at %s, whose last good snapshot nobody can read any more", key(o), path)
	}
	r.repositories[path] = &repository{password: password}
	_ = r.world.Do(play.Step{Backup: path})
	return r.repositories[path]
}

// writable lets movers that try to make a repository do so. restic tries a write again for 15 minutes: R/cmd/restic/global.go, innerOpen. By
// then, the model has tried anew.
func (r *run) writable() {
	for _, id := range sortedKeys(r.movers) {
		m := r.movers[id]
		if m.inits && r.world.Pod(m.owner) != nil {
			m.inits = false
			r.initialize(m, m.owner)
		}
	}
}

// backup is `unlock`, `backup` and `forget` of V/mover-restic/entry.sh.
func (r *run) backup(m *mover, o map[string]any) (said string, done bool) {
	v := r.volumes[m.uid]
	if v == nil {
		return "", false
	}
	if taken := m.reads(v); taken.version == 0 && !taken.half {
		return "== Directory is empty skipping backup ===", true // check_contents
	}
	repo, ok := r.open(m, o)
	if !ok || r.sight() == ReadOnly {
		return "", false
	}
	now := r.world.Now()
	if m.unlock {
		repo.unlock(now)
	}
	if repo.exclusive() {
		return "", false
	}
	r.snapshot(repo, m, v)
	r.shares(repo, m, o)
	if len(repo.locks) > 0 {
		return "", false // forget wants an exclusive lock: R/cmd/restic/cmd_forget.go
	}
	repo.forget(r.retain(o))
	r.lookAt(repo, o)
	return "snapshot saved", true
}

// reads is what a backup's mover reads: the volume or, with another copyMethod than Direct, a copy of what it was.
func (m *mover) reads(v *volume) content {
	if m.image != nil {
		return *m.image
	}
	return v.content
}

// snapshot adds what a mover has read to a repository.
func (r *run) snapshot(repo *repository, m *mover, v *volume) {
	s := &snapshot{content: m.reads(v), time: r.world.Now(), uid: m.uid}
	s.good = r.isGood(s, v, m, repo)
	repo.snapshots = append(repo.snapshots, s)
	repo.save(s)
}

// retain is what a ReplicationSource keeps: V/…/mover.go, generateForgetOptions.
func (r *run) retain(o map[string]any) (keep Retain) {
	retain := mapAt(o, "spec", "restic", "retain")
	number := func(field string) int {
		switch n := retain[field].(type) {
		case int64:
			return int(n)
		case float64:
			return int(n)
		}
		return 0
	}
	keep = Retain{Hourly: number("hourly"), Daily: number("daily"), Weekly: number("weekly"), Monthly: number("monthly"), Yearly: number("yearly")}
	if keep == (Retain{}) {
		keep.Last = 1
	}
	return keep
}

// restore is V/mover-restic/entry.sh, do_restore: the latest snapshot, over what is there.
func (r *run) restore(m *mover, o map[string]any) (said string, done bool) {
	repo, ok := r.open(m, o)
	if !ok || r.sight() == ReadOnly || repo.exclusive() { // it writes a lock, too
		return "", false
	}
	s := repo.latest()
	if s == nil || r.sight() == Lists {
		return "No eligible snapshots found", true
	}
	if at(o, "spec", "restic", "destinationPVC") == "" {
		r.images[uid(o)] = s.content
	}
	if v := r.volumes[m.uid]; v != nil && at(o, "spec", "restic", "destinationPVC") != "" {
		r.overwrite(v, s, m)
		v.content, v.appWrote = s.content, false
	}
	r.chosen(repo, s, m)
	return "restoring snapshot", true
}

// kill ends a mover of a PVC in the middle of its work. restic's lock stays: V/mover-restic/entry.sh passes no signal on.
func (r *run) kill(claim string, inForget bool) error {
	for _, id := range sortedKeys(r.movers) {
		m := r.movers[id]
		if m.claim != claim {
			continue
		}
		delete(r.movers, id)
		namespace, name := split(key(m.owner))
		o := r.world.Get(at(m.owner, "kind"), namespace, name)
		if o == nil || uid(o) != id || r.world.Pod(o) == nil {
			continue
		}
		r.lockLeft(m, inForget)
		r.killed[claim] = true
		return r.world.Ended(o, true, nil)
	}
	return nil
}

// lose forgets a mover whose owner goes.
func (r *run) lose(id string) {
	if m := r.movers[id]; m != nil {
		delete(r.movers, id)
		r.lockLeft(m, false)
	}
}

// lockLeft is what a mover leaves that is killed: a lock, half a restore, or a snapshot that is saved and not yet forgotten after.
func (r *run) lockLeft(m *mover, inForget bool) {
	path, password, known := r.repositoryOf(m.owner)
	repo := r.repositories[path]
	if !known || repo == nil || repo.password != password || r.sight() != Works || repo.exclusive() || m.inits {
		return
	}
	v := r.volumes[m.uid]
	if !isSource(m.owner) {
		inForget = false
		if s := repo.latest(); s != nil && v != nil && at(m.owner, "spec", "restic", "destinationPVC") != "" {
			r.overwrite(v, s, m)
			v.content, v.appWrote = content{version: s.version, of: s.of, half: true}, false
		}
	} else if inForget && v != nil && m.reads(v).version != 0 {
		r.snapshot(repo, m, v)
	}
	repo.locks = append(repo.locks, lock{r.world.Now(), inForget})
}

func sortedKeys(movers map[string]*mover) []string {
	var ids []string
	for id := range movers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
