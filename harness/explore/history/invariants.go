package history

import (
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/smart-restore/conformance/harness/check/play"
)

// The invariants. They are about data, as an operator says them, and hold whatever a policy is made of.

// Invariants says each, by its letter.
var Invariants = map[string]string{
	"a": "What an app wrote, and was the newest, is never replaced by something older.",
	"b": "The last good snapshot of a volume can be restored until there is a newer good one, and for as long as retention says.",
	"c": "No volume holds another's data.",
	"d": "Nothing is called restored that is not.",
	"e": "When everything is well again, every labelled PVC is backed up and its app starts, or the PVC says what is the matter.",
	"f": "Where nobody could know whether there is a backup, nothing is ever restored.",
}

// save takes down what is to be kept of good snapshots.
func (r *repository) save(s *snapshot) {
	if s.good {
		r.lastGood = s
		r.kept = append(r.kept, s)
	}
}

// isGood says whether a snapshot is of the newest data of its volume.
func (r *run) isGood(s *snapshot, v *volume, m *mover, repo *repository) bool {
	if s.half || s.of != m.claim {
		return false
	}
	pvc := r.claim(m.claim)
	return repo.lastGood == nil || v.brought || r.descends(s.version, repo.lastGood.version) || repo.lastGood.uid == m.uid || pvc != nil && r.accepted(pvc)
}

// overwrite is about invariant a, and c: a mover writes a snapshot into a volume.
func (r *run) overwrite(v *volume, s *snapshot, m *mover) {
	if !v.unguarded && v.appWrote && v.version != 0 && v.version != s.version && !r.descends(s.version, v.version) {
		r.broken("a", "PVC %s held what its app wrote, and %s was restored over it, of %s", m.claim, r.describe(s), s.time.UTC().Format(time.TimeOnly))
	}
	if s.of != m.claim {
		r.broken("c", "into PVC %s was restored what the app of %s wrote", m.claim, s.of)
	}
}

func (r *run) describe(s *snapshot) string {
	if s.uid == "of-before" {
		return "a backup of the cluster of before"
	}
	return "a snapshot"
}

// shares is about invariant c: two PVCs are backed up into one repository.
func (r *run) shares(repo *repository, m *mover, o map[string]any) {
	for _, s := range repo.snapshots {
		if s.of != m.claim && s.of != "" && !s.half {
			path, _, _ := r.repositoryOf(o)
			r.broken("c", "PVC %s was backed up into %s, which holds data of %s", m.claim, path, s.of)
		}
	}
}

// lookAt is about invariant b: what is in a repository after retention.
func (r *run) lookAt(repo *repository, o map[string]any) {
	keep := r.terms.Retain
	if keep == (Retain{}) {
		keep = r.retain(o)
	}
	repo.kept = retained(repo.kept, keep)
	if repo.lastGood != nil && !slices.Contains(repo.snapshots, repo.lastGood) {
		r.broken("b/removed", "the last good snapshot of PVC %s was removed: one took its place that is not of the newest data", r.whose(o))
	}
	for _, s := range repo.kept {
		if !slices.Contains(repo.snapshots, s) {
			r.broken("b/retention", "a good snapshot of PVC %s, of %s, was removed before its time", r.whose(o), s.time.UTC().Format(time.DateTime))
		}
	}
}

// chosen is about invariant b: which snapshot a restore brought.
func (r *run) chosen(repo *repository, s *snapshot, m *mover) {
	if repo.lastGood != nil && s != repo.lastGood && !r.descends(s.version, repo.lastGood.version) {
		r.broken("b/hidden", "into PVC %s was restored a snapshot that is not of the newest data: it hides the last good one", m.claim)
	}
}

// restoreBegins is about invariant f.
func (r *run) restoreBegins(m *mover, v *volume) {
	if v == nil || !r.terms.StartsEmpty {
		return
	}
	if v.unknown {
		r.broken("f", "PVC %s says that it is not known whether there is a backup, and a mover restores into it", m.claim)
	}
}

// appStarts is about invariant d: an app that starts on a volume that was to be restored finds its data. Nobody can hold back a pod that was
// there before its PVC: of that one, it is asked at the end what the PVC says.
func (r *run) appStarts(key string, pvc map[string]any, v *volume) {
	if r.app(key).early && r.terms.Gates || v.appWrote && !v.half { // it has long started without: that was said when it did
		return
	}
	if r.mistaken(key, pvc, v) {
		r.broken("d", "the app of %s starts as if its volume were restored, and it is not", key)
	}
}

// mistaken says whether a PVC is to have been restored, by its decision, and does not hold what there is to restore.
func (r *run) mistaken(key string, pvc map[string]any, v *volume) bool {
	if !matches(r.terms.Restore, at(pvc, "metadata", "annotations", r.terms.Annotation)) || r.accepted(pvc) || v.brought || v.claimed || v.unguarded || says(pvc, "nothing") {
		return false
	}
	repo := r.repositories[r.terms.Paths[key]]
	return repo != nil && repo.lastGood != nil && (v.version == 0 || v.half || !r.descends(v.version, repo.lastGood.version))
}

