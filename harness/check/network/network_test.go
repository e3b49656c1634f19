package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

const endpoint = "http://192.168.10.133:9000"

// oracle is a service in the cluster that is asked for S3.
var oracle = &play.Oracle{Hosts: []string{"o.kyverno.svc", "o.kyverno.svc.cluster.local"}, Port: 80, Oracle: api.Oracle{
	Question: "/exists/{namespace}/{pvc}", Bucket: "backups", Repository: "{namespace}/{pvc}/",
	Answers: map[string]api.OracleAnswer{api.OracleBackup: {Status: 200, Body: `"yes"`}, api.OracleNone: {Status: 200, Body: `"no"`}, api.OracleUnknown: {Status: 200, Body: `"?"`}},
}}

// world is a network in a bubble, with a bucket that has one repository, and what it told.
type world struct {
	*Network
	client  *http.Client
	asked   []string
	strayed []string
}

func inBubble(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	inBubbleAt(t, endpoint, nil, test)
}

func inBubbleAt(t *testing.T, endpoint string, certificates *authority.Certificates, test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		bucket := NewBucket("backups")
		bucket.Add("shop/data")
		bucket.Put("marker.json", []byte(`{"a": "b"}`))
		w := &world{}
		var err error
		w.Network, err = New(Config{
			Endpoint: endpoint, Address: netip.MustParseAddr("192.168.10.133"), Certificates: certificates, S3: bucket, Oracle: oracle, Blocked: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")},
			Asked:   func(r api.Record) { w.asked = append(w.asked, r.Method+" "+r.Path+" "+r.Answer()) },
			Strayed: func(address string) { w.strayed = append(w.strayed, address) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		w.client = &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   trusting(certificates),
			DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return w.Dial(ctx, address) },
		}}
		test(t, w)
	})
}

func trusting(certificates *authority.Certificates) *tls.Config {
	if certificates == nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(certificates.CA))
	return &tls.Config{RootCAs: pool}
}

// get is the status and the body, or the error.
func (w *world) get(url string) (status int, body string, err error) {
	res, err := w.client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, string(raw), err
}

func TestS3AnswersAtItsAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, c := range []struct {
			path   string
			status int
			body   string
		}{
			{"/backups/shop/data/config", 200, string(config155)},
			{"/backups/marker.json", 200, `{"a": "b"}`},
			{"/backups/shop/other/config", 404, "<Code>NoSuchKey</Code>"},
			{"/elsewhere/shop/data/config", 404, "<Code>NoSuchBucket</Code>"},
			{"/backups/?list-type=2&prefix=shop/data/", 200, "<KeyCount>3</KeyCount><Contents><Key>shop/data/config</Key></Contents><Contents><Key>shop/data/keys/"},
			{"/backups/?list-type=2&prefix=shop/other/", 200, "<KeyCount>0</KeyCount>"},
		} {
			if status, body, err := w.get(endpoint + c.path); err != nil || status != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%s: want %d with %q, found %d %q %v", c.path, c.status, c.body, status, body, err)
			}
		}
		res, err := w.client.Post(endpoint+"/backups/shop/data/config", "", nil)
		if err != nil || res.StatusCode != 403 {
			t.Errorf("a write: want 403, found %+v %v", res, err)
		} else {
			res.Body.Close()
		}
		synctest.Wait()
		if len(w.asked) != 7 || w.asked[0] != "GET /backups/shop/data/config 200" || w.asked[2] != "GET /backups/shop/other/config 404" {
			t.Errorf("asked %q", w.asked)
		}
		if len(w.strayed) > 0 {
			t.Errorf("strayed %q", w.strayed)
		}
	})
}

func TestNothingElseIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var dns *net.DNSError
		for url, is := range map[string]func(error) bool{
			"http://192.168.10.134:9000/": func(err error) bool { return errors.Is(err, syscall.EHOSTUNREACH) },
			"http://192.168.10.133:9001/": func(err error) bool { return errors.Is(err, syscall.EHOSTUNREACH) },
			"http://s3.example.com:9000/": func(err error) bool { return errors.As(err, &dns) && dns.IsNotFound },
			"http://169.254.169.254/":     func(err error) bool { return strings.Contains(fmt.Sprint(err), "blocked range 169.254.0.0/16") },
		} {
			w.strayed = nil
			if _, _, err := w.get(url); !is(err) {
				t.Errorf("%s: %v", url, err)
			}
			if len(w.strayed) != 1 || !strings.Contains(url+":80", w.strayed[0]) && w.strayed[0] != "169.254.169.254:80" {
				t.Errorf("%s: strayed %q", url, w.strayed)
			}
		}
		if len(w.asked) > 0 {
			t.Errorf("asked %q", w.asked)
		}
	})
}

