// Package api is what the fault gateway's control API takes and gives: rules, and the records of requests. The server
// (harness/fault/gateway) and its clients share it, so that a client does not link the server.
package api

import (
	"embed"
	"fmt"
	"strconv"
	"time"
)

// Source is this package's source. The simulator, which is compiled among Kyverno's modules, imports it too, so nothing but
// the standard library may be imported here.
//
//go:embed *.go
var Source embed.FS

// How long a rule lives, in seconds. A rule always ends by itself, so that a fault also ends when whoever set it was killed.
const (
	DefaultTTLSeconds = 300
	MaxTTLSeconds     = 3600
)

// Rule says which requests meet a fault. A request has to fulfil every selector that is set. The newest rule that fits acts,
// and only that one.
type Rule struct {
	// ID names the rule in the control API and in the records it acted on.
	// Putting a rule whose ID exists ends the old one first.
	ID string `json:"id"`
	// PathPrefix is the beginning of the URL path as sent, still escaped, such
	// as "/volsync-backups/ns/pvc/". A listing of a bucket
	// (GET /bucket/?prefix=ns/pvc/) counts as being at /bucket/ns/pvc/: the
	// path alone would put every listing outside of every prefix. Empty: any.
	PathPrefix string `json:"pathPrefix,omitempty"`
	// Methods are HTTP methods in capitals. Empty: any.
	Methods []string `json:"methods,omitempty"`
	// Auth are sorts of credentials, by the names that Record.Auth has for
	// them: with ["aws4"] a rule meets those who sign their requests, such as
	// VolSync's movers, and not those who ask as anybody. Empty: any.
	Auth []string `json:"auth,omitempty"`
	// About narrows the rule to one of AboutObjects and AboutListings. Empty: any.
	About string `json:"about,omitempty"`
	// To says whom the requests are for: ToOracle, or S3 where it is empty.
	To string `json:"to,omitempty"`
	// Clients are IP addresses. Empty: any. Kinds of handshakes and of names
	// know nothing else of whom they meet: no other selector goes with them.
	Clients []string `json:"clients,omitempty"`
	// TTLSeconds is after how long the rule ends by itself. Defaults to
	// DefaultTTLSeconds; more than MaxTTLSeconds is refused.
	TTLSeconds int `json:"ttlSeconds,omitempty"`
	// Fault is what happens to the requests.
	Fault Fault `json:"fault"`
}

// What requests can be about: an object, or what a bucket holds.
const (
	AboutObjects  = "objects"
	AboutListings = "listings"
)

// ToOracle says of a rule, and of a record, that it is about questions for the oracle, and not about requests for S3.
const ToOracle = "oracle"

// Oracle is the stand-in for a service in the cluster that people ask whether there is a backup of a PVC. It asks S3 for each question, as a
// client of S3's like any other, so that it meets S3's faults.
type Oracle struct {
	// Question is the path of a question, with {namespace} and {pvc} in it, such as "/exists/{namespace}/{pvc}". It may have a query.
	Question string `json:"question"`
	// Bucket is where backups are. Repository begins the keys of a PVC's, with {pvc} and maybe {namespace} in it. It ends with a slash.
	Bucket     string `json:"bucket"`
	Repository string `json:"repository"`
	// Marker is the key of an object without which nothing is believed of the bucket. Empty: there is none.
	Marker string `json:"marker,omitempty"`
	// Answers are what it answers, by what it found.
	Answers map[string]OracleAnswer `json:"answers"`
}

// OracleAnswer is an answer of the oracle's.
type OracleAnswer struct {
	Status int    `json:"status"`
	Body   string `json:"body"` // JSON
}

// What the oracle finds: the keys of Oracle.Answers.
const (
	OracleBackup  = "backup"  // S3 has the repository's config
	OracleNone    = "none"    // S3 said that there is nothing of the repository, in a bucket that is there
	OracleUnknown = "unknown" // anything else, or no answer in time
)

// OraclePort is where the gateway serves the oracle, at the endpoint's address.
const OraclePort = 9902

// OracleServer begins the header Server of the oracle's own answers. What it found follows.
const OracleServer = "oracle/"

// OracleAgent is the User-Agent with which the oracle asks S3.
const OracleAgent = "smart-restore-oracle"

// RuleStatus is a rule in force.
type RuleStatus struct {
	Rule
	// Expires is when the rule ends by itself.
	Expires time.Time `json:"expires"`
}

// RuleList is the answer of GET /rules, newest first.
type RuleList struct {
	Rules []RuleStatus `json:"rules"`
}

