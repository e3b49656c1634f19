package gomod

import (
	"io/fs"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/stack"
)

// A test binary that imports a package of this project, compiled among modules that do not know of it.
func TestProgramAmongABuildsModules(t *testing.T) {
	t.Setenv("SMART_RESTORE_CACHE", t.TempDir())
	dir, err := cache.Open()
	if err != nil {
		t.Fatal(err)
	}
	b := &Builder{Cache: dir, Fixtures: fstest.MapFS{
		"builds/some.mod": {Data: []byte("module smart-restore.invalid/build/some\n\ngo 1.25\n")},
		"builds/some.sum": {},
	}}
	build := &stack.Build{Name: "some"}
	program := TestProgram{
		Name: "simulator",
		Package: fstest.MapFS{
			"simulator.go":      {Data: []byte("package simulator\n\nimport \"github.com/smart-restore/conformance/harness/word\"\n\nvar said = word.Word\n")},
			"simulator_test.go": {Data: []byte("package simulator\n\nimport (\"fmt\"; \"testing\")\n\nfunc TestSimulator(*testing.T) { fmt.Println(said) }\n")},
		},
		Imports: map[string]fs.FS{"harness/word": fstest.MapFS{"word.go": {Data: []byte("package word\n\nconst Word = \"one\"\n")}}},
	}
	if b.HasTest(build, program) {
		t.Error("it is in the cache before it is built")
	}
	first, err := b.Test(t.Context(), build, program, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(first).CombinedOutput(); err != nil || !strings.Contains(string(out), "one") {
		t.Errorf("%v\n%s", err, out)
	}
	if !b.HasTest(build, program) {
		t.Error("it is not in the cache after it was built")
	}
	if err := b.VetTest(t.Context(), build, program); err != nil {
		t.Error(err)
	}
	program.Imports["harness/word"] = fstest.MapFS{"word.go": {Data: []byte("package word\n\nconst Word = \"two\"\n")}}
	if b.HasTest(build, program) {
		t.Error("a change of what it imports changes nothing")
	}
	program.Imports["harness/word"] = fstest.MapFS{"word.go": {Data: []byte("package word\n\nwhat is this\n")}}
	if _, err := b.Test(t.Context(), build, program, func(int) {}); err == nil || !strings.Contains(err.Error(), "word.go:3") {
		t.Errorf("wanted where it does not compile, got %v", err)
	}
	program.Imports = nil
	program.Package = fstest.MapFS{"simulator_test.go": {Data: []byte("package simulator\n\nimport (\"fmt\"; \"testing\")\n\nfunc TestSimulator(*testing.T) { fmt.Printf(\"%d\", \"one\") }\n")}}
	if err := b.VetTest(t.Context(), build, program); err == nil || !strings.Contains(err.Error(), "simulator_test.go:5") {
		t.Errorf("want what go vet finds, and where, got %v", err)
	}
}
