package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/fault/gateway/api"
)

func TestRecordsNeverHoldSecrets(t *testing.T) {
	const secret = "s3cr3t"
	g := start(t, serveObject)
	for i, c := range []struct {
		header, value, query, wantAuth, wantQuery string
	}{
		{"", "", "", "none", ""},
		{"Authorization", "AWS4-HMAC-SHA256 Credential=" + secret, "", "aws4", ""},
		{"Authorization", "Bearer " + secret, "", "bearer", ""},
		{"Authorization", "bearer " + secret, "", "bearer", ""},
		{"Authorization", "Basic " + secret, "", "basic", ""},
		{"Authorization", "AWS key:" + secret, "", "other", ""},
		{"Authorization", secret, "", "other", ""},
		{"X-Amz-Security-Token", secret, "", "none", ""},
		{"Cookie", secret, "", "none", ""},
		{"", "", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + secret + "&X-Amz-Signature=" + secret + "&X-Amz-Security-Token=" + secret, "aws4",
			"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=redacted&X-Amz-Signature=redacted&X-Amz-Security-Token=redacted"},
		{"", "", "AWSAccessKeyId=" + secret + "&Signature=" + secret + "&Expires=1", "other", "AWSAccessKeyId=redacted&Signature=redacted&Expires=1"},
		{"", "", "x%2Damz-signature=" + secret + "&a%zz=" + secret + "&prefix=a%2Fb&flag", "none", "x%2Damz-signature=redacted&a%zz=redacted&prefix=a%2Fb&flag"},
	} {
		path := fmt.Sprintf("/b/%d/", i)
		req, err := http.NewRequest("GET", "http://"+g.data+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.RawQuery = c.query
		if c.header != "" {
			req.Header.Set(c.header, c.value)
		}
		res, err := freshClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if r := g.done(path); r.Auth != c.wantAuth || r.Query != c.wantQuery {
			t.Errorf("%s %s ?%s: want auth %q and query %q, found %q and %q", c.header, c.value, c.query, c.wantAuth, c.wantQuery, r.Auth, r.Query)
		}
	}
	if _, text := g.call("GET", "/records", "Bearer "+token, ""); strings.Contains(text, secret) {
		t.Errorf("a secret in the records:\n%s", text)
	}
	if strings.Contains(g.log.String(), secret) {
		t.Errorf("a secret in the log:\n%s", g.log)
	}
}

func TestRecordOfARequest(t *testing.T) {
	g := start(t, serveObject)
	before := time.Now()
	req, err := http.NewRequest("PUT", "http://"+g.data+"/b/a%2Fb?x-id=PutObject", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "restic")
	res, err := freshClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	r := g.done("/b/a%2Fb")
	if r.Time.Before(before.Add(-time.Second)) || r.Time.After(time.Now()) || r.DurationMillis <= 0 || !strings.HasPrefix(r.Client, "127.0.0.1:") {
		t.Errorf("record %+v", r)
	}
	// The line in the log is the same record.
	var line api.Record
	if err := json.Unmarshal([]byte(g.log.String()), &line); err != nil {
		t.Fatal(err)
	}
	if line != r {
		t.Errorf("want the same in the log, found %+v and %+v", line, r)
	}
	r.Time, r.DurationMillis, r.Client = time.Time{}, 0, ""
	if want := (api.Record{Seq: 1, Method: "PUT", Path: "/b/a%2Fb", Query: "x-id=PutObject", Status: 200, BytesIn: 5, BytesOut: 23, UserAgent: "restic", Auth: "none"}); r != want {
		t.Errorf("want %+v, found %+v", want, r)
	}
}

func TestRecordPages(t *testing.T) {
	b := newBook(4, &lockedBuffer{})
	for _, target := range []string{"/b/x/1", "/b/y/2", "/b/x/3", "/b/?prefix=x/", "/b/y/5", "/b/x/6"} {
		r := httptest.NewRequest("GET", target, nil)
		b.start(r, "", resource(r), "").finish()
	}
	for _, c := range []struct {
		since   int64
		prefix  string
		seqs    []int64
		dropped int64
	}{
		{0, "", []int64{3, 4, 5, 6}, 2},
		{1, "", []int64{3, 4, 5, 6}, 1},
		{2, "", []int64{3, 4, 5, 6}, 0},
		{4, "", []int64{5, 6}, 0},
		{6, "", nil, 0},
		{99, "", nil, 0},
		{2, "/b/x/", []int64{3, 4, 6}, 0},
		{2, "/b/z/", nil, 0},
	} {
		p := b.page(c.since, c.prefix)
		var seqs []int64
		for _, r := range p.Records {
			seqs = append(seqs, r.Seq)
		}
		if !slices.Equal(seqs, c.seqs) || p.Dropped != c.dropped || p.LastSeq != 6 {
			t.Errorf("since %d, prefix %q: want %v, %d dropped, last 6, found %v, %d, %d", c.since, c.prefix, c.seqs, c.dropped, seqs, p.Dropped, p.LastSeq)
		}
	}
}
