package scripts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is a folder in place of / and a PATH that has nothing but harmless commands and fakes.
type host struct {
	t    *testing.T
	root string
	bin  string
	env  []string
}

// commands are those of the system that scripts/engine may use as they are: they change files below the host's root only.
var commands = []string{"awk", "basename", "bash", "cat", "chmod", "cp", "cut", "dirname", "env", "flock", "grep", "install", "ls", "mkdir",
	"mkfifo", "mv", "paste", "rm", "sed", "setsid", "sh", "sleep", "sort", "tail", "timeout", "touch", "tr", "uname", "xargs"}

// fakes stand for what would change a machine. A fake of a firewall keeps its rules in a file per table, as -S lists them.
var fakes = map[string]string{
	"iptables": `#!/bin/sh
name=$(basename "$0") table=filter
[ "$1" = -w ] && shift
if [ "$1" = -t ]; then table=$2; shift 2; fi
rules=$ROOT/$name.$table do=$1 chain=$2
touch "$rules"
without() { grep -vxF -- "$1" "$rules" >"$rules.new"; mv "$rules.new" "$rules"; }
case $do in
-S) if [ -n "$chain" ]; then grep -E -- "^-[PNA] $chain( |$)" "$rules"; else cat "$rules"; fi ;;
-D) shift 2; rule="-A $chain"
    for word; do case $word in *' '*) rule="$rule \"$word\"" ;; *) rule="$rule $word" ;; esac; done
    without "$rule" ;;
-F) grep -v -- "^-A $chain " "$rules" >"$rules.new"; mv "$rules.new" "$rules" ;;
-X) grep -q -- "-j $chain\$" "$rules" && exit 1; without "-N $chain" ;;
-P) sed "s/^-P $chain .*/-P $chain $3/" "$rules" >"$rules.new"; mv "$rules.new" "$rules" ;;
esac
`,
	"dockerd": `#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --pidfile) pid=$2 ;; --data-root) data=$2 ;; esac; shift; done
trap 'touch "$ROOT/stopped"; exit 0' TERM
echo $$ >"$pid"
mkdir -p "$data/network/files"
printf 'x"BridgeName":"br-0123456789ab"' >"$data/network/files/local-kv.db"
cat >>"$ROOT/iptables.filter" <<RULES
-N DOCKER
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -o br-0123456789ab -j DOCKER
-A FORWARD -i br-0123456789ab -m comment --comment "of the suite" -j ACCEPT
-A DOCKER -d 10.1.0.2/32 ! -i br-0123456789ab -o br-0123456789ab -p tcp -j ACCEPT
-A DOCKER-USER -j RETURN
RULES
cat >>"$ROOT/iptables.nat" <<RULES
-N DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.1.0.0/16 ! -o br-0123456789ab -j MASQUERADE
-A POSTROUTING -s 10.1.0.2/32 -d 10.1.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
RULES
iptables -w -P FORWARD DROP
echo 1 >"$ROOT/proc/sys/net/ipv4/ip_forward"
[ -z "$SILENT" ] && touch "$ROOT/up"
echo started >"$ROOT/at"
while :; do sleep 0.05; done
`,
	"curl":   "#!/bin/sh\ncase $* in *smart-restore/docker.sock*) [ -e \"$ROOT/up\" ] && [ ! -e \"$ROOT/stopped\" ] ;; *) exit ${OTHER_SOCKET:-7} ;; esac\n",
	"pgrep":  "#!/bin/sh\ncase $* in *dockerd*) [ -z \"$OTHER_ENGINE\" ] || echo \"$OTHER_ENGINE\" ;; esac\n",
	"docker": "#!/bin/sh\nexit 1\n",
	"jq":     "#!/bin/sh\n", "ip": "#!/bin/sh\n", "umount": "#!/bin/sh\n",
	// It says where it is, asks the policy as a package's installation would, and goes on when it is told to.
	"apt-get": `#!/bin/sh
case $* in *update*) step=update ;; *--download-only*) step=download ;; *) step=install ;; esac
for service in docker.service docker.socket containerd ssh.service; do
  sh -c "\"$ROOT/usr/sbin/policy-rc.d\" $service start"; echo "$step $service $?" >>"$ROOT/asked"
done
[ "$step" = "$STOP_AT" ] || exit 0
echo "$step" >"$ROOT/at"
read -r _ <"$ROOT/go"
touch "$ROOT/finished"
exit ${APT_STATUS:-0}
`,
}

