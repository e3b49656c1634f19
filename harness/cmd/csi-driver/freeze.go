//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// freezer lets pods stand still, by the freezer of cgroup v2 or v1.
type freezer struct {
	cgroups  string        // the node's cgroup file system; empty for none
	record   string        // the file that says what is frozen: a driver that was killed thaws it when it starts
	patience time.Duration // how long processes may take to stand still
}

var podOf = regexp.MustCompile(`/pods/([0-9a-f-]{36})/`)

// during calls do while the pods that have a volume at these paths stand still.
func (f freezer) during(targets []string, do func() error) (err error) {
	groups, err := f.groups(targets)
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return do()
	}
	if err := os.WriteFile(f.record, []byte(strings.Join(groups, "\n")), 0o600); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.thaw()) }()
	for _, group := range groups {
		if err := f.freeze(group); err != nil {
			return err
		}
	}
	return do()
}

// groups are the cgroups of these pods. A pod that is ending may have none any more.
func (f freezer) groups(targets []string) (groups []string, err error) {
	pods := map[string]bool{}
	for _, target := range targets {
		if match := podOf.FindStringSubmatch(target); match != nil {
			pods["pod"+match[1]] = true
		}
	}
	if f.cgroups == "" || len(pods) == 0 {
		return nil, nil
	}
	top := filepath.Join(f.cgroups, "freezer") // cgroup v1
	if _, err := os.Stat(top); errors.Is(err, fs.ErrNotExist) {
		top = f.cgroups
	}
	err = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != top:
			return nil // it went while we looked
		case err != nil || !entry.IsDir():
			return err
		}
		// podUID, or with systemd's names kubelet-kubepods-burstable-podU_I_D.slice.
		name := strings.ReplaceAll(strings.TrimSuffix(entry.Name(), ".slice"), "_", "-")
		if at := strings.LastIndex(name, "pod"); at >= 0 && pods[name[at:]] {
			groups = append(groups, path)
			return filepath.SkipDir
		}
		return nil
	})
	return groups, err
}

// control is the file that freezes a cgroup, what to write, and what another file says when it is frozen.
func control(group string) (file, freeze, thaw, state, frozen string) {
	if v1 := filepath.Join(group, "freezer.state"); exists(v1) {
		return v1, "FROZEN", "THAWED", v1, "FROZEN"
	}
	return filepath.Join(group, "cgroup.freeze"), "1", "0", filepath.Join(group, "cgroup.events"), "frozen 1"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (f freezer) freeze(group string) error {
	file, freeze, _, state, frozen := control(group)
	if err := os.WriteFile(file, []byte(freeze), 0); err != nil {
		return err
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		raw, err := os.ReadFile(state)
		if err != nil || strings.Contains(string(raw), frozen) {
			return err
		}
		if time.Since(begin) > f.patience {
			return fmt.Errorf("want %s frozen within %s, found %q in %s", group, f.patience, raw, state)
		}
	}
}

// thaw lets everything go on that the record names.
func (f freezer) thaw() error {
	raw, err := os.ReadFile(f.record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for group := range strings.SplitSeq(string(raw), "\n") {
		file, _, thaw, _, _ := control(group)
		if e := os.WriteFile(file, []byte(thaw), 0); e != nil && exists(group) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return err // the record stays: the next one tries again
	}
	return os.Remove(f.record)
}
