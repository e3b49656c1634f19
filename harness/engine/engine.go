// Package engine is the Docker engine that the stack runs on: one that is running, or one of our own that
// scripts/engine installs and starts. What needs no more than its command line goes through that, as kind does.
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
)

// Engine is a running Docker engine.
type Engine struct {
	Host string // as in DOCKER_HOST
	Own  bool   // started by scripts/engine, by this run or another
}

// Up makes sure that an engine runs, and points the libraries of this process at it. dir is where the scripts are put; what
// they say goes to log.
func Up(ctx context.Context, scripts fs.FS, dir string, log io.Writer) (*Engine, error) {
	script, err := install(scripts, dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, script, "up")
	var stderr bytes.Buffer
	cmd.Stderr = io.MultiWriter(&stderr, log)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("docker engine: %s", cmp.Or(lastLine(stderr.String()), err.Error()))
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[name] = value
	}
	host := said["DOCKER_HOST"]
	if host == "" {
		return nil, fmt.Errorf("docker engine: the engine script said %q, wanted DOCKER_HOST=…", out)
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
	return &Engine{Host: host, Own: said["OWN"] == "true"}, nil
}

// Down stops our own engine; somebody else's is left alone.
func Down(ctx context.Context, scripts fs.FS, dir string, log io.Writer) error {
	script, err := install(scripts, dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, script, "down")
	cmd.Stdout, cmd.Stderr = log, log
	return cmd.Run()
}

// RemoveData stops our own engine and removes its images, containers and volumes from the disk.
func RemoveData(ctx context.Context, scripts fs.FS, dir string) error {
	script, err := install(scripts, dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, script, "purge")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("remove the engine's data: %w: %s", err, lastLine(string(out)))
	}
	return nil
}

// Running says whether our own engine answers, without starting anything.
func Running(ctx context.Context, scripts fs.FS, dir string) bool {
	script, err := install(scripts, dir)
	return err == nil && exec.CommandContext(ctx, script, "status").Run() == nil
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

// Docker runs the docker command line and returns what it printed on stdout, trimmed.
func (e *Engine) Docker(ctx context.Context, args ...string) (string, error) {
	return e.DockerWithInput(ctx, nil, args...)
}

// DockerWithInput is Docker with a standard input.
func (e *Engine) DockerWithInput(ctx context.Context, input io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.Host)
	cmd.Stdin = input
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args[:min(len(args), 3)], " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// HasImage says whether the engine holds an image of this reference, tag or digest.
func (e *Engine) HasImage(ctx context.Context, reference string) bool {
	_, err := e.Docker(ctx, "image", "inspect", "--format", "{{.Id}}", reference)
	return err == nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