// newHost makes a host that has Docker installed, unless without names commands that are missing.
func newHost(t *testing.T, without ...string) *host {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("scripts/engine is for Linux")
	}
	h := &host{t: t, root: t.TempDir(), bin: t.TempDir()}
	for _, name := range commands {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("scripts/engine needs %s", name)
		}
		if err := os.Symlink(path, filepath.Join(h.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range fakes {
		if !slices.Contains(without, name) {
			h.command(name, script)
		}
	}
	h.command("ip6tables", fakes["iptables"])
	for _, name := range []string{"engine", "runc-shim"} {
		content, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h.command(name, string(content))
	}
	for name, content := range map[string]string{
		"iptables.filter": "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n-N MINE\n-A FORWARD -i eth1 -j MINE\n",
		"iptables.nat":    "-P PREROUTING ACCEPT\n-A POSTROUTING -o eth0 -j MASQUERADE\n-A POSTROUTING -s 10.9.0.2/32 -d 10.9.0.3/32 -j MASQUERADE\n-A POSTROUTING -s 10.9.0.2/32 -d 10.9.0.2/32 -p udp -j MASQUERADE\n",
		"iptables.raw":    "", "ip6tables.filter": "-P FORWARD ACCEPT\n", "ip6tables.nat": "", "ip6tables.raw": "",
		"proc/sys/net/ipv4/ip_forward": "0\n",
	} {
		h.write(name, content, 0o644)
	}
	for _, fifo := range []string{"at", "go"} {
		if err := syscall.Mkfifo(filepath.Join(h.root, fifo), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.env = []string{"PATH=" + h.bin, "ROOT=" + h.root, "SMART_RESTORE_TEST_ROOT=" + h.root, "LC_ALL=C"}
	t.Cleanup(func() { // the fake engine, if a test failed
		pid := h.managedPID()
		if out, err := os.ReadFile("/proc/" + pid + "/cmdline"); pid != "" && err == nil && bytes.Contains(out, []byte(h.root)) {
			_ = exec.Command("kill", "-KILL", pid).Run()
		}
	})
	return h
}

func (h *host) command(name, script string) {
	h.t.Helper()
	writeFile(h.t, filepath.Join(h.bin, name), script, 0o755)
}

// writeFile lets no process be started meanwhile: one that inherits the open file keeps it from being run (ETXTBSY).
func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
		t.Fatal(err)
	}
}

func (h *host) write(name, content string, mode os.FileMode) {
	h.t.Helper()
	writeFile(h.t, filepath.Join(h.root, name), content, mode)
}

func (h *host) read(name string) string {
	content, _ := os.ReadFile(filepath.Join(h.root, name))
	return string(content)
}

func (h *host) has(name string) bool {
	_, err := os.Lstat(filepath.Join(h.root, name))
	return err == nil
}

// firewall is all rules and what dockerd changes besides.
func (h *host) firewall() string {
	var all strings.Builder
	for _, name := range []string{"iptables.filter", "iptables.nat", "iptables.raw", "ip6tables.filter", "ip6tables.nat", "proc/sys/net/ipv4/ip_forward"} {
		fmt.Fprintf(&all, "%s:\n%s", name, h.read(name))
	}
	return all.String()
}

func (h *host) engine(env []string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	var out bytes.Buffer
	// Under nohup SIGHUP is ignored, and by whatever is started as well, unless it is handled here.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP)
	h.t.Cleanup(func() { signal.Stop(handled) })
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(h.bin, "bash"), append([]string{filepath.Join(h.bin, "engine")}, args...)...)
	cmd.Env = slices.Concat(h.env, env)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	return cmd, &out
}

