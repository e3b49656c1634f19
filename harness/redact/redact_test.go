package redact

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"
)

func TestRedactorBytes(t *testing.T) {
	const secret = `p@ss/w+rd "1"&x`
	cases := []struct {
		name    string
		secrets []string
		in      string
		want    string
	}{
		{"nothing known", nil, "hello", "hello"},
		{"plain", []string{"hunter22"}, "a hunter22 b hunter22", "a [redacted] b [redacted]"},
		{"too short", []string{"abc12", ""}, "abc12", "abc12"},
		{"six bytes", []string{"abc123"}, "xabc123x", "x[redacted]x"},
		{"longest first", []string{"abcdef", "abcdefghij"}, "abcdefghijk abcdefgh", "[redacted]k [redacted]gh"},
		{"url query", []string{secret}, "u=" + url.QueryEscape(secret) + "&v", "u=[redacted]&v"},
		{"url path", []string{secret}, "/" + url.PathEscape(secret) + "/", "/[redacted]/"},
		{"json", []string{secret}, `{"k":"p@ss/w+rd \"1\"\u0026x"}`, `{"k":"[redacted]"}`},
		{"json, html kept", []string{secret}, `{"k":"p@ss/w+rd \"1\"&x"}`, `{"k":"[redacted]"}`},
		{"base64 padded", []string{secret}, "b " + base64.StdEncoding.EncodeToString([]byte(secret)) + " e", "b [redacted] e"},
		{"base64 url raw", []string{secret + "?"}, "b " + base64.RawURLEncoding.EncodeToString([]byte(secret+"?")) + " e", "b [redacted] e"},
		{"adjacent", []string{"abcdef"}, "abcdefabcdef", "[redacted][redacted]"},
		{"almost", []string{"abcdef"}, "abcdeabcdef abcde", "abcde[redacted] abcde"},
		{"binary", []string{"\x00\xff\x00\xff\x00\xff"}, "a\x00\xff\x00\xff\x00\xffb", "a[redacted]b"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := []byte(c.in)
			if got := string(NewRedactor(c.secrets...).Bytes(in)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if string(in) != c.in {
				t.Error("the input was changed")
			}
		})
	}
}

// A secret within a longer text that is encoded as a whole leaves no trace, at
// whatever offset it starts.
func TestRedactorBase64Alignments(t *testing.T) {
	const secret = "S3cretAccessKey/+==1234567"
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
		for offset := range 6 {
			text := strings.Repeat("x", offset) + secret + "tail"
			got := NewRedactor(secret).String(enc.EncodeToString([]byte(text)))
			if !strings.Contains(got, Redacted) {
				t.Errorf("offset %d: %q", offset, got)
			}
			// The outermost characters share bits with the neighbours; no more than that may stay.
			left := strings.ReplaceAll(got, Redacted, "")
			if n := len(left); n > (offset+len("tail")+4)*8/6+3 {
				t.Errorf("offset %d: %d characters are left of %q", offset, n, got)
			}
		}
	}
}

// Whatever the boundaries between writes, the output is that of one Write.
func TestRedactorAcrossWrites(t *testing.T) {
	secrets := []string{"aabaab", "aabaabaab", "baabaa7", "abcabcabd", "hunter22secret", "x\ny\nz\n9"}
	r := NewRedactor(secrets...)
	rnd := rand.New(rand.NewPCG(1, 2))
	const alphabet = "aabbc7"
	for n := range 3000 {
		var text strings.Builder
		for range rnd.IntN(12) {
			if rnd.IntN(3) == 0 {
				text.WriteString(secrets[rnd.IntN(len(secrets))])
				continue
			}
			for range rnd.IntN(9) {
				text.WriteByte(alphabet[rnd.IntN(len(alphabet))])
			}
		}
		in := text.String()
		want := r.String(in)
		var got bytes.Buffer
		w := r.Writer(&got)
		for rest := in; rest != ""; {
			k := 1 + rnd.IntN(len(rest))
			if n%2 == 0 {
				k = 1 // byte by byte
			}
			if wrote, err := io.WriteString(w, rest[:k]); err != nil || wrote != k {
				t.Fatalf("Write: %d, %v", wrote, err)
			}
			rest = rest[k:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got.String() != want {
			t.Fatalf("in   %q\ngot  %q\nwant %q", in, got.String(), want)
		}
		for _, s := range secrets {
			if strings.Contains(want, s) {
				t.Fatalf("in  %q\nout %q holds %q", in, want, s)
			}
		}
	}
}

// What cannot be the start of a secret is passed on at once: a log on disk
// does not lag behind.
func TestRedactorHoldsBackOnlyWhatItMust(t *testing.T) {
	var out bytes.Buffer
	w := NewRedactor("abcdefgh").Writer(&out)
	for _, step := range []struct{ in, want string }{
		{"line one\n", "line one\n"},
		{"line two abc", "line one\nline two "},
		{"x", "line one\nline two abcx"},
		{"abcd", "line one\nline two abcx"},
		{"efgh!", "line one\nline two abcx[redacted]!"},
		{"abcdefg", "line one\nline two abcx[redacted]!"},
	} {
		_, _ = io.WriteString(w, step.in)
		if out.String() != step.want {
			t.Fatalf("after %q: %q, want %q", step.in, out.String(), step.want)
		}
	}
	_ = w.Close()
	if !strings.HasSuffix(out.String(), "!abcdefg") {
		t.Errorf("Close kept something back: %q", out.String())
	}
}

func TestRedactorConcurrent(t *testing.T) {
	r := NewRedactor("secret-0")
	var out bytes.Buffer
	w := r.Writer(&out)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				r.Add(fmt.Sprintf("secret-%d-%d", i, j))
				_, _ = fmt.Fprintf(w, "line secret-0 %d %d\n", i, j)
			}
		})
	}
	wg.Wait()
	_ = w.Close()
	if strings.Contains(out.String(), "secret-0 ") {
		t.Error("a secret passed")
	}
}

func TestRedactorNilAndErrors(t *testing.T) {
	var r *Redactor
	r.Add("abcdefgh")
	var out bytes.Buffer
	w := r.Writer(&out)
	_, _ = io.WriteString(w, "abcdefgh")
	if err := w.Close(); err != nil || out.String() != "abcdefgh" || r.String("x") != "x" {
		t.Errorf("nil redactor: %q, %v", out.String(), err)
	}
	w = NewRedactor("abcdefgh").Writer(failingWriter{})
	if _, err := io.WriteString(w, "x"); err == nil {
		t.Error("the writer's error was swallowed")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }
