// Package blind breaks the suite's own senses on purpose, one at a time, to see that it then says unknown: make blind. A suite
// that cannot see must neither call a bad policy good nor a good one bad.
package blind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/creations"
	"github.com/smart-restore/conformance/harness/podexec"
)

// Variable names the environment variable that says which sense of the specs' processes is broken.
const Variable = "SMART_RESTORE_BLIND"

// ErrBroken is what comes of a sense that is broken on purpose. There is no use in trying again.
var ErrBroken = errors.New("broken by make blind")

// Senses are the suite's senses, each as it is or broken. The zero value breaks none.
type Senses struct{ row Row }

// FromEnvironment are the senses as the environment wants them.
func FromEnvironment() (Senses, error) {
	name := os.Getenv(Variable)
	if name == "" {
		return Senses{}, nil
	}
	rows, err := Named([]string{name})
	if err != nil {
		return Senses{}, fmt.Errorf("%s: %w", Variable, err)
	}
	return Senses{rows[0]}, nil
}

// Transport wraps requests to the API server.
func (s Senses) Transport(next http.RoundTripper) http.RoundTripper {
	if s.row.API == nil {
		return next
	}
	return &window{next: next, fault: s.row.API, began: time.Now()}
}

// S3Transport wraps the suite's own requests to S3; nil: they go as they are.
func (s Senses) S3Transport() func(http.RoundTripper) http.RoundTripper {
	if s.row.S3 == nil {
		return nil
	}
	began := time.Now()
	return func(next http.RoundTripper) http.RoundTripper {
		return &window{next: next, fault: s.row.S3, began: began}
	}
}

// GatewayTransport wraps requests to the gateway's control API.
func (s Senses) GatewayTransport(next http.RoundTripper) http.RoundTripper {
	if s.row.Gateway == nil {
		return next
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) { return s.row.Gateway(next, r) })
}

// ByWatch says that what was made is to be known from a watch, as on an external cluster.
func (s Senses) ByWatch() bool { return s.row.ByWatch }

// Stream wraps what runs commands in containers.
func (s Senses) Stream(next podexec.Streamer) podexec.Streamer {
	if s.row.Exec == nil {
		return next
	}
	return &streamer{next: next, spoil: s.row.Exec}
}

// Audit wraps what knows what was made.
func (s Senses) Audit(next absence.Creations) absence.Creations {
	if !s.row.AuditEnds {
		return next
	}
	return auditThatEnds{next}
}

// Now is this host's clock.
func (s Senses) Now() time.Time { return time.Now().Add(s.row.Clock) }

// CleanUp wraps what removes what a spec has made.
func (s Senses) CleanUp(clean func(context.Context) error) func(context.Context) error {
	if !s.row.CleanUpHangs {
		return clean
	}
	return func(ctx context.Context) error {
		<-ctx.Done()
		return errors.Join(ctx.Err(), clean(context.WithoutCancel(ctx)))
	}
}

// Undo wraps what puts back what a spec took from the platform.
func (s Senses) Undo(undo func(context.Context) error) func(context.Context) error {
	if !s.row.UndoFails {
		return undo
	}
	return func(context.Context) error { return ErrBroken }
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// window spoils every request in a window that begins some time after the process did.
type window struct {
	next  http.RoundTripper
	fault func(next http.RoundTripper, r *http.Request) (*http.Response, error)
	began time.Time
}

func (a *window) RoundTrip(r *http.Request) (*http.Response, error) {
	if since := time.Since(a.began); since < blindFrom || since > blindFrom+blindFor {
		return a.next.RoundTrip(r)
	}
	return a.fault(a.next, r)
}

// The window: it begins when a spec is at work, and lasts for a part of the time that its waits have.
const (
	blindFrom = 2 * time.Second
	blindFor  = 20 * time.Second
)

// status answers every request with an error.
func status(code int) func(http.RoundTripper, *http.Request) (*http.Response, error) {
	return func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("broken by make blind")), Request: r,
		}, nil
	}
}

// silence answers nothing.
func silence(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// streamer spoils replies of commands: of each three, the second one, or all of them.
type streamer struct {
	next  podexec.Streamer
	spoil func(call int64, reply []byte) []byte
	calls atomic.Int64
}

func (s *streamer) Stream(ctx context.Context, in podexec.Container, command []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var reply strings.Builder
	err := s.next.Stream(ctx, in, command, stdin, &reply, stderr)
	_, writeErr := stdout.Write(s.spoil(s.calls.Add(1), []byte(reply.String())))
	return errors.Join(err, writeErr)
}

// auditThatEnds is an audit log that has stopped: nothing new is in it.
type auditThatEnds struct{ absence.Creations }

func (auditThatEnds) Created(context.Context, string, string, time.Time) ([]creations.CreatedObject, error) {
	return nil, nil
}

func (auditThatEnds) Covers(context.Context, time.Time) (bool, error) { return false, nil }