func (h *host) run(env []string, args ...string) string {
	h.t.Helper()
	cmd, out := h.engine(env, args...)
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("engine %v: %v\n%s", args, err, out)
	}
	return out.String()
}

// at waits until a fake says where it is.
func (h *host) at(want string) {
	h.t.Helper()
	if got := h.fifo("at", os.O_RDONLY); got != want+"\n" {
		h.t.Fatalf("a fake is at %q, want %q", got, want)
	}
}

// fifo opens a FIFO, which waits for the other side, and reads it to its end. A time-out says that the other side never came.
func (h *host) fifo(name string, flag int) string {
	h.t.Helper()
	done := make(chan string, 1)
	go func() {
		file, err := os.OpenFile(filepath.Join(h.root, name), flag, 0)
		if err != nil {
			done <- err.Error()
			return
		}
		defer func() { _ = file.Close() }()
		var content bytes.Buffer
		if flag == os.O_RDONLY {
			_, _ = content.ReadFrom(file)
		}
		done <- content.String()
	}()
	select {
	case content := <-done:
		return content
	case <-time.After(30 * time.Second):
		h.t.Fatalf("nobody opened %s within 30 s", name)
		return ""
	}
}

const policyFile = "usr/sbin/policy-rc.d"

func TestAnInstallationLeavesThePolicyAsItWas(t *testing.T) {
	t.Parallel()
	const allows, refuses = "#!/bin/sh\n# the host's\nexit 104\n", "#!/bin/sh\nexit 101\n"
	for name, c := range map[string]struct {
		policy string // before; empty: none
		stopAt string // the step of apt-get at which the signal comes
		signal syscall.Signal
		status string
		ended  bool // apt-get was let finish
	}{
		"TERM while it updates, no policy":        {"", "update", syscall.SIGTERM, "exit status 143", false},
		"TERM while it downloads, one that is so": {allows, "download", syscall.SIGTERM, "exit status 143", false},
		"TERM in dpkg, one that allows":           {allows, "install", syscall.SIGTERM, "exit status 143", true},
		"Ctrl-C in dpkg, no policy":               {"", "install", syscall.SIGINT, "exit status 130", true},
		"HUP in dpkg, one that refuses":           {refuses, "install", syscall.SIGHUP, "exit status 129", true},
		"apt-get fails, one that allows":          {allows, "install", 0, "exit status 1", true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "dockerd")
			if c.policy != "" {
				h.write(policyFile, c.policy, 0o755)
			}
			env := []string{"STOP_AT=" + c.stopAt}
			if c.signal == 0 {
				env = append(env, "APT_STATUS=100")
			}
			cmd, out := h.engine(env, "up")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			h.at(c.stopAt)
			if c.signal != 0 {
				if err := cmd.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
			}
			if c.ended {
				h.fifo("go", os.O_WRONLY)
			}
			if err := cmd.Wait(); err == nil || err.Error() != c.status {
				t.Errorf("engine up: %v, want %s\n%s", err, c.status, out)
			}
			if got := h.has("finished"); got != c.ended {
				t.Errorf("apt-get finished: %v, want %v", got, c.ended)
			}
			if got := h.read(policyFile); got != c.policy {
				t.Errorf("the policy is %q after it, want %q", got, c.policy)
			}
			if left, _ := filepath.Glob(filepath.Join(h.root, policyFile+"?*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			other := map[string]string{"": "0", allows: "104", refuses: "101"}[c.policy]
			for service, want := range map[string]string{"docker.service": "101", "docker.socket": "101", "containerd": "101", "ssh.service": other} {
				if line := c.stopAt + " " + service + " " + want + "\n"; !strings.Contains(h.read("asked"), line) {
					t.Errorf("the policy's answers lack %q:\n%s", line, h.read("asked"))
				}
			}
		})
	}
}

