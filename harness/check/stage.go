package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/text"
)

// Stage plays situations one take after another, with other policies each time. What it compiled for the first policies serves the
// others, too, but for what is different in them.
type Stage interface {
	Take(play.Take) (*play.Record, error)
	Close() error
}

// takesTest is the test that is the program of takes.
const takesTest = "^TestTakes$"

// pipe is the file of a program that says one thing after the other: the first of its command's ExtraFiles.
const pipe = "/dev/fd/3"

// stage is a simulator that goes on.
type stage struct {
	cmd    *exec.Cmd
	asked  *json.Encoder
	in     io.Closer
	answer *json.Decoder
	out    io.Closer
	said   bytes.Buffer
	dir    string
}

// Stage begins a simulator, with what Prepare has compiled. It ends with Close, or with the context.
func (k *Kyverno) Stage(ctx context.Context, given play.Play) (Stage, error) {
	dir, command, err := k.begin(ctx, &given)
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir}
	if err := s.begin(command(ctx, takesTest, pipe), given); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *stage) begin(cmd *exec.Cmd, given play.Play) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = write.Close() }()
	s.out, s.answer = read, json.NewDecoder(read)
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=400") // a stage for each processor is faster
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &s.said, &s.said, []*os.File{write}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	s.in, s.asked = in, json.NewEncoder(in)
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	return s.asked.Encode(given)
}

// Take plays one take.
func (s *stage) Take(take play.Take) (*play.Record, error) {
	record := &play.Record{}
	err := s.asked.Encode(take)
	if err == nil {
		err = s.answer.Decode(record)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return record, nil
}

// Close ends the simulator, and says how it ended.
func (s *stage) Close() error {
	var err error
	if s.in != nil {
		_ = s.in.Close()
	}
	if s.cmd != nil {
		if err = s.cmd.Wait(); err != nil {
			err = fmt.Errorf("the simulator: %w\n%s", err, text.FirstLines(s.said.String(), 20))
		}
		s.cmd = nil
	}
	if s.out != nil {
		_ = s.out.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
