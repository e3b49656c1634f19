// Package series runs several invocations of this program, one after the other, each in a process and with an artifacts folder
// of its own: the cells of a matrix, the runs of a soak, the two policies of a comparison. It puts their reports beside each
// other.
package series

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/session"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/verdict"
)

// Series runs invocations that have the same settings, but for what a cell says.
type Series struct {
	Settings *settings.Settings
	Log      *progress.Log
	Out      io.Writer // results; progress goes to Log
}

// Of is a series with the settings of a session.
func Of(s *session.Session) *Series { return &Series{Settings: s.Settings, Log: s.Log, Out: s.Out} }

// folder is where a series of runs that begins now keeps their artifacts.
func (s *Series) folder(kind string) string {
	return filepath.Join(s.Settings.Artifacts, kind, time.Now().UTC().Format("20060102T150405.000Z"))
}

// tryCell runs one cell, and says what it came to. The report is nil where it left none.
func (s *Series) tryCell(ctx context.Context, self string, cell matrix.Cell, artifacts string, keep settings.Keep) (result string, report *verdict.Report, err error) {
	err = s.runCell(ctx, self, cell, artifacts, keep)
	result = "proven"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		result = "not proven"
	case err != nil:
		result = "did not come to a verdict: " + err.Error()
	}
	if read, _, readErr := session.ReadReport(filepath.Join(artifacts, "latest")); readErr == nil {
		report = read
	}
	return result, report, err
}

// runCell runs one cell with this program. An interrupt is passed on once, and waited for: the cell cleans up.
func (s *Series) runCell(ctx context.Context, self string, cell matrix.Cell, artifacts string, keep settings.Keep) error {
	cmd := exec.CommandContext(ctx, self, cell.Target)
	known := map[string]string{"STACK": cell.Stack, "POLICY": cell.Policy, "ARTIFACTS": artifacts, "KEEP": string(keep)}
	switch asked := s.Settings.Labels; {
	case cell.Labels != "" && asked != "":
		known["LABELS"] = "(" + cell.Labels + ") && (" + asked + ")"
	case cell.Labels != "":
		known["LABELS"] = cell.Labels
	}
	cmd.Env = append(os.Environ(), s.Settings.Environ(known)...)
	cmd.Stdout, cmd.Stderr = s.Out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the terminal reaches us alone
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = session.StopTimeout
	return cmd.Run()
}
