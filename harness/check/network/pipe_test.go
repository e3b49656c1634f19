package network

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPipeKeepsWhatIsWritten(t *testing.T) {
	a, b := pipe()
	for _, text := range []string{"one ", "two"} {
		if n, err := io.WriteString(a, text); n != len(text) || err != nil { // nobody reads yet
			t.Fatal(n, err)
		}
	}
	_ = a.Close()
	if got, err := io.ReadAll(b); string(got) != "one two" || err != nil {
		t.Errorf("want what was written before the end, found %q, %v", got, err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after the end: %v", err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a write that nobody will read: %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after the end: %v", err)
	}
}

func TestAReadOfAPipeEnds(t *testing.T) {
	for name, c := range map[string]struct {
		how   func(reader, other net.Conn)
		want  error
		after time.Duration
	}{
		"by the other end":       {func(_, other net.Conn) { _ = other.Close() }, io.EOF, 0},
		"by its own end":         {func(reader, _ net.Conn) { _ = reader.Close() }, net.ErrClosed, 0},
		"by a deadline":          {func(reader, _ net.Conn) { _ = reader.SetReadDeadline(time.Now().Add(time.Hour)) }, os.ErrDeadlineExceeded, time.Hour},
		"by a deadline for both": {func(reader, _ net.Conn) { _ = reader.SetDeadline(time.Now().Add(time.Hour)) }, os.ErrDeadlineExceeded, time.Hour},
		"by one that has passed": {func(reader, _ net.Conn) { _ = reader.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded, 0},
		"by one that is set anew": {func(reader, _ net.Conn) {
			_ = reader.SetReadDeadline(time.Now().Add(time.Minute))
			_ = reader.SetReadDeadline(time.Now().Add(time.Hour))
		}, os.ErrDeadlineExceeded, time.Hour},
		"not by one that is taken back": {func(reader, other net.Conn) {
			_ = reader.SetReadDeadline(time.Now().Add(time.Minute))
			_ = reader.SetReadDeadline(time.Time{})
			time.AfterFunc(2*time.Hour, func() { _ = other.Close() })
		}, io.EOF, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reader, other := pipe()
				began, ended := time.Now(), make(chan error, 1)
				go func() {
					_, err := reader.Read(make([]byte, 1))
					ended <- err
				}()
				synctest.Wait()
				c.how(reader, other)
				if err := <-ended; !errors.Is(err, c.want) || time.Since(began) != c.after {
					t.Errorf("want %v after %s, found %v after %s", c.want, c.after, err, time.Since(began))
				}
			})
		})
	}
}

// net/http takes a read back by a deadline that has passed, and reads on.
func TestAReadOfAPipeGoesOn(t *testing.T) {
	a, b := pipe()
	_ = b.SetReadDeadline(time.Unix(1, 0))
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	_ = b.SetReadDeadline(time.Time{})
	go func() { _, _ = io.WriteString(a, "x") }()
	p := make([]byte, 2)
	if n, err := b.Read(p); n != 1 || err != nil {
		t.Errorf("found %q, %v", p[:n], err)
	}
}
