package external

import (
	"context"
	"fmt"
	"time"
)

// Grace is for how long CleanUp waits for a step whose budget is spent before it goes on without it.
const Grace = 5 * time.Second

// Step is one part of a clean-up. It has a time of its own: a step that hangs takes none of the others'.
type Step struct {
	Name   string
	Budget time.Duration
	// Lists is what Do returns a list of, where that is why it is there: if it fails, that this is not known is said.
	Lists string
	Do    func(context.Context) (left []string, err error)
}

// Timeout bounds what CleanUp takes for these steps.
func Timeout(steps []Step) (all time.Duration) {
	for _, step := range steps {
		all += step.Budget + Grace
	}
	return all
}

// CleanUp takes every step, whatever comes of the ones before. It returns what is left, and an error for each step that
// failed. begin is told of each step as it begins.
func CleanUp(ctx context.Context, steps []Step, begin func(step string)) (left []string, problems []error) {
	for _, step := range steps {
		begin(step.Name)
		found, err := step.take(ctx)
		left = append(left, found...)
		if err != nil {
			problems = append(problems, fmt.Errorf("clean-up: %s: %w", step.Name, err))
			if step.Lists != "" {
				left = append(left, fmt.Sprintf("not known: %s could not be listed (%v)", step.Lists, err))
			}
		}
	}
	return left, problems
}

func (s Step) take(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Budget)
	defer cancel()
	type outcome struct {
		left []string
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if reason := recover(); reason != nil {
				o.err = fmt.Errorf("panic: %v", reason)
			}
			done <- o
		}()
		o.left, o.err = s.Do(ctx)
	}()
	overdue := time.NewTimer(s.Budget + Grace)
	defer overdue.Stop()
	select {
	case o := <-done:
		return o.left, o.err
	case <-overdue.C:
		return nil, fmt.Errorf("it did not end within %s, and is waited for no longer", s.Budget+Grace)
	}
}
