//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/workload/dataset"
	"github.com/smart-restore/conformance/harness/workload/ledger"
)

// asAgent in the environment makes the test binary the agent, to be tested as a process.
const asAgent = "CONFORMANCE_TEST_AS_AGENT"

func TestMain(m *testing.M) {
	switch os.Getenv(asAgent) {
	case "":
		os.Exit(m.Run())
	case "with-child":
		// A child that dies at once and that nobody waits for, as an orphan of an exec would be.
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"agent", "help"}, &syscall.ProcAttr{Env: []string{asAgent + "=1"}})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(pid)
	}
	main()
}

// agent runs the agent in this process and fails the test unless it exits with code.
func agent(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(args, &out, &errs); got != code {
		t.Fatalf("agent %q: exit %d, want %d; stderr:\n%s", args, got, code, errs.String())
	}
	return out.String(), errs.String()
}

func decode[T any](t *testing.T, raw string) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %.200q", err, raw)
	}
	return v
}

func TestUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"nothing":            {nil, 2, "usage: agent"},
		"unknown":            {[]string{"dance"}, 2, `unknown subcommand "dance"`},
		"unknown flag":       {[]string{"get", "--fast"}, 2, "-fast"},
		"argument":           {[]string{"idle", "now"}, 2, `unexpected argument "now"`},
		"write nowhere":      {[]string{"write", "--seed", "s"}, 2, "--dir is required"},
		"write nothing":      {[]string{"write", "--dir", "d"}, 2, "--seed is required"},
		"manifest":           {[]string{"manifest"}, 2, "--dir is required"},
		"put":                {[]string{"put", "--content", "c"}, 2, "--file is required"},
		"get":                {[]string{"get"}, 2, "--file is required"},
		"probe":              {[]string{"probe"}, 2, "--url is required"},
		"bad duration":       {[]string{"probe", "--url", "http://127.0.0.1:1", "--timeout", "2"}, 2, "invalid value"},
		"bad URL":            {[]string{"probe", "--url", "127.0.0.1:1"}, 1, "probe"},
		"keep writing":       {[]string{"keep-writing"}, 2, "--dir is required"},
		"write nowhere more": {[]string{"keep-writing", "--dir", "/no/such"}, 1, "/no/such"},
		"read no ledger":     {[]string{"read-ledger"}, 2, "--dir is required"},
		"no ledger there":    {[]string{"read-ledger", "--dir", "/no/such"}, 1, "/no/such"},
		"no such folder":     {[]string{"manifest", "--dir", "/no/such"}, 1, "/no/such"},
		"write to no folder": {[]string{"write", "--seed", "s", "--dir", "/no/such"}, 1, "/no/such"},
		"no such file":       {[]string{"get", "--file", "/no/such"}, 1, "/no/such"},
		"put in no folder":   {[]string{"put", "--file", "/no/such/file"}, 1, "/no/such/file"},
		"get a folder":       {[]string{"get", "--file", "/"}, 1, "is a directory"},
		"help for one":       {[]string{"write", "-h"}, 0, "-seed"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr := agent(t, tc.code, tc.args...)
			if stdout != "" {
				t.Errorf("stdout is %q", stdout)
			}
			if !strings.Contains(stderr, tc.stderr) || tc.stderr == "" && stderr != "" {
				t.Errorf("stderr is %q, want %q in it", stderr, tc.stderr)
			}
		})
	}
	if stdout, _ := agent(t, 0, "--help"); !strings.Contains(stdout, "usage: agent") {
		t.Errorf("help is %q", stdout)
	}
}

func TestWriteAndManifest(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() {
		// Else only root could remove what is in the data set's read-only folder.
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(name, 0o700)
			}
			return err
		})
	})
	args := []string{"write", "--dir", dir, "--seed", "run-1", "--small", "3", "--large", "100000"}
	if os.Geteuid() != 0 {
		args = append(args, "--owners=false")
	}
	var stdout, stderr bytes.Buffer
	if run(args, &stdout, &stderr) != 0 {
		if !strings.Contains(stderr.String(), dataset.ErrXattrsUnsupported.Error()) {
			t.Fatal(stderr.String())
		}
		stdout.Reset()
		out, _ := agent(t, 0, append(args, "--xattrs=false")...)
		stdout.WriteString(out)
	}
	written := decode[dataset.Manifest](t, stdout.String())
	if written.Seed != "run-1" {
		t.Errorf("seed is %q", written.Seed)
	}
	if _, bytes := written.Totals(); bytes < 100_000 {
		t.Errorf("%d bytes", bytes)
	}
	out, _ := agent(t, 0, "manifest", "--dir", dir)
	if diffs := dataset.Diff(written, decode[dataset.Manifest](t, out)); len(diffs) != 0 {
		t.Error(dataset.Summary(diffs, 10))
	}
	if got, _ := agent(t, 0, "get", "--file", filepath.Join(dir, dataset.SentinelName)); got != "run-1\n" {
		t.Errorf("sentinel is %q", got)
	}
}

