package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Matrix runs cells one after the other, each as an invocation of its own with an artifacts folder of its own, and puts
// their reports beside each other. What one cell comes to does not keep the next one from being tried; an interrupt does.
func (s *Session) Matrix(ctx context.Context, cells []matrix.Cell) error {
	if err := s.refuseExternal("matrix run"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.matrix(ctx, self, cells)
}

func (s *Session) matrix(ctx context.Context, self string, cells []matrix.Cell) error {
	folder := s.seriesFolder("matrix")
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
		return ErrNotProven
	}
	return nil
}

// seriesFolder is where a series of runs that begins now keeps their artifacts.
func (s *Session) seriesFolder(kind string) string {
	return filepath.Join(s.Settings.Artifacts, kind, time.Now().UTC().Format("20060102T150405.000Z"))
}

// tryCell runs one cell, and says what it came to. The report is nil where it left none.
func (s *Session) tryCell(ctx context.Context, self string, cell matrix.Cell, artifacts string, keep settings.Keep) (result string, report *verdict.Report, err error) {
	err = s.runCell(ctx, self, cell, artifacts, keep)
	result = "proven"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		result = "not proven"
	case err != nil:
		result = "did not come to a verdict: " + err.Error()
	}
	if read, _, readErr := ReadReport(filepath.Join(artifacts, "latest")); readErr == nil {
		report = read
	}
	return result, report, err
}

// runCell runs one cell with this program. An interrupt is passed on once, and waited for: the cell cleans up.
func (s *Session) runCell(ctx context.Context, self string, cell matrix.Cell, artifacts string, keep settings.Keep) error {
	cmd := exec.CommandContext(ctx, self, cell.Target)
	cmd.Env = append(os.Environ(), s.Settings.Environ(map[string]string{
		"STACK": cell.Stack, "POLICY": cell.Policy, "ARTIFACTS": artifacts, "KEEP": string(keep),
	})...)
	cmd.Stdout, cmd.Stderr = s.Out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the terminal reaches us alone
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = stopTimeout
	return cmd.Run()
}
