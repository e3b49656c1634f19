package stack

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/semver"

	"github.com/smart-restore/conformance/fixtures"
)

var update = flag.Bool("update", false, "write testdata/kubeadm.json from the source of each Kubernetes in the lock (downloads their modules)")

const kubeadmFile = "testdata/kubeadm.json"

// asks are the tags of the images that a version of kubeadm asks for.
type asks struct {
	Etcd    string `json:"etcd"`
	CoreDNS string `json:"coredns"`
	Pause   string `json:"pause"`
}

// olderEtcd are the releases whose etcd is built at an older version than kubeadm asks for, and why.
var olderEtcd = map[string]string{
	"v1.33.13": "the module proxy has no etcd 3.5 after v3.5.23 with all its modules",
}

func TestTheLockHasWhatKubeadmAsksFor(t *testing.T) {
	lock, err := Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	rows := lock.Releases["kubernetes"]
	if *update {
		updateKubeadm(t, rows)
	}
	raw, err := os.ReadFile(kubeadmFile)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]asks{}
	if err := json.Unmarshal(raw, &known); err != nil {
		t.Fatal(err)
	}
	for _, problem := range kubeadmProblems(rows, known, corednsBuild(t, lock)) {
		t.Error(problem)
	}
	for version, want := range known {
		if source, ok := constantsFile(t, version); ok {
			if got, err := readConstants(source); err != nil || got != want {
				t.Errorf("%s says that kubeadm %s asks for %+v, its source for %+v (%v): %s", kubeadmFile, version, want, got, err, toUpdate)
			}
		}
	}

	// One pause for every node, as in kind's own node images: containerd starts it, whatever kubeadm asks for (which only warns
	// then), and a tag of its own for each node would change no behaviour, as the program in it is ours. It is the tag of
	// the default stack's kubeadm.
	pause, ok := lock.Image("pause")
	if !ok {
		t.Fatal("there is no image pause")
	}
	config, err := fs.ReadFile(fixtures.Files, "node/containerd.toml")
	if err != nil {
		t.Fatal(err)
	}
	sandbox := regexp.MustCompile(`(?m)^\s*sandbox_image = "(.*)"`).FindSubmatch(config)
	if sandbox == nil || string(sandbox[1]) != pause.Reference {
		t.Errorf("containerd starts sandboxes with %q (sandbox_image in fixtures/node/containerd.toml), the lock's image pause is %s: make them equal", sandbox, pause.Reference)
	}
	byDefault, err := lock.Stack("")
	if err != nil {
		t.Fatal(err)
	}
	if want := "registry.k8s.io/pause:" + known[byDefault.Versions["kubernetes"]].Pause; pause.Reference != want {
		t.Errorf("the lock's image pause is %s, kubeadm of the default stack asks for %s: change the reference, and sandbox_image in fixtures/node/containerd.toml", pause.Reference, want)
	}
}

const toUpdate = "go test ./harness/stack -run Kubeadm -update"

// kubeadmProblems holds the rows against what their kubeadm asks for.
func kubeadmProblems(rows []Release, known map[string]asks, coredns string) (problems []string) {
	report := func(row Release, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("fixtures/stacks.yaml: releases: kubernetes: row %q: ", row["name"])+fmt.Sprintf(format, args...))
	}
	var versions []string
	for _, row := range rows {
		version := row["version"]
		versions = append(versions, version)
		if want := "v1." + row["minor"]; row["name"] != want || semver.MajorMinor(version) != want {
			report(row, "name %q, minor %q and version %q do not agree: want v1.36, 36 and v1.36.3, for example", row["name"], row["minor"], version)
		}
		want, ok := known[version]
		if !ok {
			report(row, "what kubeadm %s asks for is not in harness/stack/%s: %s", version, kubeadmFile, toUpdate)
			continue
		}
		if row["etcd"] != want.Etcd {
			report(row, "etcd is %q, kubeadm %s asks for %q: set it", row["etcd"], version, want.Etcd)
		}
		if row["coredns"] != want.CoreDNS {
			report(row, "coredns is %q, kubeadm %s asks for %q: set it", row["coredns"], version, want.CoreDNS)
		}
		built, asked := strings.TrimPrefix(row["etcdBuild"], "etcd-"), "v"+strings.Split(want.Etcd, "-")[0]
		_, excused := olderEtcd[version]
		switch older := semver.Compare(built, asked) < 0; {
		case !semver.IsValid(built) || semver.MajorMinor(built) != semver.MajorMinor(asked):
			report(row, "etcdBuild is %q, kubeadm %s asks for etcd %s: name a build of that minor version, not older (add it under builds, with its module)", row["etcdBuild"], version, asked)
		case older && !excused:
			report(row, "etcdBuild is %q, older than etcd %s, which kubeadm %s asks for: name a build that is not older (add it under builds, with its module); if the module proxy has none, say so in olderEtcd in harness/stack/kubeadm_test.go", row["etcdBuild"], asked, version)
		case !older && excused:
			report(row, "etcdBuild is %q, not older than etcd %s: remove the release from olderEtcd in harness/stack/kubeadm_test.go", row["etcdBuild"], asked)
		}
		if semver.Compare(coredns, want.CoreDNS) < 0 {
			report(row, "CoreDNS is built at %s, older than %s, which kubeadm %s asks for: pin a newer one under builds", coredns, want.CoreDNS, version)
		}
	}
	for _, version := range slices.Sorted(maps.Keys(known)) {
		if !slices.Contains(versions, version) {
			problems = append(problems, fmt.Sprintf("harness/stack/%s has kubeadm %s, which is not in the lock: %s", kubeadmFile, version, toUpdate))
		}
	}
	return problems
}

