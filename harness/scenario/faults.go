package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/cmd/agent/probe"
	"github.com/smart-restore/conformance/harness/fault"
	"github.com/smart-restore/conformance/harness/fault/gateway"
)

// Fault is one way in which S3 can be down: a row of the fault table.
type Fault struct {
	Name     string
	Sentence string // completes "while S3 is …"
	// Outcome is what the policy must come to.
	Outcome Outcome

	// Packet is what happens to packets to the endpoint, on the node, from Kyverno's pods and the observer's. No path can
	// be told apart there, so specs that need S3 to be up for Kyverno wait meanwhile.
	Packet fault.PacketFault
	// HTTP is what the gateway does with requests for the spec's namespace.
	HTTP gateway.Fault
	// Key narrows that to one object of the PVC's repository. Empty: all, and listings too.
	Key string
	// Auth narrows it to requests with such credentials. Empty: all.
	Auth []string
	// Elsewhere is what the gateway does with requests for HTTP.Location, a path, where it redirects to.
	Elsewhere gateway.Fault
	// Hangs says that a probe may get no answer at all, and so be waiting still when S3 comes back.
	Hangs bool

	// Proof says what looks at S3 from inside the cluster find while the fault is on. Each must be as it says.
	Proof Proof
}

// Outcome is what a policy must come to while S3 is as a row says.
type Outcome string

// The outcomes.
const (
	// OutcomeUnknown: nobody can know whether there is a backup. No ReplicationDestination is made, ever.
	OutcomeUnknown Outcome = "unknown"
	// OutcomeAbsent: S3 did answer that there is no backup. No ReplicationDestination is made, and the PVC is backed up.
	OutcomeAbsent Outcome = "absent"
	// OutcomeBackup: S3 did answer, in time, that there is a backup. It is restored.
	OutcomeBackup Outcome = "backup"
	// OutcomeLater: Kyverno finds the backup, the movers cannot read it. It is restored when they can, and not called
	// restored before.
	OutcomeLater Outcome = "later"
)

// Look is one way to look at S3 from inside the cluster. All follow redirects, as Kyverno's client does.
type Look string

// The looks.
const (
	LookConfig  Look = "config"  // the object config of the PVC's restic repository, as anybody
	LookListing Look = "listing" // the listing of the spec's part of the bucket, as anybody
	LookSigned  Look = "signed"  // the object config with the movers' credentials
)

// Proof says for each look what it must find.
type Proof map[Look]func(probe.Result) bool

// shows says whether every look found what the proof wants.
func (p Proof) shows(results map[Look]probe.Result) bool {
	for look, ok := range p {
		if !ok(results[look]) {
			return false
		}
	}
	return len(p) > 0
}

// HoldsForAll says that specs which need S3 for Kyverno must wait while the fault is in force.
func (f Fault) HoldsForAll() bool { return f.Packet != "" }

const (
	// slowMillis is well under every webhook's timeout, also when a policy asks twice; tooSlowMillis is over every usual
	// one: Kyverno's default is 10 s, the policies here have 3 s.
	slowMillis    = 700
	tooSlowMillis = 12_000
	// signIn is the path of a page that answers 200 to everything. No bucket can have this name.
	signIn = "/Sign-In"
	// noSuchHost is a name that the cluster's DNS server itself knows not to exist. The dot at its end keeps resolvers from
	// trying search domains, which would be a question to a server outside.
	noSuchHost = "no-such-s3.default.svc.cluster.local."
)

