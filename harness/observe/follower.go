package observe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// follower reads the log of one container of one pod, over its restarts and
// over broken connections, into one file.
type follower struct {
	c                         *Collector
	namespace, pod, container string
	uid                       string
	path                      string
	again                     bool          // the file has the log of an earlier pod of that name
	changed                   chan struct{} // a look at the state is due
	finished                  atomic.Bool

	mu       sync.Mutex
	restarts int
	running  bool
	noPod    bool

	// Only run uses these. The API resumes a log at whole seconds; the time of
	// the last line, and how many lines had that time, make it exact.
	last     time.Time
	lastSeen int
}

func (f *follower) String() string {
	return fmt.Sprintf("%s/%s %s", f.namespace, f.pod, f.container)
}

func (f *follower) update(restarts int, running bool) {
	f.mu.Lock()
	f.restarts, f.running = restarts, running
	f.mu.Unlock()
	f.notify()
}

func (f *follower) podGone() {
	f.mu.Lock()
	f.noPod = true
	f.mu.Unlock()
	f.notify()
}

func (f *follower) notify() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *follower) state() (restarts int, running, noPod bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.restarts, f.running, f.noPod
}

// run follows until the pod is gone or the collector closes.
func (f *follower) run() {
	defer f.finished.Store(true)
	ctx := f.c.streaming
	if f.again {
		f.mark("another pod of that name, UID %s", f.uid)
	}
	followed, failures := -1, 0
	atEnd := false // the log of this instance has been read up to a clean end
	for ctx.Err() == nil {
		if restarts, _, _ := f.state(); restarts != followed {
			f.turn(ctx, followed, restarts)
			followed, atEnd = restarts, false
		}
		err := f.read(ctx, logOptions{follow: true})
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			atEnd = true
		}
		restarts, running, noPod := f.state()
		switch {
		case restarts != followed:
			continue
		case gone(err) || noPod:
			if !atEnd {
				f.c.lose("%s: the pod was deleted before its log was read to the end (%v)", f, err)
			}
			return
		case err == nil && !running:
			// An API server that shuts down ends streams cleanly too: read on
			// from the last line to be sure.
			if err = f.read(ctx, logOptions{}); err == nil {
				if !f.rest(ctx, followed) {
					return
				}
				continue
			}
			if gone(err) {
				return
			}
			atEnd = false
		case err != nil:
			atEnd = false
		}
		f.pause(ctx, retry(failures))
		failures++
		if err == nil {
			failures = 0
		}
	}
	f.finish(atEnd)
}

// turn goes from one instance of the container to the next: first what the
// former wrote since it was last read.
func (f *follower) turn(ctx context.Context, from, to int) {
	if to == 0 {
		return
	}
	err := f.read(ctx, logOptions{previous: true})
	if from >= 0 && err != nil && ctx.Err() == nil {
		f.c.lose("%s: the end of the log before restart %d: %v", f, to, err)
	}
	if from >= 0 && to-from > 1 {
		f.c.lose("%s: restarted %d times between two looks", f, to-from)
	}
	f.mark("restart %d", to)
}

// mark puts a line of the collector's own into the file. A disk that does not
// take it shows at the next line of the log.
func (f *follower) mark(format string, args ...any) {
	_ = f.write(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "--- "+format+"\n", args...)
		return err
	})
}

// rest waits, with everything read, for a restart (true) or the end (false).
func (f *follower) rest(ctx context.Context, followed int) bool {
	for {
		restarts, running, noPod := f.state()
		switch {
		case restarts != followed || running:
			return true
		case noPod:
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-f.changed:
		}
	}
}

func (f *follower) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-f.changed:
	case <-t.C:
	}
}

// finish reads what came since the stream was cut by the collector's closing.
func (f *follower) finish(atEnd bool) {
	ctx := f.c.closing
	select {
	case f.c.slots <- struct{}{}:
		defer func() { <-f.c.slots }()
	case <-ctx.Done():
		f.c.lose("%s: the rest of the log: no time left", f)
		return
	}
	err := f.read(ctx, logOptions{})
	if err != nil && !(atEnd && gone(err)) {
		f.c.lose("%s: the rest of the log: %v", f, err)
	}
}

// write opens the log file, lets do write to it, and closes it: a quiet
// container costs no file handle.
func (f *follower) write(do func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w := f.c.options.Redact.Writer(file)
	return errors.Join(do(w), w.Close(), file.Close())
}

// read appends to the file what the log has gained since the last line read,
// to its end or, when following, until the stream ends. nil is a clean end.
func (f *follower) read(ctx context.Context, o logOptions) error {
	o.since = f.last
	body, err := f.c.kube.log(ctx, f.namespace, f.pod, f.container, o)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	return f.write(func(w io.Writer) error { return f.copy(w, body) })
}

// copy writes the lines of body that are new. A line that the stream broke off
// in is left out: it comes again whole.
func (f *follower) copy(w io.Writer, body io.Reader) error {
	r := bufio.NewReaderSize(body, 1<<20)
	resumeAt, already := f.last, f.lastSeen
	resuming := !resumeAt.IsZero()
	inLine := false // of a line longer than the buffer
	skipLine := false
	var lines, size int
	defer func() {
		f.c.mu.Lock()
		f.c.counts.lines += lines
		f.c.counts.bytes += size
		f.c.mu.Unlock()
	}()
	for {
		line, err := r.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !tooLong && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 0 {
			if !inLine {
				at, known := lineTime(line)
				skipLine = false
				switch {
				case resuming && !known, resuming && at.Before(resumeAt):
					skipLine = true
				case resuming && at.Equal(resumeAt) && already > 0:
					already--
					skipLine = true
				default:
					resuming = false
					switch {
					case known && at.Equal(f.last):
						f.lastSeen++
					case known && at.After(f.last): // stdout and stderr may cross by microseconds
						f.last, f.lastSeen = at, 1
					}
					lines++
				}
			}
			inLine = tooLong
			if !skipLine {
				if err != nil && !tooLong { // the last line lacks its end
					line = append(bytes.Clone(line), '\n')
				}
				size += len(line)
				if _, err := w.Write(line); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
}

// lineTime is the time in front of a line.
func lineTime(line []byte) (time.Time, bool) {
	head, _, found := bytes.Cut(line, []byte(" "))
	if !found {
		head = bytes.TrimSpace(line) // an empty line has its time alone
	}
	if len(head) > 40 {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(head))
	return t, err == nil
}
