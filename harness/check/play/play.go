// Package play is what a policy is checked with and without: situations as steps, and what came of each. The simulator, which is
// built out of a Kyverno's own modules, compiles this package too, so it may import the standard library, the gateway's API and the certificates of an endpoint only.
package play

import (
	"embed"
	"net/netip"

	"github.com/smart-restore/conformance/harness/authority"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// Source is this package's source, for the simulator's module.
//
//go:embed *.go
var Source embed.FS

// Play is what the simulator is given.
type Play struct {
	// Endpoint is the S3 address as policies name it, such as http://host:port. Nothing is sent there: it exists in the simulator only.
	Endpoint string `json:"endpoint"`
	// Address is where the endpoint's name leads, or the endpoint's own.
	Address netip.Addr `json:"address"`
	// Certificates are those of an endpoint that is https.
	Certificates *authority.Certificates `json:"certificates,omitempty"`
	// Trusted says that Kyverno trusts the CA of these.
	Trusted bool   `json:"trusted,omitempty"`
	Bucket  string `json:"bucket"`
	// Marker is the key of an object that is in the bucket from the start, and MarkerBody what it holds. Empty: there is none.
	Marker     string `json:"marker,omitempty"`
	MarkerBody string `json:"markerBody,omitempty"`
	// Oracle is a service in the cluster that is asked for S3, as policies name it. nil: there is none.
	Oracle *Oracle `json:"oracle,omitempty"`
	// Kubernetes is the version that the API server has, like v1.34.4.
	Kubernetes string `json:"kubernetes"`
	// Roles are the roles and bindings that are there before the policy: Kubernetes' own, Kyverno's and others'. By these and
	// by those among Policies, the API server judges what Kyverno's service accounts may do. None: they may do everything.
	Roles []map[string]any `json:"roles,omitempty"`
	// Policies are the objects of the policy under test, in the order they are applied in.
	Policies   []map[string]any `json:"policies"`
	Situations []Situation      `json:"situations"`
}

// Oracle is a service in the cluster, and what it is asked and answers.
type Oracle struct {
	// Hosts are the names that the Service has, and Port its port.
	Hosts []string `json:"hosts"`
	Port  uint16   `json:"port"`
	gateway.Oracle
}

// Take is some situations of a play, with other policies: those of a mutant, say. The simulator is given a Play, and then one after
// another of these, and answers each with a Record.
type Take struct {
	// Policies are in the place of the play's. None: they are those of the take before.
	Policies []map[string]any `json:"policies,omitempty"`
	// Situations are the numbers, from 0, of those that are played.
	Situations []int `json:"situations"`
}

// Situation is one life of a cluster and its S3, from empty. Its clock is its own: an hour in it takes no time.
type Situation struct {
	Name string `json:"name"`
	// Objects are there before, without having been admitted.
	Objects []map[string]any `json:"objects,omitempty"`
	Steps   []Step           `json:"steps"`
}

// Step is one thing that happens. Exactly one field is set, besides those that say how a write is sent. After each step, and when a pod is
// there, PVCs are bound that have what they wait for: a pod that uses them, or, where a dataSourceRef names a ReplicationDestination,
// that its restore is done.
type Step struct {
	// Create, Update and Replace send an object to the API server: admission, then the background controller. An update is a
	// JSON merge patch of the object of that kind and name; {uid} in it is the UID of that object. Replace is a PUT: what it leaves out is gone, but for the status
	// and what the API server keeps itself.
	Create  map[string]any `json:"create,omitempty"`
	Update  map[string]any `json:"update,omitempty"`
	Replace map[string]any `json:"replace,omitempty"`
	// Delete takes an object away at once, where no validating webhook and none of the API server's own policies refuses. What it
	// owns stays, as while the garbage collector has not come by yet.
	Delete map[string]any `json:"delete,omitempty"`
	// Collect is the garbage collector: what has owners, none of which is there any more, goes, and what that owned.
	Collect bool `json:"collect,omitempty"`
	// BringBack takes an object away and creates it again as backup tools do: without its owner and status. This, Update and
	// Delete take the first of a kind in its namespace if they name none.
	BringBack map[string]any `json:"bringBack,omitempty"`
	// Appears is an object that is there from now on, without having been admitted: admission of its kind is nobody's here.
	Appears map[string]any `json:"appears,omitempty"`
	// Deleting asks for an object to be taken away that is in use: it stays, and has a deletionTimestamp.
	Deleting map[string]any `json:"deleting,omitempty"`
	// Strip takes the annotations of an object away, each by an update of its own, but for those of Kubernetes and VolSync.
	Strip map[string]any `json:"strip,omitempty"`
	// Backup puts a repository of this path, <namespace>/<pvc>, into the bucket.
	Backup string `json:"backup,omitempty"`
	// Outage begins; it ends with Heal.
	Outage *Outage `json:"outage,omitempty"`
	Heal   bool    `json:"heal,omitempty"`
	// Movers lets VolSync create or update the Job of every ReplicationSource and of every ReplicationDestination that is not
	// done, and the Job controller create the pod of every Job that is not paused. What was refused is tried again. VolSync takes a
	// snapshot or a clone of a PVC that is bound only: where the copyMethod is not Direct, an app is taken to use the PVC by then.
	Movers bool `json:"movers,omitempty"`
	// Restored lets VolSync do what Movers does for every ReplicationDestination, and report each done whose pod is there. A
	// restore whose mover is paused or refused is never done.
	Restored bool `json:"restored,omitempty"`
	// BackedUp is the same of every ReplicationSource. It puts nothing into the bucket.
	BackedUp bool `json:"backedUp,omitempty"`
	// Failing lets VolSync do what Movers does, and every mover's pod that is there fail. Its Job counts it.
	Failing bool `json:"failing,omitempty"`
	// CacheBehind keeps what the API server's own policies know as params as it is now, until CacheCaughtUp: its cache of what
	// they name is behind what it stores.
	CacheBehind   bool `json:"cacheBehind,omitempty"`
	CacheCaughtUp bool `json:"cacheCaughtUp,omitempty"`
	// BackgroundOff takes Kyverno's background controller away. BackgroundOn brings it back: it works off what was asked of
	// it meanwhile, newest first, for Kyverno keeps no order.
	BackgroundOff bool `json:"backgroundOff,omitempty"`
	BackgroundOn  bool `json:"backgroundOn,omitempty"`
	// BackgroundLost lets all that is asked of the background controller be lost, until BackgroundOn: what Kyverno drops beyond its limit
	// of requests, or loses with the admission controller that took them in.
	BackgroundLost bool `json:"backgroundLost,omitempty"`
	// AdmissionOff takes Kyverno's admission controller away: its webhooks are there, and nobody answers. One whose
	// failurePolicy is Ignore is passed by, one with Fail refuses what it is for. WebhooksGone takes the webhooks away, too,
	// as Kyverno does when it is scaled to zero. AdmissionOn brings both back. The API server's own policies stay.
	AdmissionOff bool `json:"admissionOff,omitempty"`
	WebhooksGone bool `json:"webhooksGone,omitempty"`
	AdmissionOn  bool `json:"admissionOn,omitempty"`
	// PolicyGone takes the policy under test away, with its roles: Kyverno and the API server know nothing of it, and what Kyverno was asked
	// to do for it comes to nothing. What it made stays. PolicyBack applies it again, and Kyverno scans.
	PolicyGone bool `json:"policyGone,omitempty"`
	PolicyBack bool `json:"policyBack,omitempty"`
	// Scan is Kyverno's background scan: each GeneratingPolicy with generateExisting is played for all that it matches, and
	// each MutatingPolicy with mutateExisting whose targets no expression names.
	Scan bool `json:"scan,omitempty"`
	// ClockMillis is how much later than Kyverno's the API server's clock is from then on, by which it says when an object was created.
	ClockMillis int64 `json:"clockMillis,omitempty"`
	// WaitMillis passes.
	WaitMillis int64 `json:"waitMillis,omitempty"`

	// Said is what the movers' logs say, of Restored and BackedUp. Empty: what they say when all is well.
	Said string `json:"said,omitempty"`

	// LaterMillis is how much later the times in the annotations of a BringBack are: those of a cluster whose clock is ahead.
	LaterMillis int64 `json:"laterMillis,omitempty"`
	// Of is an object whose annotations an Update brings, each by an update of its own, but for those of Kubernetes and VolSync.
	Of map[string]any `json:"of,omitempty"`
	// By is the name of the user or service account who sends it. Empty: an administrator.
	By string `json:"by,omitempty"`
	// Subresource is the one that an Update is of, like status.
	Subresource string `json:"subresource,omitempty"`
	// DryRun is admitted, and comes to nothing.
	DryRun bool `json:"dryRun,omitempty"`
	// Later is a JSON merge patch that another mutating webhook makes, after Kyverno's.
	Later map[string]any `json:"later,omitempty"`
	// Meanwhile is an object that somebody else creates when the mutating webhooks have been asked, and before it is stored: neither of the
	// two is there for the other.
	Meanwhile map[string]any `json:"meanwhile,omitempty"`
	// Refused is what another validating webhook says when it refuses it. Kyverno's are called all the same, for the API server
	// calls validating webhooks all at once. So it is with a Create of what is there already, which needs no field.
	Refused string `json:"refused,omitempty"`
}

// LeftOut are the namespaces that Kyverno leaves out by default: those of the resourceFilters that its Helm chart writes.
var LeftOut = []string{"kube-system", "kube-public", "kube-node-lease", "kyverno"}

// Who sends what no user does.
const (
	VolSync       = "system:serviceaccount:volsync-system:volsync"
	JobController = "system:serviceaccount:kube-system:job-controller"
	PVController  = "system:serviceaccount:kube-system:persistent-volume-binder"
	Background    = "system:serviceaccount:kyverno:kyverno-background-controller"
)

// Kyverno's other service accounts.
const (
	Admission = "system:serviceaccount:kyverno:kyverno-admission-controller"
	Reports   = "system:serviceaccount:kyverno:kyverno-reports-controller"
)

// Outage is one way in which S3 is down.
type Outage struct {
	// Dial is what becomes of connections: refused, black-hole, no-route. Empty: they are made.
	Dial string `json:"dial,omitempty"`
	// DialOracle is the same of connections to the oracle: refused.
	DialOracle string `json:"dialOracle,omitempty"`
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
	// Policies says of each policy, of Kyverno or of the API server, whether it is taken, in the order they were given in.
	Policies   []Acceptance `json:"policies"`
	Situations []Course     `json:"situations"`
}

// Acceptance is what Kyverno, or the API server, says of a policy when it is applied.
type Acceptance struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Problems are why it is not taken. Empty: it is.
	Problems []Problem `json:"problems,omitempty"`
	// NotReady is why Kyverno takes the policy and never reports it as ready. Empty: it does.
	NotReady string `json:"notReady,omitempty"`
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
	// Applied are the policies that were evaluated for something that happened, kind/name, in order.
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
	// By is who sent what was admitted or refused, where that is no administrator.
	By string `json:"by,omitempty"`
	// Policy is whose doing it is, kind/name.
	Policy string `json:"policy,omitempty"`
	// Again says of what was made that it had been there, and was written over.
	Again bool `json:"again,omitempty"`
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
	Tried    = "tried"    // a dry run: the API server would have taken an object
	Made     = "made"     // the background controller made an object, or made it anew, for Policy, which generates
	Changed  = "changed"  // the background controller changed an object for Policy, which mutates what exists
	Failed   = "failed"   // Policy ended in an error, or in a webhook's timeout
	Asked    = "asked"    // Policy's question reached S3's address: Text is the request and what came of it
	Strayed  = "strayed"  // a question to another address: nothing was sent
	Waiting  = "waiting"  // Policy was still waiting for an answer at the end
	// Populated says that a PVC, namespace/name in Text, is bound to a volume that VolSync's populator filled from a ReplicationDestination,
	// which is Object as it was then.
	Populated = "populated"
)
