package text

import "testing"

func TestSlug(t *testing.T) {
	for id, want := range map[string]string{
		"core/s3-down/refused": "core-s3-down-refused", "Core/A  b_c/": "core-a-b-c", "//": "", "": "", "É/x": "x",
	} {
		if got := Slug(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}

func TestOfKubernetes(t *testing.T) {
	for key, want := range map[string]bool{
		"kubernetes.io/x": true, "pv.kubernetes.io/bind-completed": true, "volume.beta.kubernetes.io/storage-provisioner": true,
		"argocd.argoproj.io/tracking-id": true,
		"notkubernetes.io/x":             false, "kubernetes.io.example/x": false, "smart-restore/decision": false, "app": false, "": false,
	} {
		if got := OfKubernetes(key); got != want {
			t.Errorf("%q: %v, want %v", key, got, want)
		}
	}
}

func TestPairs(t *testing.T) {
	for _, c := range []struct {
		of   map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{"smart-restore/decision": "none: S3 said no"}, "smart-restore/decision: none: S3 said no"},
		{map[string]string{"b": "2", "a": "1", "c": ""}, "a: 1, b: 2, c: "},
	} {
		if got := Pairs(c.of); got != c.want {
			t.Errorf("%v: %q, want %q", c.of, got, c.want)
		}
	}
}

func TestLines(t *testing.T) {
	for _, c := range []struct {
		said        string
		n           int
		first, last string
	}{
		{"", 1, "", ""},
		{"\n \n", 2, "", ""},
		{"one\n", 1, "one", "one"},
		{"\none\ntwo\nthree\n\n", 1, "one", "three"},
		{"one\ntwo\nthree", 2, "one\ntwo", "two\nthree"},
		{"one\ntwo", 9, "one\ntwo", "one\ntwo"},
		{"one", 0, "", ""},
	} {
		if first, last := FirstLines(c.said, c.n), LastLines(c.said, c.n); first != c.first || last != c.last {
			t.Errorf("%q, %d: %q and %q, want %q and %q", c.said, c.n, first, last, c.first, c.last)
		}
	}
}

func TestMarkdown(t *testing.T) {
	for _, c := range []struct{ in, plain, code string }{
		{"", "", "–"},
		{"a b", "a b", "`a b`"},
		{" a\n\tb ", "a b", "` a \tb `"},
		{"a|b<c>`d`[e](f) @g", `a\|b&lt;c&gt;'d'\[e](f) ` + "@\u200bg", `` + "`a\\|b<c>'d'[e](f) @g`"},
	} {
		if plain, code := Plain(c.in), Code(c.in); plain != c.plain || code != c.code {
			t.Errorf("%q: %q and %q, want %q and %q", c.in, plain, code, c.plain, c.code)
		}
	}
}