// Faults is the fault table. A look at an S3 that is up must not pass for any row's proof.
var Faults = []Fault{
	{
		Name: "refused", Sentence: "refusing connections", Outcome: OutcomeUnknown,
		Packet: fault.Refused, HTTP: gateway.Fault{Kind: "reset"},
		Proof: Proof{LookConfig: is(probe.Refused)},
	},
	{
		Name: "black-hole", Sentence: "a black hole that swallows every packet", Outcome: OutcomeUnknown,
		Packet: fault.BlackHole, HTTP: gateway.Fault{Kind: "hang"}, Hangs: true,
		Proof: Proof{LookConfig: is(probe.Timeout)},
	},
	{
		// An established connection takes "no route" as a hint and goes on trying: its request comes through late.
		Name: "no-route", Sentence: "at an address to which there is no route", Outcome: OutcomeUnknown,
		Packet: fault.NoRoute, HTTP: gateway.Fault{Kind: "reset"}, Hangs: true,
		Proof: Proof{LookConfig: is(probe.NoRoute)},
	},
	{
		Name: "reset", Sentence: "resetting connections before the reply", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "reset"},
		Proof: Proof{LookConfig: func(r probe.Result) bool { return r.Class == probe.Reset && r.Received == 0 }},
	},
	{
		// In the reply's head. In its body would be no outage to a policy: Kyverno hands it the status, which is S3's own.
		Name: "reset-middle", Sentence: "resetting connections in the middle of the reply", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "reset-head"},
		Proof: Proof{LookConfig: func(r probe.Result) bool {
			return (r.Class == probe.Reset || r.Class == probe.EOF) && r.Status == 0 && r.Received > 0
		}},
	},
	{
		// The endpoint is an address, so a name comes into it by a redirect only.
		Name: "name-not-found", Sentence: "redirecting to a name that does not exist", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "redirect", Status: 307, Location: "http://" + noSuchHost + ":9000/"},
		Proof: Proof{LookConfig: func(r probe.Result) bool {
			return r.Class == probe.DNS && strings.Contains(r.Error, "no such host") && slices.Equal(r.Redirects, []int{307})
		}},
	},
	{
		Name: "tls", Sentence: "speaking TLS where HTTP was meant", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "tls"},
		Proof: Proof{LookConfig: is(probe.TLS)},
	},
	{
		Name: "slow", Sentence: fmt.Sprintf("slow, and answers after %d ms", slowMillis), Outcome: OutcomeBackup,
		HTTP:  gateway.Fault{Kind: "slow", DelayMillis: slowMillis},
		Proof: Proof{LookConfig: func(r probe.Result) bool { return up(r) && r.Millis >= slowMillis }},
	},
	{
		// A policy that does not decide in time gets a true 200 all the same, when the app has long been writing.
		Name: "too-slow", Sentence: fmt.Sprintf("too slow, and answers after %d s", tooSlowMillis/1000), Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "slow", DelayMillis: tooSlowMillis},
		Proof: Proof{LookConfig: func(r probe.Result) bool { return r.Class == probe.Timeout || up(r) && r.Millis >= tooSlowMillis }},
	},
	{
		Name: "400", Sentence: "answering 400 Bad Request", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 400},
		Proof: Proof{LookConfig: answers(400)},
	},
	{
		Name: "401", Sentence: "answering 401 Unauthorized", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 401},
		Proof: Proof{LookConfig: answers(401)},
	},
	{
		Name: "403-key", Sentence: "answering 403 Forbidden for the repository's config", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "status", Status: 403}, Key: "config",
		Proof: Proof{LookConfig: answers(403), LookListing: up},
	},
	{
		Name: "403-bucket", Sentence: "answering 403 Forbidden for everything, listings too", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 403},
		Proof: Proof{LookConfig: answers(403), LookListing: answers(403)},
	},
	{
		// The backup is hidden from Kyverno, not taken away: what is proven is that the answer decides. The movers see it.
		Name: "404-key", Sentence: "answering 404 for the repository, which is: there is no backup", Outcome: OutcomeAbsent,
		HTTP: gateway.Fault{Kind: "absent"}, Auth: unsigned,
		Proof: Proof{LookConfig: answers(404), LookListing: up, LookSigned: up},
	},
	{
		// By its status alone this cannot be told from a missing key. So whether the policy calls it unknown or absent is
		// left to it.
		Name: "404-bucket", Sentence: "answering 404 for the bucket", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 404, Code: "NoSuchBucket"},
		Proof: Proof{LookConfig: answers(404), LookListing: answers(404)},
	},
	{
		Name: "429", Sentence: "answering 429 Too Many Requests", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 429},
		Proof: Proof{LookConfig: answers(429)},
	},
	{
		Name: "500", Sentence: "answering 500 Internal Server Error", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 500},
		Proof: Proof{LookConfig: answers(500)},
	},
	{
		Name: "502", Sentence: "behind a proxy that answers 502 Bad Gateway", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 502, Body: "<html><h1>502 Bad Gateway</h1></html>", ContentType: "text/html"},
		Proof: Proof{LookConfig: answers(502)},
	},
	{
		Name: "503", Sentence: "answering 503 SlowDown", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "status", Status: 503},
		Proof: Proof{LookConfig: answers(503)},
	},
	{
		Name: "empty-200", Sentence: "answering 200 with an empty body to everything", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "empty-200"},
		Proof: Proof{LookConfig: func(r probe.Result) bool { return r.Class == probe.OK && r.Bytes == 0 }},
	},
	{
		Name: "html-200", Sentence: "behind a captive portal that answers 200 with an HTML page to everything", Outcome: OutcomeUnknown,
		HTTP:  gateway.Fault{Kind: "html-200"},
		Proof: Proof{LookConfig: func(r probe.Result) bool { return isPage(r) && len(r.Redirects) == 0 }},
	},
	{
		Name: "redirect-301", Sentence: "redirecting (301) to a page that answers 200", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "redirect", Status: 301, Location: signIn}, Elsewhere: gateway.Fault{Kind: "html-200"},
		Proof: Proof{LookConfig: func(r probe.Result) bool { return isPage(r) && slices.Equal(r.Redirects, []int{301}) }},
	},
	{
		Name: "redirect-302", Sentence: "redirecting (302) to a page that answers 200", Outcome: OutcomeUnknown,
		HTTP: gateway.Fault{Kind: "redirect", Status: 302, Location: signIn}, Elsewhere: gateway.Fault{Kind: "html-200"},
		Proof: Proof{LookConfig: func(r probe.Result) bool { return isPage(r) && slices.Equal(r.Redirects, []int{302}) }},
	},
	{
		Name: "mover-credentials", Sentence: "refusing the movers' credentials, and answers everybody else", Outcome: OutcomeLater,
		HTTP: gateway.Fault{Kind: "status", Status: 403, Code: "InvalidAccessKeyId"}, Auth: []string{gateway.AuthAWS4},
		Proof: Proof{LookConfig: up, LookSigned: answers(403)},
	},
}

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

