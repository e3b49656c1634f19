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

// follower reads the log of one container into one file, over its restarts, over
// broken connections, and over the pods that bear the same name one after the
// other: the API hands out logs by name, so two that read side by side could
// read each other's.
type follower struct {
	c                         *Collector
	namespace, pod, container string
	path                      string
	changed                   chan struct{} // a look at the state is due
	finished                  atomic.Bool

	mu    sync.Mutex
	state state

	// Only run uses these.
	position
	bridged bool // the next restart that the status shows has been dealt with
}

// instance tells one run of a container from the next.
type instance struct {
	uid      string // of the pod
	restarts int
}

// state is what the pod's status said last.
type state struct {
	instance
	running bool
	noPod   bool
}

// position is how far a log has been read. The API resumes at whole seconds;
// the time of the last line, and how many lines had that time, make it exact.
type position struct {
	last     time.Time
	lastSeen int
}

func (f *follower) String() string {
	return fmt.Sprintf("%s/%s %s", f.namespace, f.pod, f.container)
}

// update takes in a status of the container.
func (f *follower) update(i instance, running bool) {
	f.mu.Lock()
	f.state = state{instance: i, running: running}
	f.mu.Unlock()
	f.notify()
}

// podGone says that the pod of that UID is no more.
func (f *follower) podGone(uid string) {
	f.mu.Lock()
	if f.state.uid == uid {
		f.state.noPod = true
	}
	f.mu.Unlock()
	f.notify()
}

func (f *follower) notify() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *follower) now() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// run follows until the collector closes.
func (f *follower) run() {
	defer f.finished.Store(true)
	ctx := f.c.streaming
	var at instance
	failures := 0
	atEnd := false  // the log of this instance has been read up to a clean end
	broken := false // the last stream was cut
	for ctx.Err() == nil {
		if now := f.now(); now.instance != at {
			f.turn(ctx, at, now.instance)
			at, atEnd = now.instance, false
		}
		var err error
		if broken {
			err = f.bridge(ctx)
		}
		if err == nil {
			before := f.position
			err = f.read(ctx, logOptions{follow: true})
			if err == nil || f.position != before {
				failures = 0 // it does answer
			}
		}
		if ctx.Err() != nil {
			break
		}
		broken = err != nil
		if err == nil {
			atEnd = true
		}
		now := f.now()
		podGone := gone(err) || now.noPod || now.uid != at.uid
		if err == nil && !now.running && !podGone && now.instance == at {
			// An API server that shuts down ends streams cleanly too: read on
			// from the last line to be sure.
			err = f.read(ctx, logOptions{})
			podGone = gone(err)
			if err == nil || podGone {
				if !f.rest(ctx, at, podGone) {
					return
				}
				continue
			}
		}
		switch {
		case podGone:
			if !atEnd {
				f.c.lose("%s: the pod was deleted before its log was read to the end (%v)", f, err)
			}
			broken = false
			if !f.rest(ctx, at, true) {
				return
			}
			continue
		case now.instance != at:
			continue
		case err != nil && !refused(err):
			atEnd = false
		}
		f.pause(ctx, retry(failures))
		failures++
	}
	f.finish(atEnd)
}

// turn goes from one instance of the container to the next: first what the
// former wrote since it was last read.
func (f *follower) turn(ctx context.Context, from, to instance) {
	first, samePod := from.uid == "", from.uid == to.uid
	if !first && !samePod {
		f.mark("another pod of that name, UID %s", to.uid)
	}
	if to.restarts == 0 {
		return
	}
	err := f.read(ctx, logOptions{previous: true})
	if samePod && err != nil && ctx.Err() == nil {
		f.c.lose("%s: the end of the log before restart %d: %v", f, to.restarts, err)
	}
	if samePod && to.restarts-from.restarts > 1 {
		f.c.lose("%s: restarted %d times between two looks", f, to.restarts-from.restarts)
	}
	if !f.bridged {
		f.mark("restarted")
	}
	f.bridged = false
}

// bridge goes on after a stream was cut. The container may have restarted
// meanwhile, which its status tells later than its log does: the instance that
// was being read is then the previous one, and has lines that are new. Where it
// has not, the previous instance's lines are all old, or there is none.
func (f *follower) bridge(ctx context.Context) error {
	before := f.position
	err := f.read(ctx, logOptions{previous: true})
	if f.position != before && !before.last.IsZero() {
		f.mark("restarted")
		f.bridged = true
	}
	if refused(err) {
		return nil
	}
	return err
}

// rest waits, with everything read, for the next instance (true) or for the
// collector's closing (false).
func (f *follower) rest(ctx context.Context, at instance, podGone bool) bool {
	for {
		now := f.now()
		if now.instance != at || (now.running && !podGone && !now.noPod) {
			return true
		}
		select {
		case <-ctx.Done():
			return f.now().instance != at // the last look may have found one
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
	if err != nil && (!atEnd || !gone(err)) {
		f.c.lose("%s: the rest of the log: %v", f, err)
	}
}

// mark puts a line of the collector's own into the file. A disk that does not
// take it shows at the next line of the log.
func (f *follower) mark(format string, args ...any) {
	_ = f.write(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "--- "+format+"\n", args...)
		return err
	})
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
