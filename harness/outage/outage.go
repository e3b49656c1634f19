// Package outage is the fault table: each way in which S3 can be down, or the oracle that is asked in its place, what a policy must come
// to then, and what proves from inside the cluster that the fault is on. It knows no cluster.
//
// To add a fault, add a row to Faults. It needs a kind of fault: of the gateway (harness/fault/gateway/kinds.go, whose kinds
// say what they can do to a request) or of packets (harness/fault). go test ./harness/outage then holds the row's proof
// against a real gateway, and make check-policies plays the row with each policy in policies/.
package outage

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/fault"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/probe"
)

// Fault is one way in which S3, or the oracle, can be down: a row of the fault table.
type Fault struct {
	Name     string
	Sentence string // completes "while S3 is …", or "while the oracle is …"
	// Outcome is what the policy must come to.
	Outcome Outcome

	// Packet is what happens to packets to the endpoint, on the node, from Kyverno's pods and the observer's. No path can
	// be told apart there, so specs that need S3 to be up for Kyverno wait meanwhile.
	Packet fault.PacketFault
	// HTTP is what the gateway does with requests for the spec's namespace.
	HTTP gateway.Fault
	// Key narrows that to what begins with this in the PVC's repository. Empty: all, and listings too.
	Key string
	// Auth narrows it to requests with such credentials. Empty: all.
	Auth []string
	// Methods narrows it to requests with such methods. Empty: all.
	Methods []string
	// About narrows it to gateway.AboutObjects or gateway.AboutListings. Empty: all.
	About string
	// Writes is what the gateway does instead with requests that write. Without a kind: the same.
	Writes gateway.Fault
	// Bucket says that the row is about the whole bucket. It is met by the bucket's marker, too, where the policy expects
	// one: see In.
	Bucket bool
	// Elsewhere is what the gateway does with requests for HTTP.Location, a path, where it redirects to.
	Elsewhere gateway.Fault
	// Before is what Kyverno's pods and the observer meet before there is a request: in the handshake, or by the endpoint's name. It
	// holds for all of Kyverno, as Packet does.
	Before gateway.Fault
	// Of is the sort of endpoint that the row is about. Empty: any.
	Of endpoint.Sort
	// Oracle says that the row is about the oracle: Packet and HTTP are what happens on the way to it, and S3 is up.
	Oracle bool
	// NoEndpoints takes the endpoints of the oracle's Service away.
	NoEndpoints bool
	// Hangs says that a probe may get no answer at all, and so be waiting still when S3 comes back.
	Hangs bool

	// Proof says what probes of S3 from inside the cluster find while the fault is on. Each must be as it says.
	Proof Proof
	// Ends is what the last of them finds, where a fault is over for who has met it. nil: the same.
	Ends Proof
}

// The families of rows: the second part of a requirement's ID, and a label of its spec.
const (
	OfS3     = "s3-down"
	OfOracle = "oracle-down"
)

// Family is the one that the row is of.
func (f Fault) Family() string {
	if f.Oracle {
		return OfOracle
	}
	return OfS3
}

// Situation is the row of the decision table.
func (f Fault) Situation() string { return f.Family() + "/" + f.Name }

// Requirement is the ID of the requirement.
func (f Fault) Requirement() string { return "core/" + f.Situation() }

// Short is what tells the row from all others: its name, and of one about the oracle its situation.
func (f Fault) Short() string {
	if f.Oracle {
		return f.Situation()
	}
	return f.Name
}

// What is what the fault is of, in words.
func (f Fault) What() string {
	if f.Oracle {
		return "the oracle"
	}
	return "S3"
}

// While is when the fault is on, in words.
func (f Fault) While() string { return "while " + f.What() + " is " + f.Sentence }

// AtEnd is what the last probes find.
func (f Fault) AtEnd() Proof {
	if f.Ends != nil {
		return f.Ends
	}
	return f.Proof
}

// Outcome is what a policy must come to while S3 is as a row says.
type Outcome string