func isPage(r probe.Result) bool {
	return r.Class == probe.OK && strings.HasPrefix(r.Headers["Content-Type"], "text/html")
}

// FaultNamed finds a row of the fault table.
func FaultNamed(name string) (Fault, error) {
	for _, f := range Faults {
		if f.Name == name {
			return f, nil
		}
	}
	return Fault{}, fmt.Errorf("the fault table has no %q", name)
}

// delay is how long the fault holds an answer back.
func (f Fault) delay() time.Duration { return time.Duration(f.HTTP.DelayMillis) * time.Millisecond }

// late says that an answer comes later than a look should wait for one, so that something is to be done meanwhile.
func (f Fault) late() bool { return f.delay() > answerTimeout }

// Rules are what the gateway is told for a PVC's outage: the beginning of the paths of all that is its namespace's, and of
// its own repository's.
func (f Fault) Rules(id, namespacePath, pvcPath string) []gateway.Rule {
	prefix := namespacePath
	if f.Key != "" {
		prefix = pvcPath + f.Key
	}
	rules := []gateway.Rule{{ID: id, PathPrefix: prefix, Auth: f.Auth, TTLSeconds: faultTTL, Fault: f.HTTP}}
	if f.Elsewhere.Kind != "" {
		// Specs with the same destination have the same rule each, so that one's end is not another's.
		rules = append(rules, gateway.Rule{ID: id + "/elsewhere", PathPrefix: f.HTTP.Location, TTLSeconds: faultTTL, Fault: f.Elsewhere})
	}
	return rules
}
