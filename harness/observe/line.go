package observe

import (
	"errors"
	"os"
)

// AppendLine appends a line to a file, in one write: lines of several processes do not mix, and a killed one leaves those
// before it.
func AppendLine(path string, line []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}
