package session

import (
	"bufio"
	"errors"
	"io"
	"os"
)

// saveAudit copies an audit log, redacted, from the first line on that begins at or after an offset: what is before is of
// earlier runs. A log that is shorter was rotated since, and is copied whole.
func saveAudit(from string, offset int64, to string, redacted func(io.Writer) io.WriteCloser) error {
	in, err := os.Open(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	reader, err := linesFrom(in, offset)
	if err != nil {
		return err
	}
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	out := redacted(file)
	_, err = io.Copy(out, reader)
	return errors.Join(err, out.Close(), file.Close())
}

// linesFrom reads from the first line on that begins at or after an offset.
func linesFrom(file *os.File, offset int64) (io.Reader, error) {
	info, err := file.Stat()
	if err != nil || offset <= 0 || offset > info.Size() {
		return file, err
	}
	if _, err := file.Seek(offset-1, io.SeekStart); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(file)
	_, err = reader.ReadBytes('\n') // the end of the line before, or no more than its \n
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return reader, err
}
