package objectstore

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
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
	denied    = `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`
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

func TestRemovePrefix(t *testing.T) {
	whole := func(w http.ResponseWriter) { _, _ = io.WriteString(w, oneObject) }
	refused := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, denied)
	}
	for name, c := range map[string]struct {
		listed  func(http.ResponseWriter)
		deleted string
		says    string
	}{
		"removed":          {whole, `<DeleteResult><Deleted><Key>a/config</Key></Deleted></DeleteResult>`, ""},
		"one stays":        {whole, `<DeleteResult><Error><Key>a/config</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>`, "remove a/config"},
		"cannot be listed": {refused, "", "list bucket/a/"},
	} {
		err := bucket(t, c.listed, c.deleted).RemovePrefix(t.Context(), NewCredentials(), "a/")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, wanted %q", name, err, c.says)
		}
	}
}
