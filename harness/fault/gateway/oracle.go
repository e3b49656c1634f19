package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// The oracle is a stand-in for a service in the cluster that is asked whether there is a backup of a PVC. It is a client of S3's by the
// endpoint, and so meets what a rule does to requests there; a rule to the oracle is what is wrong with the oracle itself.

// oracleTimeout is how long the oracle asks S3 for an answer of its own.
const oracleTimeout = 5 * time.Second

var oracleFindings = []string{api.OracleBackup, api.OracleNone, api.OracleUnknown}

// oracle answers questions.
type oracle struct {
	server   *http.Server
	endpoint string // of S3, scheme://host:port
	client   *http.Client
	given    atomic.Pointer[given]
}

// given is what the oracle was told, and how a question reads.
type given struct {
	api.Oracle
	pattern *regexp.Regexp
}

// askerKey is the key of the context of whoever asks S3, in the context in which the transport connects.
type askerKey struct{}

// question is one that was asked.
type question struct {
	of         *oracle
	given      *given
	repository string // begins the keys of the PVC's; empty: it is no question
}

func newOracle(s *Server, c Config) *oracle {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if asker, is := ctx.Value(askerKey{}).(context.Context); is { // the transport goes on to connect when nobody waits for it any more
			ctx = asker
		}
		return s.dialAsOracle(ctx, c)
	}}
	if c.Certificates != nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(c.Certificates.CA))
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	o := &oracle{endpoint: strings.TrimSuffix(c.Endpoint, "/"), client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // what is elsewhere is not S3's
	}}
	o.server = &http.Server{Handler: http.HandlerFunc(s.serveOracle), ErrorLog: silent()} //nolint:gosec // no timeout: how long an answer may take is the client's to say
	// So that who asks again meets whatever a fault has done to the way there meanwhile.
	o.server.SetKeepAlivesEnabled(false)
	return o
}

