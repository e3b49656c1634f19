package mutants

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateVersion is that of the file of outcomes.
const stateVersion = 1

// State keeps outcomes in a file, so that a run that was interrupted goes on. It is a line for what was judged by what, and then one
// for each outcome.
type State struct {
	Outcomes map[string]Outcome // by the mutant's ID
	file     *os.File
}

type stateHead struct {
	Version int    `json:"version"`
	Key     string `json:"key"` // of the policy, and of what judges it
}

type stateLine struct {
	Mutant string `json:"mutant"`
	Outcome
}

// OpenState opens a file of outcomes. Those of another policy, or of another judge, are not taken over: the file is begun anew.
func OpenState(path, key string) (*State, error) {
	s := &State{Outcomes: map[string]Outcome{}}
	good, err := s.read(path, key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if s.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	if err = s.file.Truncate(good); err == nil {
		_, err = s.file.Seek(good, 0)
	}
	if err == nil && good == 0 {
		err = s.write(stateHead{stateVersion, key})
	}
	return s, err
}

// read returns how much of the file is good: the last line of a run that was killed may not be whole.
func (s *State) read(path, key string) (good int64, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	lines := json.NewDecoder(file)
	var head stateHead
	if err := lines.Decode(&head); err != nil || head.Version == 0 {
		return 0, fmt.Errorf("%s is no file of outcomes of mutants: name another one, or delete it", path)
	}
	if head.Version != stateVersion {
		return 0, fmt.Errorf("%s is of version %d, wanted is version %d: delete it, and all mutants are judged anew", path, head.Version, stateVersion)
	}
	if head.Key != key {
		return 0, nil
	}
	for good = lines.InputOffset(); ; good = lines.InputOffset() {
		var line stateLine
		if lines.Decode(&line) != nil || line.Mutant == "" {
			return good + 1, nil // with the end of the line
		}
		s.Outcomes[line.Mutant] = line.Outcome
	}
}

// Add adds an outcome.
func (s *State) Add(m Mutant, o Outcome) error {
	s.Outcomes[m.ID] = o
	return s.write(stateLine{m.ID, o})
}

func (s *State) write(line any) error {
	raw, err := json.Marshal(line)
	if err == nil {
		_, err = s.file.Write(append(raw, '\n'))
	}
	return err
}

// Close closes the file.
func (s *State) Close() error { return s.file.Close() }
