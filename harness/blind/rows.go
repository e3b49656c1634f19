package blind

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/verdict"
)

// Row is one way in which the suite is made blind, and what may come of it.
type Row struct {
	Name     string
	Sentence string // completes "the suite is judged while …"
	// Spec is what is run, with a policy that meets its requirement and one that does not.
	Spec string
	// Good and Bad are the verdicts that may come of it, for the good policy and the bad one.
	Good, Bad []verdict.Verdict
	// SuiteError says that the run must end with an error of the suite's own, whatever the verdict.
	SuiteError bool

	// One of these is the broken sense.
	API          func(next http.RoundTripper, r *http.Request) (*http.Response, error)
	S3           func(next http.RoundTripper, r *http.Request) (*http.Response, error)
	Gateway      func(next http.RoundTripper, r *http.Request) (*http.Response, error)
	Exec         func(call int64, reply []byte) []byte
	AuditEnds    bool
	ByWatch      bool // what was made is known from a watch, as on an external cluster
	Clock        time.Duration
	CleanUpHangs bool
	UndoFails    bool
}

var (
	passOrUnknown = []verdict.Verdict{verdict.Pass, verdict.Unknown}
	failOrUnknown = []verdict.Verdict{verdict.Fail, verdict.Unknown}
	unknown       = []verdict.Verdict{verdict.Unknown}
	pass          = []verdict.Verdict{verdict.Pass}
	fail          = []verdict.Verdict{verdict.Fail}
)

const (
	plain   = "core/fresh"                // the app writes and is read, absence is proven, the bucket is listed
	outage  = "core/s3-down/html-200"     // a fault of S3, proven from inside, and who ran into it
	changes = "resilience/rights-missing" // what all share is taken away and put back
)

// Rows is the table.
var Rows = []Row{
	{
		Name: "none", Sentence: "nothing is broken: the control",
		Spec: plain, Good: pass, Bad: fail,
	},
	{
		Name: "exec-lost", Sentence: "every reply of a command in a container is lost",
		Spec: plain, Good: unknown, Bad: failOrUnknown,
		Exec: func(int64, []byte) []byte { return nil },
	},
	{
		Name: "exec-lost-at-times", Sentence: "every second reply of a command in a container is lost",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown,
		Exec: func(call int64, reply []byte) []byte {
			if call%2 == 0 {
				return nil
			}
			return reply
		},
	},
	{
		Name: "exec-cut", Sentence: "every reply of a command in a container is cut",
		Spec: plain, Good: unknown, Bad: failOrUnknown,
		Exec: func(_ int64, reply []byte) []byte { return reply[:len(reply)/2] },
	},
	{
		Name: "api-500", Sentence: "the API server answers 500 for 20 s",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, API: status(http.StatusInternalServerError),
	},
	{
		Name: "api-429", Sentence: "the API server answers 429 for 20 s",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, API: status(http.StatusTooManyRequests),
	},
	{
		Name: "api-silent", Sentence: "the API server does not answer for 20 s",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, API: silence,
	},
	{
		Name: "watch-ends", Sentence: "what was made is known from a watch, and every watch ends as it begins for 20 s",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, ByWatch: true,
		API: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.RawQuery, "watch=") {
				return nil, io.ErrUnexpectedEOF
			}
			return next.RoundTrip(r)
		},
	},
	{
		Name: "audit-ends", Sentence: "the end of the audit log is missing",
		Spec: plain, Good: unknown, Bad: failOrUnknown, AuditEnds: true,
	},
	{
		Name: "s3-503", Sentence: "S3 answers the suite itself with 503 for 20 s",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, S3: status(http.StatusServiceUnavailable),
	},
	{
		Name: "s3-silent", Sentence: "S3 does not answer the suite itself for 20 s",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, S3: silence,
	},
	{
		Name: "gateway-forgets", Sentence: "the gateway has forgotten its records",
		Spec: outage, Good: unknown, Bad: failOrUnknown, Gateway: forgets,
	},
	{
		Name: "gateway-dead", Sentence: "the gateway's control port is dead",
		Spec: outage, Good: unknown, Bad: failOrUnknown,
		Gateway: func(http.RoundTripper, *http.Request) (*http.Response, error) {
			return nil, ErrBroken
		},
	},
	{
		Name: "clean-up-hangs", Sentence: "clean-up hangs",
		Spec: plain, Good: pass, Bad: fail, SuiteError: true, CleanUpHangs: true,
	},
	{
		Name: "clock-ahead", Sentence: "this host's clock is an hour ahead of the node's",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, Clock: time.Hour,
	},
	{
		Name: "clock-behind", Sentence: "this host's clock is an hour behind the node's",
		Spec: plain, Good: passOrUnknown, Bad: failOrUnknown, Clock: -time.Hour,
	},
	{
		Name: "undo-fails", Sentence: "what a spec took from the platform is not put back",
		Spec: changes, Good: unknown, Bad: failOrUnknown, SuiteError: true, UndoFails: true,
	},
}

// Names are the rows' names.
func Names() []string {
	var names []string
	for _, row := range Rows {
		names = append(names, row.Name)
	}
	return names
}

// Named are the rows of these names, or all.
func Named(names []string) ([]Row, error) {
	if len(names) == 0 {
		return Rows, nil
	}
	var rows []Row
	for _, name := range names {
		i := slices.IndexFunc(Rows, func(r Row) bool { return r.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("want rows among %s; found %q", strings.Join(Names(), ", "), name)
		}
		rows = append(rows, Rows[i])
	}
	return rows, nil
}

// forgets answers questions for records with none, and says that some were dropped.
func forgets(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	response, err := next.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/records") {
		return response, err
	}
	defer func() { _ = response.Body.Close() }()
	page := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
		return nil, err
	}
	page["records"], page["dropped"] = []any{}, 1000
	raw, err := json.Marshal(page)
	if err != nil {
		return nil, err
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	response.Header.Del("Content-Length")
	return response, nil
}