// dialAsOracle connects to S3 as the oracle does: by the endpoint's name, where it has one.
func (s *Server) dialAsOracle(ctx context.Context, c Config) (net.Conn, error) {
	if c.DialEndpoint == nil {
		return nil, errors.New("the gateway was not told how the oracle connects to S3")
	}
	fault := ""
	if c.Name != "" {
		fault = s.NameFault(c.OracleAddress, c.Name)
	}
	switch fault {
	case api.NameNotFound:
		return nil, &net.DNSError{Err: "no such host", Name: c.Name, IsNotFound: true}
	case api.NameFails:
		return nil, &net.DNSError{Err: "server misbehaving", Name: c.Name, IsTemporary: true}
	case api.NameUnheard:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.DialEndpoint(ctx, fault == api.NameElsewhere)
}

// SetOracle has the oracle answer, or with nil answer nothing any more.
func (s *Server) SetOracle(o *api.Oracle) error {
	if o == nil {
		s.oracle.given.Store(nil)
		return nil
	}
	switch {
	case s.oracle.endpoint == "":
		return errors.New("oracle: the gateway was not told where S3 is to clients")
	case !strings.HasPrefix(o.Question, "/") || strings.Count(o.Question, "{namespace}") != 1 || strings.Count(o.Question, "{pvc}") != 1:
		return fmt.Errorf("question: want a path with {namespace} and {pvc}, each once, found %q", o.Question)
	case o.Bucket == "":
		return errors.New("bucket: want one, found none")
	case !strings.Contains(o.Repository, "{pvc}") || !strings.HasSuffix(o.Repository, "/"):
		return fmt.Errorf("repository: want keys with {pvc} that end with a slash, found %q", o.Repository)
	}
	for _, finding := range oracleFindings {
		answer, there := o.Answers[finding]
		switch {
		case !there:
			return fmt.Errorf("answers: want one for %s, found none", finding)
		case answer.Status < 200 || answer.Status > 599:
			return fmt.Errorf("answers.%s.status: want 200 to 599, found %d", finding, answer.Status)
		case !json.Valid([]byte(answer.Body)):
			return fmt.Errorf("answers.%s.body: want JSON, found %q", finding, answer.Body)
		}
	}
	name := `([^/?&#]+)`
	pattern := strings.NewReplacer(regexp.QuoteMeta("{namespace}"), `(?P<namespace>`+name+`)`, regexp.QuoteMeta("{pvc}"), `(?P<pvc>`+name+`)`).Replace(regexp.QuoteMeta(o.Question))
	s.oracle.given.Store(&given{Oracle: *o, pattern: regexp.MustCompile("^" + pattern + "$")})
	return nil
}

// ServeOracle serves questions for the oracle, and closes the listener. It returns nil after Close.
func (s *Server) ServeOracle(listener net.Listener) error {
	if err := s.oracle.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveOracle takes a question. To rules and records it is about the config of the PVC's repository.
func (s *Server) serveOracle(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(r.Context())
	given := s.oracle.given.Load()
	if given == nil {
		http.Error(w, "nobody has said what to answer", http.StatusServiceUnavailable)
		return
	}
	q, about := &question{of: s.oracle, given: given}, rawPath(r)
	if found := given.pattern.FindStringSubmatch(r.RequestURI); found != nil {
		q.repository = strings.NewReplacer("{namespace}", found[given.pattern.SubexpIndex("namespace")], "{pvc}", found[given.pattern.SubexpIndex("pvc")]).Replace(given.Repository)
		about = "/" + given.Bucket + "/" + q.repository + "config"
	}
	s.exchange(w, r, api.ToOracle, about, q)
}

// answer says what was found, true or not.
func (q *question) answer(x *exchange, finding string) {
	if q.repository == "" {
		text, _ := json.Marshal(map[string]string{"error": "want a question like " + q.given.Question})
		x.reply(http.StatusNotFound, "application/json", nil, string(text))
		return
	}
	x.entry.found(finding)
	answer := q.given.Answers[finding]
	x.reply(answer.Status, "application/json", map[string]string{"Server": api.OracleServer + finding}, answer.Body)
}

// find asks S3. That there is no backup takes more than a missing key: a bucket that is there, with nothing of the repository in it, and
// with its marker, where it has one.
func (q *question) find(ctx context.Context) string {
	if q.repository == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, oracleTimeout)
	defer cancel()
	status, body, err := q.ask(ctx, q.repository+"config")
	switch {
	case err == nil && status == http.StatusOK && len(body) > 0:
		return api.OracleBackup
	case err != nil || status != http.StatusNotFound || codeOf(body) != "NoSuchKey":
		return api.OracleUnknown
	}
	status, body, err = q.ask(ctx, "?"+url.Values{"list-type": {"2"}, "max-keys": {"1"}, "prefix": {q.repository}}.Encode())
	if err != nil || status != http.StatusOK || !listsNothing(body) {
		return api.OracleUnknown
	}
	if q.given.Marker != "" {
		if status, body, err = q.ask(ctx, q.given.Marker); err != nil || status != http.StatusOK || len(body) == 0 {
			return api.OracleUnknown
		}
	}
	return api.OracleNone
}

// ask asks S3 for what is below the bucket. A page is no object.
func (q *question) ask(ctx context.Context, below string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(context.WithValue(ctx, askerKey{}, ctx), http.MethodGet, q.of.endpoint+"/"+q.given.Bucket+"/"+below, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("User-Agent", api.OracleAgent)
	res, err := q.of.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		err = errors.Join(err, errors.New("it is a page"))
	}
	return res.StatusCode, body, err
}

// codeOf is S3's own word for what is wrong.
func codeOf(body []byte) string {
	var document struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
	}
	if xml.Unmarshal(body, &document) != nil {
		return ""
	}
	return document.Code
}

// listsNothing says whether a body is the listing of nothing.
func listsNothing(body []byte) bool {
	var listing struct {
		XMLName  xml.Name `xml:"ListBucketResult"`
		Contents []struct{ Key string }
	}
	return xml.Unmarshal(body, &listing) == nil && len(listing.Contents) == 0
}
