package repository

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/testbed"
)

// bucketWith is a suite on an external testbed whose S3 server lists these keys and fails the test where anything is changed.
func bucketWith(t *testing.T, keys ...string) Tools {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s: a bucket that is not the run's was changed", r.Method, r.URL)
		}
		var contents strings.Builder
		for _, key := range keys {
			if strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
				fmt.Fprintf(&contents, "<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>e</ETag><Size>1</Size></Contents>", key)
			}
		}
		_, _ = fmt.Fprintf(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>%s</ListBucketResult>`, &contents)
	}))
	t.Cleanup(server.Close)
	return Tools{&env.Suite{Testbed: &testbed.Testbed{
		RunID: "abcdefgh", External: &testbed.External{}, Contract: policy.Default(),
		Credentials: objectstore.Credentials{AccessKey: "access", SecretKey: "secret"},
		Store:       &objectstore.Handle{Server: strings.TrimPrefix(server.URL, "http://"), Bucket: "backups"},
	}}}
}

func TestBucketMustBeEmptyWhereTheRunWrites(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want string // in the error; none: it may be used
	}{
		"empty":                 {nil, ""},
		"somebody's":            {[]string{"family/photos/config", "sr-otherone-x/data/config"}, ""},
		"of a namespace's name": {[]string{"sr-abcdefgh-core-fresh-1/data/config"}, "such as sr-abcdefgh-core-fresh-1/data/config"},
		"of the seed's":         {[]string{"_sr-abcdefgh-seed/repository/config"}, "_sr-abcdefgh-seed/repository/config"},
	} {
		t.Run(name, func(t *testing.T) {
			s := bucketWith(t, c.keys...)
			err := s.BucketIsOurs(t.Context())
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

func TestBucketMustHaveThePolicysMarker(t *testing.T) {
	for key, want := range map[string]string{"marker.json": "", "marker.json.old": "the bucket backups has no object marker.json, which the contract names as s3.marker"} {
		s := bucketWith(t, key)
		s.suite.Testbed.Contract.S3.Marker = "marker.json"
		if err := s.BucketIsOurs(t.Context()); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, wanted %q", key, err, want)
		}
	}
}

func TestBucketThatDoesNotAnswerIsNotEmpty(t *testing.T) {
	s := bucketWith(t)
	s.suite.Testbed.Store.Server = "127.0.0.1:1"
	if err := s.BucketIsOurs(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be looked at") {
		t.Errorf("got %v", err)
	}
}
