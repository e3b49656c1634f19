package observe

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Redacted is what stands in an artifact where a secret stood.
const Redacted = "[redacted]"

// minSecret is the shortest secret, in bytes, worth replacing: anything
// shorter would also blot out ordinary words.
const minSecret = 6

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
}

// NewRedactor returns a Redactor of these secrets; see Add.
func NewRedactor(secrets ...string) *Redactor {
	r := &Redactor{patterns: map[string]struct{}{}}
	r.set.Store(&patternSet{})
	r.Add(secrets...)
	return r
}

// Add makes the Redactor replace these secrets too, as they are and as they
// show in base64 (standard and URL alphabet, padded or not, at any offset in a
// longer encoded text), URL-escaped, and JSON-escaped. Secrets shorter than 6
// bytes are ignored. Writers that are open use the new secrets from their next
// Write on.
func (r *Redactor) Add(secrets ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		for _, p := range variants(s) {
			r.patterns[p] = struct{}{}
		}
	}
	all := make([]string, 0, len(r.patterns))
	for p := range r.patterns {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	set := &patternSet{}
	for _, p := range all {
		set.byFirst[p[0]] = append(set.byFirst[p[0]], []byte(p))
	}
	r.set.Store(set)
}

// variants returns the spellings under which a secret is looked for, or
// nothing when it is too short.
func variants(secret string) []string {
	if len(secret) < minSecret {
		return nil
	}
	out := []string{secret, url.QueryEscape(secret), url.PathEscape(secret)}
	for _, html := range []bool{true, false} {
		var j bytes.Buffer
		enc := json.NewEncoder(&j)
		enc.SetEscapeHTML(html)
		if enc.Encode(secret) == nil {
			out = append(out, strings.TrimSuffix(j.String()[1:], "\"\n"))
		}
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		whole := enc.EncodeToString([]byte(secret))
		out = append(out, whole, strings.TrimRight(whole, "="))
		// Inside a longer text the secret starts at offset 0, 1 or 2 of a group
		// of three bytes; what is looked for are the characters that depend on
		// the secret alone.
		for offset := range 3 {
			shifted := enc.EncodeToString(append(make([]byte, offset), secret...))
			first := (offset*8 + 5) / 6
			last := (offset + len(secret)) * 8 / 6
			out = append(out, shifted[first:last])
		}
	}
	return out
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
scan:
	for i := 0; i < len(b); {
		tail := b[i:]
		for _, p := range s.byFirst[b[i]] {
			if len(p) > len(tail) {
				// Longest first: a longer secret that may still come to be wins
				// over a shorter one that is already there.
				if !final && bytes.HasPrefix(p, tail) {
					return append(dst, b[from:i]...), tail
				}
				continue
			}
			if bytes.HasPrefix(tail, p) {
				dst = append(append(dst, b[from:i]...), Redacted...)
				i += len(p)
				from = i
				continue scan
			}
		}
		i++
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