// The oracle asks S3, and so meets whatever S3's clients do; what is wrong with the oracle is nothing to them.
func TestTheOracle(t *testing.T) {
	certificates, err := authority.New("s3.home.example.org", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) // when bubbles begin
	if err != nil {
		t.Fatal(err)
	}
	const question = "http://o.kyverno.svc/exists/shop/data"
	toOracle := func(f api.Fault) *play.Outage {
		return &play.Outage{Rules: []api.Rule{{ID: "f", To: api.ToOracle, Fault: f}}}
	}
	for name, c := range map[string]struct {
		outage *play.Outage
		url    string
		body   string
		err    error
		s3     bool // it answers meanwhile
	}{
		"a backup":             {nil, question, `"yes"`, nil, true},
		"none":                 {nil, "http://o.kyverno.svc.cluster.local:80/exists/shop/other", `"no"`, nil, true},
		"S3 refuses":           {&play.Outage{Dial: play.Refused}, question, `"?"`, nil, false},
		"S3 is a black hole":   {&play.Outage{Dial: play.BlackHole}, question, `"?"`, nil, false},
		"S3 has no name":       {&play.Outage{Rules: []api.Rule{{ID: "f", Fault: api.Fault{Kind: api.NameNotFound}}}}, question, `"?"`, nil, false},
		"S3's name is unheard": {&play.Outage{Rules: []api.Rule{{ID: "f", Fault: api.Fault{Kind: api.NameUnheard}}}}, question, `"?"`, nil, false},
		"S3's handshake hangs": {&play.Outage{Rules: []api.Rule{{ID: "f", Fault: api.Fault{Kind: "handshake-hang"}}}}, question, `"?"`, nil, false},
		"S3 speaks plain http": {&play.Outage{Rules: []api.Rule{{ID: "f", Fault: api.Fault{Kind: "handshake-http"}}}}, question, `"?"`, nil, false},
		"S3's name leads away": {&play.Outage{Rules: []api.Rule{{ID: "f", Fault: api.Fault{Kind: api.NameElsewhere}}}}, question, `"?"`, nil, false},
		"S3 says 403":          {&play.Outage{Rules: []api.Rule{{ID: "f", Fault: api.Fault{Kind: "status", Status: 403}}}}, question, `"?"`, nil, false},
		"it refuses":           {&play.Outage{DialOracle: play.Refused}, question, "", syscall.ECONNREFUSED, true},
		"it lies":              {toOracle(api.Fault{Kind: "says", Says: "none"}), question, `"no"`, nil, true},
		"another port of its":  {nil, "http://o.kyverno.svc:81/exists/shop/data", "", errStrayed, true},
		"another service's":    {nil, "http://p.kyverno.svc/exists/shop/data", "", errStrayed, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbleAt(t, "https://s3.home.example.org", certificates, func(t *testing.T, w *world) {
				if c.outage != nil {
					if err := w.Begin(c.outage); err != nil {
						t.Fatal(err)
					}
				}
				_, body, err := w.get(c.url)
				switch {
				case errors.Is(c.err, errStrayed):
					if err == nil || len(w.strayed) != 1 {
						t.Errorf("%q, %v, strayed to %v", body, err, w.strayed)
					}
				case body != c.body || !errors.Is(err, c.err):
					t.Errorf("got %q, %v", body, err)
				}
				if c.s3 {
					if status, _, err := w.get("https://s3.home.example.org/backups/shop/data/config"); status != 200 || err != nil {
						t.Errorf("S3: %d, %v", status, err)
					}
				}
				w.Heal()
				if _, body, err := w.get(question); body != `"yes"` || err != nil {
					t.Errorf("afterwards: %q, %v", body, err)
				}
			})
		})
	}
}

var errStrayed = errors.New("strayed")

func TestOutagesOfConnections(t *testing.T) {
	for dial, c := range map[string]struct {
		err   error
		after time.Duration
	}{
		play.Refused:   {syscall.ECONNREFUSED, 0},
		play.BlackHole: {os.ErrDeadlineExceeded, dialTimeout},
		play.NoRoute:   {os.ErrDeadlineExceeded, dialTimeout},
	} {
		t.Run(dial, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				if err := w.Begin(&play.Outage{Dial: dial}); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if _, _, err := w.get(endpoint + "/backups/shop/data/config"); !errors.Is(err, c.err) || time.Since(began) != c.after {
					t.Errorf("want %v after %s, found %v after %s", c.err, c.after, err, time.Since(began))
				}
				late := make(chan int, 1)
				if c.after > 0 { // who is still waiting when S3 comes back gets an answer
					go func() {
						status, _, _ := w.get(endpoint + "/backups/shop/data/config")
						late <- status
					}()
					synctest.Wait()
				}
				w.Heal()
				if c.after > 0 {
					if status := <-late; status != 200 {
						t.Errorf("late: %d", status)
					}
				}
				if status, _, err := w.get(endpoint + "/backups/shop/data/config"); status != 200 {
					t.Errorf("healed: %d %v", status, err)
				}
			})
		})
	}
}

func TestOutagesOfRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rules := []api.Rule{{ID: "a", PathPrefix: "/backups/shop/", Fault: api.Fault{Kind: "status", Status: 503}}}
		if err := w.Begin(&play.Outage{Rules: rules}); err != nil {
			t.Fatal(err)
		}
		if status, _, err := w.get(endpoint + "/backups/shop/data/config"); status != 503 {
			t.Errorf("during: %d %v", status, err)
		}
		w.Heal()
		if status, _, err := w.get(endpoint + "/backups/shop/data/config"); status != 200 {
			t.Errorf("healed: %d %v", status, err)
		}
		if err := w.Begin(&play.Outage{Rules: []api.Rule{{ID: "b", Fault: api.Fault{Kind: "unheard of"}}}}); err == nil {
			t.Error("a rule that the gateway refuses is no outage")
		}
		synctest.Wait()
		if want := []string{"GET /backups/shop/data/config 503", "GET /backups/shop/data/config 200"}; !slices.Equal(w.asked, want) {
			t.Errorf("asked %q", w.asked)
		}
	})
}

// An endpoint with a name that is https: what is wrong with either is met, and seen for as long as it takes.
func TestNamesAndTLS(t *testing.T) {
	const named = "https://s3.home.example.org"
	certificates, err := authority.New("s3.home.example.org", time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	dns := func(is func(*net.DNSError) bool) func(error) bool {
		return func(err error) bool {
			var e *net.DNSError
			return errors.As(err, &e) && is(e)
		}
	}
	for kind, c := range map[string]struct {
		is    func(error) bool
		after time.Duration
	}{
		"cert-expired": {func(err error) bool { return strings.Contains(err.Error(), "expired") }, 0},
		// nobody waits for a handshake for ever
		"handshake-hang":  {func(err error) bool { return strings.Contains(err.Error(), "TLS handshake timeout") }, 10 * time.Second},
		api.NameNotFound:  {dns(func(e *net.DNSError) bool { return e.IsNotFound }), 0},
		api.NameFails:     {dns(func(e *net.DNSError) bool { return e.IsTemporary && !e.IsTimeout }), 0},
		api.NameUnheard:   {dns(func(e *net.DNSError) bool { return e.IsTimeout }), resolveTimeout},
		api.NameElsewhere: {func(err error) bool { return errors.As(err, &x509.HostnameError{}) }, 0},
	} {
		t.Run(kind, func(t *testing.T) {
			inBubbleAt(t, named, certificates, func(t *testing.T, w *world) {
				time.Sleep(time.Until(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)))
				w.client.Transport.(*http.Transport).TLSHandshakeTimeout = 10 * time.Second
				for _, url := range []string{named + "/backups/shop/data/config", "https://backups.s3.home.example.org/shop/data/config"} {
					if status, _, err := w.get(url); status != 200 {
						t.Fatalf("%s: %d %v", url, status, err)
					}
				}
				if err := w.Begin(&play.Outage{Rules: []api.Rule{{ID: "f", Fault: api.Fault{Kind: kind}}}}); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if _, _, err := w.get(named + "/backups/shop/data/config"); err == nil || !c.is(err) || time.Since(began) != c.after {
					t.Errorf("found %v after %s, wanted after %s", err, time.Since(began), c.after)
				}
				w.Heal()
				if status, _, err := w.get(named + "/backups/shop/data/config"); status != 200 {
					t.Errorf("healed: %d %v", status, err)
				}
				if len(w.strayed) > 0 {
					t.Errorf("strayed %q", w.strayed)
				}
			})
		})
	}
}

// A name leads to an address that Kyverno may refuse to ask, as any other.
func TestANameIsBlockedByItsAddress(t *testing.T) {
	inBubbleAt(t, "http://nas:9000", nil, func(t *testing.T, w *world) {
		if status, _, err := w.get("http://nas:9000/backups/shop/data/config"); status != 200 {
			t.Fatalf("%d %v", status, err)
		}
		w.blocked = append(w.blocked, netip.MustParsePrefix("192.168.0.0/16"))
		if _, _, err := w.get("http://nas:9000/backups/shop/data/config"); err == nil || !strings.Contains(err.Error(), "blocked range 192.168.0.0/16") {
			t.Errorf("found %v", err)
		}
		if _, _, err := w.get("http://nas:9001/"); !errors.Is(err, syscall.EHOSTUNREACH) && !strings.Contains(fmt.Sprint(err), "blocked") {
			t.Errorf("another port: found %v", err)
		}
	})
}
