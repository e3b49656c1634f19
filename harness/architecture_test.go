// Package harness holds the rule that the packages below it keep: data flows one way.
package harness

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/smart-restore/conformance/"

// layers are in the order in which data flows: lock → images → cluster → stand → scenario → session. A package imports
// packages of earlier layers, never of its own or a later one.
var layers = [][]string{
	{"harness/strict", "harness/endpoint", "harness/fault/gateway/api"},
	{"fixtures", "scripts", "harness/progress", "harness/cache", "harness/stack", "harness/settings", "harness/engine",
		"harness/verdict", "harness/observe", "harness/workload/dataset", "harness/fault/gateway", "harness/probe"},
	{"harness/gomod", "harness/fault", "harness/cluster", "harness/check/play", "harness/report/markdown", "harness/report/timeline", "harness/report/decisions"},
	{"harness/images", "harness/install", "harness/matrix", "harness/report/page", "harness/check/network"},
	{"harness/outage", "harness/runs", "harness/objectstore", "harness/policy"},
	{"harness/testbed", "harness/report/github", "harness/report/promises"},
	{"harness/scenario", "harness/external"},
	{"harness/check"},
	{"harness/session", "e2e"},
	{"harness/cmd/smart-restore", "harness/cmd/agent", "harness/cmd/gateway", "harness/cmd/pause"},
}

// e2eImports are all that a spec may import: what it stands on is the scenario's business.
var e2eImports = []string{"harness/outage", "harness/scenario", "harness/verdict", "harness/workload/dataset"}

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
