package session

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/smart-restore/conformance/harness/verdict"
)

// What a run needs, measured. Building everything leaves 3 GB in our cache, 5 GB in the engine, 6 GB of modules and 10 GB
// in the go command's build cache, which may all be on one disk. A run on cached images takes 2 GB of disk for its node
// and volumes, and 2.5 GB of memory.
const (
	gib          = 1 << 30
	diskForBuild = 25 * gib
	diskForRun   = 4 * gib
	memoryForRun = 3 * gib
)

// preflight refuses to start what would run out of disk or memory half-way.
func (s *Session) preflight() error {
	needed := uint64(diskForRun)
	if entries, err := os.ReadDir(s.Cache.Path("images", "")); err != nil || len(entries) == 0 {
		needed = diskForBuild
	}
	var problems []error
	engineDir := "/var/lib"
	if dir := os.Getenv("SMART_RESTORE_ENGINE_DIR"); dir != "" {
		engineDir = filepath.Dir(dir)
	}
	for _, dir := range []string{s.Cache.Root(), engineDir} {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); err != nil {
			continue // not on this system; the other one is looked at
		}
		if free := stat.Bavail * uint64(stat.Bsize); free < needed {
			problems = append(problems, fmt.Errorf("%s has %.1f GiB free, %.0f GiB are needed: make room, or name another folder with SMART_RESTORE_CACHE (cache) or SMART_RESTORE_ENGINE_DIR (engine)",
				dir, float64(free)/gib, float64(needed)/gib))
		}
	}
	if available, ok := memoryAvailable(); ok && available < memoryForRun {
		problems = append(problems, fmt.Errorf("%.1f GiB of memory are available, %.0f GiB are needed: stop something, or take down a kept stack with make down", float64(available)/gib, float64(memoryForRun)/gib))
	}
	return errors.Join(problems...)
}

func memoryAvailable() (uint64, bool) { return memInfo("MemAvailable") }

func memInfo(name string) (uint64, bool) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer func() { _ = file.Close() }()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		key, rest, _ := strings.Cut(scanner.Text(), ":")
		var kib uint64
		if n, _ := fmt.Sscanf(rest, "%d kB", &kib); key == name && n == 1 {
			return kib << 10, true
		}
	}
	return 0, false
}

// host describes this machine for the report.
func (s *Session) host(engineVersion string) verdict.Host {
	h := verdict.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Engine: engineVersion}
	if total, ok := memInfo("MemTotal"); ok {
		h.MemoryBytes = int64(total)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var stat unix.Statfs_t
	if unix.Statfs(filepath.Clean(s.Cache.Root()), &stat) == nil {
		h.DiskFreeBytes = int64(stat.Bavail) * stat.Bsize
	}
	return h
}
