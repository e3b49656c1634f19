package gateway

import (
	"bytes"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// kind is one sort of fault. It either serves the request itself, or has a toxic. What serve can do with a request:
//
//   - x.reply answers it in the real server's stead, with a status, headers and a body;
//   - x.passThrough sends it on, and the real server's reply back;
//   - x.reset and x.hangUp end the connection, by a TCP reset or in order, after some last bytes, which are written as they
//     are: part of a reply's head, a reply whose Content-Length is wrong, or no HTTP at all.
//
// The record of the request says what was sent, whichever of them it was.
type kind struct {
	takes []string                   // the parameters of api.Fault, by JSON name
	check func(api.Fault) error      // whether they make sense; nil: they always do
	serve func(*exchange, api.Fault) // nil: what its toxic does

	// toxic is one of toxiproxy's. The request's head meets it on a line of its own, and the request is passed on if and when
	// it arrives.
	toxic func(api.Fault) toxics.Toxic
	// bodies is of a toxic that the bodies of all requests of a rule share, in both directions.
	bodies bool

	// handshake is what a client that begins TLS meets instead of the endpoint's certificate: another configuration, or the
	// connection's end.
	handshake func(*hello) (*tls.Config, error)
	// name says that the kind is what the resolver does (package resolver).
	name bool
	// oracle says that the kind is about what the oracle says.
	oracle bool
}

// beforeRequests says that the kind is met before there is a request. A connection that is there already would not meet it: those
// of the rule's clients are closed.
func (k kind) beforeRequests() bool { return k.handshake != nil || k.name }

// kinds is every kind of fault; adding one is adding an entry, and a case of that kind to TestFaultsAsSeenByAClient or
// TestHang. Faults below HTTP (refused, black hole, no route) are packet rules, in package fault.
var kinds = map[string]kind{
	"status": {
		takes: []string{"status", "code", "body", "contentType", "headers"},
		check: func(f api.Fault) error {
			switch {
			case f.Status < 200 || f.Status > 599:
				return fmt.Errorf("status: want 200 to 599, found %d", f.Status)
			case f.Code != "" && f.Body != "":
				return errors.New("code and body: want one of the two")
			case f.ContentType != "" && f.Body == "":
				return errors.New("contentType: want a body with it")
			}
			return nil
		},
		serve: func(x *exchange, f api.Fault) {
			body, contentType := f.Body, f.ContentType
			if body == "" && f.Status >= 400 {
				body = s3Error(f, x.entry.rec.Path, x.entry.rec.Seq)
			}
			if body != "" && contentType == "" {
				contentType = "application/xml"
			}
			x.reply(f.Status, contentType, f.Headers, body)
		},
	},
	// As if nothing were stored there: an object is missing, a listing is empty. Whoever asks by a listing is to learn the
	// same as who asks for an object; a 404 for a listing would be the bucket's.
	"absent": {serve: func(x *exchange, _ api.Fault) {
		bucket, key, _ := strings.Cut(strings.TrimPrefix(rawPath(x.r), "/"), "/")
		reads := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
		switch {
		case reads && key != "":
			x.reply(http.StatusNotFound, "application/xml", nil, s3Error(api.Fault{Status: http.StatusNotFound}, x.entry.rec.Path, x.entry.rec.Seq))
		case about(x.r) == api.AboutListings:
			x.reply(http.StatusOK, "application/xml", nil, emptyListing(bucket, x.r.URL.Query().Get("prefix")))
		default:
			x.passThrough(nil)
		}
	}},
	// A listing that lags behind what is stored, and says that it is whole: it names only what was stored first. What it leaves out can be
	// read.
	"list-first": {serve: func(x *exchange, _ api.Fault) {
		if about(x.r) != api.AboutListings || x.r.Method != http.MethodGet {
			x.passThrough(nil)
			return
		}
		x.passThrough(func(res *http.Response) {
			if err := onlyFirst(res); err != nil {
				x.note("shortening the listing: %v", err)
			}
		})
	}},
	// An oracle that is wrong, and does not know.
	"says": {
		oracle: true,
		takes:  []string{"says", "times"},
		check: func(f api.Fault) error {
			switch {
			case !slices.Contains(oracleFindings, f.Says):
				return fmt.Errorf("says: want one of %s, found %q", strings.Join(oracleFindings, ", "), f.Says)
			case f.Times < 0:
				return fmt.Errorf("times: want 0 or more, found %d", f.Times)
			}
			return nil
		},
		serve: func(x *exchange, f api.Fault) {
			if x.rule.counts(x.entry.resource+" "+x.r.UserAgent(), f.Times) {
				x.question.answer(x, f.Says)
				return
			}
			x.passThrough(nil)
		},
	},
	"redirect": {
		takes: []string{"status", "location"},
		check: func(f api.Fault) error {
			if !slices.Contains([]int{301, 302, 303, 307, 308}, f.Status) {
				return fmt.Errorf("status: want 301, 302, 303, 307 or 308, found %d", f.Status)
			}
			if f.Location == "" {
				return errors.New("location: want a URL, found none")
			}
			return nil
		},
		serve: func(x *exchange, f api.Fault) {
			x.reply(f.Status, "", map[string]string{"Location": f.Location}, "")
		},
	},
	// A reset before the first byte of the reply.
	"reset": {toxic: func(api.Fault) toxics.Toxic { return &toxics.ResetToxic{} }},
	// A reset in the middle of the reply's head: a client sees bytes, but no status. (After a reset within the body, a client
	// that asks for the status only has it.)
	"reset-head": {serve: func(x *exchange, _ api.Fault) {
		x.reset([]byte("HTTP/1.1 200 OK\r\nContent-Type: bin")...)
	}},
	// What a TLS server says to a request in plain HTTP: a fatal alert, and the connection's end.
	"tls": {serve: func(x *exchange, _ api.Fault) {
		x.hangUp(0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a) // alert, TLS 1.0, 2 bytes: fatal, unexpected_message
	}},
	// No answer until the client goes or the rule ends. The body of the
	// request is not read either, as of a server that is stopped.
	"hang": {
		takes: []string{"onHeal"},
		check: func(f api.Fault) error {
			if !slices.Contains([]string{"", "reset", "answer"}, f.OnHeal) {
				return fmt.Errorf(`onHeal: want "reset" or "answer", found %q`, f.OnHeal)
			}
			return nil
		},
		toxic: func(f api.Fault) toxics.Toxic {
			if f.OnHeal == "answer" {
				return &toxics.LatencyToxic{Latency: 2 * api.MaxTTLSeconds * 1000} // the rule ends before
			}
			return &toxics.TimeoutToxic{}
		},
	},
	// A pause, then as if nothing were. Ends early when the rule ends.
	"slow": {
		takes: []string{"delayMillis"},
		check: func(f api.Fault) error {
			if f.DelayMillis < 1 {
				return fmt.Errorf("delayMillis: want 1 or more, found %d", f.DelayMillis)
			}
			return nil
		},
		toxic: func(f api.Fault) toxics.Toxic { return &toxics.LatencyToxic{Latency: f.DelayMillis} },
	},
	"throttle": {
		takes: []string{"kilobytesPerSecond"},
		check: func(f api.Fault) error {
			if f.KilobytesPerSecond < 1 || f.KilobytesPerSecond > 1e6 {
				return fmt.Errorf("kilobytesPerSecond: want 1 to 1000000, found %d", f.KilobytesPerSecond)
			}
			return nil
		},
		toxic:  func(f api.Fault) toxics.Toxic { return &toxics.BandwidthToxic{Rate: f.KilobytesPerSecond} },
		bodies: true,
	},
	// What a server shows that was not renewed, is another, or is nobody's that is trusted.
	"cert-expired":    {handshake: func(h *hello) (*tls.Config, error) { return configuration(h.server.certificates.Expired) }},
	"cert-other-name": {handshake: func(h *hello) (*tls.Config, error) { return configuration(h.server.certificates.OtherName) }},
	"cert-unknown-ca": {handshake: func(h *hello) (*tls.Config, error) { return configuration(h.server.certificates.UnknownCA) }},
	// No answer to the client's hello until it goes or the rule ends: then the handshake goes on.
	"handshake-hang": {handshake: (*hello).hold},
	// What a server says that speaks plain HTTP where TLS was meant.
	"handshake-http": {handshake: func(h *hello) (*tls.Config, error) {
		return h.say("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nClient sent an HTTPS request to an HTTP server.\n")
	}},
	api.NameNotFound:  {name: true},
	api.NameFails:     {name: true},
	api.NameUnheard:   {name: true},
	api.NameElsewhere: {name: true},
	"empty-200":       {serve: func(x *exchange, _ api.Fault) { x.reply(http.StatusOK, "", nil, "") }},
	// What a captive portal or a proxy's login answers for everything.
	"html-200": {serve: func(x *exchange, _ api.Fault) {
		x.reply(http.StatusOK, "text/html; charset=utf-8", nil, loginPage)
	}},
}

func kindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

const loginPage = `<!DOCTYPE html>
<html><head><title>Sign in</title></head>
<body><h1>Sign in to the network</h1>
<form method="post" action="/login"><input name="user"><input name="password" type="password"><button>Sign in</button></form>
</body></html>
`

// s3Error is the error document of S3 for a fault of kind status.
func s3Error(f api.Fault, path string, seq int64) string {
	code := f.Code
	if code == "" {
		code = map[int]string{
			http.StatusBadRequest:          "InvalidRequest",
			http.StatusUnauthorized:        "AccessDenied",
			http.StatusForbidden:           "AccessDenied",
			http.StatusNotFound:            "NoSuchKey",
			http.StatusTooManyRequests:     "SlowDown",
			http.StatusInternalServerError: "InternalError",
			http.StatusServiceUnavailable:  "SlowDown",
		}[f.Status]
	}
	if code == "" {
		code = strings.ReplaceAll(http.StatusText(f.Status), " ", "")
	}
	return document(struct {
		XMLName                            xml.Name `xml:"Error"`
		Code, Message, Resource, RequestId string
	}{
		Code: code, Message: "injected by rule", Resource: path, RequestId: fmt.Sprintf("%016X", seq),
	})
}

// emptyListing is what S3 answers to a listing of a prefix under which there is nothing, by either version of the API.
func emptyListing(bucket, prefix string) string {
	return document(struct {
		XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
		Name, Prefix      string
		KeyCount, MaxKeys int
		IsTruncated       bool
	}{
		Name: bucket, Prefix: prefix, MaxKeys: 1000,
	})
}

// listing is what S3 answers to a listing, as far as clients read it.
type listing struct {
	XMLName                               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name, Prefix, Delimiter, EncodingType string
	KeyCount, MaxKeys                     int
	IsTruncated                           bool
	Contents                              []listed
	CommonPrefixes                        []struct{ Prefix string }
}

// listed is an object in a listing.
type listed struct {
	Key                string
	LastModified       time.Time
	ETag, StorageClass string
	Size               int64
}

// onlyFirst leaves of a listing only the object that was stored first. What is no listing stays as it is.
func onlyFirst(res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return nil
	}
	raw, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	var all listing
	decoder := xml.NewDecoder(bytes.NewReader(raw))
	decoder.DefaultSpace = "http://s3.amazonaws.com/doc/2006-03-01/" // some servers leave it out
	if err = decoder.Decode(&all); err == nil {
		if len(all.Contents) > 0 {
			first := slices.MinFunc(all.Contents, func(a, b listed) int { return a.LastModified.Compare(b.LastModified) })
			all.Contents = []listed{first}
		}
		all.KeyCount, all.IsTruncated = len(all.Contents)+len(all.CommonPrefixes), false
		raw = []byte(document(all))
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	res.Header.Set("Content-Length", fmt.Sprint(len(raw)))
	return err
}

func document(v any) string {
	doc, err := xml.Marshal(v)
	if err != nil { // strings, numbers and booleans always encode
		panic(err)
	}
	return xml.Header + string(doc)
}
