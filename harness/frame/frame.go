// Package frame puts a command's exit code, length and checksum around its output, so that whoever reads it tells a whole reply
// from one that was lost or cut.
package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Reply is what a command came to.
type Reply struct {
	Stdout   []byte
	ExitCode int
}

// Header begins a frame.
const Header = "#reply"

// Write writes the reply of a command that has ended.
func Write(w io.Writer, exitCode int, reply []byte) error {
	sum := sha256.Sum256(reply)
	_, err := fmt.Fprintf(w, "%s exit=%d bytes=%d sha256=%s\n%s", Header, exitCode, len(reply), hex.EncodeToString(sum[:]), reply)
	return err
}

// Read reads what Write wrote. An error says how it did not arrive whole.
func Read(raw []byte) (Reply, error) {
	line, rest, found := bytes.Cut(raw, []byte("\n"))
	if !found {
		return Reply{}, fmt.Errorf("the reply was lost: %d bytes arrived, and no frame", len(raw))
	}
	var reply Reply
	var length int
	var sum string
	if n, err := fmt.Sscanf(string(line), Header+" exit=%d bytes=%d sha256=%s", &reply.ExitCode, &length, &sum); err != nil || n != 3 {
		return Reply{}, fmt.Errorf("the reply has no frame: it begins with %.60q", line)
	}
	if len(rest) != length {
		return Reply{}, fmt.Errorf("the reply was cut: %d of %d bytes arrived", len(rest), length)
	}
	if found := sha256.Sum256(rest); hex.EncodeToString(found[:]) != sum {
		return Reply{}, errors.New("the reply was damaged: its checksum is another")
	}
	reply.Stdout = rest
	return reply, nil
}
