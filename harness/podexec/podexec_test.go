package podexec

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/frame"
)

// scripted streams what it is told to, one reply a call, the last one again and again.
type scripted struct {
	replies []reply
	calls   int
}

type reply struct {
	stdout, stderr string
	err            error
}

func (s *scripted) Stream(_ context.Context, _ Container, _ []string, _ io.Reader, stdout, stderr io.Writer) error {
	r := s.replies[min(s.calls, len(s.replies)-1)]
	s.calls++
	_, _ = io.WriteString(stdout, r.stdout)
	_, _ = io.WriteString(stderr, r.stderr)
	return r.err
}

func framed(code int, text string) string {
	var b strings.Builder
	_ = frame.Write(&b, code, []byte(text))
	return b.String()
}

func TestRun(t *testing.T) {
	errStream := errors.New("stream broken")
	whole := framed(0, "hello\nworld")
	for name, c := range map[string]struct {
		replies []reply
		stdout  string
		code    int
		calls   int
		blind   string // part of the error; empty: none
	}{
		"whole":                       {[]reply{{stdout: whole}}, "hello\nworld", 0, 1, ""},
		"empty, which is a reply":     {[]reply{{stdout: framed(0, "")}}, "", 0, 1, ""},
		"an exit code":                {[]reply{{stdout: framed(3, "partly"), stderr: "no such file"}}, "partly", 3, 1, ""},
		"whole, though the end broke": {[]reply{{stdout: whole, err: errStream}}, "hello\nworld", 0, 1, ""},
		"lost":                        {[]reply{{}}, "", 0, 3, "the reply was lost"},
		"lost, and then not":          {[]reply{{}, {err: errStream}, {stdout: whole}}, "hello\nworld", 0, 3, ""},
		"cut":                         {[]reply{{stdout: whole[:len(whole)-3]}}, "", 0, 3, "the reply was cut: 8 of 11 bytes"},
		"damaged":                     {[]reply{{stdout: whole[:len(whole)-1] + "D"}}, "", 0, 3, "checksum"},
		"of another":                  {[]reply{{stdout: "bash: warning\n" + whole}}, "", 0, 3, "has no frame"},
		"broken":                      {[]reply{{err: errStream}}, "", 0, 3, "stream broken"},
		"no such command":             {[]reply{{stdout: framed(127, ""), stderr: "restic: not found"}}, "", 0, 3, "no such command"},
		"killed":                      {[]reply{{stdout: framed(137, "")}}, "", 0, 3, "killed by signal 9"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scripted{replies: c.replies}
			result, err := Runner{Streamer: s}.Run(t.Context(), Container{"ns", "pod", "app"}, ByAgent("/agent", "get"))
			if s.calls != c.calls {
				t.Errorf("%d calls, wanted %d", s.calls, c.calls)
			}
			if c.blind != "" {
				if err == nil || !strings.Contains(err.Error(), c.blind) {
					t.Errorf("got %v, wanted an error with %q", err, c.blind)
				}
				return
			}
			if err != nil || string(result.Stdout) != c.stdout || result.ExitCode != c.code {
				t.Errorf("got %q, exit code %d, %v", result.Stdout, result.ExitCode, err)
			}
		})
	}
}

func TestOnceIsOnce(t *testing.T) {
	s := &scripted{replies: []reply{{}}}
	if _, err := (Runner{Streamer: s}).Once(t.Context(), Container{}, ByShell("true")); err == nil || s.calls != 1 {
		t.Errorf("%d calls, %v", s.calls, err)
	}
}

func TestSecretsAreTakenOutOfErrors(t *testing.T) {
	s := &scripted{replies: []reply{{stderr: "password is hunter22"}}}
	r := Runner{Streamer: s, Redact: func(text string) string { return strings.ReplaceAll(text, "hunter22", "[redacted]") }}
	if _, err := r.Once(t.Context(), Container{}, ByShell("true")); err == nil || strings.Contains(err.Error(), "hunter22") {
		t.Errorf("got %v", err)
	}
}

// here runs commands on this host.
type here struct{}

func (here) Stream(ctx context.Context, _ Container, command []string, stdin io.Reader, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	return cmd.Run()
}

// lossy loses the first reply: what a second run is given is all of the input again.
type lossy struct {
	here
	lost bool
}

func (l *lossy) Stream(ctx context.Context, in Container, command []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if !l.lost {
		l.lost, stdout = true, io.Discard
	}
	return l.here.Stream(ctx, in, command, stdin, stdout, stderr)
}

func TestTheInputIsReadByEachRun(t *testing.T) {
	result, err := Runner{Streamer: &lossy{}}.RunWith(t.Context(), Container{}, []byte("a\nb"), ByShell("cat"))
	if err != nil || string(result.Stdout) != "a\nb" {
		t.Errorf("got %q, %v", result.Stdout, err)
	}
}

func TestByShell(t *testing.T) {
	for name, c := range map[string]struct {
		command []string
		stdout  string
		code    int
	}{
		"output":                {[]string{"printf", "a\nb"}, "a\nb", 0},
		"nothing":               {[]string{"true"}, "", 0},
		"an exit code":          {[]string{"bash", "-c", "echo half; exit 7"}, "half\n", 7},
		"zero bytes":            {[]string{"printf", `x\0y`}, "x\x00y", 0},
		"arguments as they are": {[]string{"printf", "%s", `$HOME "quoted" it's`}, `$HOME "quoted" it's`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := Runner{Streamer: here{}}.Once(t.Context(), Container{}, ByShell(c.command...))
			if err != nil || string(result.Stdout) != c.stdout || result.ExitCode != c.code {
				t.Errorf("got %q, exit code %d, %v", result.Stdout, result.ExitCode, err)
			}
		})
	}
}