// says says whether a PVC has an annotation with a word in it.
func says(pvc map[string]any, word string) bool {
	for _, value := range mapAt(pvc, "metadata", "annotations") {
		if text, _ := value.(string); strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// fill fills the volumes that VolSync's populator has made. It is about invariant c, too.
func (r *run) fill() {
	for claim, destination := range r.world.Populated() {
		v, image := r.volumeOf(claim), r.images[destination]
		if v == nil {
			continue
		}
		if image.of != "" && image.of != claim {
			r.broken("c", "PVC %s was made of what the app of %s wrote", claim, image.of)
		}
		v.content, v.appWrote = image, false
	}
}

// look sees after each event what became of PVCs.
func (r *run) look() error {
	for _, claim := range PVCs {
		if err := r.runApp(claim); err != nil {
			return err
		}
	}
	if r.terms.Annotation == "" {
		return nil
	}
	for _, claim := range PVCs {
		pvc := r.claim(claim)
		if pvc == nil {
			continue
		}
		if v := r.volumes[uid(pvc)]; v != nil && matches(r.terms.Unknown, at(pvc, "metadata", "annotations", r.terms.Annotation)) {
			v.unknown = true
		}
	}
	return nil
}

// healing is how many hours pass at the end of a history, in which everything is well: until the schedule has come again, and two more.
func (t Terms) healing() int {
	gap, err := Span(t.Schedule, 1)
	if err != nil { // a schedule of each PVC's own
		gap = time.Hour
	}
	return int(max(gap, time.Hour)/time.Hour) + 2
}

// Span is how long a schedule that has come takes to come so many times more.
func Span(schedule string, times int) (time.Duration, error) {
	parsed, err := cron.ParseStandard(schedule)
	if err != nil {
		return 0, err
	}
	first := parsed.Next(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	last := first
	for range times {
		last = parsed.Next(last)
	}
	return last.Sub(first), nil
}

// heal is the end of a history: everything is well again, every app is to run, and hours pass. It is about invariant e.
func (r *run) heal() error {
	r.fault = nil
	r.writable()
	for _, step := range []play.Step{{Heal: true}, {AdmissionOn: true}, {BackgroundOn: true}} {
		if err := r.world.Do(step); err != nil {
			return err
		}
	}
	if err := r.policy(true); err != nil {
		return err
	}
	if err := r.secret("is-there"); err != nil {
		return err
	}
	began, healing := r.world.Now(), r.terms.healing()
	for hours := 0; hours < healing; hours++ {
		for _, claim := range PVCs {
			if pvc := r.claim(claim); pvc != nil && r.selected(pvc) {
				r.app(claim).wanted = true
			}
		}
		if err := r.hour(); err != nil {
			return err
		}
		if err := r.look(); err != nil || r.violation != nil {
			return err
		}
		if !slices.ContainsFunc(PVCs, func(claim string) bool { return r.silent(claim, began) != "" }) {
			return nil
		}
	}
	for _, claim := range PVCs {
		switch r.silent(claim, began) {
		case "d":
			r.broken("d", "everything has been well for %d hours, the app of PVC %s runs, and the PVC still says that it is restored, which it is not", healing, claim)
		case "e/start":
			r.broken("e/start", "everything has been well for %d hours, the app of PVC %s does not start, and the PVC does not say why", healing, claim)
		case "e/backup":
			r.broken("e/backup", "everything has been well for %d hours, PVC %s was not backed up, and does not say why", healing, claim)
		}
	}
	return nil
}

// silent is what is the matter with a PVC that does not say so. Empty: nothing.
func (r *run) silent(claim string, since time.Time) string {
	pvc := r.claim(claim)
	switch {
	case pvc == nil || !r.selected(pvc) || r.tells(pvc) || r.volumes[uid(pvc)].missed:
		return ""
	case !r.app(claim).ran:
		return "e/start"
	case r.mistaken(claim, pvc, r.volumes[uid(pvc)]):
		return "d"
	case !r.backedUp(pvc, since):
		return "e/backup"
	}
	return ""
}

func (r *run) selected(pvc map[string]any) bool { return r.terms.Selects(pvc) }

// Selects says whether a PVC is one that the policy is for.
func (t Terms) Selects(pvc map[string]any) bool {
	for _, field := range []string{"labels", "annotations"} {
		has := mapAt(pvc, "metadata", field)
		for k, wanted := range mapAt(t.Selected, field) {
			value, there := has[k]
			if wanted == nil && there || wanted != nil && value != wanted {
				return false
			}
		}
	}
	return true
}

// backedUp says whether there is a snapshot of a PVC since then.
func (r *run) backedUp(pvc map[string]any, since time.Time) bool {
	for _, repo := range r.repositories {
		for _, s := range repo.snapshots {
			if s.uid == uid(pvc) && !s.time.Before(since) {
				return true
			}
		}
	}
	return false
}

func (r *run) tells(pvc map[string]any) bool { return r.terms.Tells(pvc) }

// Tells says whether a PVC says in words of the policy's that something is the matter with it: an annotation about backups or restores that
// is no time and no plain decision.
func (t Terms) Tells(pvc map[string]any) bool {
	for k, value := range mapAt(pvc, "metadata", "annotations") {
		text, _ := value.(string)
		if strings.Contains(k, "kubernetes.io/") || strings.HasPrefix(k, "example.com/") || !strings.Contains(text, " ") || text[0] >= '0' && text[0] <= '9' {
			continue
		}
		if k == t.Annotation && !matches(t.Unknown, text) {
			continue
		}
		for _, word := range []string{"backup", "backed", "restor", "unknown", "nothing"} {
			if strings.Contains(text, word) {
				return true
			}
		}
	}
	return false
}
