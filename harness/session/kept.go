package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/testbed"
)

// take lets a kept testbed report to this session, and write down what becomes of it.
func (s *Session) take(run *runs.Run, kept *testbed.Testbed) {
	kept.Log, kept.Phases = s.Log, s.phases.Start
	kept.Save = func() error { return run.Keep(kept) }
}

// makeWhole repairs a kept testbed where it is damaged, or says why it cannot be used.
func makeWhole(ctx context.Context, kept *testbed.Testbed) error {
	err := kept.MakeWhole(ctx)
	if err == nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return fmt.Errorf("the stack that is kept up (run %s) cannot be used: %w; make down removes it", kept.RunID, err)
}

// wantsKeeping says whether the run's stack is to stay.
func (r *e2eRun) wantsKeeping() bool {
	return r.kept || r.Settings.Keep == settings.KeepAlways || r.Settings.Keep == settings.KeepOnFailure && !r.report.OK()
}

// keep keeps the run's stack, which is whole when it is announced as up. One that is not and cannot be repaired is removed;
// one that was kept before stays, for make down to remove.
func (r *e2eRun) keep(ctx context.Context) error {
	defer r.run.Release()
	if r.testbed == nil || !r.testbed.Ready {
		r.Log.Printf("the stack is not kept: its installation did not come to its end")
		return r.tearDown(r.run)
	}
	if err := r.testbed.MakeWhole(ctx); err != nil {
		if !r.kept {
			return errors.Join(fmt.Errorf("the stack is not kept: %w", err), r.tearDown(r.run))
		}
		err = fmt.Errorf("the stack that is kept up is damaged: %w; the next run tries to repair it, make down removes it", err)
		return errors.Join(err, r.run.Keep(r.testbed))
	}
	if err := r.run.Keep(r.testbed); err != nil || r.kept {
		return err
	}
	return r.describe(r.testbed)
}
