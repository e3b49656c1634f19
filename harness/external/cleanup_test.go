package external

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStepThatHangsTakesNoneOfTheOthersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		defer close(forever)
		var budgets []time.Duration
		works := func(left ...string) func(context.Context) ([]string, error) {
			return func(ctx context.Context) ([]string, error) {
				deadline, _ := ctx.Deadline()
				budgets = append(budgets, time.Until(deadline))
				return left, ctx.Err()
			}
		}
		steps := []Step{
			{Name: "policy", Budget: time.Second, Do: works()},
			{Name: "namespaces", Budget: time.Minute, Do: func(ctx context.Context) ([]string, error) { <-ctx.Done(); return nil, ctx.Err() }},
			{Name: "deaf", Budget: time.Minute, Lists: "what is heard", Do: func(context.Context) ([]string, error) { <-forever; return []string{"too late"}, nil }},
			{Name: "refused", Budget: time.Second, Do: func(context.Context) ([]string, error) { return []string{"namespace a"}, errors.New("no") }},
			{Name: "broken", Budget: time.Second, Do: func(context.Context) ([]string, error) { panic("nil map") }},
			{Name: "bucket", Budget: 2 * time.Second, Lists: "objects of the bucket", Do: works("object x")},
		}
		var begun []string
		began := time.Now()
		left, problems := CleanUp(t.Context(), steps, func(step string) { begun = append(begun, step) })
		if took := time.Since(began); took > Timeout(steps) {
			t.Errorf("it took %s, more than its budgets, %s", took, Timeout(steps))
		}
		if want := []time.Duration{time.Second, 2 * time.Second}; !slices.Equal(budgets, want) {
			t.Errorf("the steps had %v, want %v", budgets, want)
		}
		if want := "policy namespaces deaf refused broken bucket"; strings.Join(begun, " ") != want {
			t.Errorf("begun were %v, want %s", begun, want)
		}
		wantLeft := []string{"not known: what is heard could not be listed (it did not end within 1m5s, and is waited for no longer)", "namespace a", "object x"}
		if !slices.Equal(left, wantLeft) {
			t.Errorf("left are %q\nwant     %q", left, wantLeft)
		}
		var said []string
		for _, problem := range problems {
			said = append(said, problem.Error())
		}
		want := []string{
			"clean-up: namespaces: context deadline exceeded", "clean-up: deaf: it did not end within 1m5s, and is waited for no longer",
			"clean-up: refused: no", "clean-up: broken: panic: nil map",
		}
		if !slices.Equal(said, want) {
			t.Errorf("said is %q\nwant    %q", said, want)
		}
	})
}