// Fault is what happens to a request. The kinds, and the parameters that each
// takes, are in the server's table (harness/fault/gateway/kinds.go). A
// parameter that does not belong to the kind is refused: a fault that is not
// the one meant proves nothing.
type Fault struct {
	// Kind is a key of the table of kinds.
	Kind string `json:"kind"`
	// Status is the HTTP status of kinds status and redirect.
	Status int `json:"status,omitempty"`
	// Code is the S3 error code of kind status. Empty: one that fits Status.
	Code string `json:"code,omitempty"`
	// Body replaces the S3 error document of kind status.
	Body string `json:"body,omitempty"`
	// ContentType is that of Body. Empty: application/xml.
	ContentType string `json:"contentType,omitempty"`
	// Headers are added to the reply of kind status.
	Headers map[string]string `json:"headers,omitempty"`
	// Location is where kind redirect sends the client.
	Location string `json:"location,omitempty"`
	// DelayMillis is how long kind slow waits before it passes a request on.
	DelayMillis int64 `json:"delayMillis,omitempty"`
	// KilobytesPerSecond is the rate of kind throttle, in 1000 bytes: of all
	// body bytes, in both directions, of all requests of the rule together, as
	// on one narrow line. restic would outrun a limit per request with its many
	// connections.
	KilobytesPerSecond int64 `json:"kilobytesPerSecond,omitempty"`
	// Says is what kind says has the oracle answer, whatever it would find.
	Says string `json:"says,omitempty"`
	// Times is how many questions of each client about each PVC kind says
	// answers so, by User-Agent: those after them get the truth. 0: all.
	Times int `json:"times,omitempty"`
	// OnHeal is what becomes of the requests held by kind hang when the rule
	// ends: "reset" (default), or "answer", which passes them on late.
	OnHeal string `json:"onHeal,omitempty"`
}

// The methods of records that are no request's: of a handshake, or of a question
// for the endpoint's name, that a rule acted on. Others have no record.
const (
	MethodTLS = "TLS"
	MethodDNS = "DNS"
)

// The kinds of names: what the resolver does with a question for the endpoint's name.
const (
	NameNotFound  = "name-not-found" // NXDOMAIN
	NameFails     = "name-fails"     // SERVFAIL
	NameUnheard   = "name-unheard"   // no answer
	NameElsewhere = "name-elsewhere" // an address at which there is a login page
)

// Record is one request. It holds no header's value but the User-Agent's.
type Record struct {
	// Seq counts the requests in the order of their arrival, from 1.
	Seq int64 `json:"seq"`
	// Time is when the request's head had arrived, by the gateway's clock.
	Time time.Time `json:"time"`
	// DurationMillis is until the reply was done; so far, if InFlight.
	DurationMillis float64 `json:"durationMillis"`
	// Client is the client's address, ip:port, as the gateway sees it.
	Client string `json:"client"`
	Method string `json:"method"`
	// Path is as sent, escaped.
	Path string `json:"path"`
	// Query is as sent, but the values of credentials and signatures.
	Query string `json:"query,omitempty"`
	// Status is the HTTP status that was sent, with a whole head; 0: no reply,
	// or none yet.
	Status int `json:"status"`
	// BytesIn and BytesOut are of the bodies, without heads and framing.
	BytesIn   int64  `json:"bytesIn"`
	BytesOut  int64  `json:"bytesOut"`
	UserAgent string `json:"userAgent,omitempty"`
	// Auth is the sort of credentials, never their value: one of the Auth…
	// constants.
	Auth string `json:"auth"`
	// To is ToOracle of a question for the oracle. Empty: the request is for S3.
	To string `json:"to,omitempty"`
	// Found is what the oracle answered that it had found, where it did.
	Found string `json:"found,omitempty"`
	// Rule is the ID of the rule that acted. Empty: none.
	Rule string `json:"rule,omitempty"`
	// RawBytes counts what was sent instead of an HTTP reply: part of a
	// reply's head, or no HTTP at all.
	RawBytes int64 `json:"rawBytes,omitempty"`
	// Ended is how the gateway ended the connection, of itself: EndedReset or
	// EndedClosed. Empty: it did not.
	Ended string `json:"ended,omitempty"`
	// Error is what ended the request other than a complete reply.
	Error string `json:"error,omitempty"`
	// InFlight is true of a request that has no complete reply yet.
	InFlight bool `json:"inFlight,omitempty"`
}

// Answer says in a few words what the client got.
func (r Record) Answer() string {
	var text string
	switch {
	case r.Status != 0:
		text = strconv.Itoa(r.Status)
	case r.RawBytes > 0:
		text = fmt.Sprintf("%d bytes that are no HTTP reply", r.RawBytes)
	case r.Ended != "" && r.Error == "":
		return "no answer, connection " + r.Ended
	default:
		return "no answer"
	}
	if r.Ended != "" {
		text += ", then connection " + r.Ended
	}
	return text
}

// The values of Record.Ended.
const (
	EndedReset  = "reset"  // by a TCP reset
	EndedClosed = "closed" // in order, by a FIN
)

// The sorts of credentials.
const (
	AuthNone   = "none"
	AuthAWS4   = "aws4" // in a header or as a presigned URL
	AuthBearer = "bearer"
	AuthBasic  = "basic"
	AuthOther  = "other"
)

// AuthKinds are all of them.
func AuthKinds() []string { return []string{AuthNone, AuthAWS4, AuthBearer, AuthBasic, AuthOther} }

// RecordsPage is the answer of GET /records.
type RecordsPage struct {
	// Records are in the order of Seq. One in flight may come with a lower Seq
	// than one that is done: to see its end, ask again from before it.
	Records []Record `json:"records"`
	// LastSeq is the Seq of the last request that had arrived, whether it is
	// in Records or not: as `since` it begins a window at this moment.
	LastSeq int64 `json:"lastSeq"`
	// Dropped is how many requests after `since` (whatever their path) were
	// forgotten because there were too many. Absence is proven only if it is 0.
	Dropped int64 `json:"dropped"`
}

// ErrorBody is the answer of the control API to what it refuses.
type ErrorBody struct {
	Error string `json:"error"`
}
