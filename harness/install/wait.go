package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/smart-restore/conformance/harness/timing"
)

// ErrUnseen says that the API server could not be asked for too much of a wait. Nothing follows from it about the policy or
// the platform.
var ErrUnseen = errors.New("the API server could not be asked")

// notYet says that the API server answered, and that what was wanted did not come in time.
type notYet struct{ state string }

func (e notYet) Error() string { return "last seen: " + cmp.Or(e.state, "nothing of it") }

func isNotYet(err error) bool { return errors.As(err, &notYet{}) }

// blindShare is the share of a wait (1/n) for which nobody may have looked before the wait has seen nothing. It lasts so much longer.
const blindShare = 10

// atMost is how long a wait lasts that is to see for so long.
func atMost(see time.Duration) time.Duration { return see + see/blindShare }

// sight adds up for how long somebody looked and was answered.
type sight struct {
	since time.Time     // when the last look ended
	seen  time.Duration // up to a look that was answered
	last  error         // of the last look that was not answered
}

func newSight() *sight { return &sight{since: time.Now()} }

// begin says that from now on somebody looks.
func (s *sight) begin() { s.since = time.Now() }

// note takes the result of a look that has just ended.
func (s *sight) note(err error) {
	now := time.Now()
	if err == nil {
		s.seen += now.Sub(s.since)
	} else {
		s.last = err
	}
	s.since = now
}

// unseen is ErrUnseen of a wait of this length, too much of which was blind.
func (s *sight) unseen(wait time.Duration) error {
	blind := wait - s.seen
	return fmt.Errorf("%w for %s of %s: %w", ErrUnseen, blind.Round(time.Millisecond), wait.Round(time.Millisecond), cmp.Or(s.last, errNoLook))
}

var errNoLook = errors.New("it was not asked")

// await looks until look is done or the time is over. A look that could not ask the API server returns the error: it is no
// state, and its time does not count. Time that runs out is notYet with the last state that was seen, or ErrUnseen. An end of ctx is ctx's error.
func await(ctx context.Context, timeout time.Duration, look func(context.Context) (done bool, state string, err error)) error {
	limited, cancel := context.WithTimeout(ctx, atMost(timeout))
	defer cancel()
	sight, began := newSight(), time.Now()
	for {
		done, now, err := look(limited)
		sight.note(err)
		switch {
		case err == nil && done:
			return nil
		case err == nil && sight.seen >= timeout:
			return notYet{now}
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return sight.unseen(time.Since(began))
		case <-time.After(timing.Setup.Poll):
		}
	}
}

// unseen says of an error of the API server that it decides nothing: the request, or a webhook's answer to it, was lost, or
// the server is busy. That it does not know the kind is an answer.
func unseen(err error) bool {
	var answer apierrors.APIStatus
	switch {
	case err == nil || meta.IsNoMatchError(err):
		return false
	case !errors.As(err, &answer):
		return true
	case denied(err), unknownField(err):
		return false
	}
	code := answer.Status().Code
	return code < 400 || code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout ||
		strings.Contains(err.Error(), "failed calling webhook")
}

// ignoreAnswers is the error of a request to which there was no answer.
func ignoreAnswers(err error) error {
	if unseen(err) {
		return err
	}
	return nil
}

// denied says that an admission webhook or an admission policy has looked at an object and does not let it in.
func denied(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "denied the request") || strings.Contains(err.Error(), "denied request"))
}

// unknownField says that the API server knows the kind, and not a field that is in the object, as when a policy is made for another Kyverno.
// To server-side apply it says so with 500.
func unknownField(err error) bool {
	return err != nil && strings.Contains(err.Error(), "field not declared in schema")
}

// Refused says of an error that the API server or an admission webhook has looked at the object and does not take it.
func Refused(err error) bool {
	return err != nil && !unseen(err) && (denied(err) || unknownField(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err))
}
