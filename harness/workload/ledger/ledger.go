// Package ledger is an app that goes on writing, as a database does: each record goes to a write-ahead log, which is synced, and then to
// a table, which is synced before the next record. So at every moment the table is as far as the log or one record behind, and any
// copy that is of one moment has them so. A copy that reads one file after the other, while the app writes, has a table of later than
// its log: the log's name comes first, the table's last, and between them is ballast that takes a while to read.
package ledger

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The files on the volume, in the order in which a tool reads them that goes by names.
const (
	logName     = "0-log"
	ballastName = "5-ballast-"
	tableName   = "9-table"
)

// recordBytes is the length of a record: its number and a checksum of it.
const recordBytes = 20 + 1 + 8 + 1

func record(n int64) []byte {
	number := fmt.Appendf(nil, "%020d", n)
	return fmt.Appendf(number, " %08x\n", crc32.ChecksumIEEE(number))
}

// numberOf is the number of a record; false: it is damaged.
func numberOf(raw []byte) (n int64, ok bool) {
	if _, err := fmt.Sscanf(string(raw), "%020d ", &n); err != nil {
		return 0, false
	}
	return n, bytes.Equal(raw, record(n))
}

// Ledger is the log and the table on a volume.
type Ledger struct {
	log, table file
	ballast    []string
	size       int64 // of each
	next       int   // the one that is written anew next
	n          int64
}

// file is what the order of writing can be seen by.
type file interface {
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
	io.Closer
}

// Create makes the log and the table on an empty volume, with ballast between them: so many files of so many bytes, of which no two are
// the same and none can be compressed.
func Create(dir string, files int, size int64) (*Ledger, error) {
	l := &Ledger{size: size}
	for i := range files {
		l.ballast = append(l.ballast, filepath.Join(dir, fmt.Sprintf("%s%03d", ballastName, i)))
		if err := fill(l.ballast[i], size); err != nil {
			return nil, err
		}
	}
	for name, f := range map[string]*file{logName: &l.log, tableName: &l.table} {
		opened, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, err
		}
		*f = opened
	}
	if err := l.Add(); err != nil {
		return nil, err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return l, errors.Join(folder.Sync(), folder.Close())
}

func fill(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Add adds a record: to the log, and to the table when it is in the log for good.
func (l *Ledger) Add() error {
	n := l.n + 1
	if err := put(l.log, record(n), (n-1)*recordBytes); err != nil {
		return err
	}
	if err := put(l.table, record(n), 0); err != nil {
		return err
	}
	l.n = n
	return nil
}

// Refresh writes a file of the ballast anew, the next one each time, and dates the others as of now. Of what a tool has read before, it
// would read nothing again that has its old date, and little that has its old content, and read the table right after the log.
func (l *Ledger) Refresh() error {
	if len(l.ballast) == 0 {
		return nil
	}
	now := time.Now()
	for _, name := range l.ballast {
		if err := os.Chtimes(name, now, now); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(l.ballast[l.next], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	l.next = (l.next + 1) % len(l.ballast)
	_, err = io.CopyN(f, rand.Reader, l.size)
	return errors.Join(err, f.Close())
}

func put(f file, raw []byte, at int64) error {
	if _, err := f.WriteAt(raw, at); err != nil {
		return err
	}
	return f.Sync()
}

// Close closes the files.
func (l *Ledger) Close() error { return errors.Join(l.log.Close(), l.table.Close()) }

// State is what is on a volume.
type State struct {
	Log   int64 `json:"log"`   // the number of the log's last record
	Table int64 `json:"table"` // the number of the record in the table
	// Broken is how the two do not fit, or what is damaged. Empty: they are as they were at one moment.
	Broken string `json:"broken,omitempty"`
}

// Read reads a volume as a tool does that copies file by file: the log, all between, and the table last. While an app writes, that is
// of no one moment.
func Read(dir string) (State, error) {
	log, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		return State{}, err
	}
	if err := readBetween(dir); err != nil {
		return State{}, err
	}
	table, err := os.ReadFile(filepath.Join(dir, tableName))
	if err != nil {
		return State{}, err
	}
	return judge(log, table), nil
}

func readBetween(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ballastName) {
			continue
		}
		f, err := os.Open(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// judge compares a log and a table. The end of a log may be part of a record: it was not synced yet.
func judge(log, table []byte) (s State) {
	for ; len(log) >= recordBytes; log = log[recordBytes:] {
		n, ok := numberOf(log[:recordBytes])
		if !ok || n != s.Log+1 {
			s.Broken = fmt.Sprintf("record %d of the log is damaged", s.Log+1)
			return s
		}
		s.Log = n
	}
	n, ok := numberOf(table)
	switch s.Table = n; {
	case !ok:
		s.Broken = "the table is damaged"
	case s.Table > s.Log:
		s.Broken = fmt.Sprintf("the table has record %d, and the log ends with record %d: the table is of later than the log", s.Table, s.Log)
	case s.Table < s.Log-1:
		s.Broken = fmt.Sprintf("the log has record %d, and the table record %d: the log is of later than the table", s.Log, s.Table)
	}
	return s
}
