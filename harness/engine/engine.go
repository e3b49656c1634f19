// Package engine finds the Docker engine that the stack runs on: a running one, or one that scripts/engine installs, starts
// and stops (the managed engine). Everything that the docker command can do goes through it, as in kind.
package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/smart-restore/conformance/harness/text"
)

// Engine is a running Docker engine.
type Engine struct {
	Host    string // as in DOCKER_HOST
	Managed bool   // started by scripts/engine, by this run or another
}

const (
	// undoPatience is how long scripts/engine may take to undo what it did, once it is asked to end: it waits for dpkg, and
	// for dockerd to stop.
	undoPatience = 3 * time.Minute
	// versionPatience bounds the question that an engine answers at once if it answers at all.
	versionPatience = 10 * time.Second
	// pipePatience is how long a docker command that was ended may keep its output open.
	pipePatience = 5 * time.Second
)

// script is a call of scripts/engine. It is ended by SIGTERM, which lets it undo what it did to the host.
func script(ctx context.Context, scripts fs.FS, dir string, args ...string) (*exec.Cmd, error) {
	path, err := install(scripts, dir)
	if err != nil {
		return nil, fmt.Errorf("docker engine: write the engine script to %s: %w", dir, err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = undoPatience
	return cmd, nil
}

// failed is the error of a script that failed: its own words, and the context's error if that ended it.
func failed(ctx context.Context, what string, err error, said string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %s", what, cmp.Or(text.LastLines(said, 1), err.Error()))
}

// Up makes sure that an engine runs, and points the libraries of this process at it. The scripts are written to dir, and what they
// say goes to log.
func Up(ctx context.Context, scripts fs.FS, dir string, log io.Writer) (*Engine, error) {
	cmd, err := script(ctx, scripts, dir, "up")
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = io.MultiWriter(&stderr, log)
	out, err := cmd.Output()
	if err != nil {
		return nil, failed(ctx, "docker engine", err, stderr.String())
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[name] = value
	}
	host := said["DOCKER_HOST"]
	if host == "" {
		return nil, fmt.Errorf("docker engine: the engine script printed %q, want DOCKER_HOST=<address>", out)
	}
	if err := TellLibraries(map[string]string{
		"DOCKER_HOST": host,
		// No image of testcontainers' reaper is needed: what a run leaves is found by label.
		"TESTCONTAINERS_RYUK_DISABLED": "true",
		// Ports are published on loopback, also where testcontainers takes this host for a container itself.
		"TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
	}); err != nil {
		return nil, err
	}
	return &Engine{Host: host, Managed: said["MANAGED"] == "true"}, nil
}

// Down stops the managed engine; another engine is left alone.
func Down(ctx context.Context, scripts fs.FS, dir string, log io.Writer) error {
	cmd, err := script(ctx, scripts, dir, "down")
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = log, io.MultiWriter(&out, log)
	if err := cmd.Run(); err != nil {
		return failed(ctx, "stop the docker engine", err, out.String())
	}
	return nil
}

// RemoveData stops the managed engine and removes its images, containers and volumes from the disk.
func RemoveData(ctx context.Context, scripts fs.FS, dir string) error {
	cmd, err := script(ctx, scripts, dir, "purge")
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return failed(ctx, "remove the docker engine's data", err, string(out))
	}
	return nil
}

// Running says whether an engine answers, managed or not. It starts nothing.
func Running(ctx context.Context, scripts fs.FS, dir string) bool {
	cmd, err := script(ctx, scripts, dir, "status")
	return err == nil && cmd.Run() == nil
}

// install writes the scripts to dir, atomically: another run may be executing them.
func install(scripts fs.FS, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"engine", "runc-shim"} {
		content, err := fs.ReadFile(scripts, name)
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue
		}
		partial := fmt.Sprintf("%s.%d", path, os.Getpid())
		if err := os.WriteFile(partial, content, 0o755); err != nil {
			return "", err
		}
		if err := os.Rename(partial, path); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "engine"), nil
}

// Docker runs the docker command and returns its standard output, trimmed. Its standard error is part of the error only.
func (e *Engine) Docker(ctx context.Context, args ...string) (string, error) {
	return e.DockerWithInput(ctx, nil, args...)
}

// DockerWithInput is Docker with a standard input.
func (e *Engine) DockerWithInput(ctx context.Context, input io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.Host)
	cmd.Stdin = input
	cmd.WaitDelay = pipePatience
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		command := "docker " + strings.Join(args[:min(len(args), 3)], " ")
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: %w", command, ctx.Err())
		}
		return "", fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Version is the engine's name and version, such as "Docker 28.5.2". An engine that hangs is an error.
func (e *Engine) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	return e.Docker(ctx, "version", "--format", "Docker {{.Server.Version}}")
}

// HasImage says whether the engine holds an image of this reference, tag or digest.
func (e *Engine) HasImage(ctx context.Context, reference string) bool {
	_, err := e.Docker(ctx, "image", "inspect", "--format", "{{.Id}}", reference)
	return err == nil
}
