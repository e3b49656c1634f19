package dataset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Difference is one property of one entry that is not as it was.
type Difference struct {
	Path string `json:"path"`
	// Field is the property: type, mode, uid, gid, size, mtime, target, sha256, hardLink, "xattr user.x", seed (of the
	// whole volume), or entry if the entry itself is missing or extra.
	Field string `json:"field"`
	// Want and Got are the values as the manifests have them, or "absent".
	Want string `json:"want"`
	Got  string `json:"got"`
}

// Absent is Want or Got where there is nothing: no such entry, no such attribute.
const Absent = "absent"

// String is one line.
func (d Difference) String() string {
	return fmt.Sprintf("%q: %s: want %s, got %s", d.Path, d.Field, show(d.Want), show(d.Got))
}

// show keeps a value on one line and makes an empty one visible.
func show(s string) string {
	if q := strconv.Quote(s); s == "" || q != `"`+s+`"` {
		return q
	}
	return s
}

// Diff is every difference between what a volume must hold and what it holds, by path; none if they are equal.
func Diff(want, got Manifest) []Difference {
	var diffs []Difference
	if want.Seed != got.Seed {
		// First, because it explains the others: this is another run's data, or none.
		diffs = append(diffs, Difference{SentinelName, "seed", want.Seed, got.Seed})
	}
	wanted, found := index(want), index(got)
	for _, path := range union(wanted, found) {
		w, inWant := wanted[path]
		g, inGot := found[path]
		switch {
		case !inGot:
			diffs = append(diffs, Difference{path, "entry", w.Type, Absent})
		case !inWant:
			diffs = append(diffs, Difference{path, "entry", Absent, g.Type})
		default:
			diffs = append(diffs, diffEntry(w, g)...)
		}
	}
	return diffs
}

func diffEntry(w, g Entry) []Difference {
	if w.Type != g.Type {
		// Nothing else about the two can be compared.
		return []Difference{{w.Path, "type", w.Type, g.Type}}
	}
	var diffs []Difference
	for _, f := range []struct{ name, want, got string }{
		{"mode", w.Mode, g.Mode},
		{"uid", utoa(w.UID), utoa(g.UID)},
		{"gid", utoa(w.GID), utoa(g.GID)},
		{"size", strconv.FormatInt(w.Size, 10), strconv.FormatInt(g.Size, 10)},
		{"mtime", w.MTime, g.MTime},
		{"target", w.Target, g.Target},
		{"sha256", w.SHA256, g.SHA256},
		{"hardLink", w.HardLink, g.HardLink},
	} {
		if f.want != f.got {
			diffs = append(diffs, Difference{w.Path, f.name, f.want, f.got})
		}
	}
	for _, name := range union(w.Xattrs, g.Xattrs) {
		wv, inWant := w.Xattrs[name]
		gv, inGot := g.Xattrs[name]
		if inWant && inGot && wv == gv {
			continue
		}
		if !inWant {
			wv = Absent
		}
		if !inGot {
			gv = Absent
		}
		diffs = append(diffs, Difference{w.Path, "xattr " + name, wv, gv})
	}
	return diffs
}

// Summary is the first max differences, one a line, and how many more there are. It is empty if there are none.
func Summary(diffs []Difference, max int) string {
	var lines []string
	for i, d := range diffs {
		if i >= max {
			lines = append(lines, fmt.Sprintf("and %d more", len(diffs)-i))
			break
		}
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

func index(m Manifest) map[string]Entry {
	byPath := make(map[string]Entry, len(m.Entries))
	for _, e := range m.Entries {
		byPath[e.Path] = e
	}
	return byPath
}

// union is the keys of both maps, sorted.
func union[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
