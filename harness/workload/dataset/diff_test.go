package dataset

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	base := Entry{
		Path: "a", Type: TypeFile, Mode: "0644", UID: 1, GID: 2, Size: 3, MTime: "2020-01-01T00:00:00.5Z",
		SHA256: "ab", Xattrs: map[string]string{"user.x": "MQ=="},
	}
	with := func(change func(*Entry)) Entry {
		e := base
		change(&e)
		return e
	}
	for name, tc := range map[string]struct {
		want, got []Entry
		lines     []string
	}{
		"both empty": {},
		"equal":      {want: []Entry{base}, got: []Entry{base}},
		"order does not matter": {
			want: []Entry{base, {Path: "b", Type: TypeDir}},
			got:  []Entry{{Path: "b", Type: TypeDir}, base},
		},
		"nil and empty xattrs": {
			want: []Entry{with(func(e *Entry) { e.Xattrs = nil })},
			got:  []Entry{with(func(e *Entry) { e.Xattrs = map[string]string{} })},
		},
		"missing": {want: []Entry{base}, lines: []string{`"a": entry: want file, got absent`}},
		"extra":   {got: []Entry{base}, lines: []string{`"a": entry: want absent, got file`}},
		"type only": {
			want:  []Entry{base},
			got:   []Entry{{Path: "a", Type: TypeDir}},
			lines: []string{`"a": type: want file, got dir`},
		},
		"every field": {
			want: []Entry{base},
			got: []Entry{{
				Path: "a", Type: TypeFile, Mode: "0600", UID: 2, GID: 1, Size: 4, MTime: "2020-01-01T00:00:00Z",
				Target: "t", SHA256: "ba", HardLink: "0", Xattrs: map[string]string{"user.x": "", "user.y": "MQ=="},
			}},
			lines: []string{
				`"a": mode: want 0644, got 0600`,
				`"a": uid: want 1, got 2`,
				`"a": gid: want 2, got 1`,
				`"a": size: want 3, got 4`,
				`"a": mtime: want 2020-01-01T00:00:00.5Z, got 2020-01-01T00:00:00Z`,
				`"a": target: want "", got t`,
				`"a": sha256: want ab, got ba`,
				`"a": hardLink: want "", got 0`,
				`"a": xattr user.x: want MQ==, got ""`,
				`"a": xattr user.y: want absent, got MQ==`,
			},
		},
		"by path": {
			want: []Entry{{Path: "b", Type: TypeDir}, {Path: "a", Type: TypeDir}},
			got:  []Entry{{Path: "é\n", Type: TypeDir}},
			lines: []string{
				`"a": entry: want dir, got absent`,
				`"b": entry: want dir, got absent`,
				`"é\n": entry: want absent, got dir`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want, got := Manifest{Entries: tc.want}, Manifest{Entries: tc.got}
			diffs := Diff(want, got)
			var lines []string
			for _, d := range diffs {
				lines = append(lines, d.String())
			}
			if !slices.Equal(lines, tc.lines) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(tc.lines, "\n"))
			}
			if same := want.Digest() == got.Digest(); same != (len(diffs) == 0) {
				t.Errorf("digests are equal: %t, differences: %d", same, len(diffs))
			}
		})
	}
}

func TestDiffSeesTheSeedFirst(t *testing.T) {
	diffs := Diff(Manifest{Seed: "new", Entries: []Entry{{Path: "a"}}}, Manifest{Seed: ""})
	if len(diffs) != 2 || diffs[0].String() != `"SENTINEL": seed: want new, got ""` {
		t.Errorf("got %v", diffs)
	}
}

func TestSummary(t *testing.T) {
	diffs := []Difference{{"a", "mode", "1", "2"}, {"b", "mode", "1", "2"}, {"c", "mode", "1", "2"}}
	for _, tc := range []struct {
		diffs []Difference
		max   int
		want  string
	}{
		{nil, 5, ""},
		{diffs[:1], 1, `"a": mode: want 1, got 2`},
		{diffs, 3, "\"a\": mode: want 1, got 2\n\"b\": mode: want 1, got 2\n\"c\": mode: want 1, got 2"},
		{diffs, 1, "\"a\": mode: want 1, got 2\nand 2 more"},
		{diffs, 0, "and 3 more"},
	} {
		if got := Summary(tc.diffs, tc.max); got != tc.want {
			t.Errorf("Summary(%d, %d) is\n%s\nwant\n%s", len(tc.diffs), tc.max, got, tc.want)
		}
	}
}

func TestTotals(t *testing.T) {
	m := Manifest{Entries: []Entry{{Type: TypeFile, Size: 3}, {Type: TypeDir}, {Type: TypeFile, Size: 4}, {Type: TypeSymlink}}}
	if files, bytes := m.Totals(); files != 2 || bytes != 7 {
		t.Errorf("%d files, %d bytes", files, bytes)
	}
}

func TestDigestSurvivesJSON(t *testing.T) {
	m := Manifest{Seed: "s", Entries: []Entry{{Path: "<ü>", Type: TypeFile, Xattrs: map[string]string{}}, {Path: "a", Type: TypeDir}}}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Manifest
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if m.Digest() != back.Digest() {
		t.Error("the digest changed")
	}
	if m.Entries[0].Path != "<ü>" {
		t.Error("Digest sorted the caller's entries")
	}
	if (Manifest{}).Digest() == m.Digest() || (Manifest{}).Digest() != (Manifest{Entries: []Entry{}}).Digest() {
		t.Error("the digest of an empty volume is not its own")
	}
}