// The outcomes.
const (
	// OutcomeUnknown: nobody can know whether there is a backup. No ReplicationDestination is made, ever, and no backup is let in.
	OutcomeUnknown Outcome = "unknown"
	// OutcomeAbsent: S3 did answer that there is no backup. No ReplicationDestination is made, and the PVC is backed up.
	OutcomeAbsent Outcome = "absent"
	// OutcomeBackup: S3 did answer, in time, that there is a backup. It is restored.
	OutcomeBackup Outcome = "backup"
	// OutcomeLater: Kyverno finds the backup, the movers cannot read it. It is restored when they can, and not called
	// restored before.
	OutcomeLater Outcome = "later"
	// OutcomeNothing: Kyverno finds the backup, and to the movers it has no snapshot, so that their restore of nothing is a
	// success. It is not taken for a restore: no backup is let in, and it is restored when it can be, or the PVC says that nothing
	// was found.
	OutcomeNothing Outcome = "nothing"
	// OutcomeOlder: Kyverno finds the backup, and the movers see only older snapshots of it, so that they restore one of these, and that is
	// a success. It is not taken for the newest data, either: no backup is let in, and the PVC gets the newest, or says that it has not.
	OutcomeOlder Outcome = "older"
	// OutcomeLied: who was asked said, as if it were so, that there is no backup. Nobody can know better by asking. The PVC may start empty;
	// what was backed up before is not lost.
	OutcomeLied Outcome = "lied"
)

// Restores says that Kyverno is told of the backup, so that a ReplicationDestination is to be made.
func (o Outcome) Restores() bool {
	return o == OutcomeBackup || o.ByMovers()
}

// ByMovers says that the fault is met by the movers, and not by whoever decides: Kyverno is told the truth.
func (o Outcome) ByMovers() bool {
	return o == OutcomeLater || o == OutcomeNothing || o == OutcomeOlder
}

// Decision is what a policy is to say that it decided, by the names of a contract's decisions.
func (o Outcome) Decision() string {
	switch {
	case o.Restores():
		return "restore"
	case o == OutcomeAbsent, o == OutcomeLied:
		return "fresh"
	}
	return "unknown"
}

// Target is what a probe inside the cluster asks S3 for. All follow redirects, as Kyverno's client does.
type Target string

// The targets.
const (
	TargetConfig  Target = "config"  // the object config of the PVC's restic repository, as anybody
	TargetListing Target = "listing" // the listing of the spec's part of the bucket, as anybody
	TargetSigned  Target = "signed"  // the object config with the movers' credentials
	TargetMarker  Target = "marker"  // the bucket's marker, as anybody: of policies that expect one
	// TargetSnapshots is the listing of the repository's snapshots with the movers' credentials.
	TargetSnapshots Target = "snapshots"
	// TargetHistory is the same listing of a repository that has several.
	TargetHistory Target = "history"
	// TargetWrite is an object of the spec's part of the bucket, in no repository, that is written with the movers' credentials.
	TargetWrite Target = "write"
	// TargetOracle is a question to the oracle about the PVC.
	TargetOracle Target = "oracle"
)

// Method is the method of a probe's request.
func (t Target) Method() string {
	if t == TargetWrite {
		return http.MethodPut
	}
	return http.MethodGet
}

// up says whether what was found of a target is as of an S3 that is up, and has a backup.
func (t Target) up(r probe.Result) bool {
	switch t {
	case TargetWrite: // its answer has no body
		return r.Class == probe.OK && len(r.Redirects) == 0 && !isPage(r)
	case TargetListing, TargetSnapshots:
		return lists(r)
	case TargetHistory:
		return lists(r) && r.Keys > 1
	case TargetOracle:
		return says(gateway.OracleBackup)(r)
	default:
		return up(r)
	}
}

