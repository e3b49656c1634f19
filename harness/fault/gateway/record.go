package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// entry is a request in the book. rec is written before it is entered and, but
// for what goes on counting, under the book's lock.
type entry struct {
	rec                                 api.Record
	resource                            string
	status, bytesIn, bytesOut, rawBytes atomic.Int64
	book                                *book
}

// book keeps the last requests.
type book struct {
	mu   sync.Mutex
	ring []*entry // of Seq n at (n-1) % keep
	keep int
	last int64

	outMu sync.Mutex
	out   *json.Encoder
}

func newBook(keep int, out io.Writer) *book {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false) // queries with & stay readable
	return &book{keep: keep, out: enc}
}

func (b *book) start(r *http.Request, to, resource, rule string) *entry {
	return b.enter(resource, api.Record{
		To: to, Rule: rule,
		Client: r.RemoteAddr, Method: r.Method, Path: rawPath(r), Query: redactQuery(r.URL.RawQuery),
		UserAgent: r.UserAgent(), Auth: authKind(r),
	})
}

// enter gives a record its place in the book.
func (b *book) enter(resource string, rec api.Record) *entry {
	rec.Time, rec.InFlight = time.Now(), true
	e := &entry{book: b, resource: resource, rec: rec}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	e.rec.Seq = b.last
	if len(b.ring) < b.keep {
		b.ring = append(b.ring, e)
	} else {
		b.ring[(e.rec.Seq-1)%int64(b.keep)] = e
	}
	return e
}

func (e *entry) note(text string) {
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	if e.rec.Error == "" {
		e.rec.Error = text
	}
}

// found takes down what the oracle answered that it had found.
func (e *entry) found(what string) {
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	e.rec.Found = what
}

// ended takes down how the gateway ended the connection.
func (e *entry) ended(how string) {
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	e.rec.Ended = how
}

// finish ends the request and writes its line. That the line can't be written
// is no reason to stop: the book has it.
func (e *entry) finish() {
	b := e.book
	b.mu.Lock()
	e.rec.DurationMillis = millisSince(e.rec.Time)
	e.rec.InFlight = false
	rec := e.snapshot()
	b.mu.Unlock()
	b.outMu.Lock()
	defer b.outMu.Unlock()
	_ = b.out.Encode(rec)
}

// snapshot wants the book's lock held.
func (e *entry) snapshot() api.Record {
	rec := e.rec
	if rec.InFlight {
		rec.DurationMillis = millisSince(rec.Time)
	}
	rec.Status = int(e.status.Load())
	rec.BytesIn, rec.BytesOut, rec.RawBytes = e.bytesIn.Load(), e.bytesOut.Load(), e.rawBytes.Load()
	return rec
}

func (b *book) page(since int64, pathPrefix string) api.RecordsPage {
	b.mu.Lock()
	defer b.mu.Unlock()
	oldest := b.last - int64(len(b.ring)) + 1
	p := api.RecordsPage{Records: []api.Record{}, LastSeq: b.last, Dropped: max(0, oldest-1-since)}
	for seq := max(since+1, oldest); seq <= b.last; seq++ {
		e := b.ring[(seq-1)%int64(b.keep)]
		if strings.HasPrefix(e.resource, pathPrefix) {
			p.Records = append(p.Records, e.snapshot())
		}
	}
	return p
}

func millisSince(t time.Time) float64 {
	return float64(time.Since(t).Microseconds()) / 1000
}

// resource is the path a request is about: its own, escaped, or for a listing
// of a bucket that and the prefix it lists.
func resource(r *http.Request) string {
	path := rawPath(r)
	bucket := strings.Trim(path, "/")
	if r.URL.RawQuery == "" || bucket == "" || strings.Contains(bucket, "/") {
		return path
	}
	prefix := r.URL.Query().Get("prefix")
	if prefix == "" {
		return path
	}
	return "/" + bucket + "/" + (&url.URL{Path: prefix}).EscapedPath()
}

// about says whether a request is about an object, or lists a bucket. Other requests about a bucket are about neither.
func about(r *http.Request) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(rawPath(r), "/"), "/")
	query := r.URL.Query()
	switch {
	case key != "":
		return api.AboutObjects
	case r.Method == http.MethodGet && (r.URL.RawQuery == "" || slices.ContainsFunc(listingParameters, query.Has)):
		return api.AboutListings
	}
	return ""
}

// listingParameters are those by which a request for a bucket is one for its listing, by either version of the API.
var listingParameters = []string{"list-type", "prefix", "delimiter", "max-keys"}

// authKind names the sort of credentials a request carries.
func authKind(r *http.Request) string {
	header := r.Header.Get("Authorization")
	scheme, _, _ := strings.Cut(header, " ")
	query := strings.ToLower(r.URL.RawQuery)
	switch scheme = strings.ToLower(scheme); {
	case strings.HasPrefix(scheme, "aws4-"):
		return api.AuthAWS4
	case scheme == api.AuthBearer, scheme == api.AuthBasic:
		return scheme
	case header != "":
		return api.AuthOther
	case strings.Contains(query, "x-amz-signature="):
		return api.AuthAWS4
	case strings.Contains(query, "awsaccesskeyid="):
		return api.AuthOther
	}
	return api.AuthNone
}

var secretParameters = map[string]bool{
	"x-amz-signature": true, "x-amz-credential": true, "x-amz-security-token": true,
	"signature": true, "awsaccesskeyid": true,
}

// redactQuery drops the values of credentials; the rest stays as sent.
func redactQuery(raw string) string {
	if raw == "" {
		return ""
	}
	parameters := strings.Split(raw, "&")
	for i, p := range parameters {
		name, _, _ := strings.Cut(p, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil || secretParameters[strings.ToLower(plain)] {
			parameters[i] = name + "=redacted"
		}
	}
	return strings.Join(parameters, "&")
}
