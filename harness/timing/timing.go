// Package timing names every bound, window and interval of the specs as data, so that a slow machine can scale them by one
// setting and the report can say which were used.
package timing

import (
	"fmt"
	"math"
	"reflect"
	"time"
)

// Times are the named durations. A bound is the longest that something may take before the wait for it ends; a window is how
// long the suite watches for something that must not happen; an interval is how often it looks. Each bound is several times
// what was measured on two cores, and short enough that a run that cannot pass ends soon.
type Times struct {
	// Generate bounds how long Kyverno takes to generate an object for a PVC: about 1 s; just after a storm it has taken 25 s.
	Generate time.Duration
	// Bind bounds how long the provisioner takes to bind a PVC after its first consumer: about 2 s; where a volume is given back, two of
	// the controller's rounds of 15 s.
	Bind time.Duration
	// Pod bounds how long a pod takes to run whose image is on the node: about 2 s; on a busy node it has taken 20 s, and one with 30
	// volumes 33 s.
	Pod time.Duration
	// Mover bounds how long a backup or restore takes: 6 to 17 s for the data sets used here.
	Mover time.Duration
	// Backup bounds how long the first sync of a ReplicationSource and one by hand take, some 10 s each.
	Backup time.Duration
	// Gone bounds how long a deleted object takes to be gone: a PVC waits for the pods that use it, of which a mover takes the half minute
	// that it is given.
	Gone time.Duration
	// Platform bounds how long a controller takes to come back: some 10 s.
	Platform time.Duration
	// CleanUp bounds how long it takes to delete what a spec made, in all its attempts.
	CleanUp time.Duration
	// Undo bounds how long it takes to put back what a spec took away, retries included.
	Undo time.Duration
	// Storm bounds how long the last PVC of a storm takes: 30 movers take some 2 minutes on two cores.
	Storm time.Duration
	// Audit bounds how long the API server takes to write an audit event: milliseconds, on a busy disk seconds.
	Audit time.Duration
	// Heal bounds how long it takes to take a fault of S3 away.
	Heal time.Duration
	// Tools bounds how long the pod with restic takes to run after it was created.
	Tools time.Duration
	// Probe is added to the time that a probe of S3 may take, for the exec around it.
	Probe time.Duration

	// Reaction is the window in which Kyverno acts on a change of a PVC that concerns it: about 1 s.
	Reaction time.Duration
	// Late is the window in which an answer of S3 can still become an object after an outage: under a second. What failed at
	// once is no later: Kyverno tries it five times within milliseconds and then forgets it, all of that in the outage.
	Late time.Duration
	// Scan is the window in which Kyverno's background scan comes by once, where it is made each half minute.
	Scan time.Duration
	// GivenUp is the window after which Kyverno has long given up a request that fails: it tries five times, within milliseconds.
	GivenUp time.Duration
	// Nothing is how long a policy has had to make nothing at all before that says something.
	Nothing time.Duration

	// Look bounds one look of a wait: the API server answers within milliseconds.
	Look time.Duration `scale:"no"`
	// Poll and PollMax are the first and the longest pause between two looks. Most ends come within a second.
	Poll    time.Duration `scale:"no"`
	PollMax time.Duration `scale:"no"`
	// Gap is the longest that a window may go unwatched.
	Gap time.Duration `scale:"no"`
}

// Default are the times for a machine with two cores.
func Default() Times {
	return Times{
		Generate: time.Minute,
		Bind:     2 * time.Minute,
		Pod:      4 * time.Minute,
		Mover:    3 * time.Minute,
		Backup:   30 * time.Second,
		Gone:     2 * time.Minute,
		Platform: 2 * time.Minute,
		CleanUp:  2 * time.Minute,
		Undo:     5 * time.Minute,
		Storm:    6 * time.Minute,
		Audit:    45 * time.Second,
		Heal:     45 * time.Second,
		Tools:    3 * time.Minute,
		Probe:    20 * time.Second,

		Reaction: 4 * time.Second,
		Late:     3 * time.Second,
		Scan:     45 * time.Second,
		GivenUp:  time.Minute,
		Nothing:  5 * time.Second,

		Look:    10 * time.Second,
		Poll:    100 * time.Millisecond,
		PollMax: 600 * time.Millisecond,
		Gap:     5 * time.Second,
	}
}

// Scaled are the times with bounds and windows multiplied. A factor of 0 is 1.
func (t Times) Scaled(factor float64) Times {
	if factor == 0 {
		return t
	}
	scale(reflect.ValueOf(&t).Elem(), factor)
	return t
}

// scale multiplies the fields of a struct of durations, but for those that say no.
func scale(v reflect.Value, factor float64) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("scale") != "no" {
			v.Field(i).SetInt(int64(float64(v.Field(i).Int()) * factor))
		}
	}
}

// Seconds are the times by name, for the report.
func (t Times) Seconds() map[string]float64 { return seconds(reflect.ValueOf(t)) }

func seconds(v reflect.Value) map[string]float64 {
	seconds := map[string]float64{}
	for i := range v.NumField() {
		seconds[v.Type().Field(i).Name] = time.Duration(v.Field(i).Int()).Seconds()
	}
	return seconds
}

// CheckScale refuses a factor that no machine needs.
func CheckScale(factor float64) error {
	if math.IsNaN(factor) || factor < 1 || factor > 10 {
		return fmt.Errorf("want a factor from 1 to 10, found %g", factor)
	}
	return nil
}
