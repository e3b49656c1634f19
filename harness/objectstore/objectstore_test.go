package objectstore

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/authority"
	"github.com/smart-restore/conformance/harness/endpoint"
)

func TestListingsTellWhatWasLostAndAdded(t *testing.T) {
	before := Listing{"a/config": "1 x", "a/data/1": "2 y", "a/locks/1": "3 z"}
	for name, c := range map[string]struct {
		now         Listing
		lost, added []string
	}{
		"the same":      {Listing{"a/config": "1 x", "a/data/1": "2 y", "a/locks/1": "3 z"}, nil, nil},
		"a lock is off": {Listing{"a/config": "1 x", "a/data/1": "2 y"}, nil, nil},
		"one is gone":   {Listing{"a/config": "1 x"}, []string{"a/data/1"}, nil},
		"one changed":   {Listing{"a/config": "1 other", "a/data/1": "2 y"}, []string{"a/config"}, nil},
		"one is new":    {Listing{"a/config": "1 x", "a/data/1": "2 y", "a/data/2": "1 n"}, nil, []string{"a/data/2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := before.Lost(c.now); !slices.Equal(got, c.lost) {
				t.Errorf("lost %v, wanted %v", got, c.lost)
			}
			if got := before.Added(c.now); !slices.Equal(got, c.added) {
				t.Errorf("added %v, wanted %v", got, c.added)
			}
		})
	}
}

func TestCredentialsAreFreshEachTimeAndAllSecret(t *testing.T) {
	one, two := NewCredentials(), NewCredentials()
	for i, secret := range one.Secrets() {
		if len(secret) < 20 || slices.Contains(two.Secrets(), secret) {
			t.Errorf("secret %d is short or was drawn twice: %d characters", i, len(secret))
		}
	}
}

func TestTheServerIsNotWhereTheGatewayIs(t *testing.T) {
	for endpoint, want := range map[uint16]int{9000: 7070, 80: 7070, 7070: 7071} {
		if got := serverPort(endpoint); got != want {
			t.Errorf("endpoint at port %d: want the server at %d, found %d", endpoint, want, got)
		}
	}
}

func TestTheGatewayServesWhatTheEndpointIs(t *testing.T) {
	for text, want := range map[string]struct {
		args  []string
		https bool
	}{
		"http://192.168.1.1:9000":     {args: []string{"--listen", "192.168.1.1:9000"}},
		"https://192.168.1.1":         {args: []string{"--listen", "192.168.1.1:443"}, https: true},
		"https://s3.home.example.org": {args: []string{"--listen", "192.168.10.133:443", "--name", "s3.home.example.org"}, https: true},
	} {
		e, err := endpoint.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Endpoint: e, Credentials: NewCredentials()}
		if want.https {
			if o.Certificates, err = authority.New(e.Hostname(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		env, args, err := o.gateway("7070")
		if err != nil {
			t.Fatal(err)
		}
		given := strings.Join(args, " ")
		for i := 0; i < len(want.args); i += 2 {
			if !strings.Contains(given, want.args[i]+" "+want.args[i+1]) {
				t.Errorf("%s: want %s %s, found %q", text, want.args[i], want.args[i+1], given)
			}
		}
		if strings.Contains(given, "--name") != (e.Name != "") || (env["GATEWAY_CERTIFICATES"] != "") != want.https || strings.Contains(given, "PRIVATE") {
			t.Errorf("%s: found %q with certificates: %t", text, given, env["GATEWAY_CERTIFICATES"] != "")
		}
	}
}

// aServer is an S3 server whose bucket holds two objects. It answers as said.
func aServer(t *testing.T, pages []string, deletion string) (handle *Handle, deletions func() int) {
	t.Helper()
	listed, deleted := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		if r.Method == http.MethodPost {
			deleted++
			_, _ = io.WriteString(w, deletion)
			return
		}
		page := pages[min(listed, len(pages)-1)]
		listed++
		if strings.HasPrefix(page, "<Error>") {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, page)
	}))
	t.Cleanup(server.Close)
	return &Handle{Server: strings.TrimPrefix(server.URL, "http://"), Bucket: "bucket"}, func() int { return deleted }
}

func TestAPrefixThatCannotBeListedOrEmptiedIsAnError(t *testing.T) {
	const (
		first  = `<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken><Contents><Key>p/a</Key></Contents></ListBucketResult>`
		last   = `<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated><Contents><Key>p/a</Key></Contents><Contents><Key>p/b</Key></Contents></ListBucketResult>`
		denied = `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`
		done   = `<DeleteResult></DeleteResult>`
		failed = `<DeleteResult><Error><Key>p/a</Key><Code>InternalError</Code><Message>no</Message></Error><Error><Key>p/b</Key><Code>InternalError</Code><Message>no</Message></Error></DeleteResult>`
	)
	for name, c := range map[string]struct {
		pages     []string
		deletion  string
		deletions int
		errors    []string
	}{
		"emptied":                   {[]string{last}, done, 1, nil},
		"no listing":                {[]string{denied}, done, 0, []string{"list bucket/p/"}},
		"the listing ends midway":   {[]string{first, denied}, done, 0, []string{"list bucket/p/"}},
		"nothing of it was deleted": {[]string{last}, failed, 1, []string{"remove bucket/p/a", "remove bucket/p/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			handle, deletions := aServer(t, c.pages, c.deletion)
			err := handle.RemovePrefix(t.Context(), NewCredentials(), "p/")
			if (err != nil) != (len(c.errors) > 0) || deletions() != c.deletions {
				t.Errorf("found %v after %d deletions, wanted %q after %d", err, deletions(), c.errors, c.deletions)
			}
			for _, text := range c.errors {
				if err != nil && !strings.Contains(err.Error(), text) {
					t.Errorf("found %v, wanted %q in it", err, text)
				}
			}
		})
	}
}

// bucket is an S3 server that lists one object, and answers deletions with what is given.
func bucket(t *testing.T, listed func(http.ResponseWriter), deleted string) *Handle {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		if r.Method == http.MethodGet {
			listed(w)
			return
		}
		_, _ = io.WriteString(w, deleted)
	}))
	t.Cleanup(server.Close)
	return &Handle{Server: strings.TrimPrefix(server.URL, "http://"), Bucket: "bucket"}
}

const (
	oneObject = `<ListBucketResult><Name>bucket</Name><Contents><Key>a/config</Key><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>`
)

func TestAListingThatIsCutOffIsNone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := bucket(t, func(w http.ResponseWriter) {
		_, _ = io.WriteString(w, oneObject)
		cancel()
	}, "")
	if listing, err := h.List(ctx, NewCredentials(), "a/"); err == nil {
		t.Errorf("got %v, and no error", listing)
	}
}

func TestPut(t *testing.T) {
	var put string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		put = r.Method + " " + r.URL.Path + " " + string(body)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	h := &Handle{Server: strings.TrimPrefix(server.URL, "http://"), Bucket: "bucket"}
	if err := h.Put(t.Context(), NewCredentials(), "marker.json", "{}"); err != nil || !strings.HasPrefix(put, "PUT /bucket/marker.json ") || !strings.Contains(put, "{}") {
		t.Errorf("%v, put %q", err, put)
	}
	status = http.StatusForbidden
	if err := h.Put(t.Context(), NewCredentials(), "marker.json", "{}"); err == nil || !strings.Contains(err.Error(), "put bucket/marker.json") {
		t.Errorf("got %v", err)
	}
}
