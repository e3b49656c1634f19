package ledger

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func create(t *testing.T, files int) (*Ledger, string) {
	t.Helper()
	dir := t.TempDir()
	l, err := Create(dir, files, 1000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, dir
}

func content(t *testing.T, dir, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// watched calls a function before and after each thing that is done to a file.
type watched struct {
	file
	did func()
}

func (w watched) WriteAt(p []byte, off int64) (int, error) {
	w.did()
	defer w.did()
	return w.file.WriteAt(p, off)
}

func (w watched) Sync() error {
	w.did()
	defer w.did()
	return w.file.Sync()
}

// A copy that is of one moment, whichever, is whole; and one of a writer that keeps the two the wrong way round is not.
func TestEveryMomentIsWhole(t *testing.T) {
	for name, c := range map[string]struct {
		writes func(*Ledger) error
		whole  bool
	}{
		"the log first": {(*Ledger).Add, true},
		"the table first": {func(l *Ledger) error {
			l.n++
			if err := put(l.table, record(l.n), 0); err != nil {
				return err
			}
			return put(l.log, record(l.n), (l.n-1)*recordBytes)
		}, false},
		"the table with every third record": {func(l *Ledger) error {
			l.n++
			if err := put(l.log, record(l.n), (l.n-1)*recordBytes); err != nil || l.n%3 != 0 {
				return err
			}
			return put(l.table, record(l.n), 0)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, dir := create(t, 1)
			var broken []string
			moments := 0
			look := func() {
				moments++
				if s := judge(content(t, dir, logName), content(t, dir, tableName)); s.Broken != "" {
					broken = append(broken, s.Broken)
				}
			}
			l.log, l.table = watched{l.log, look}, watched{l.table, look}
			for range 5 {
				if err := c.writes(l); err != nil {
					t.Fatal(err)
				}
			}
			if moments < 20 || (len(broken) == 0) != c.whole {
				t.Errorf("of %d moments these are broken: %q", moments, broken)
			}
		})
	}
}

// A copy file by file, of an app that writes meanwhile, is found: also if it wrote only once.
func TestACopyFileByFileIsTorn(t *testing.T) {
	l, dir := create(t, 3)
	for more := range 3 {
		log := content(t, dir, logName)
		for range more {
			if err := l.Add(); err != nil {
				t.Fatal(err)
			}
		}
		s := judge(log, content(t, dir, tableName))
		if torn := strings.Contains(s.Broken, "the table is of later"); torn != (more > 0) {
			t.Errorf("%d records were written meanwhile: %+v", more, s)
		}
	}
	table := content(t, dir, tableName)
	for range 2 {
		if err := l.Add(); err != nil {
			t.Fatal(err)
		}
	}
	if s := judge(content(t, dir, logName), table); !strings.Contains(s.Broken, "the log is of later") {
		t.Errorf("the table was read first: %+v", s)
	}
}

// Each file of the ballast is dated anew at once, and has another content after as many times as there are files.
func TestBallastIsReadAgain(t *testing.T) {
	l, dir := create(t, 3)
	var before [][]byte
	long := time.Now().Add(-time.Hour)
	for _, name := range l.ballast {
		before = append(before, content(t, dir, filepath.Base(name)))
		if err := os.Chtimes(name, long, long); err != nil {
			t.Fatal(err)
		}
	}
	for n := range l.ballast {
		if err := l.Refresh(); err != nil {
			t.Fatal(err)
		}
		for i, name := range l.ballast {
			if info, err := os.Stat(name); err != nil || !info.ModTime().After(long) || info.Size() != 1000 {
				t.Errorf("%s: %+v, %v", name, info, err)
			}
			if same := bytes.Equal(before[i], content(t, dir, filepath.Base(name))); same != (i > n) {
				t.Errorf("after %d times, %s is the same: %v", n+1, name, same)
			}
		}
	}
	none, _ := create(t, 0)
	if err := none.Refresh(); err != nil {
		t.Error(err)
	}
}

func TestRead(t *testing.T) {
	l, dir := create(t, 2)
	for range 4 {
		if err := l.Add(); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Read(dir); err != nil || s != (State{Log: 5, Table: 5}) {
		t.Errorf("%+v, %v", s, err)
	}
	names := []string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{"0-log", "5-ballast-000", "5-ballast-001", "9-table"}; !slices.Equal(names, want) {
		t.Errorf("on the volume, in order: %q, wanted %q", names, want)
	}
	if _, err := Create(dir, 0, 0); err == nil {
		t.Error("a second app writes over the first one's log")
	}
	for name, damage := range map[string]struct {
		log, table func([]byte) []byte
		want       State
	}{
		"the log's end is half a record": {func(b []byte) []byte { return b[:len(b)-7] }, nil, State{Log: 4, Table: 5, Broken: "the table is of later"}},
		"an unsynced record at its end":  {func(b []byte) []byte { return append(b, record(6)[:9]...) }, nil, State{Log: 5, Table: 5}},
		"a record in its middle":         {func(b []byte) []byte { b[recordBytes+2] = 'x'; return b }, nil, State{Log: 1, Broken: "record 2 of the log is damaged"}},
		"a record twice":                 {func(b []byte) []byte { return append(b, record(5)...) }, nil, State{Log: 5, Broken: "record 6 of the log is damaged"}},
		"an empty log":                   {func([]byte) []byte { return nil }, nil, State{Table: 5, Broken: "the table is of later"}},
		"half a table":                   {nil, func(b []byte) []byte { return b[:12] }, State{Log: 5, Table: 0, Broken: "the table is damaged"}},
		"an empty table":                 {nil, func([]byte) []byte { return nil }, State{Log: 5, Broken: "the table is damaged"}},
	} {
		log, table := content(t, dir, logName), content(t, dir, tableName)
		if damage.log != nil {
			log = damage.log(log)
		}
		if damage.table != nil {
			table = damage.table(table)
		}
		got := judge(log, table)
		if got.Log != damage.want.Log || damage.want.Table != got.Table || !strings.Contains(got.Broken, damage.want.Broken) || (damage.want.Broken == "") != (got.Broken == "") {
			t.Errorf("%s: %+v, wanted %+v", name, got, damage.want)
		}
	}
}
