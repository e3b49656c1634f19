package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

func scriptsOf(engine string) fstest.MapFS {
	return fstest.MapFS{"engine": {Data: []byte("#!/bin/sh\n" + engine)}, "runc-shim": {Data: []byte("#!/bin/sh\n")}}
}

// keepEnvironment undoes at the end what Up sets.
func keepEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"DOCKER_HOST", "TESTCONTAINERS_RYUK_DISABLED", "TESTCONTAINERS_HOST_OVERRIDE"} {
		t.Setenv(name, "")
	}
}

func TestUpReadsWhatTheScriptPrints(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   Engine
		fails  string
	}{
		"managed":       {"echo DOCKER_HOST=unix:///a.sock; echo MANAGED=true", Engine{Host: "unix:///a.sock", Managed: true}, ""},
		"another one":   {"echo DOCKER_HOST=tcp://10.0.0.1:2375; echo MANAGED=false", Engine{Host: "tcp://10.0.0.1:2375"}, ""},
		"nothing":       {"echo hello", Engine{}, `printed "hello\n", want DOCKER_HOST=<address>`},
		"a refusal":     {"echo first >&2; echo engine: start Docker >&2; exit 1", Engine{}, "docker engine: engine: start Docker"},
		"a dumb ending": {"exit 3", Engine{}, "exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			keepEnvironment(t)
			got, err := Up(t.Context(), scriptsOf(c.script), t.TempDir(), io.Discard)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want an error that says %q", err, c.fails)
				}
				return
			}
			if err != nil || *got != c.want || os.Getenv("DOCKER_HOST") != c.want.Host {
				t.Errorf("got %+v, %v and DOCKER_HOST=%s, want %+v", got, err, os.Getenv("DOCKER_HOST"), c.want)
			}
		})
	}
}

// A script that is killed can undo nothing: it is asked to end, and waited for.
func TestTheScriptIsAskedToEndAndWaitedFor(t *testing.T) {
	const script = `trap 'echo undone >"$DIR/undone"; exit 143' TERM
echo began >"$DIR/began"
while :; do sleep 0.01; done`
	for name, call := range map[string]func(ctx context.Context, dir string) error{
		"up": func(ctx context.Context, dir string) error {
			_, err := Up(ctx, scriptsOf(script), dir, io.Discard)
			return err
		},
		"down":  func(ctx context.Context, dir string) error { return Down(ctx, scriptsOf(script), dir, io.Discard) },
		"purge": func(ctx context.Context, dir string) error { return RemoveData(ctx, scriptsOf(script), dir) },
	} {
		t.Run(name, func(t *testing.T) {
			keepEnvironment(t)
			dir := t.TempDir()
			t.Setenv("DIR", dir)
			if err := syscall.Mkfifo(filepath.Join(dir, "began"), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, _ = os.ReadFile(filepath.Join(dir, "began")) // waits for the script
				cancel()
			}()
			if err := call(ctx, dir); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "undone")); err != nil {
				t.Errorf("the script was not asked to end, or not waited for: %v", err)
			}
		})
	}
}

func TestDockerReturnsStandardOutputOnly(t *testing.T) {
	bin := t.TempDir()
	const docker = `#!/bin/sh
[ "$1" != fail ] || { echo "no such thing" >&2; exit 1; }
echo "a warning" >&2
echo " $DOCKER_HOST $* "
`
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(docker), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	e := &Engine{Host: "unix:///a.sock"}
	if got, err := e.Version(t.Context()); got != "unix:///a.sock version --format Docker {{.Server.Version}}" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := e.Docker(t.Context(), "fail", "a", "b", "secret"); err == nil || err.Error() != "docker fail a b: exit status 1: no such thing" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Docker(ctx, "ps"); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "docker ps") {
		t.Errorf("got %v, want the command and the context's error", err)
	}
}
