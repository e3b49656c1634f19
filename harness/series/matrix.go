package series

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Matrix runs cells one after the other and puts their reports into a table. It goes on whatever a cell comes to, and ends when
// it is interrupted.
func (s *Series) Matrix(ctx context.Context, cells []matrix.Cell) error {
	if err := external.Refuse(s.Settings.External, "matrix run"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.matrix(ctx, self, cells)
}

func (s *Series) matrix(ctx context.Context, self string, cells []matrix.Cell) error {
	folder := s.folder("matrix")
	var reports []*verdict.Report
	var lines []string
	proven := true
	for i, cell := range cells { // none keeps its stack, which would be in the next one's way
		artifacts := filepath.Join(folder, filepath.FromSlash(cell.Name()))
		s.Log.Printf("cell %d of %d: %s (%s)", i+1, len(cells), cell.Name(), artifacts)
		start := time.Now()
		result, report, err := s.tryCell(ctx, self, cell, artifacts, settings.KeepNever)
		proven = proven && err == nil
		lines = append(lines, fmt.Sprintf("%-44s %6.1f min  %s", cell.Name(), time.Since(start).Minutes(), result))
		if report != nil && cell.Target == matrix.E2E {
			reports = append(reports, report)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	fmt.Fprintln(s.Out)
	for _, line := range lines {
		fmt.Fprintln(s.Out, line)
	}
	if len(reports) > 0 {
		table, err := matrix.Table(reports)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "\n%s\n%s\n", table, folder)
		if err := os.WriteFile(filepath.Join(folder, "table.md"), []byte(table), 0o644); err != nil {
			return err
		}
	}
	if !proven {
		return session.ErrNotProven
	}
	return nil
}