// Proof says for each target what a probe of it must find. A probe is one request on a connection of its own; what it found is
// a probe.Result, of which a proof may use:
//
//   - Class, what became of the request: probe.OK and probe.HTTP are answers, probe.Refused, probe.Reset, probe.EOF,
//     probe.Timeout, probe.NoRoute, probe.DNS and probe.TLS are none;
//   - Status, the status of the answer, 0 if there was none, and Redirects, the statuses of those that were followed;
//   - Bytes, how much of the body came, and Received, how much came at all, heads included: 0 is a connection that was ended
//     before the first byte;
//   - Headers, of which Content-Type, Location and Server are kept;
//   - Lists and Keys, whether the body is a listing of a bucket, and how many objects it names;
//   - Millis, how long it took, and Error, the text of what went wrong.
//
// A proof must not pass for an S3 that is up, nor for a probe that saw nothing (a zero Result). TestTheFaultTableIsSound and
// TestProofsOnARealGateway hold both.
type Proof map[Target]func(probe.Result) bool

// Shows says whether every probe found what the proof wants.
func (p Proof) Shows(results map[Target]probe.Result) bool {
	for target, ok := range p {
		if !ok(results[target]) {
			return false
		}
	}
	return len(p) > 0
}

// HoldsForAll says that specs which need S3 for Kyverno must wait while the fault is in force. Of a row of the table it says
// that they may have to: whether it is met by the marker only the policy's contract says.
func (f Fault) HoldsForAll() bool { return f.ByClient() || f.Bucket }

// ByClient says that the fault goes by who asks, and not by what for.
func (f Fault) ByClient() bool { return f.Packet != "" || f.Before.Kind != "" || f.NoEndpoints }

// In is the fault in a bucket in which the policy expects this marker; empty: none, and then nothing is left of a row about the
// whole bucket that is not the namespace's.
func (f Fault) In(marker string) Fault {
	if marker == "" {
		f.Bucket = false
		f.Proof = maps.Clone(f.Proof)
		delete(f.Proof, TargetMarker)
	}
	return f
}

const (
	// AnswerTimeout is how long a probe waits for an answer that is to come at once: within milliseconds, on a busy machine
	// within tenths of a second.
	AnswerTimeout = 5 * time.Second
	// SilenceTimeout is how long a probe waits for an answer that is not to come.
	SilenceTimeout = time.Second
	// TTLSeconds heals a fault by itself, should this process be killed: later than any outage, of which the longest waits
	// for a mover, and before the next run begins, which heals all.
	TTLSeconds = 600
	// slowMillis is well under every webhook's timeout, also when a policy asks twice; tooSlowMillis is over every usual
	// one: Kyverno's default is 10 s, the policies here have 3 s.
	slowMillis    = 700
	tooSlowMillis = 12_000
	// oracleMillis is as long as any webhook can wait.
	oracleMillis = 30_000
	// signIn is the path of a page that answers 200 to everything. No bucket can have this name.
	signIn = "/Sign-In"
	// noSuchHost is a name that the cluster's DNS server itself knows not to exist. The dot at its end keeps resolvers from
	// trying search domains, which would be a question to a server outside.
	noSuchHost = "no-such-s3.default.svc.cluster.local."
)