// Killed, the script can undo nothing: what it leaves must do no harm, and the next run removes it.
func TestTheNextRunPutsBackThePolicyOfAKilledOne(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"no policy": "", "one that allows": "#!/bin/sh\nexit 104\n"} {
		for _, next := range []string{"up", "down", "purge"} {
			t.Run(name+", then "+next, func(t *testing.T) {
				h := newHost(t, "dockerd")
				if before != "" {
					h.write(policyFile, before, 0o755)
				}
				cmd, _ := h.engine([]string{"STOP_AT=install"}, "up")
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				h.at("install")
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				h.fifo("go", os.O_WRONLY)
				for try := 0; !h.has("finished"); try++ { // apt-get goes on alone
					if try == 3000 {
						t.Fatal("apt-get did not end within 30 s")
					}
					time.Sleep(10 * time.Millisecond)
				}
				want := map[string]int{"": 0, "#!/bin/sh\nexit 104\n": 104}[before]
				left := exec.Command(filepath.Join(h.root, policyFile), "docker.service", "start")
				left.Env = h.env
				if _ = left.Run(); left.ProcessState.ExitCode() != want {
					t.Errorf("the policy that is left says %d of Docker, want %d", left.ProcessState.ExitCode(), want)
				}
				h.command("dockerd", fakes["dockerd"])
				cmd, out := h.engine(nil, next)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if next == "up" {
					h.at("started")
				}
				if err := cmd.Wait(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if got := h.read(policyFile); got != before {
					t.Errorf("the policy is %q, want %q", got, before)
				}
				if next == "up" {
					h.run(nil, "down")
				}
			})
		}
	}
}

// up starts the managed engine.
func (h *host) up(env ...string) string {
	h.t.Helper()
	cmd, out := h.engine(env, "up")
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.at("started")
	if err := cmd.Wait(); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return out.String()
}

func (h *host) managedPID() string {
	return strings.TrimSpace(h.read("run/smart-restore/docker.pid"))
}

// kill ends the fake engine without a chance to clean up, and waits for its end.
func (h *host) kill() {
	h.t.Helper()
	pid, err := strconv.Atoi(h.managedPID())
	if err != nil {
		h.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
	for range 1000 {
		if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || len(cmdline) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatal("the fake engine survived SIGKILL")
}

func TestDownPutsBackTheFirewall(t *testing.T) {
	t.Parallel()
	another := "OTHER_ENGINE=" + strconv.Itoa(os.Getpid()) // a process that is not the managed engine
	const dockers = "-N DOCKER\n-A DOCKER -o docker0 -j ACCEPT\n-A FORWARD -o docker0 -j DOCKER\n"
	for name, c := range map[string]struct {
		env    string
		socket bool   // a socket is at Docker's default path
		before string // rules that were there
		killed bool   // the managed engine was killed
		shared bool   // another engine may use the chains
		old    bool   // the engine was started by an earlier version of the script, which wrote down less
	}{
		"alone":                             {},
		"alone, the engine was killed":      {killed: true},
		"a socket that nobody listens at":   {socket: true, env: "OTHER_SOCKET=7"},
		"another engine answers":            {socket: true, env: "OTHER_SOCKET=0", shared: true},
		"another engine hangs":              {socket: true, env: "OTHER_SOCKET=28", shared: true},
		"another engine without a socket":   {env: another, shared: true},
		"another one runs, ours was killed": {env: another, killed: true, shared: true},
		"chains that were there before":     {before: dockers, shared: true},
		"an earlier version's":              {old: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.write("iptables.filter", h.read("iptables.filter")+c.before, 0o644)
			before := h.firewall()
			h.up()
			if !strings.Contains(h.firewall(), "br-0123456789ab") {
				t.Fatal("the fake engine changed nothing")
			}
			if c.socket {
				h.socket("var/run/docker.sock")
			}
			if c.killed {
				h.kill()
			}
			if c.old {
				if err := os.Remove(filepath.Join(h.root, "run/smart-restore/host")); err != nil {
					t.Fatal(err)
				}
				h.write("run/smart-restore/before", "ACCEPT\n0\n", 0o644)
				// It could not know that this one was there.
				before = strings.Replace(before, "-A POSTROUTING -s 10.9.0.2/32 -d 10.9.0.2/32 -p udp -j MASQUERADE\n", "", 1)
			}
			h.run([]string{c.env}, "down")
			if pid := h.managedPID(); pid != "" || !c.killed && !h.has("stopped") {
				t.Errorf("the engine was not stopped (pid file: %q)", pid)
			}
			after := h.firewall()
			if strings.Contains(after, "br-0123456789ab") {
				t.Errorf("rules of the managed engine's bridge are left:\n%s", after)
			}
			switch {
			case !c.shared && after != before:
				t.Errorf("the host is\n%s\nwant it as it was:\n%s", after, before)
			case c.shared && (!strings.Contains(after, "-N DOCKER\n") || !strings.Contains(after, c.before)):
				t.Errorf("another engine's chains are gone:\n%s", after)
			case c.shared && c.before == "" && !strings.Contains(after, "-P FORWARD DROP"):
				t.Errorf("the forwarding that another engine may rely on was changed:\n%s", after)
			}
			if h.has("run/smart-restore/host") || h.has("run/smart-restore/before") {
				t.Error("the record of the host is left: a later engine would take it for the host's state")
			}
		})
	}
}

// socket makes a socket below the root, whose path may be too long to listen at directly.
func (h *host) socket(name string) {
	h.t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = listener.Close() })
	path := filepath.Join(h.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(filepath.Join(dir, "s"), path)); err != nil {
		h.t.Fatal(err)
	}
}