func TestPutAndGet(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ü x")
	for _, content := range []string{"a longer content\nof two lines\n", "<ü>", ""} {
		out, _ := agent(t, 0, "put", "--file", name, "--content", content)
		if got := decode[written](t, out); got.File != name || got.Bytes != len(content) || len(got.SHA256) != 64 {
			t.Errorf("put %q gave %+v", content, got)
		}
		if got, _ := agent(t, 0, "get", "--file", name); got != content {
			t.Errorf("put %q, got %q", content, got)
		}
	}
}

func TestProbe(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", r.Method)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer s.Close()
	out, _ := agent(t, 0, "probe", "--url", s.URL, "--timeout", "10s")
	if got := decode[probe.Result](t, out); got.Class != probe.HTTP || got.Status != 403 || got.Headers["Server"] != "GET" {
		t.Errorf("got %+v", got)
	}
	out, _ = agent(t, 0, "probe", "--url", s.URL, "--timeout", "10s", "--method", "DELETE")
	if got := decode[probe.Result](t, out); got.Class != probe.HTTP || got.Headers["Server"] != "DELETE" {
		t.Errorf("got %+v", got)
	}
	here := httptest.NewServer(http.RedirectHandler(s.URL, http.StatusFound))
	defer here.Close()
	for args, want := range map[string]int{"": 302, "--follow": 403} {
		out, _ = agent(t, 0, strings.Fields("probe --timeout 10s --url "+here.URL+" "+args)...)
		if got := decode[probe.Result](t, out); got.Status != want {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	// A fault is an observation, not an error.
	s.Close()
	out, _ = agent(t, 0, "probe", "--url", s.URL)
	if got := decode[probe.Result](t, out); got.Class != probe.Refused || got.Status != 0 || got.Error == "" {
		t.Errorf("got %+v", got)
	}
}

func TestFramed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("two\nlines"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		args []string
		want frame.Reply
	}{
		"a result":     {[]string{"get", "--file", name}, frame.Reply{Stdout: []byte("two\nlines")}},
		"an error":     {[]string{"get", "--file", name + ".not"}, frame.Reply{Stdout: []byte{}, ExitCode: 1}},
		"no such word": {[]string{"dance"}, frame.Reply{Stdout: []byte{}, ExitCode: 2}},
	} {
		out, _ := agent(t, 0, append([]string{"framed"}, c.args...)...)
		got, err := frame.Read([]byte(out))
		if err != nil || got.ExitCode != c.want.ExitCode || !bytes.Equal(got.Stdout, c.want.Stdout) {
			t.Errorf("%s: got %q, exit code %d, %v", what, got.Stdout, got.ExitCode, err)
		}
	}
}

func TestIdle(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "idle")
			cmd.Env = append(os.Environ(), asAgent+"=with-child")
			cmd.Stderr = os.Stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := make(chan error, 1)
			var child int
			if _, err := fmt.Fscanln(stdout, &child); err != nil {
				t.Error(err)
			}
			go func() { exited <- cmd.Wait() }()

			// Gone means reaped: a zombie still is in /proc.
			deadline := time.Now().Add(30 * time.Second)
			for {
				_, err := os.Stat(fmt.Sprintf("/proc/%d", child))
				if errors.Is(err, os.ErrNotExist) {
					break
				}
				if time.Now().After(deadline) {
					t.Errorf("child %d is still there", child)
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			select {
			case err := <-exited:
				t.Fatalf("exited without a signal: %v", err)
			default:
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-exited:
				if err != nil {
					t.Errorf("exited with %v, want 0", err)
				}
			case <-time.After(30 * time.Second):
				_ = cmd.Process.Kill()
				t.Error("does not exit")
			}
		})
	}
}

// The app writes until it is told to stop, and what it leaves is whole.
func TestKeepWriting(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "keep-writing", "--dir", dir, "--ballast", "2", "--size", "1000")
	cmd.Env = append(os.Environ(), asAgent+"=1")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	deadline := started.Add(30 * time.Second)
	for {
		var out, errs bytes.Buffer // at first, there is no log
		if run([]string{"read-ledger", "--dir", dir}, &out, &errs) == 0 && decode[ledger.State](t, out.String()).Log > 2*refreshEvery {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not write: %s", errs.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("exited with %v, want 0", err)
		}
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatal("does not exit")
	}
	if info, err := os.Stat(filepath.Join(dir, "5-ballast-001")); err != nil || !info.ModTime().After(started.Add(50*writePause)) {
		t.Errorf("the ballast is as old as the first record: %v, %v", info.ModTime(), err)
	}
	out, _ := agent(t, 0, "read-ledger", "--dir", dir)
	if s := decode[ledger.State](t, out); s.Broken != "" || s.Log != s.Table {
		t.Errorf("left %+v", s)
	}
}

func TestPutPrivate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	agent(t, 0, "put", "--file", name, "--content", "c", "--private-of", strconv.Itoa(os.Getuid()))
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