// Faults is the fault table. A probe of an S3 that is up must not pass for any row's proof.
var Faults = []Fault{
	{
		Name: "refused", Sentence: "refusing connections", Outcome: OutcomeUnknown,
		Packet: fault.Refused, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: is(probe.Refused)},
	},
	{
		Name: "black-hole", Sentence: "a black hole that swallows every packet", Outcome: OutcomeUnknown,
		Packet: fault.BlackHole, HTTP: gateway.Fault{Kind: "hang"}, Hangs: true,
		Proof: Proof{TargetConfig: is(probe.Timeout)},
	},
	{
		// An established connection takes "no route" as a hint and goes on trying: its request comes through late.
		Name: "no-route", Sentence: "at an address to which there is no route", Outcome: OutcomeUnknown,
		Packet: fault.NoRoute, HTTP: gateway.Fault{Kind: "reset"}, Hangs: true,
		Proof: Proof{TargetConfig: is(probe.NoRoute)},
	},
	{
		Name: "reset", Sentence: "resetting connections before the reply", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool { return r.Class == probe.Reset && r.Received == 0 }},
	},
	{
		// In the reply's head. In its body would be no outage to a policy: Kyverno hands it the status, which is S3's own.
		Name: "reset-middle", Sentence: "resetting connections in the middle of the reply", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "reset-head"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool {
			return (r.Class == probe.Reset || r.Class == probe.EOF) && r.Status == 0 && r.Received > 0
		}},
	},
	{
		// The endpoint may be an address: then a name comes into it by a redirect only.
		Name: "name-not-found", Sentence: "redirecting to a name that does not exist", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "redirect", Status: 307, Location: "http://" + noSuchHost + ":9000/"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool {
			return r.Class == probe.DNS && strings.Contains(r.Error, "no such host") && slices.Equal(r.Redirects, []int{307})
		}},
	},
	{
		Name: "tls", Sentence: "speaking TLS where HTTP was meant", Outcome: OutcomeUnknown, Of: endpoint.PlainHTTP,
		HTTP:  gateway.Fault{Kind: "tls"},
		Proof: Proof{TargetConfig: is(probe.TLS)},
	},
	{
		Name: "plain-http", Sentence: "speaking HTTP where TLS was meant", Outcome: OutcomeUnknown, Of: endpoint.TLS,
		Before: gateway.Fault{Kind: "handshake-http"}, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: is(probe.TLS)},
	},
	{
		Name: "handshake-hangs", Sentence: "taking connections, and answering no TLS handshake", Outcome: OutcomeUnknown, Of: endpoint.TLS,
		Before: gateway.Fault{Kind: "handshake-hang"}, HTTP: gateway.Fault{Kind: "hang"}, Hangs: true,
		Proof: Proof{TargetConfig: is(probe.Timeout)},
	},
	{
		Name: "cert-expired", Sentence: "showing a certificate that has expired", Outcome: OutcomeUnknown, Of: endpoint.TLS,
		Before: gateway.Fault{Kind: "cert-expired"}, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: distrusts("expired")},
	},
	{
		Name: "cert-other-name", Sentence: "showing a certificate for another name", Outcome: OutcomeUnknown, Of: endpoint.TLS,
		Before: gateway.Fault{Kind: "cert-other-name"}, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: distrusts("valid for "+authority.OtherHost, "doesn't contain any IP SANs")},
	},
	{
		Name: "cert-unknown-ca", Sentence: "showing a certificate of a CA that nobody trusts", Outcome: OutcomeUnknown, Of: endpoint.TLS,
		Before: gateway.Fault{Kind: "cert-unknown-ca"}, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: distrusts("unknown authority")},
	},
	{
		Name: "nxdomain", Sentence: "at a name that does not exist (NXDOMAIN)", Outcome: OutcomeUnknown, Of: endpoint.Named,
		Before: gateway.Fault{Kind: gateway.NameNotFound}, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: unresolved("no such host")},
	},
	{
		Name: "servfail", Sentence: "at a name that DNS fails to resolve (SERVFAIL)", Outcome: OutcomeUnknown, Of: endpoint.Named,
		Before: gateway.Fault{Kind: gateway.NameFails}, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{TargetConfig: unresolved("server misbehaving")},
	},
	{
		// The cluster's DNS itself answers, that it got no answer: after some seconds.
		Name: "dns-silent", Sentence: "at a name for which no DNS server answers", Outcome: OutcomeUnknown, Of: endpoint.Named,
		Before: gateway.Fault{Kind: gateway.NameUnheard}, HTTP: gateway.Fault{Kind: "hang"}, Hangs: true,
		Proof: Proof{TargetConfig: unresolved("timeout", "deadline exceeded", "server misbehaving")},
	},
	{
		// By https it has a certificate for another name, so that nobody reads it.
		Name: "name-elsewhere", Sentence: "at a name that leads to a login page", Outcome: OutcomeUnknown, Of: endpoint.Named,
		Before: gateway.Fault{Kind: gateway.NameElsewhere}, HTTP: gateway.Fault{Kind: "html-200"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool {
			return isPage(r) && len(r.Redirects) == 0 || distrusts("valid for "+authority.OtherHost)(r)
		}},
	},
	{
		Name: "slow", Sentence: fmt.Sprintf("answering after %d ms", slowMillis), Outcome: OutcomeBackup,
		HTTP:  gateway.Fault{Kind: "slow", DelayMillis: slowMillis},
		Proof: Proof{TargetConfig: func(r probe.Result) bool { return up(r) && r.Millis >= slowMillis }},
	},
	{
		// A policy that does not decide in time gets a true 200 all the same, when the app has long been writing.
		Name: "too-slow", Sentence: fmt.Sprintf("answering after %d s, later than any webhook waits", tooSlowMillis/1000), Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "slow", DelayMillis: tooSlowMillis},
		Proof: Proof{TargetConfig: func(r probe.Result) bool { return r.Class == probe.Timeout || up(r) && r.Millis >= tooSlowMillis }},
	},
	{
		Name: "400", Sentence: "answering 400 Bad Request", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 400},
		Proof: Proof{TargetConfig: answers(400)},
	},
	{
		Name: "401", Sentence: "answering 401 Unauthorized", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 401},
		Proof: Proof{TargetConfig: answers(401)},
	},
	{
		Name: "403-key", Sentence: "answering 403 Forbidden for the repository's config", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "status", Status: 403}, Key: "config",
		Proof: Proof{TargetConfig: answers(403), TargetListing: lists},
	},
	{
		Name: "403-bucket", Sentence: "answering 403 Forbidden for everything, listings too", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 403},
		Proof: Proof{TargetConfig: answers(403), TargetListing: answers(403)},
	},
	{
		// The backup is hidden from Kyverno, not taken away: what is proven is that the answer decides. The movers see it.
		Name: "404-key", Sentence: "answering 404 for the repository, as if there were no backup", Outcome: OutcomeAbsent,
		HTTP: gateway.Fault{Kind: "absent"}, Auth: unsigned,
		Proof: Proof{TargetConfig: answers(404), TargetListing: listsNothing, TargetSigned: up},
	},
	{
		// By the status of a key alone this cannot be told from a missing backup.
		Name: "404-bucket", Sentence: "answering 404 for the bucket", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "status", Status: 404, Code: "NoSuchBucket"}, Bucket: true,
		Proof: Proof{TargetConfig: answers(404), TargetListing: answers(404), TargetMarker: answers(404)},
	},
	{
		// A server that is there before its disk is: what it says of the bucket is about another, an empty folder.
		Name: "empty-bucket", Sentence: "answering, but without its disk: the bucket is empty and takes no writes", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "absent"}, Writes: gateway.Fault{Kind: "status", Status: 500}, Bucket: true,
		Proof: Proof{TargetConfig: answers(404), TargetListing: listsNothing, TargetSigned: answers(404), TargetWrite: answers(500), TargetMarker: answers(404)},
	},
	{
		// A mover that is let in makes a new repository over the one that is there: what it writes is kept.
		Name: "amnesia", Sentence: "answering, but having forgotten for a while what it holds: the bucket is empty and takes writes", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "absent"}, Bucket: true,
		Proof: Proof{TargetConfig: answers(404), TargetListing: listsNothing, TargetSigned: answers(404), TargetWrite: TargetWrite.up, TargetMarker: answers(404)},
	},
	{
		Name: "config-gone", Sentence: "without the repository's config, while its keys and snapshots are there", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "absent"}, Key: "config",
		Proof: Proof{TargetConfig: answers(404), TargetSigned: answers(404), TargetListing: lists},
	},
	{
		Name: "429", Sentence: "answering 429 Too Many Requests", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 429},
		Proof: Proof{TargetConfig: answers(429)},
	},
	{
		Name: "500", Sentence: "answering 500 Internal Server Error", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 500},
		Proof: Proof{TargetConfig: answers(500)},
	},
	{
		Name: "502", Sentence: "behind a proxy that answers 502 Bad Gateway", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 502, Body: "<html><h1>502 Bad Gateway</h1></html>", ContentType: "text/html"},
		Proof: Proof{TargetConfig: answers(502)},
	},
	{
		Name: "503", Sentence: "answering 503 SlowDown", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 503},
		Proof: Proof{TargetConfig: answers(503)},
	},
	{
		Name: "empty-200", Sentence: "answering 200 with an empty body to everything", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "empty-200"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool { return r.Class == probe.OK && r.Bytes == 0 }},
	},
	{
		Name: "html-200", Sentence: "behind a captive portal that answers 200 with an HTML page to everything", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "html-200"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool { return isPage(r) && len(r.Redirects) == 0 }},
	},
	{
		Name: "redirect-301", Sentence: "redirecting (301) to a page that answers 200", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "redirect", Status: 301, Location: signIn}, Elsewhere: gateway.Fault{Kind: "html-200"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool { return isPage(r) && slices.Equal(r.Redirects, []int{301}) }},
	},
	{
		Name: "redirect-302", Sentence: "redirecting (302) to a page that answers 200", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "redirect", Status: 302, Location: signIn}, Elsewhere: gateway.Fault{Kind: "html-200"},
		Proof: Proof{TargetConfig: func(r probe.Result) bool { return isPage(r) && slices.Equal(r.Redirects, []int{302}) }},
	},
	{
		Name: "mover-credentials", Sentence: "answering everybody but the movers, whose credentials it refuses", Outcome: OutcomeLater,
		HTTP: gateway.Fault{Kind: "status", Status: 403, Code: "InvalidAccessKeyId"}, Auth: []string{gateway.AuthAWS4},
		Proof: Proof{TargetConfig: up, TargetSigned: answers(403)},
	},
	{
		// restic cannot write its lock. That it is 403 and no 507 is for restic, which gives up on the one and tries the other for
		// a quarter of an hour.
		Name: "read-only", Sentence: "read-only: every write is refused", Outcome: OutcomeLater,
		HTTP: gateway.Fault{Kind: "status", Status: 403}, Auth: []string{gateway.AuthAWS4}, Methods: writes,
		Proof: Proof{TargetConfig: up, TargetSigned: up, TargetWrite: answers(403)},
	},
	{
		Name: "list-lies", Sentence: "listing no snapshots to the movers, which can read everything", Outcome: OutcomeNothing,
		HTTP: gateway.Fault{Kind: "absent"}, Key: "snapshots/", About: gateway.AboutListings, Auth: []string{gateway.AuthAWS4},
		Proof: Proof{TargetConfig: up, TargetListing: lists, TargetSigned: up, TargetSnapshots: listsNothing},
	},
	{
		// What a listing lacks that lags behind is what was stored last: the newest snapshot.
		Name: "list-short", Sentence: "listing only the oldest snapshot to the movers, which can read everything", Outcome: OutcomeOlder,
		HTTP: gateway.Fault{Kind: "list-first"}, Key: "snapshots/", About: gateway.AboutListings, Auth: []string{gateway.AuthAWS4},
		Proof: Proof{TargetConfig: up, TargetListing: lists, TargetSigned: up, TargetHistory: listsOne},
	},
}

