// Package redact keeps secrets out of what a run writes: a Redactor replaces them on the way, Files in files that somebody
// else wrote, and Scan proves that none is left.
package redact

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Redacted is what stands in an artifact where a secret stood.
const Redacted = "[redacted]"

// minSecret is the shortest secret, in bytes, that is looked for: what is shorter also stands in ordinary words, so
// replacing it would garble the artifacts, and finding it would prove nothing.
const minSecret = 6

// TooShort reports whether a secret is too short to be replaced or found.
func TooShort(secret string) bool { return len(secret) < minSecret }

// Redactor replaces secrets in what is written to artifacts. It is safe for
// concurrent use; a nil *Redactor passes everything through.
type Redactor struct {
	mu       sync.Mutex // serialises Add
	patterns map[string]struct{}
	set      atomic.Pointer[patternSet]
}

// patternSet is immutable, so that writers need no lock.
type patternSet struct {
	byFirst [256][][]byte // longest first
	// begins says whether a pattern begins with these two bytes: nearly all places are passed over by it.
	begins [1 << 16]bool
}

func newPatternSet(patterns []string) *patternSet {
	slices.SortFunc(patterns, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	set := &patternSet{}
	for _, p := range patterns {
		set.byFirst[p[0]] = append(set.byFirst[p[0]], []byte(p))
		set.begins[pair(p[0], p[1])] = true
	}
	return set
}

func pair(first, second byte) int { return int(first)<<8 | int(second) }

// at is the longest pattern that b begins with, if any; or whether b is too short to tell.
func (s *patternSet) at(b []byte, final bool) (pattern []byte, more bool) {
	if len(b) > 1 && !s.begins[pair(b[0], b[1])] {
		return nil, false
	}
	for _, p := range s.byFirst[b[0]] {
		if len(p) > len(b) {
			// Longest first: a longer secret that may still come to be wins over a shorter one that is already there.
			if !final && bytes.HasPrefix(p, b) {
				return nil, true
			}
			continue
		}
		if bytes.HasPrefix(b, p) {
			return p, false
		}
	}
	return nil, false
}

// NewRedactor returns a Redactor of these secrets; see Add.
func NewRedactor(secrets ...string) *Redactor {
	r := &Redactor{patterns: map[string]struct{}{}}
	r.set.Store(&patternSet{})
	r.Add(secrets...)
	return r
}

// Add makes the Redactor replace these secrets too, in each of their forms: see Kind. One that is TooShort is ignored.
// Writers that are open use the new secrets from their next Write on.
func (r *Redactor) Add(secrets ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		for p := range forms(s) {
			r.patterns[p] = struct{}{}
		}
	}
	all := make([]string, 0, len(r.patterns))
	for p := range r.patterns {
		all = append(all, p)
	}
	r.set.Store(newPatternSet(all))
}

// Bytes returns b with every secret replaced. b itself is not changed.
func (r *Redactor) Bytes(b []byte) []byte {
	if r == nil {
		return b
	}
	out, _ := r.set.Load().replace(nil, b, true)
	return out
}

// String is Bytes for strings.
func (r *Redactor) String(s string) string {
	if r == nil {
		return s
	}
	return string(r.Bytes([]byte(s)))
}

// replace appends b to dst with secrets replaced, longest first at each
// position from the left. Unless final, it stops where the rest of b could be
// the start of a secret, and returns that rest.
func (s *patternSet) replace(dst, b []byte, final bool) (out, rest []byte) {
	from := 0 // b[from:i] is to be copied
	for i := 0; i < len(b); {
		p, more := s.at(b[i:], final)
		if more {
			return append(dst, b[from:i]...), b[i:]
		}
		if p == nil {
			i++
			continue
		}
		dst = append(append(dst, b[from:i]...), Redacted...)
		i += len(p)
		from = i
	}
	return append(dst, b[from:]...), nil
}

// Writer returns a writer that passes on to w what is written to it, with
// secrets replaced even where one is spread over several writes. It holds back
// only what may be the start of a secret; Close writes that out. Close does not
// close w. The writer is safe for concurrent use.
func (r *Redactor) Writer(w io.Writer) io.WriteCloser {
	return &redactingWriter{r: r, w: w}
}

type redactingWriter struct {
	r *Redactor
	w io.Writer

	mu   sync.Mutex
	held []byte
	buf  []byte
}

func (rw *redactingWriter) Write(p []byte) (int, error) {
	if rw.r == nil {
		return rw.w.Write(p)
	}
	rw.mu.Lock()
	defer rw.mu.Unlock()
	in := p
	if len(rw.held) > 0 {
		in = append(rw.held, p...)
	}
	out, rest := rw.r.set.Load().replace(rw.buf[:0], in, false)
	rw.held = append([]byte(nil), rest...)
	rw.buf = out
	if len(out) == 0 {
		return len(p), nil
	}
	if _, err := rw.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (rw *redactingWriter) Close() error {
	rw.mu.Lock()
	defer rw.mu.Unlock()
	if len(rw.held) == 0 {
		return nil
	}
	out := rw.r.Bytes(rw.held)
	rw.held = nil
	_, err := rw.w.Write(out)
	return err
}
