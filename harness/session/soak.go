package session

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Soak runs the same specs so many times, each time on a stack of its own, and says which requirements did not always hold:
// what fails now and then shows in no single run. What one run comes to does not keep the next one from being tried; an
// interrupt does.
func (s *Session) Soak(ctx context.Context, runs int) error {
	if runs < 1 {
		return fmt.Errorf("%d runs are wanted; there must be at least one", runs)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.soak(ctx, self, runs)
}

func (s *Session) soak(ctx context.Context, self string, runs int) error {
	folder := s.seriesFolder("soak")
	cell := matrix.Cell{Stack: s.Settings.Stack, Policy: s.Settings.Policy, Target: matrix.E2E}
	var reports []*verdict.Report
	proven := 0
	for i := 0; i < runs && ctx.Err() == nil; i++ {
		artifacts := filepath.Join(folder, strconv.Itoa(i+1))
		s.Log.Printf("run %d of %d (%s)", i+1, runs, artifacts)
		start := time.Now()
		result, report, err := s.tryCell(ctx, self, cell, artifacts)
		if ctx.Err() != nil {
			break
		}
		s.Log.Printf("run %d of %d: %s, in %.1f min", i+1, runs, result, time.Since(start).Minutes())
		if err == nil {
			proven++
		}
		reports = append(reports, report)
	}
	fmt.Fprintf(s.Out, "\n%s%d of %d runs proven\n%s\n", matrix.Unsteady(reports), proven, len(reports), folder)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("interrupted after %d of %d runs: %w", len(reports), runs, err)
	}
	if proven < runs {
		return ErrNotProven
	}
	return nil
}
