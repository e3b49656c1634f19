// The agent is the conformance suite's hand inside a pod: one static binary, the only file of its image. It is the
// app that writes a data set on its volume, reads it back, and looks at the S3 endpoint from where the app runs.
//
// Each subcommand prints its result as JSON on stdout (get prints the file as it is) and exits 0; an error goes to
// stderr with exit 1, wrong usage to stderr with exit 2. "framed" before a subcommand frames its result. Run it without arguments for the list.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/smart-restore/conformance/harness/frame"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/workload/dataset"
	"github.com/smart-restore/conformance/harness/workload/ledger"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// command is a subcommand: define declares its flags and returns what to do once they are parsed.
type command struct {
	name, about string
	define      func(*flag.FlagSet) func(stdout io.Writer) error
}

var commands = []command{
	{"idle", "do nothing until SIGTERM or SIGINT, reaping orphans: a pod's main process", idle},
	{"write", "write a data set, print its manifest", write},
	{"manifest", "print the manifest of what is there", manifest},
	{"put", "write one small file and sync it", put},
	{"get", "print one file", get},
	{"probe", "look at an HTTP endpoint; exit 0 whatever it does", probeURL},
	{"framed", "run another subcommand, and print its exit code, length and checksum before its result", nil},
	{"keep-writing", "write a log and its table, record after record, until SIGTERM or SIGINT: a pod's main process", keepWriting},
	{"read-ledger", "read the log, all between and the table, and say whether the two fit", readLedger},
	{"connect", "lead stdin and stdout to a TCP address, until either ends", connect},
}

// usageError is an error of whoever typed the command.
type usageError struct{ error }

// run is main without the process: the exit code is its result.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	if args[0] == "framed" {
		return framed(args[1:], stdout, stderr)
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.run(args[1:], stdout, stderr)
		}
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(stdout)
		return exitOK
	}
	fmt.Fprintf(stderr, "agent: unknown subcommand %q\n", args[0])
	usage(stderr)
	return exitUsage
}

// framed runs another subcommand and puts a frame around its reply, exit code included: see package frame.
func framed(args []string, stdout, stderr io.Writer) int {
	var reply bytes.Buffer
	code := run(args, &reply, stderr)
	if err := frame.Write(stdout, code, reply.Bytes()); err != nil {
		fmt.Fprintf(stderr, "agent framed: %v\n", err)
		return exitError
	}
	return exitOK
}

func (c command) run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("agent "+c.name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	do := c.define(flags)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage // Parse has said why
	}
	if flags.NArg() > 0 {
		err = usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	} else {
		err = do(stdout)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "agent %s: %v\n", c.name, err)
	if errors.As(err, &usageError{}) {
		flags.Usage()
		return exitUsage
	}
	return exitError
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: agent <subcommand> [flags]; -h after a subcommand lists its flags")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.about)
	}
}

// required is a usage error for the first of the flags (name, value, name, value, …) that is empty.
func required(flags ...string) error {
	for i := 0; i+1 < len(flags); i += 2 {
		if flags[i+1] == "" {
			return usageError{fmt.Errorf("--%s is required", flags[i])}
		}
	}
	return nil
}

// printJSON prints v on one line, file names as they are.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func idle(*flag.FlagSet) func(io.Writer) error {
	return func(io.Writer) error { return untilTold(nil, nil) }
}

// untilTold does something at each tick, until SIGTERM or SIGINT, and reaps orphans.
func untilTold(ticks <-chan time.Time, do func() error) error {
	// The kernel delivers to process 1 only the signals that it handles.
	stop, child := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(child, syscall.SIGCHLD)
	for {
		// Before waiting too: a child may have died before Notify. One signal may stand for many children.
		reap()
		select {
		case <-stop:
			return nil
		case <-child:
		case <-ticks:
			if err := do(); err != nil {
				return err
			}
		}
	}
}

// The ballast of keep-writing: what a mover has to read between the log and the table takes it some tenths of a second.
const (
	ballastFiles = 16
	ballastBytes = 3 << 20
)

// refreshEvery is after how many records keep-writing writes a file of the ballast anew: some tenths of a second.
const refreshEvery = 100

// writePause is from one record to the next, or as long as the disk takes: of a few minutes' log, some megabytes are too many.
const writePause = 2 * time.Millisecond