// OracleFaults are the rows about the oracle. Only a policy that asks one meets them.
var OracleFaults = ofOracle([]Fault{
	{
		Name: "refused", Sentence: "refusing connections", Outcome: OutcomeUnknown,
		Packet: fault.Refused,
		Proof:  Proof{TargetOracle: is(probe.Refused)},
	},
	{
		Name: "no-endpoints", Sentence: "a Service without endpoints", Outcome: OutcomeUnknown,
		NoEndpoints: true,
		Proof:       Proof{TargetOracle: is(probe.Refused)},
	},
	{
		Name: "slow", Sentence: fmt.Sprintf("answering after %d s", oracleMillis/1000), Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "slow", DelayMillis: oracleMillis},
		Proof: Proof{TargetOracle: func(r probe.Result) bool {
			return r.Class == probe.Timeout || TargetOracle.up(r) && r.Millis >= oracleMillis
		}},
	},
	{
		Name: "500", Sentence: "Ready, and answering 500 Internal Server Error", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 500, Body: `{"error": "internal"}`, ContentType: "application/json"},
		Proof: Proof{TargetOracle: answers(500)},
	},
	{
		Name: "html-200", Sentence: "Ready, and answering 200 with an HTML page", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "html-200"},
		Proof: Proof{TargetOracle: isPage},
	},
	{
		// What a new version of it may answer, or another service at its name.
		Name: "other-shape", Sentence: "Ready, and answering 200 with JSON of another shape", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "status", Status: 200, Body: `{"status": "ok", "data": []}`, ContentType: "application/json"},
		Proof: Proof{TargetOracle: func(r probe.Result) bool {
			return r.Class == probe.OK && r.Bytes > 0 && !isPage(r) && !strings.HasPrefix(r.Headers["Server"], gateway.OracleServer)
		}},
	},
	{
		Name: "lies", Sentence: "saying that there is no backup, whatever S3 holds", Outcome: OutcomeLied,
		HTTP:  gateway.Fault{Kind: "says", Says: gateway.OracleNone},
		Proof: Proof{TargetOracle: says(gateway.OracleNone)},
	},
	{
		// One that is not done with reading what there is when it begins to answer. A policy that asks twice hears both.
		Name: "lies-once", Sentence: "saying to who asks first that there is no backup, and then the truth", Outcome: OutcomeLied,
		HTTP:  gateway.Fault{Kind: "says", Says: gateway.OracleNone, Times: 1},
		Proof: Proof{TargetOracle: says(gateway.OracleNone)},
		Ends:  Proof{TargetOracle: says(gateway.OracleBackup)},
	},
})

