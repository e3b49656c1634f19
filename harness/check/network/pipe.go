package network

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipe is a connection in memory whose ends, unlike net.Pipe's, do not wait for each other: what is written is kept until it is read, as
// by a kernel. Else two that end TLS both wait for the other to read, until one gives up.
func pipe() (net.Conn, net.Conn) {
	there, back := newHalf(), newHalf()
	return &end{in: back, out: there, given: newDeadline()}, &end{in: there, out: back, given: newDeadline()}
}

// half is one direction of a pipe.
type half struct {
	mu     sync.Mutex
	data   []byte
	ended  bool          // by who writes: what is there is the last
	unread bool          // by who reads: nobody will
	news   chan struct{} // of the above, for the one reader
}

func newHalf() *half { return &half{news: make(chan struct{}, 1)} }

func (h *half) change(how func()) {
	h.mu.Lock()
	how()
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// take reads what is there. done says that it has something to say: bytes, or an end.
func (h *half) take(p []byte) (n int, done bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.unread:
		return 0, true, net.ErrClosed
	case len(h.data) > 0 || len(p) == 0:
		n = copy(p, h.data)
		h.data = h.data[n:]
		return n, true, nil
	case h.ended:
		return 0, true, io.EOF
	}
	return 0, false, nil
}

// end is one end of a pipe.
type end struct {
	in, out *half
	given   *deadline // to reads; writes take no time
}

func (e *end) Read(p []byte) (int, error) {
	for {
		over := e.given.over()
		select {
		case <-over:
			return 0, os.ErrDeadlineExceeded
		default:
		}
		if n, done, err := e.in.take(p); done {
			return n, err
		}
		select {
		case <-e.in.news:
		case <-over:
		}
	}
}

func (e *end) Write(p []byte) (n int, err error) {
	e.out.change(func() {
		switch {
		case e.out.ended:
			err = net.ErrClosed
		case e.out.unread:
			err = io.ErrClosedPipe
		default:
			e.out.data = append(e.out.data, p...)
			n = len(p)
		}
	})
	return n, err
}

func (e *end) Close() error {
	e.out.change(func() { e.out.ended = true })
	e.in.change(func() { e.in.unread, e.in.data = true, nil })
	return nil
}

func (e *end) LocalAddr() net.Addr              { return pipeAddr("pipe") }
func (e *end) RemoteAddr() net.Addr             { return pipeAddr("pipe") }
func (e *end) SetWriteDeadline(time.Time) error { return nil }

func (e *end) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

func (e *end) SetReadDeadline(t time.Time) error {
	e.given.set(t)
	return nil
}

// deadline is a time that can be set anew while somebody waits for it.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when it has
}

func newDeadline() *deadline { return &deadline{passed: make(chan struct{})} }

func (d *deadline) over() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // it is passing
	}
	d.timer = nil
	hasPassed := false
	select {
	case <-d.passed:
		hasPassed = true
	default:
	}
	left := time.Until(t)
	switch {
	case !t.IsZero() && left <= 0:
		if !hasPassed {
			close(d.passed)
		}
		return
	case hasPassed:
		d.passed = make(chan struct{})
	}
	if !t.IsZero() {
		passed := d.passed
		d.timer = time.AfterFunc(left, func() { close(passed) })
	}
}
