package stack

import (
	"fmt"
	goversion "go/version"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/smart-restore/conformance/fixtures"
)

func TestTheModulesOfBuildsAreWhatTheyAreNamedAfter(t *testing.T) {
	lock, err := Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range lock.Builds {
		raw, err := fixtures.Files.ReadFile("builds/" + b.Name + ".mod")
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range moduleProblems(b, raw) {
			t.Error(problem)
		}
	}
}

// CI installs the Go that this project's go.mod names, and the go command of a build takes no other.
func TestNoBuildNeedsANewerGoThanThisProject(t *testing.T) {
	raw, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := modfile.Parse("go.mod", raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(fixtures.Files, "builds/*.mod")
	if err != nil || len(names) == 0 {
		t.Fatalf("want the modules of builds, found %v, %v", names, err)
	}
	for _, name := range names {
		raw, err := fixtures.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := modfile.Parse(name, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		if goversion.Compare("go"+theirs.Go.Version, "go"+ours.Go.Version) > 0 {
			t.Errorf("fixtures/%s needs Go %s, go.mod of this project has %s: set that to the former there, and in README.md", name, theirs.Go.Version, ours.Go.Version)
		}
	}
}

// families are modules that are released together, in one version: a build that mixes them is of no release.
var families = []struct {
	of      string // the module that is built
	prefix  string
	version func(version string) string // of the family, for that of the module
	not     []string                    // modules below the prefix that have versions of their own
}{
	{
		of: "k8s.io/kubernetes", prefix: "k8s.io/",
		version: func(v string) string { return "v0." + strings.TrimPrefix(v, "v1.") },
		not:     []string{"k8s.io/kubernetes", "k8s.io/gengo/v2", "k8s.io/klog/v2", "k8s.io/kube-openapi", "k8s.io/system-validators", "k8s.io/utils"},
	},
	{
		of: "go.etcd.io/etcd/server/v3", prefix: "go.etcd.io/etcd/",
		version: func(v string) string { return v },
		not:     []string{"go.etcd.io/etcd/client/v2"},
	},
}

// moduleProblems says what is wrong with the module of a build, and what to do about it.
func moduleProblems(b Build, raw []byte) (problems []string) {
	name := "fixtures/builds/" + b.Name + ".mod"
	report := func(format string, args ...any) {
		problems = append(problems, name+" "+fmt.Sprintf(format, args...))
	}
	file, err := modfile.Parse(name, raw, nil)
	if err != nil {
		return []string{err.Error()}
	}
	if want := "smart-restore.invalid/build/" + b.Name; file.Module == nil || file.Module.Mod.Path != want {
		report("is not the module %s: go mod edit -module=%s", want, want)
	}

	// A build that was copied for a new version and still pins the old one differs from it by its name only. A build of programs of
	// several versions has none in its name: TestTheTagOfAnImageIsTheVersionOfItsModule looks at it.
	_, version, ofOne := strings.Cut(b.Name, "-v")
	version = "v" + version
	var found []string
	for _, r := range file.Require {
		of := func(path string) bool { return path == r.Mod.Path || strings.HasPrefix(path, r.Mod.Path+"/") }
		if len(b.Packages) == 0 && !r.Indirect || slices.ContainsFunc(b.Packages, of) {
			found = append(found, r.Mod.Version)
		}
	}
	// A version of no release has its commit behind it.
	if ofOne && !slices.ContainsFunc(found, func(v string) bool { return v == version || strings.HasPrefix(v, version+"-") }) {
		report("requires what it builds at %v, its name says %s: require that version, or rename the build", found, version)
	}

	// Without its tool line, go mod tidy drops what a package needs, and go build would have to look for it.
	var tools []string
	for _, tool := range file.Tool {
		tools = append(tools, tool.Path)
	}
	for _, pkg := range b.Packages {
		if !slices.Contains(tools, pkg) {
			report("has no tool line for %s, which stacks.yaml lists under packages: go get -tool %s@%s, then go mod tidy", pkg, pkg, version)
		}
	}
	for _, tool := range tools {
		if !slices.Contains(b.Packages, tool) {
			report("has a tool line for %s, which stacks.yaml does not list under packages: remove the line, then go mod tidy", tool)
		}
	}

	replaced := map[string]string{}
	for _, r := range file.Replace {
		replaced[r.Old.Path] = r.New.Version
	}
	for _, family := range families {
		if !slices.ContainsFunc(b.Packages, func(pkg string) bool { return strings.HasPrefix(pkg+"/", family.of+"/") }) {
			continue // others require what they like of them
		}
		want := family.version(version)
		for _, r := range file.Require {
			if !strings.HasPrefix(r.Mod.Path, family.prefix) || slices.Contains(family.not, r.Mod.Path) {
				continue
			}
			effective, ok := replaced[r.Mod.Path]
			if !ok {
				effective = r.Mod.Version
			}
			if effective != want {
				report("has %s at %s, which is released with %s %s at %s: replace %s => %s %s, then go mod tidy",
					r.Mod.Path, effective, family.of, version, want, r.Mod.Path, r.Mod.Path, want)
			}
		}
	}
	return problems
}

// A build whose name has no version is of programs of several: each is in an image whose tag says which.
func TestTheTagOfAnImageIsTheVersionOfItsModule(t *testing.T) {
	lock, err := Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, b := range lock.Builds {
		if strings.Contains(b.Name, "-v") {
			continue
		}
		raw, err := fixtures.Files.ReadFile("builds/" + b.Name + ".mod")
		if err != nil {
			t.Fatal(err)
		}
		file, err := modfile.Parse(b.Name, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, pkg := range b.Packages {
			for _, image := range lock.Images {
				if image.Build == nil || !slices.ContainsFunc(image.Build.Files, func(f File) bool { return f.Of == b.Name && f.Binary == b.BinaryName(pkg) }) {
					continue
				}
				looked++
				if problem := tagProblem(image, pkg, file.Require); problem != "" {
					t.Error(problem)
				}
			}
		}
	}
	if want := 3; looked != want {
		t.Errorf("looked at %d images of builds of several versions, wanted %d", looked, want)
	}
}

// tagProblem says what is wrong with the tag of an image that has a package's binary.
func tagProblem(image Image, pkg string, required []*modfile.Require) string {
	_, tag, _ := strings.Cut(image.Reference, ":")
	for _, r := range required {
		if strings.HasPrefix(pkg, r.Mod.Path+"/") {
			if r.Mod.Version == tag {
				return ""
			}
			return fmt.Sprintf("image %s is tagged %s, but %s is of %s %s: change one of them", image.Name, tag, pkg, r.Mod.Path, r.Mod.Version)
		}
	}
	return fmt.Sprintf("image %s: no module that is required has %s", image.Name, pkg)
}

func TestTagProblemsAreFound(t *testing.T) {
	required := []*modfile.Require{{Mod: module.Version{Path: "example.com/a", Version: "v1.2.3"}}}
	for _, c := range []struct{ reference, pkg, want string }{
		{"r:v1.2.3", "example.com/a/cmd/a", ""},
		{"r:v1.2.2", "example.com/a/cmd/a", "is tagged v1.2.2, but example.com/a/cmd/a is of example.com/a v1.2.3"},
		{"r:v1.2.3", "example.com/b/cmd/b", "no module that is required has example.com/b/cmd/b"},
	} {
		got := tagProblem(Image{Name: "i", Reference: c.reference}, c.pkg, required)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s in %s: got %q, wanted %q", c.pkg, c.reference, got, c.want)
		}
	}
}

func TestModuleProblemsAreFound(t *testing.T) {
	build := Build{Name: "kubernetes-v1.37.2", Packages: []string{"k8s.io/kubernetes/cmd/kubeadm", "k8s.io/kubernetes/cmd/kubectl"}}
	const mod = `module smart-restore.invalid/build/kubernetes-v1.37.2

go 1.26.0

replace k8s.io/cri-client => k8s.io/cri-client v0.37.2

tool (
	k8s.io/kubernetes/cmd/kubeadm
	k8s.io/kubernetes/cmd/kubectl
)

require (
	k8s.io/api v0.37.2 // indirect
	k8s.io/cri-client v0.0.0 // indirect
	k8s.io/klog/v2 v2.140.0 // indirect
	k8s.io/kubernetes v1.37.2 // indirect
)
`
	if problems := moduleProblems(build, []byte(mod)); len(problems) > 0 {
		t.Fatalf("the valid module has problems: %q", problems)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"another module":     {"build/kubernetes", "build/other", "is not the module smart-restore.invalid/build/kubernetes-v1.37.2"},
		"another version":    {"k8s.io/kubernetes v1.37.2", "k8s.io/kubernetes v1.36.3", "requires what it builds at [v1.36.3], its name says v1.37.2"},
		"no tool line":       {"\tk8s.io/kubernetes/cmd/kubectl\n", "", "has no tool line for k8s.io/kubernetes/cmd/kubectl, which stacks.yaml lists under packages: go get -tool k8s.io/kubernetes/cmd/kubectl@v1.37.2"},
		"a tool line more":   {"\tk8s.io/kubernetes/cmd/kubectl\n", "\tk8s.io/kubernetes/cmd/kubectl\n\tk8s.io/kubernetes/cmd/kubelet\n", "has a tool line for k8s.io/kubernetes/cmd/kubelet, which stacks.yaml does not list"},
		"an older library":   {"k8s.io/api v0.37.2", "k8s.io/api v0.36.3", "has k8s.io/api at v0.36.3, which is released with k8s.io/kubernetes v1.37.2 at v0.37.2: replace k8s.io/api => k8s.io/api v0.37.2"},
		"an older staging":   {"k8s.io/cri-client v0.37.2", "k8s.io/cri-client v0.36.3", "has k8s.io/cri-client at v0.36.3"},
		"staging in folders": {"replace k8s.io/cri-client => k8s.io/cri-client v0.37.2\n", "replace k8s.io/cri-client => ./staging/cri-client\n", "has k8s.io/cri-client at , which"},
		"no staging replace": {"replace k8s.io/cri-client => k8s.io/cri-client v0.37.2\n", "", "has k8s.io/cri-client at v0.0.0, which"},
		"no module":          {"go 1.26.0", "go go", "invalid go version"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(mod, c.old, c.new, 1)
			if changed == mod {
				t.Fatalf("%q is not in the valid module", c.old)
			}
			problems := moduleProblems(build, []byte(changed))
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("got %q, want a problem that says %q", problems, c.want)
			}
		})
	}
}