func keepWriting(flags *flag.FlagSet) func(io.Writer) error {
	dir := flags.String("dir", "", "the volume's mount point, where no log is")
	files := flags.Int("ballast", ballastFiles, "number of files between the log and the table")
	size := flags.Int64("size", ballastBytes, "size of each of them in bytes")
	return func(io.Writer) error {
		if err := required("dir", *dir); err != nil {
			return err
		}
		l, err := ledger.Create(*dir, *files, *size)
		if err != nil {
			return err
		}
		ticker := time.NewTicker(writePause)
		defer ticker.Stop()
		n := 0
		add := func() error {
			if n++; n%refreshEvery == 0 {
				if err := l.Refresh(); err != nil {
					return err
				}
			}
			return l.Add()
		}
		return errors.Join(untilTold(ticker.C, add), l.Close())
	}
}

func readLedger(flags *flag.FlagSet) func(io.Writer) error {
	dir := flags.String("dir", "", "the volume's mount point")
	return func(stdout io.Writer) error {
		if err := required("dir", *dir); err != nil {
			return err
		}
		state, err := ledger.Read(*dir)
		if err != nil {
			return err
		}
		return printJSON(stdout, state)
	}
}

// reap takes the exit status of every child that has died: what an exec in the container leaves behind becomes a
// child of process 1.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

func write(flags *flag.FlagSet) func(io.Writer) error {
	spec := dataset.Default("")
	dir := flags.String("dir", "", "the volume's mount point")
	flags.StringVar(&spec.Seed, "seed", "", "makes the contents unique: the run's or spec's ID")
	flags.IntVar(&spec.SmallFiles, "small", spec.SmallFiles, "number of files of 0 B to 64 KiB")
	flags.Int64Var(&spec.LargeFileBytes, "large", spec.LargeFileBytes, "size of the one large file in bytes; 0 for none")
	flags.BoolVar(&spec.Owners, "owners", spec.Owners, "several owners; needs CAP_CHOWN")
	flags.BoolVar(&spec.Xattrs, "xattrs", spec.Xattrs, "user.* extended attributes")
	flags.BoolVar(&spec.ForeignSetgid, "foreign-setgid", spec.ForeignSetgid, "setgid folder of group 3000 instead of 0")
	return func(stdout io.Writer) error {
		if err := required("dir", *dir, "seed", spec.Seed); err != nil {
			return err
		}
		if err := dataset.Write(*dir, spec); err != nil {
			return err
		}
		return printManifest(stdout, *dir)
	}
}

func manifest(flags *flag.FlagSet) func(io.Writer) error {
	dir := flags.String("dir", "", "the volume's mount point")
	return func(stdout io.Writer) error {
		if err := required("dir", *dir); err != nil {
			return err
		}
		return printManifest(stdout, *dir)
	}
}

func printManifest(stdout io.Writer, dir string) error {
	m, err := dataset.Scan(dir)
	if err != nil {
		return err
	}
	return printJSON(stdout, m)
}

// written is put's result.
type written struct {
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"` // hex
}

func put(flags *flag.FlagSet) func(io.Writer) error {
	file := flags.String("file", "", "the file, made or overwritten; its folder must exist")
	content := flags.String("content", "", "the whole content, as it is")
	owner := flags.Int("private-of", -1, "the user whose the file is then, and who alone may read it; needs CAP_CHOWN; -1: whoever writes, and anybody may read it")
	return func(stdout io.Writer) error {
		if err := required("file", *file); err != nil {
			return err
		}
		if err := writeSynced(*file, *content); err != nil {
			return err
		}
		if *owner >= 0 {
			if err := errors.Join(os.Chmod(*file, 0o600), os.Chown(*file, *owner, *owner)); err != nil {
				return err
			}
		}
		sum := sha256.Sum256([]byte(*content))
		return printJSON(stdout, written{*file, len(*content), hex.EncodeToString(sum[:])})
	}
}

// writeSynced returns once the content and the name are on the volume.
func writeSynced(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func get(flags *flag.FlagSet) func(io.Writer) error {
	file := flags.String("file", "", "the file")
	return func(stdout io.Writer) error {
		if err := required("file", *file); err != nil {
			return err
		}
		f, err := os.Open(*file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = io.Copy(stdout, f)
		return err
	}
}

func probeURL(flags *flag.FlagSet) func(io.Writer) error {
	var r probe.Request
	flags.StringVar(&r.URL, "url", "", "absolute http or https URL")
	flags.StringVar(&r.Method, "method", "GET", "HTTP method")
	flags.DurationVar(&r.Timeout, "timeout", 2*time.Second, "bound on one probe, from the name to the body's last byte")
	flags.BoolVar(&r.Follow, "follow", false, "follow redirects, as most clients do")
	return func(stdout io.Writer) error {
		if err := required("url", r.URL); err != nil {
			return err
		}
		result, err := probe.Do(context.Background(), r)
		if err != nil {
			return err
		}
		return printJSON(stdout, result)
	}
}
