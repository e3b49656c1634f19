// Package harness holds the rule that the packages below it keep: data flows one way.
package harness

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/smart-restore/conformance/"

// layers are in the order in which data flows: lock → images → cluster → testbed → scenario → session. A package imports
// packages of earlier layers, never of its own or a later one.
var layers = [][]string{
	{"harness/strict", "harness/subnet", "harness/text", "harness/redact", "harness/internal/fakeapi", "harness/timing", "harness/frame", "harness/env/recorded", "harness/fault/gateway/api", "harness/authority"},
	{"harness/artifacts", "harness/endpoint", "harness/fault/gateway/resolver", "harness/explain"},
	{"fixtures", "scripts", "harness/progress", "harness/cache", "harness/stack", "harness/settings", "harness/engine",
		"harness/verdict", "harness/observe", "harness/workload/dataset", "harness/workload/ledger", "harness/fault/gateway", "harness/probe", "harness/alerts"},
	{"harness/gomod", "harness/fault", "harness/await", "harness/podexec", "harness/recorder", "harness/creations", "harness/cluster", "harness/check/play", "harness/check/rights", "harness/explore/picture", "harness/report/markdown", "harness/report/decisions"},
	{"harness/images", "harness/install", "harness/matrix", "harness/report/timeline", "harness/check/network", "harness/subject", "harness/explore/history"},
	{"harness/outage", "harness/runs", "harness/objectstore", "harness/policy", "harness/report/page"},
	{"harness/testbed", "harness/report/github", "harness/report/promises", "harness/report/docs", "harness/report/history"},
	{"harness/absence", "harness/external", "harness/volsync"},
	{"harness/blind"},
	{"harness/env"},
	{"harness/repository", "harness/platform", "harness/scrape"},
	{"harness/app"},
	{"harness/s3down"},
	{"harness/claim"},
	{"harness/gitops", "harness/replay"},
	{"harness/scenario"},
	{"harness/check"},
	{"harness/explore", "harness/mutants"},
	{"harness/session", "e2e"},
	{"harness/series"},
	{"harness/cmd/smart-restore", "harness/cmd/agent", "harness/cmd/gateway", "harness/cmd/pause", "harness/cmd/provisioner", "harness/cmd/csi-driver"},
}

// clusterVocabulary begins the import paths of what talks to a cluster or to containers.
var clusterVocabulary = []string{
	"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "sigs.k8s.io/e2e-framework", "sigs.k8s.io/kind",
	"github.com/testcontainers", "github.com/moby", "github.com/docker",
}

// clusterless are the packages that must not import any of that: what finds and says things without a cluster.
var clusterless = []string{
	"fixtures", "harness/authority", "harness/fault/gateway/resolver", "harness/alerts", "harness/strict", "harness/endpoint", "harness/outage", "harness/probe", "harness/check", "harness/check/play", "harness/check/network", "harness/check/rights", "harness/mutants",
	"harness/fault/gateway", "harness/fault/gateway/api", "harness/policy", "harness/stack", "harness/settings", "harness/subject", "harness/explore", "harness/explore/history", "harness/explore/picture",
}

// e2eImports are all that a spec may import: what it stands on is the scenario's business.
var e2eImports = []string{"harness/outage", "harness/recorder", "harness/scenario", "harness/verdict", "harness/workload/dataset"}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestImportsFollowTheFlowOfData(t *testing.T) {
	layerOf := map[string]int{}
	for i, layer := range layers {
		for _, name := range layer {
			layerOf[name] = i
		}
	}
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		layer, placed := layerOf[name]
		if !placed {
			if name != "harness" {
				t.Errorf("%s has no place in the layers of harness/architecture_test.go: give it one", name)
			}
			continue
		}
		for _, imported := range p.Imports {
			dependency, ours := strings.CutPrefix(imported, module)
			if ours && layerOf[dependency] >= layer {
				t.Errorf("%s (layer %d) imports %s (layer %d): data flows the other way", name, layer, dependency, layerOf[dependency])
			}
		}
	}
}

func TestSpecsUseScenariosOnly(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.ImportPath != module+"e2e" {
			continue
		}
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			dependency, ours := strings.CutPrefix(imported, module)
			standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
			switch {
			case ours && !slices.Contains(e2eImports, dependency):
				t.Errorf("e2e imports %s: a spec may import %v", dependency, e2eImports)
			case !ours && !standard && !strings.HasPrefix(imported, "github.com/onsi/"):
				t.Errorf("e2e imports %s: only Ginkgo and Gomega are a spec's business", imported)
			}
		}
	}
}

// Settings travel as values. The environment of this process is changed in one place only, for libraries that have no options.
func TestTheEnvironmentIsChangedInOnePlace(t *testing.T) {
	const allowed = "engine/libraries.go"
	seen := false
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil || !regexp.MustCompile(`os\.(Setenv|Unsetenv|Clearenv)\(`).Match(raw) {
			return err
		}
		if path == filepath.Join("..", "harness", filepath.FromSlash(allowed)) {
			seen = true
			return nil
		}
		t.Errorf("%s changes the environment of this process: pass the value, or use engine.TellLibraries for a library that has no option", path)
		return nil
	})
	if err != nil || !seen {
		t.Errorf("%v; %s seen: %v", err, allowed, seen)
	}
}

func TestWhatHasNoClusterImportsNone(t *testing.T) {
	found := 0
	for _, p := range listPackages(t) {
		if !slices.Contains(clusterless, strings.TrimPrefix(p.ImportPath, module)) {
			continue
		}
		found++
		for _, imported := range p.Imports {
			if slices.ContainsFunc(clusterVocabulary, func(prefix string) bool { return strings.HasPrefix(imported, prefix) }) {
				t.Errorf("%s imports %s: it has no cluster to talk to", p.ImportPath, imported)
			}
		}
	}
	if found != len(clusterless) {
		t.Errorf("%d of the packages %v are there: mend the list", found, clusterless)
	}
}

// Who takes faults to the gateway does not link the gateway: only it itself, and what makes a program of it.
func TestOnlyTheGatewayLinksToxiproxy(t *testing.T) {
	may := []string{"harness/fault/gateway", "harness/cmd/gateway", "harness/check", "harness/check/network"}
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(p.Imports, module+"harness/fault/gateway") && !slices.Contains(may, name) {
			t.Errorf("%s imports the gateway's server: harness/fault/gateway/api has what its clients need", name)
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