func TestASignalWhileTheEngineStartsStopsIt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	before := h.firewall()
	cmd, out := h.engine([]string{"SILENT=1"}, "up")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.at("started")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 143" {
		t.Errorf("%v, want exit status 143\n%s", err, out)
	}
	if !h.has("stopped") {
		t.Error("the engine runs on")
	}
	if after := h.firewall(); after != before {
		t.Errorf("the host is\n%s\nwant it as it was:\n%s", after, before)
	}
}

func TestUpUsesWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		docker string // the docker command's script
		env    string
		want   string // DOCKER_HOST and MANAGED
		fails  string
	}{
		"the context's engine": {"#!/bin/sh\ncase $* in *inspect*) echo unix:///elsewhere.sock ;; esac\n", "", "DOCKER_HOST=unix:///elsewhere.sock\nMANAGED=false\n", ""},
		"DOCKER_HOST's engine": {"#!/bin/sh\n", "DOCKER_HOST=tcp://10.0.0.1:2375", "DOCKER_HOST=tcp://10.0.0.1:2375\nMANAGED=false\n", ""},
		"none where DOCKER_HOST says": {"#!/bin/sh\nexit 1\n", "DOCKER_HOST=tcp://10.0.0.1:2375", "",
			"DOCKER_HOST is tcp://10.0.0.1:2375, but no engine answers there within 10 s: start it, or unset DOCKER_HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.command("docker", c.docker)
			cmd, out := h.engine([]string{c.env}, "up")
			err := cmd.Run()
			if c.fails != "" {
				if err == nil || !strings.Contains(out.String(), c.fails) || h.has("run/smart-restore") {
					t.Errorf("got %v, want it to start nothing and to say %q:\n%s", err, c.fails, out)
				}
				return
			}
			if err != nil || out.String() != c.want {
				t.Errorf("got %q, %v, want %q", out, err, c.want)
			}
		})
	}
}

// Each call of "docker version" is bounded: the engine that DOCKER_HOST or a context names may hang.
func TestAnEngineThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.command("docker", "#!/bin/sh\ntouch \"$ROOT/unbounded\"\n")
	if err := os.Remove(filepath.Join(h.bin, "timeout")); err != nil {
		t.Fatal(err)
	}
	h.command("timeout", "#!/bin/sh\necho \"$*\" >>\"$ROOT/bounded\"\nexit 124\n")
	for _, env := range []string{"", "DOCKER_HOST=tcp://10.0.0.1:2375"} {
		cmd, out := h.engine([]string{env}, "status")
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: a hanging engine is taken for one that answers: %s", env, out)
		}
	}
	if got, want := h.read("bounded"), strings.Repeat("-k 2 10 docker version\n", 2); got != want || h.has("unbounded") {
		t.Errorf("bounded calls: %q, want %q; unbounded ones: %v", got, want, h.has("unbounded"))
	}
}