// corednsBuild is the version that every node's CoreDNS is built at.
func corednsBuild(t *testing.T, lock *Lock) string {
	t.Helper()
	for _, b := range lock.Builds {
		if version, ok := strings.CutPrefix(b.Name, "coredns-"); ok {
			return version
		}
	}
	t.Fatal("there is no build of CoreDNS")
	return ""
}

func TestKubeadmProblemsAreFound(t *testing.T) {
	rows := func() []Release {
		return []Release{
			{"name": "v1.33", "minor": "33", "version": "v1.33.13", "etcd": "3.5.24-0", "etcdBuild": "etcd-v3.5.23", "coredns": "v1.12.0"},
			{"name": "v1.37", "minor": "37", "version": "v1.37.2", "etcd": "3.7.0-0", "etcdBuild": "etcd-v3.7.1", "coredns": "v1.14.3"},
		}
	}
	known := map[string]asks{"v1.33.13": {"3.5.24-0", "v1.12.0", "3.10"}, "v1.37.2": {"3.7.0-0", "v1.14.3", "3.10.2"}}
	if problems := kubeadmProblems(rows(), known, "v1.14.7"); len(problems) > 0 {
		t.Fatalf("the valid rows have problems: %q", problems)
	}
	for name, c := range map[string]struct {
		row                 int
		column, value, want string
	}{
		"a version that nobody asked": {1, "version", "v1.37.3", `row "v1.37": what kubeadm v1.37.3 asks for is not in harness/stack/testdata/kubeadm.json: ` + toUpdate},
		"its old version stays":       {1, "version", "v1.37.3", "has kubeadm v1.37.2, which is not in the lock"},
		"minor of another":            {1, "minor", "36", `minor "36" and version "v1.37.2" do not agree`},
		"name of another":             {1, "name", "v1.36", `name "v1.36", minor "37"`},
		"an older etcd":               {1, "etcdBuild", "etcd-v3.7.0-rc.0", `etcdBuild is "etcd-v3.7.0-rc.0", older than etcd v3.7.0`},
		"etcd of another minor":       {1, "etcdBuild", "etcd-v3.6.8", "name a build of that minor version"},
		"no etcd":                     {1, "etcdBuild", "", "name a build of that minor version"},
		"another etcd tag":            {1, "etcd", "3.6.8-0", `etcd is "3.6.8-0", kubeadm v1.37.2 asks for "3.7.0-0": set it`},
		"another CoreDNS tag":         {1, "coredns", "v1.99.0", `coredns is "v1.99.0", kubeadm v1.37.2 asks for "v1.14.3": set it`},
		"an excuse that is stale":     {0, "etcdBuild", "etcd-v3.5.24", "remove the release from olderEtcd"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := rows()
			changed[c.row][c.column] = c.value
			if problems := kubeadmProblems(changed, known, "v1.14.7"); !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("got %q, want a problem that says %q", problems, c.want)
			}
		})
	}
	if problems := kubeadmProblems(rows(), known, "v1.14.2"); len(problems) != 1 || !strings.Contains(problems[0], "CoreDNS is built at v1.14.2, older than v1.14.3") {
		t.Errorf("an older CoreDNS: %q", problems)
	}
}

// updateKubeadm writes kubeadmFile.
func updateKubeadm(t *testing.T, rows []Release) {
	t.Helper()
	known := map[string]asks{}
	for _, row := range rows {
		download := exec.Command("go", "mod", "download", "-json", "k8s.io/kubernetes@"+row["version"])
		download.Dir = t.TempDir() // of no module
		out, err := download.Output()
		var module struct{ Dir, Error string }
		if jsonErr := json.Unmarshal(out, &module); jsonErr != nil || module.Dir == "" {
			t.Fatalf("go mod download k8s.io/kubernetes@%s: %s (%v, %v)", row["version"], module.Error, err, jsonErr)
		}
		if known[row["version"]], err = readConstants(filepath.Join(module.Dir, constantsPath)); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(kubeadmFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kubeadmFile, append(raw, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

const constantsPath = "cmd/kubeadm/app/constants/constants.go"

// constantsFile is kubeadm's source, if this machine has it already.
func constantsFile(t *testing.T, version string) (string, bool) {
	t.Helper()
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(strings.TrimSpace(string(cache)), "k8s.io", "kubernetes@"+version, constantsPath)
	_, err = os.Stat(file)
	return file, err == nil
}

// readConstants reads what kubeadm asks for out of its source.
func readConstants(file string) (asks, error) {
	source, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		return asks{}, err
	}
	values := map[string]string{}
	ast.Inspect(source, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i >= len(spec.Values) {
				break
			}
			if literal, ok := spec.Values[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				values[name.Name], _ = strconv.Unquote(literal.Value)
			}
		}
		return true
	})
	found := asks{Etcd: values["DefaultEtcdVersion"], CoreDNS: values["CoreDNSVersion"], Pause: values["PauseVersion"]}
	if found.Etcd == "" || found.CoreDNS == "" || found.Pause == "" {
		return asks{}, fmt.Errorf("%s: want string constants DefaultEtcdVersion, CoreDNSVersion and PauseVersion, found %+v", file, found)
	}
	return found, nil
}

func TestConstantsAreReadOrMissed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "constants.go")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("package constants\nconst (\n\tDefaultEtcdVersion = \"3.7.0-0\"\n\tCoreDNSVersion = \"v1.14.3\"\n\tPauseVersion = \"3.10.2\"\n)\n")
	if got, err := readConstants(file); err != nil || got != (asks{"3.7.0-0", "v1.14.3", "3.10.2"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	write("package constants\nconst DefaultEtcdVersion = \"3.7.0-0\"\n")
	if _, err := readConstants(file); err == nil || !strings.Contains(err.Error(), "want string constants") {
		t.Errorf("got %v", err)
	}
}
