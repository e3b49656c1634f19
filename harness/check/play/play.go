// Package play is what a policy is checked with and without: situations as steps, and what came of each. The simulator, which is
// built out of a Kyverno's own modules, compiles this package too, so it may import the standard library and the gateway's API only.
package play

import (
	"embed"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// Source is this package's source, for the simulator's module.
//
//go:embed *.go
var Source embed.FS

// Play is what the simulator is given.
type Play struct {
	// Endpoint is the S3 address as policies name it, http://host:port. Nothing is sent there: it exists in the simulator only.
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	// Marker is the key of an object that is in the bucket from the start, and MarkerBody what it holds. Empty: there is none.
	Marker     string `json:"marker,omitempty"`
	MarkerBody string `json:"markerBody,omitempty"`
	// Kubernetes is the version that the API server has, like v1.34.4.
	Kubernetes string `json:"kubernetes"`
	// Policies are the objects of the policy under test, in the order they are applied in.
	Policies   []map[string]any `json:"policies"`
	Situations []Situation      `json:"situations"`
}

// Situation is one life of a cluster and its S3, from empty. Its clock is its own: an hour in it takes no time.
type Situation struct {
	Name string `json:"name"`
	// Objects are there before, without having been admitted.
	Objects []map[string]any `json:"objects,omitempty"`
	Steps   []Step           `json:"steps"`
}

// Step is one thing that happens. Exactly one field is set.
type Step struct {
	// Create and Update send an object to the API server: webhooks, then the background controller. An update is a JSON
	// merge patch of the object of that kind and name.
	Create map[string]any `json:"create,omitempty"`
	Update map[string]any `json:"update,omitempty"`
	// Delete takes an object away at once; what it owns stays, as while the garbage collector has not come by yet.
	Delete map[string]any `json:"delete,omitempty"`
	// Backup puts a repository of this path, <namespace>/<pvc>, into the bucket.
	Backup string `json:"backup,omitempty"`
	// Outage begins; it ends with Heal.
	Outage *Outage `json:"outage,omitempty"`
	Heal   bool    `json:"heal,omitempty"`
	// Restored lets VolSync report that every ReplicationDestination's restore is done.
	Restored bool `json:"restored,omitempty"`
	// RestoredNothing is the same of movers that found no snapshot, which VolSync calls a success.
	RestoredNothing bool `json:"restoredNothing,omitempty"`
	// Movers lets VolSync begin the backup of every ReplicationSource that is not paused: it creates a Job for each.
	Movers bool `json:"movers,omitempty"`
	// BackgroundOff takes Kyverno's background controller away. BackgroundOn brings it back: it works off what was asked of
	// it meanwhile, newest first, for Kyverno keeps no order.
	BackgroundOff bool `json:"backgroundOff,omitempty"`
	BackgroundOn  bool `json:"backgroundOn,omitempty"`
	// WaitMillis passes.
	WaitMillis int64 `json:"waitMillis,omitempty"`
}

// Outage is one way in which S3 is down.
type Outage struct {
	// Dial is what becomes of connections: refused, black-hole, no-route. Empty: they are made.
	Dial string `json:"dial,omitempty"`
	// Rules are what becomes of requests.
	Rules []gateway.Rule `json:"rules,omitempty"`
}

// The values of Outage.Dial.
const (
	Refused   = "refused"
	BlackHole = "black-hole"
	NoRoute   = "no-route"
)

// Record is what the simulator answers.
type Record struct {
	// Kyverno is the version whose engine played.
	Kyverno string `json:"kyverno"`
	// Policies says of each Kyverno policy whether Kyverno takes it, in the order they were given in.
	Policies   []Acceptance `json:"policies"`
	Situations []Course     `json:"situations"`
}

// Acceptance is what Kyverno says of a policy when it is applied.
type Acceptance struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Problems are why it is not taken. Empty: it is.
	Problems []Problem `json:"problems,omitempty"`
	// Unjudged says why this simulator cannot tell what the policy does. Empty: it can.
	Unjudged string `json:"unjudged,omitempty"`
	// Called counts how often it was about something that happened.
	Called int `json:"called"`
}

// Problem is one thing wrong with a policy.
type Problem struct {
	Field string `json:"field,omitempty"` // like spec.variables[2].expression
	Text  string `json:"text"`
}

// Course is what happened in a situation.
type Course struct {
	Name   string  `json:"name"`
	Events []Event `json:"events"`
	// Applied are the Kyverno policies that were evaluated for something that happened, kind/name, in order.
	Applied []string `json:"applied,omitempty"`
	// Objects are those that are there at the end.
	Objects []map[string]any `json:"objects"`
	// Error says what kept the situation from being played to its end.
	Error string `json:"error,omitempty"`
}

// Event is one thing that was seen.
type Event struct {
	// Millis is when, on the situation's own clock.
	Millis int64 `json:"millis"`
	// Step is the number of the step, from 0, that was last begun.
	Step int    `json:"step"`
	What string `json:"what"`
	// Policy is whose doing it is, kind/name.
	Policy string `json:"policy,omitempty"`
	// Text is the request, the reason, the error.
	Text string `json:"text,omitempty"`
	// TookMillis is how long it took, where that is something to know.
	TookMillis int64 `json:"tookMillis,omitempty"`
	// Object is what was admitted, made or changed.
	Object map[string]any `json:"object,omitempty"`
}

// What happens.
const (
	Admitted = "admitted" // the API server took an object, in TookMillis
	Refusal  = "refused"  // it did not, and says why
	Made     = "made"     // the background controller made or changed an object for Policy
	Failed   = "failed"   // Policy ended in an error, or in a webhook's timeout
	Asked    = "asked"    // Policy's question reached S3's address: Text is the request and what came of it
	Strayed  = "strayed"  // a question to another address: nothing was sent
	Waiting  = "waiting"  // Policy was still waiting for an answer at the end
)