// What "make up" prints is exported in many a shell: it names the managed engine also after "make down".
func TestTheManagedEnginesAddressMayStillBeExported(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	address := "DOCKER_HOST=unix://" + filepath.Join(h.root, "run/smart-restore/docker.sock")
	if out := h.up(address); !strings.HasSuffix(out, address+"\nMANAGED=true\n") {
		t.Errorf("got %q", out)
	}
	if out := h.run([]string{address}, "up"); out != address+"\nMANAGED=true\n" {
		t.Errorf("the second time: %q", out)
	}
	h.run([]string{address}, "down")
}

func TestPurgeRemovesAnEnginesDataOnly(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.up()
	h.run(nil, "purge")
	if left, _ := filepath.Glob(filepath.Join(h.root, "var/lib/smart-restore/*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	h.write("home/precious", "", 0o600)
	for _, command := range []string{"purge", "up"} {
		cmd, out := h.engine([]string{"SMART_RESTORE_ENGINE_DIR=" + filepath.Join(h.root, "home")}, command)
		if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "SMART_RESTORE_ENGINE_DIR is") || !h.has("home/precious") {
			t.Errorf("%s of somebody else's folder: %v, %s", command, err, out)
		}
	}
}

// fakeGo compiles two packages, and goes on when it is told to.
const fakeGo = `#!/bin/sh
echo "$*" >>"$ROOT/calls"
echo k8s.io/api/core/v1 >&2
echo example.com/x >&2
[ -z "$SLOW" ] || [ "$1" != build ] || read -r _ <"$ROOT/go"
if [ "$1" = "$FAIL" ]; then echo "# example.com/x" >&2; echo "x.go:1:1: undefined: y" >&2; exit 1; fi
`

func TestBuildSaysWhatIsWrongAndIsQuietOtherwise(t *testing.T) {
	t.Parallel()
	const build, test = "build -v -o build/bin/ ./harness/cmd/smart-restore github.com/onsi/ginkgo/v2/ginkgo\n", "test -v -vet=off -c -o build/bin/e2e.test ./e2e\n"
	const wrong = "# example.com/x\nx.go:1:1: undefined: y\n"
	for name, c := range map[string]struct {
		fail, out, calls string
		fails            bool
	}{
		"all compiles":         {"", "", build + test, false},
		"the program does not": {"build", wrong, build, true},
		"the specs do not":     {"test", wrong, build + test, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			cmd, out := h.build("FAIL=" + c.fail)
			if err := cmd.Run(); (err != nil) != c.fails || out.String() != c.out || h.read("calls") != c.calls {
				t.Errorf("got %v, %q after the calls %q, want %q after %q", err, out, h.read("calls"), c.out, c.calls)
			}
		})
	}
}

func TestABuildThatTakesLongSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	cmd, _ := h.build("SLOW=1")
	cmd.Stderr = nil
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "compiling: 2 packages so far, after ") {
		t.Errorf("got %q, %v", line, err)
	}
	h.fifo("go", os.O_WRONLY)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// build is a call of scripts/build with a fake compiler.
func (h *host) build(env string) (*exec.Cmd, *bytes.Buffer) {
	h.t.Helper()
	h.command("go", fakeGo)
	content, err := os.ReadFile("build")
	if err != nil {
		h.t.Fatal(err)
	}
	h.command("build", string(content))
	var out bytes.Buffer
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(h.bin, "bash"), filepath.Join(h.bin, "build"), "build/bin")
	cmd.Dir, cmd.Env = h.root, slices.Concat(h.env, []string{env})
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}
