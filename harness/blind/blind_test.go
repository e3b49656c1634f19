package blind

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smart-restore/conformance/harness/creations"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/verdict"
)

func TestTheTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Rows {
		if row.Name == "" || row.Sentence == "" || row.Spec == "" || len(row.Good) == 0 || len(row.Bad) == 0 || seen[row.Name] {
			t.Errorf("row %q: name, sentence, spec and verdicts are needed, and the name once", row.Name)
		}
		seen[row.Name] = true
		broken := 0
		for _, is := range []bool{
			row.API != nil, row.S3 != nil, row.Gateway != nil, row.Exec != nil, row.AuditEnds, row.Clock != 0, row.CleanUpHangs, row.UndoFails,
		} {
			if is {
				broken++
			}
		}
		if want := 1; broken != want && row.Name != "none" {
			t.Errorf("row %s breaks %d senses, want %d", row.Name, broken, want)
		}
		// What the suite exists for: no row excuses a wrong verdict.
		if slices.Contains(row.Good, verdict.Fail) || slices.Contains(row.Bad, verdict.Pass) {
			t.Errorf("row %s lets a good policy fail or a bad one pass", row.Name)
		}
	}
	if !seen["none"] {
		t.Error("there is no control")
	}
}

func TestNamed(t *testing.T) {
	if rows, err := Named(nil); err != nil || len(rows) != len(Rows) {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if rows, err := Named([]string{"exec-cut", "none"}); err != nil || len(rows) != 2 || rows[0].Name != "exec-cut" {
		t.Errorf("%+v, %v", rows, err)
	}
	if _, err := Named([]string{"nonsense"}); err == nil || !strings.Contains(err.Error(), "exec-lost") {
		t.Errorf("got %v", err)
	}
	t.Setenv(Variable, "nonsense")
	if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), Variable) {
		t.Errorf("got %v", err)
	}
}

func senses(t *testing.T, name string) Senses {
	t.Helper()
	t.Setenv(Variable, name)
	s, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// whole replies with a whole frame.
type whole struct{}

func (whole) Stream(_ context.Context, _ podexec.Container, _ []string, _ io.Reader, stdout, _ io.Writer) error {
	return frame.Write(stdout, 0, []byte("a reply"))
}

func TestRepliesOfCommands(t *testing.T) {
	for name, blind := range map[string]bool{"none": false, "exec-lost": true, "exec-cut": true, "exec-lost-at-times": false} {
		r := podexec.Runner{Streamer: senses(t, name).Stream(whole{})}
		for range 4 {
			if result, err := r.Run(t.Context(), podexec.Container{}, podexec.ByShell("true")); (err != nil) != blind || err == nil && string(result.Stdout) != "a reply" {
				t.Errorf("%s: %q, %v", name, result.Stdout, err)
			}
		}
	}
}

func TestTheAPIServerIsBlindForAWhile(t *testing.T) {
	answers := roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	})
	for name, during := range map[string]int{"none": 200, "api-500": 500, "api-429": 429, "api-silent": 0, "s3-503": 503, "s3-silent": 0} {
		s := senses(t, name)
		synctest.Test(t, func(t *testing.T) {
			transport := s.Transport(answers)
			if wrap := s.S3Transport(); wrap != nil {
				transport = wrap(answers)
			}
			ask := func() int {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				response, err := transport.RoundTrip(httptest.NewRequestWithContext(ctx, http.MethodGet, "/api", nil))
				if err != nil {
					return 0
				}
				defer func() { _ = response.Body.Close() }()
				return response.StatusCode
			}
			if got := ask(); got != http.StatusOK {
				t.Errorf("%s: at first %d", name, got)
			}
			time.Sleep(blindFrom + time.Second)
			if got := ask(); got != during {
				t.Errorf("%s: in the window %d, want %d", name, got, during)
			}
			time.Sleep(blindFor)
			if got := ask(); got != http.StatusOK {
				t.Errorf("%s: afterwards %d", name, got)
			}
		})
	}
}

func TestTheGatewayForgets(t *testing.T) {
	page := gateway.RecordsPage{Records: []gateway.Record{{Seq: 1, Path: "/b/ns/data/config"}}, LastSeq: 1}
	raw, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	next := roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(raw)), Request: r}, nil
	})
	for path, want := range map[string]int{"/records": 0, "/rules": 1} {
		response, err := senses(t, "gateway-forgets").GatewayTransport(next).RoundTrip(httptest.NewRequest(http.MethodGet, path, nil))
		if err != nil {
			t.Fatal(err)
		}
		var got gateway.RecordsPage
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil || len(got.Records) != want || (want == 0) != (got.Dropped > 0) {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
		_ = response.Body.Close()
	}
	if _, err := senses(t, "gateway-dead").GatewayTransport(next).RoundTrip(httptest.NewRequest(http.MethodGet, "/rules", nil)); !errors.Is(err, ErrBroken) {
		t.Errorf("got %v", err)
	}
}

type known struct{}

func (known) Created(context.Context, string, string, time.Time) ([]creations.CreatedObject, error) {
	return []creations.CreatedObject{{Name: "data-restore"}}, nil
}
func (known) Covers(context.Context, time.Time) (bool, error) { return true, nil }
func (known) Close() error                                    { return nil }

func TestTheAuditLogEnds(t *testing.T) {
	for name, want := range map[string]bool{"none": true, "audit-ends": false} {
		audit := senses(t, name).Audit(known{})
		made, err := audit.Created(t.Context(), "replicationdestinations", "ns", time.Time{})
		covers, coversErr := audit.Covers(t.Context(), time.Now())
		if (len(made) > 0) != want || covers != want || err != nil || coversErr != nil {
			t.Errorf("%s: %v, %v, %v, %v", name, made, covers, err, coversErr)
		}
	}
}

func TestCleanUpAndUndo(t *testing.T) {
	done := func(context.Context) error { return nil }
	s := senses(t, "clean-up-hangs")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.CleanUp(done)(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	if err := senses(t, "undo-fails").Undo(done)(t.Context()); !errors.Is(err, ErrBroken) {
		t.Errorf("got %v", err)
	}
	if err := senses(t, "none").Undo(done)(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
}
