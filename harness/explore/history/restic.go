package history

import (
	"slices"
	"time"
)

// What restic 0.18 does with a repository (R is github.com/restic/restic@v0.18.0), and what is known to be true of it.

// Retain is spec.restic.retain, without within, which no policy here has.
type Retain struct{ Last, Hourly, Daily, Weekly, Monthly, Yearly int }

// content is what a volume holds: a version of an app's data, or nothing.
type content struct {
	version int    // 0: nothing
	of      string // the PVC whose app wrote it, namespace/name
	half    bool   // of a restore that has not ended
}

// snapshot is one in a repository.
type snapshot struct {
	content
	time time.Time
	uid  string // of the PVC that it was taken of
	// good says that it is of the newest data of its volume: nothing that was there before it is lost with it.
	good bool
}

// lock is of a process that is gone.
type lock struct {
	time      time.Time
	exclusive bool // of forget and prune
}

// repository is a restic repository.
type repository struct {
	password  string
	snapshots []*snapshot // oldest first
	locks     []lock
	// lastGood is the newest good one that there ever was, and kept what of all good ones retention keeps where there are no others.
	lastGood *snapshot
	kept     []*snapshot
}

// stale is when `restic unlock` takes a lock away: R/internal/restic/lock.go, StaleLockTimeout.
const stale = 30 * time.Minute

// unlock is `restic unlock`.
func (r *repository) unlock(now time.Time) {
	r.locks = slices.DeleteFunc(r.locks, func(l lock) bool { return now.Sub(l.time) > stale })
}

// exclusive says whether another's exclusive lock is there: R/internal/restic/lock.go, checkForOtherLocks. It is never ignored, however old.
func (r *repository) exclusive() bool {
	return slices.ContainsFunc(r.locks, func(l lock) bool { return l.exclusive })
}

// latest is what VolSync restores: V/mover-restic/entry.sh, select_restic_snapshot_to_restore. Nil: there is none.
func (r *repository) latest() *snapshot {
	if len(r.snapshots) == 0 {
		return nil
	}
	return r.snapshots[len(r.snapshots)-1]
}

// forget is `restic forget`.
func (r *repository) forget(keep Retain) { r.snapshots = retained(r.snapshots, keep) }

// retained are those of snapshots, oldest first, that are kept: R/internal/restic/snapshot_policy.go, ApplyPolicy.
func retained(all []*snapshot, keep Retain) (kept []*snapshot) {
	buckets := []struct {
		left int
		of   func(t time.Time, nr int) int
		last int
	}{
		{keep.Last, func(_ time.Time, nr int) int { return nr }, -1},
		{keep.Hourly, func(t time.Time, _ int) int { return ((t.Year()*100+int(t.Month()))*100+t.Day())*100 + t.Hour() }, -1},
		{keep.Daily, func(t time.Time, _ int) int { return (t.Year()*100+int(t.Month()))*100 + t.Day() }, -1},
		{keep.Weekly, func(t time.Time, _ int) int { y, w := t.ISOWeek(); return y*100 + w }, -1},
		{keep.Monthly, func(t time.Time, _ int) int { return t.Year()*100 + int(t.Month()) }, -1},
		{keep.Yearly, func(t time.Time, _ int) int { return t.Year() }, -1},
	}
	for nr, s := range slices.Backward(all) {
		keeps := false
		for i := range buckets {
			b := &buckets[i]
			if b.left == 0 {
				continue
			}
			if value := b.of(s.time, nr); value != b.last || nr == 0 { // the oldest is kept where some count is left
				keeps = true
				b.last = value
				b.left--
			}
		}
		if keeps {
			kept = append(kept, s)
		}
	}
	slices.Reverse(kept)
	return kept
}