// ofOracle are rows about the oracle. Meanwhile S3 is seen to be up: whatever comes of them is the oracle's doing.
func ofOracle(rows []Fault) []Fault {
	for i := range rows {
		rows[i].Oracle = true
		for _, proof := range []Proof{rows[i].Proof, rows[i].Ends} {
			if proof != nil {
				proof[TargetConfig] = up
			}
		}
	}
	return rows
}

// All are the rows of both.
func All() []Fault { return slices.Concat(Faults, OracleFaults) }

// says is an answer of the oracle's own, which says what it found. Its status is the contract's.
func says(found string) func(probe.Result) bool {
	return func(r probe.Result) bool {
		return (r.Class == probe.OK || r.Class == probe.HTTP) && r.Headers["Server"] == gateway.OracleServer+found
	}
}

// writes are the methods of requests that change what is in a bucket.
var writes = []string{http.MethodPut, http.MethodPost, http.MethodDelete}

// unsigned are the requests of everybody but S3's own users: a policy engine's, with or without a token of its own.
var unsigned = []string{gateway.AuthNone, gateway.AuthBearer, gateway.AuthBasic, gateway.AuthOther}

// up is an S3 that answers, itself, with what was asked for.
func up(r probe.Result) bool {
	return r.Class == probe.OK && r.Bytes > 0 && len(r.Redirects) == 0 && !isPage(r)
}

