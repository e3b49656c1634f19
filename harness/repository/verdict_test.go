package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/testbed"
	"github.com/smart-restore/conformance/harness/timing"
)

// reply is what a command comes to; lost: it does not arrive.
type reply struct {
	code           int
	stdout, stderr string
	lost           bool
}

// tools answer restic and the agent.
type tools struct{ restic, agent reply }

func (s tools) Stream(_ context.Context, _ podexec.Container, command []string, _ io.Reader, stdout, stderr io.Writer) error {
	r := s.agent
	if slices.Contains(command, "restic") {
		r = s.restic
	}
	if r.lost {
		return errors.New("connection reset by peer")
	}
	_, _ = io.WriteString(stderr, r.stderr)
	var framed bytes.Buffer
	if err := frame.Write(&framed, r.code, []byte(r.stdout)); err != nil {
		return err
	}
	_, err := stdout.Write(framed.Bytes())
	return err
}

// impatient are the times of a test that is about what is never answered.
func impatient() timing.Times {
	times := timing.Default()
	times.Gone = time.Second
	return times
}

func TestSnapshotHolds(t *testing.T) {
	const id = "0123456789"
	good := tools{agent: reply{stdout: "mine"}}
	says := func(code int, stderr string) tools {
		return tools{restic: reply{code: code, stderr: stderr}, agent: good.agent}
	}
	for name, c := range map[string]struct {
		tools      tools
		id         string
		status     int // of the listing
		want, says string
	}{
		"holds":                     {good, id, 200, "pass", ""},
		"the latest":                {good, "latest", 200, "pass", ""},
		"is gone":                   {good, "9876543210", 200, "fail", "is gone"},
		"the bucket is not seen":    {good, id, 403, "unknown", "list bucket"},
		"restic cannot read it":     {says(1, "Fatal: ciphertext verification failed"), id, 200, "fail", "ciphertext"},
		"a wrong password":          {says(12, "wrong password"), id, 200, "fail", "wrong password"},
		"restic does not reach":     {says(1, "Fatal: dial tcp 10.0.0.1:9000: connect: connection refused"), id, 200, "unknown", "connection refused"},
		"S3 is busy":                {says(1, "Fatal: server response unexpected: 503 Service Unavailable"), id, 200, "unknown", "503"},
		"S3 does not answer":        {says(1, `Fatal: unable to open config file: Stat: Head "http://10.0.0.1:9000/b/config": EOF`), id, 200, "unknown", "EOF"},
		"S3 does not say hello":     {says(1, `Fatal: Get "https://10.0.0.1:9000/b/": net/http: TLS handshake timeout`), id, 200, "unknown", "handshake"},
		"a file ends too soon":      {says(1, "Fatal: Load(<data/0123>, 155, 0): unexpected EOF"), id, 200, "fail", "unexpected EOF"},
		"a full disk":               {says(1, "write /scratch/x: no space left on device"), id, 200, "unknown", "no space left"},
		"there is no restic":        {says(127, "restic: not found"), id, 200, "unknown", "no such command"},
		"restic's reply is lost":    {tools{restic: reply{lost: true}}, id, 200, "unknown", "connection reset"},
		"no sentinel":               {tools{agent: reply{code: 1, stderr: "no such file"}}, id, 200, "fail", "does not hold the sentinel"},
		"another sentinel":          {tools{agent: reply{stdout: "its"}}, id, 200, "fail", `holds "its"`},
		"an empty sentinel":         {tools{}, id, 200, "fail", `holds ""`},
		"the agent's reply is lost": {tools{agent: reply{lost: true}}, id, 200, "unknown", "connection reset"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(c.status)
				if c.status == http.StatusOK {
					_, _ = fmt.Fprintf(w, "<ListBucketResult><Contents><Key>%ssnapshots/%s</Key><Size>1</Size></Contents></ListBucketResult>", r.URL.Query().Get("prefix"), id)
				}
			}))
			defer server.Close()
			e := env.Offline(t.TempDir(), env.Parts{Pods: c.tools, Times: impatient(), Testbed: &testbed.Testbed{
				Contract: policy.Default(), Store: &objectstore.Handle{Bucket: "bucket", Server: strings.TrimPrefix(server.URL, "http://")},
			}}).In("ns", "core/x", &recorded.Reporter{})
			got := recorded.Outcome(func() { Of(e).SnapshotHolds(t.Context(), "data", c.id, "mine") })
			if got.How != c.want || !strings.Contains(got.Reason, c.says) {
				t.Errorf("%s, wanted %s with %q: %s", got.How, c.want, c.says, got.Reason)
			}
		})
	}
}

func TestTheSuitesOwnRepositoryIsNoPolicys(t *testing.T) {
	for name, c := range map[string]struct {
		restic     reply
		want, says string
	}{
		"one":            {reply{stdout: `[{"id":"0123456789"}]`}, "pass", ""},
		"none":           {reply{stdout: `[]`}, "unknown", "no snapshot"},
		"cannot be read": {reply{code: 1, stderr: "ciphertext verification failed"}, "unknown", "ciphertext"},
		"lost":           {reply{lost: true}, "unknown", "connection reset"},
	} {
		e := env.Offline(t.TempDir(), env.Parts{Pods: tools{restic: c.restic}, Times: impatient(), Testbed: &testbed.Testbed{
			Contract: policy.Default(), Store: &objectstore.Handle{Bucket: "bucket"},
		}}).In("ns", "core/x", &recorded.Reporter{})
		if got := recorded.Outcome(func() { Of(e).LatestSnapshot(t.Context(), "data") }); got.How != c.want || !strings.Contains(got.Reason, c.says) {
			t.Errorf("%s: %+v, wanted %s with %q", name, got, c.want, c.says)
		}
	}
}
