package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"html"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// awkward has something that each form writes in another way.
const awkward = `p@ss/w+rd "1"&<x>'` + "\\?~é"

func marshalled(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// spelled is the awkward secret in every form, within other text.
func spelled(t *testing.T) map[string]struct {
	text string
	kind Kind
} {
	var inXML bytes.Buffer
	if err := xml.EscapeText(&inXML, []byte(awkward)); err != nil {
		t.Fatal(err)
	}
	all := map[string]struct {
		text string
		kind Kind
	}{
		"plain":                 {"key=" + awkward + ";", Plain},
		"URL query":             {"?key=" + url.QueryEscape(awkward) + "&a=b", URL},
		"URL path":              {"/" + url.PathEscape(awkward) + "/a", URL},
		"URL, spaces as %20":    {"?key=" + strings.ReplaceAll(url.QueryEscape(awkward), "+", "%20"), URL},
		"URL, in lower case":    {"?key=" + lowerEscapes(url.QueryEscape(awkward)), URL},
		"JSON":                  {marshalled(t, map[string]string{"k": awkward}), JSON},
		"JSON in JSON":          {marshalled(t, marshalled(t, awkward)), JSON},
		"JSON in JSON in JSON":  {marshalled(t, marshalled(t, marshalled(t, []string{awkward}))), JSON},
		"XML":                   {"<a>" + inXML.String() + "</a>", XML},
		"HTML":                  {"<a>" + html.EscapeString(awkward) + "</a>", XML},
		"HTML of a template":    {"<a>" + strings.ReplaceAll(html.EscapeString(awkward), "+", "&#43;") + "</a>", XML},
		"hex":                   {"key " + hex.EncodeToString([]byte(awkward)), Hex},
		"hex, in capitals":      {"key " + strings.ToUpper(hex.EncodeToString([]byte(awkward))), Hex},
		"a line of several":     {"  second-line-of-it", Plain},
		"a line of them, coded": {base64.StdEncoding.EncodeToString([]byte("second-line-of-it")), Base64},
	}
	for name, encoding := range map[string]*base64.Encoding{
		"standard": base64.StdEncoding, "standard, without padding": base64.RawStdEncoding, "URL": base64.URLEncoding, "URL, without padding": base64.RawURLEncoding,
	} {
		all["base64 "+name] = struct {
			text string
			kind Kind
		}{"key: " + encoding.EncodeToString([]byte(awkward)), Base64}
		for i, before := range []string{"abc", "abcd", "abcde"} {
			all["base64 "+name+", within a text, alignment "+string(rune('0'+i))] = struct {
				text string
				kind Kind
			}{"key: " + encoding.EncodeToString([]byte(before+awkward+"after")), Base64}
		}
	}
	return all
}

const several = "-----BEGIN KEY-----\nfirst-line-of-it\nsecond-line-of-it\n-----END KEY-----\n"

// Whatever form a secret takes, Scan finds it, and the Redactor leaves nothing to find, also where it comes in two parts.
func TestForms(t *testing.T) {
	secrets := []string{awkward, several}
	for name, c := range spelled(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file.log")
			write := func(text string) {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			found := func() []Leak {
				leaks, err := Scan(dir, secrets)
				if err != nil {
					t.Fatal(err)
				}
				return leaks
			}
			write("one\ntwo\n" + c.text + "\n")
			if got, want := found(), []Leak{{"file.log", 3, c.kind}}; !slices.Equal(got, want) {
				t.Fatalf("found %v, want %v in %s", got, want, c.text)
			}
			r := NewRedactor(secrets...)
			for i := range len(c.text) + 1 {
				var out bytes.Buffer
				w := r.Writer(&out)
				_, _ = w.Write([]byte(c.text[:i]))
				_, _ = w.Write([]byte(c.text[i:]))
				_ = w.Close()
				if out.String() != r.String(c.text) || !strings.Contains(out.String(), Redacted) {
					t.Fatalf("cut at %d: %q, want %q", i, out.String(), r.String(c.text))
				}
			}
			write(r.String("one\ntwo\n" + c.text + "\n"))
			if got := found(); len(got) > 0 {
				t.Errorf("left: %v of %s", got, c.text)
			}
		})
	}
}

func TestScan(t *testing.T) {
	const secret = "hunter22"
	big := strings.Repeat("a line\n", 1<<20/7) // a chunk ends within what follows
	for _, c := range []struct {
		name    string
		secrets []string
		files   map[string]string
		want    []string
	}{
		{"nothing", []string{secret}, map[string]string{"a.log": "hunter2 2 hunter2", "sub/b.log": "x"}, nil},
		{"no secrets", nil, map[string]string{"a.log": secret}, nil},
		{"too short", []string{"", "abc12"}, map[string]string{"a.log": "abc12"}, nil},
		{"short", []string{"abc123"}, map[string]string{"a.log": "abc123"}, []string{"a.log:1 holds a secret as plain text"}},
		{"each kind once", []string{secret}, map[string]string{"a.log": "hunter22 hunter22 aHVudGVyMjI=\n68756e7465723232\nhunter22"},
			[]string{"a.log:1 holds a secret as plain text", "a.log:1 holds a secret as base64", "a.log:2 holds a secret as hex"}},
		{"folders", []string{secret}, map[string]string{"logs/s3/a.log": "\n\nxhunter22x", "b": "hunter22"},
			[]string{"b:1 holds a secret as plain text", "logs/s3/a.log:3 holds a secret as plain text"}},
		{"a file's name", []string{secret}, map[string]string{"logs/of-hunter22.log": ""}, []string{"logs/[redacted]:0 holds a secret as plain text"}},
		{"at every place around a chunk's end", []string{secret}, map[string]string{
			"a": big + secret, "b": big + "1234" + secret, "c": big + "12345678" + secret, "d": big + strings.Repeat("a line\n", 8) + secret,
		}, []string{"a:149797 holds a secret as plain text", "b:149797 holds a secret as plain text", "c:149797 holds a secret as plain text", "d:149805 holds a secret as plain text"}},
		{"the whole secret, and a part of another", []string{secret + "more", secret}, map[string]string{"a": "hunter22mor"}, []string{"a:1 holds a secret as plain text"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range c.files {
				path := filepath.Join(dir, filepath.FromSlash(name))
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			leaks, err := Scan(dir, c.secrets)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, leak := range leaks {
				got = append(got, leak.String())
				if strings.Contains(leak.String(), secret) {
					t.Errorf("it tells the secret: %s", leak)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
	if _, err := Scan(filepath.Join(t.TempDir(), "none"), []string{secret}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ginkgo.json")
	if err := os.WriteFile(path, []byte(`{"k":"hunter22"}`), 0o640); err != nil {
		t.Fatal(err)
	}
	r := NewRedactor("hunter22")
	if err := Files(r, path, filepath.Join(dir, "never-written.xml")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != `{"k":"[redacted]"}` {
		t.Errorf("%s, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	// A folder cannot be redacted: an error that names it, and the others are.
	other := filepath.Join(dir, "ginkgo.log")
	if err := os.WriteFile(other, []byte("hunter22"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Files(r, dir, other); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	if text, _ := os.ReadFile(other); string(text) != Redacted {
		t.Errorf("%s", text)
	}
}