func is(class probe.Class) func(probe.Result) bool {
	return func(r probe.Result) bool { return r.Class == class }
}

func answers(status int) func(probe.Result) bool {
	return func(r probe.Result) bool { return r.Class == probe.HTTP && r.Status == status }
}

// distrusts is an answer that is not heard, because the certificate will not do: for one of these reasons.
func distrusts(reasons ...string) func(probe.Result) bool {
	return func(r probe.Result) bool {
		return r.Class == probe.TLS && slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(r.Error, reason) })
	}
}

// unresolved is a name that leads nowhere, for one of these reasons.
func unresolved(reasons ...string) func(probe.Result) bool {
	return func(r probe.Result) bool {
		return r.Class == probe.DNS && slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(r.Error, reason) })
	}
}

// lists, listsNothing and listsOne are about listings of where there is a backup.
func lists(r probe.Result) bool        { return up(r) && r.Lists && r.Keys > 0 }
func listsNothing(r probe.Result) bool { return up(r) && r.Lists && r.Keys == 0 }
func listsOne(r probe.Result) bool     { return up(r) && r.Lists && r.Keys == 1 }

func isPage(r probe.Result) bool {
	return r.Class == probe.OK && strings.HasPrefix(r.Headers["Content-Type"], "text/html")
}

// OnlyUnsigned says that the fault is met by requests without credentials of S3's own only: no mover meets it.
func (f Fault) OnlyUnsigned() bool {
	return len(f.Auth) > 0 && !slices.Contains(f.Auth, gateway.AuthAWS4)
}

// Delay is how long the fault holds an answer back.
func (f Fault) Delay() time.Duration { return time.Duration(f.HTTP.DelayMillis) * time.Millisecond }

// Late says that an answer comes later than a probe should wait for one, so that something is to be done meanwhile.
func (f Fault) Late() bool { return f.Delay() > AnswerTimeout }

// ProbeTimeout is how long a probe waits for an answer while the fault is on.
func (f Fault) ProbeTimeout() time.Duration {
	if f.Hangs || f.HTTP.Kind == "hang" {
		return SilenceTimeout
	}
	return f.Delay() + AnswerTimeout
}

// Up is the proof, by the probes that the fault is proven with, that S3 is up.
func (f Fault) Up() Proof {
	p := Proof{}
	for target := range f.Proof {
		p[target] = func(r probe.Result) bool {
			return target.up(r) && (f.Delay() == 0 || r.Millis < float64(f.HTTP.DelayMillis))
		}
	}
	return p
}

// Held is an outage in which S3 takes every request and answers none until it is over, and then all: the surest way to
// get a late restore from whoever still waits for an answer. It is no row of the table.
var Held = Fault{
	Name: "held", Sentence: "holding every request", HTTP: gateway.Fault{Kind: "hang", OnHeal: "answer"},
	Outcome: OutcomeUnknown,
	Proof:   Proof{TargetConfig: is(probe.Timeout)},
}

// Named is the row about S3 of this name. It panics where there is none: whoever asks is a spec.
func Named(name string) Fault {
	for _, row := range Faults {
		if row.Name == name {
			return row
		}
	}
	panic("the fault table has no row " + name)
}

// Paths begin the paths of requests, by what they are about.
type Paths struct {
	Namespace  string // all that is the namespace's
	Repository string // the PVC's own repository
	Marker     string // the bucket's marker; empty: there is none
	// Clients are the addresses of those who meet what comes before requests.
	Clients []string
}

// Rules are what the gateway is told for a PVC's outage. Of two that a request fits, the later one acts.
func (f Fault) Rules(id string, paths Paths) []gateway.Rule {
	places := []string{paths.Namespace}
	switch {
	case f.Key != "":
		places = []string{paths.Repository + f.Key}
	case f.Bucket && paths.Marker != "":
		places = append(places, paths.Marker)
	}
	var rules []gateway.Rule
	put := func(place string, methods []string, what gateway.Fault) {
		if what.Kind == "" { // nothing happens to requests
			return
		}
		name := id
		if len(rules) > 0 {
			name = fmt.Sprintf("%s/%d", id, len(rules)+1)
		}
		rules = append(rules, gateway.Rule{ID: name, To: f.to(), PathPrefix: place, Methods: methods, Auth: f.Auth, About: f.About, TTLSeconds: TTLSeconds, Fault: what})
	}
	for _, place := range places {
		put(place, f.Methods, f.HTTP)
		if f.Writes.Kind != "" {
			put(place, writes, f.Writes)
		}
	}
	if f.Before.Kind != "" && len(paths.Clients) > 0 {
		rules = append(rules, gateway.Rule{ID: id + "/before", Clients: paths.Clients, TTLSeconds: TTLSeconds, Fault: f.Before})
	}
	if f.Elsewhere.Kind != "" {
		// Specs with the same destination have the same rule each, so that one's end is not another's.
		rules = append(rules, gateway.Rule{ID: id + "/elsewhere", PathPrefix: f.HTTP.Location, TTLSeconds: TTLSeconds, Fault: f.Elsewhere})
	}
	return rules
}

// to is whom the rules are about.
func (f Fault) to() string {
	if f.Oracle {
		return gateway.ToOracle
	}
	return ""
}

// IsRule says whether a rule, by its ID, is one of an outage's with this ID.
func IsRule(rule, id string) bool { return rule == id || strings.HasPrefix(rule, id+"/") }
