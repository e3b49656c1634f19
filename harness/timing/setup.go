package timing

import (
	"maps"
	"reflect"
	"time"
)

// SetupTimes are the durations of putting a stack up, examining and repairing it, and running the specs as a whole.
type SetupTimes struct {
	// Establish bounds how long the API server takes to accept an object, or to serve a new kind.
	Establish time.Duration
	// Ready bounds how long a controller takes to become ready: some seconds.
	Ready time.Duration
	// Services bounds how long kube-proxy takes, from the API server's start, to set services up.
	Services time.Duration
	// S3 bounds how long the gateway, the S3 server and its buckets each take to be there.
	S3 time.Duration
	// Policy bounds how long an accepted policy takes to act. Kyverno compiles it and registers its webhook, some seconds after the
	// policy is there. The rights that it brings are aggregated within about a second.
	Policy time.Duration
	// Act is how long the first labelled PVC is given before another is tried, which is given twice as long, and so on: a PVC
	// that was admitted before the webhook knew the policy is never acted on, and a busy Kyverno acts late.
	Act time.Duration
	// Refused is how long labelled PVCs have to be refused, without one that is admitted, before that is the policy's: while
	// Kyverno aggregates a policy's rights, its lookups are denied.
	Refused time.Duration
	// Gone bounds how long deleted objects take to be gone.
	Gone time.Duration
	// CleanUp bounds the deletion of what a wait made for itself.
	CleanUp time.Duration
	// Examine bounds how long the platform may be out of sight while it is examined.
	Examine time.Duration
	// Repair bounds how long each controller takes to come back in a repair.
	Repair time.Duration
	// Delete bounds how long a cluster whose creation was interrupted takes to go.
	Delete time.Duration
	// Audit bounds how long the audit log may lag when absences are checked again after all specs.
	Audit time.Duration
	// Suite bounds all specs together.
	Suite time.Duration
	// Grace is how long a spec that was told to stop may go on before Ginkgo leaves it behind.
	Grace time.Duration

	// Poll, S3Poll and ExaminePoll are the pauses between two looks.
	Poll        time.Duration `scale:"no"`
	S3Poll      time.Duration `scale:"no"`
	ExaminePoll time.Duration `scale:"no"`
}

// Setup are the times of this process: those for a machine with two cores, scaled by ScaleSetup before anything is started.
var Setup = twoCores()

func twoCores() SetupTimes {
	return SetupTimes{
		Establish: time.Minute,
		Ready:     3 * time.Minute,
		Services:  90 * time.Second,
		S3:        30 * time.Second,
		Policy:    90 * time.Second,
		Act:       4 * time.Second,
		Refused:   20 * time.Second,
		Gone:      time.Minute,
		CleanUp:   10 * time.Second,
		Examine:   20 * time.Second,
		Repair:    90 * time.Second,
		Delete:    time.Minute,
		Audit:     30 * time.Second,
		Suite:     time.Hour,
		Grace:     30 * time.Second,

		Poll:        200 * time.Millisecond,
		S3Poll:      100 * time.Millisecond,
		ExaminePoll: 200 * time.Millisecond,
	}
}

// ScaleSetup makes the bounds of Setup those for two cores, multiplied. Each process calls it as it starts.
func ScaleSetup(factor float64) {
	Setup = twoCores()
	scale(reflect.ValueOf(&Setup).Elem(), factor)
}

// All are the times of the specs and of the set-up by name, in seconds, for the report.
func All(specs Times) map[string]float64 {
	all := map[string]float64{}
	for name, value := range seconds(reflect.ValueOf(Setup)) {
		all["Setup."+name] = value
	}
	maps.Copy(all, specs.Seconds())
	return all
}
