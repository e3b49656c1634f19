package session

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smart-restore/conformance/harness/verdict"
)

func TestAnAuditLogThatLagsIsWaitedForAndNotTrusted(t *testing.T) {
	gap := errors.New("a part is missing")
	for _, c := range []struct {
		name   string
		mark   error
		covers func(since time.Duration) (bool, error)
		want   string
	}{
		{"current", nil, func(time.Duration) (bool, error) { return true, nil }, ""},
		{"late", nil, func(since time.Duration) (bool, error) { return since > 10*time.Second, nil }, ""},
		{"unreadable for a while", nil, func(since time.Duration) (bool, error) {
			if since < time.Second {
				return false, gap
			}
			return true, nil
		}, ""},
		{"stuck", nil, func(time.Duration) (bool, error) { return false, nil }, "does not show a request made 30s ago: context deadline exceeded"},
		{"with a gap", nil, func(time.Duration) (bool, error) { return true, gap }, "a part is missing"},
		{"no API server", errors.New("refused"), func(time.Duration) (bool, error) { return false, nil }, "refused"},
		{"a webhook that refuses all", errors.New("refused"), func(time.Duration) (bool, error) { return true, nil }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := auditIsCurrent(t.Context(), func(context.Context) error { return c.mark }, func(_ context.Context, at time.Time) (bool, error) {
					if !at.Equal(began) {
						t.Errorf("it was asked about %s, want %s", at, began)
					}
					return c.covers(time.Since(began))
				})
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestWhatCannotBeRecheckedIsUnknown(t *testing.T) {
	report := &verdict.Report{Requirements: []verdict.Result{
		result("core/fresh", verdict.Pass, ""), result("core/restore", verdict.Pass, ""), result("core/s3-down/reset", verdict.Fail, "an RD was made"),
	}}
	unseen(report, []byte(`{"spec":"core/fresh","pvc":"data"}`+"\n"+`{"spec":"core/s3-down/reset"}`+"\nhalf a li"), errors.New("the log\nis gone"))
	if got := report.Requirements[0]; got.Verdict != verdict.Unknown || !strings.HasSuffix(got.Message, "happened late: the log") {
		t.Errorf("what rests on it: %+v", got)
	}
	if got := report.Requirements[1]; got.Verdict != verdict.Pass {
		t.Errorf("what does not rest on it: %+v", got)
	}
	if got := report.Requirements[2]; got.Verdict != verdict.Fail || got.Message != "an RD was made" {
		t.Errorf("what failed already: %+v", got)
	}
}
