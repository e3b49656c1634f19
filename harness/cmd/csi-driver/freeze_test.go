//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const (
	podA   = "8c6d4fd2-0f8c-4a0e-9b1c-0123456789ab"
	podB   = "5e0b9b1f-93a1-4b53-8d57-ba9876543210"
	frozen = "populated 1\nfrozen 1\n"
)

// targetOf is where kubelet has a pod's volume.
func targetOf(pod string) string {
	return "/var/lib/kubelet/pods/" + pod + "/volumes/kubernetes.io~csi/pv/mount"
}

func TestPodsStandStill(t *testing.T) {
	for name, c := range map[string]struct {
		files          map[string]string // of the cgroup file system
		control        string            // the file that freezes
		during, before string            // what is in it
		fails          bool
	}{
		"cgroup v2, systemd's names": {map[string]string{
			"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod8c6d4fd2_0f8c_4a0e_9b1c_0123456789ab.slice/cgroup.freeze": "0",
			"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod8c6d4fd2_0f8c_4a0e_9b1c_0123456789ab.slice/cgroup.events": frozen,
			"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod5e0b9b1f_93a1_4b53_8d57_ba9876543210.slice/cgroup.freeze": "0",
		}, "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod8c6d4fd2_0f8c_4a0e_9b1c_0123456789ab.slice/cgroup.freeze", "1", "0", false},
		"cgroup v2, cgroupfs' names": {map[string]string{
			"kubepods/burstable/pod" + podA + "/cgroup.freeze": "0", "kubepods/burstable/pod" + podA + "/cgroup.events": frozen,
		}, "kubepods/burstable/pod" + podA + "/cgroup.freeze", "1", "0", false},
		"cgroup v1": {map[string]string{
			"freezer/kubepods/pod" + podA + "/freezer.state": "THAWED", "memory/kubepods/pod" + podA + "/cgroup.procs": "",
		}, "freezer/kubepods/pod" + podA + "/freezer.state", "FROZEN", "THAWED", false},
		"one that does not stand still": {map[string]string{
			"kubepods/pod" + podA + "/cgroup.freeze": "0", "kubepods/pod" + podA + "/cgroup.events": "frozen 0\n",
		}, "kubepods/pod" + podA + "/cgroup.freeze", "", "0", true},
	} {
		root := t.TempDir()
		for file, content := range c.files {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o700), os.WriteFile(filepath.Join(root, file), []byte(content), 0o600))
		}
		others := func(state string) { // everything but the pod's own file is as it was
			for file, content := range c.files {
				if raw, err := os.ReadFile(filepath.Join(root, file)); file != c.control && (err != nil || string(raw) != content) {
					t.Errorf("%s: %s is %q (%v) %s, want %q", name, file, raw, err, state, content)
				}
			}
		}
		control := func() string {
			raw, err := os.ReadFile(filepath.Join(root, c.control))
			must(t, err)
			return string(raw)
		}
		f := freezer{cgroups: root, record: filepath.Join(t.TempDir(), "frozen")}
		called, told := false, errors.New("told")
		err := f.during([]string{targetOf(podA), "/mnt/by-hand"}, func() error {
			called = true
			if found := control(); found != c.during || !exists(f.record) {
				t.Errorf("%s: found %q and a record: %t, want %q", name, found, exists(f.record), c.during)
			}
			others("during the copy")
			return told
		})
		if called == c.fails || c.fails == errors.Is(err, told) || err == nil {
			t.Errorf("%s: called %t, with the error %v", name, called, err)
		}
		if found := control(); found != c.before || exists(f.record) {
			t.Errorf("%s: found %q and a record: %t afterwards, want %q", name, found, exists(f.record), c.before)
		}
		others("afterwards")
	}
}

func TestNobodyToFreeze(t *testing.T) {
	for name, c := range map[string]struct {
		cgroups string
		targets []string
	}{
		"no cgroups given":    {"", []string{targetOf(podA)}},
		"no pod":              {t.TempDir(), []string{"/mnt/by-hand"}},
		"a pod that is ended": {t.TempDir(), []string{targetOf(podB)}},
	} {
		f, called := freezer{cgroups: c.cgroups, record: filepath.Join(t.TempDir(), "frozen")}, false
		if err := f.during(c.targets, func() error { called = true; return nil }); err != nil || !called || exists(f.record) {
			t.Errorf("%s: called %t, error %v", name, called, err)
		}
	}
	f := freezer{cgroups: "/no/such/cgroups", record: filepath.Join(t.TempDir(), "frozen")}
	if err := f.during([]string{targetOf(podA)}, func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cgroups that are not there: %v", err)
	}
}

// A driver that was killed while pods stood still lets them go on when it starts.
func TestAKilledDriverLeavesNothingFrozen(t *testing.T) {
	folder := t.TempDir()
	root, v1, v2 := filepath.Join(folder, "root"), filepath.Join(folder, "pod1"), filepath.Join(folder, "pod2")
	must(t, os.Mkdir(root, 0o700), os.Mkdir(v1, 0o700), os.Mkdir(v2, 0o700),
		os.WriteFile(filepath.Join(v1, "freezer.state"), []byte("FROZEN"), 0o600), os.WriteFile(filepath.Join(v2, "cgroup.freeze"), []byte("1"), 0o600),
		os.WriteFile(filepath.Join(root, "frozen"), []byte(v1+"\n"+filepath.Join(folder, "ended")+"\n"+v2), 0o600))
	d, err := newDriver(store{root: root, node: "node-1"}, "", 0)
	must(t, err)
	a, errA := os.ReadFile(filepath.Join(v1, "freezer.state"))
	b, errB := os.ReadFile(filepath.Join(v2, "cgroup.freeze"))
	if must(t, errA, errB); string(a) != "THAWED" || string(b) != "0" || exists(d.freezer.record) {
		t.Errorf("found %q, %q and a record: %t", a, b, exists(d.freezer.record))
	}
	if d.freezer.patience <= 0 {
		t.Errorf("no time is given to stand still: %+v", d.freezer)
	}
}
