// Package progress tells a person at a terminal (or in a CI log) what is going on: one line when a task starts, a
// sign of life while it runs, one line when it ends. Every line carries the time since the start of the run.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// heartbeat is how long a running task may stay silent.
const heartbeat = 15 * time.Second

// Log writes progress lines. It is safe for concurrent use; a nil *Log is silent.
type Log struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
}

// New starts the clock that the lines carry.
func New(w io.Writer) *Log { return &Log{w: w, start: time.Now()} }

// Printf writes one line.
func (l *Log) Printf(format string, args ...any) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.w, "[%7.1fs] %s\n", time.Since(l.start).Seconds(), fmt.Sprintf(format, args...))
}

// Task is one thing that takes time. Done must be called once.
type Task struct {
	log    *Log
	title  string
	start  time.Time
	mu     sync.Mutex
	status string
	stop   chan struct{}
}

// Task announces a task and shows it as running until Done.
func (l *Log) Task(format string, args ...any) *Task {
	t := &Task{log: l, title: fmt.Sprintf(format, args...), start: time.Now(), stop: make(chan struct{})}
	l.Printf("%s …", t.title)
	go func() {
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-ticker.C:
				l.Printf("%s … %s%s", t.title, Duration(time.Since(t.start)), t.suffix())
			}
		}
	}()
	return t
}

// Status sets what the next sign of life says the task is at.
func (t *Task) Status(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status = fmt.Sprintf(format, args...)
}

func (t *Task) suffix() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status == "" {
		return ""
	}
	return ", " + t.status
}

// Done ends the task and says how; it returns err for convenience.
func (t *Task) Done(err error) error {
	close(t.stop)
	if err != nil {
		t.log.Printf("%s FAILED after %s", t.title, Duration(time.Since(t.start)))
		return err
	}
	t.log.Printf("%s done in %s%s", t.title, Duration(time.Since(t.start)), t.suffix())
	return nil
}

// Duration is a duration as a person reads it: 0.3 s, 12 s, 4 min 10 s.
func Duration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	default:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}
