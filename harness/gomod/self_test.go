package gomod

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

func TestInACheckoutTheSourceIsTheCheckout(t *testing.T) {
	for _, info := range []*debug.BuildInfo{nil, {Main: debug.Module{Path: selfModule, Version: "(devel)"}}} {
		source, err := findSelf(info)
		if err != nil {
			t.Fatal(err)
		}
		root, err := filepath.Abs("../..")
		if err != nil || source.Dir != root || source.Version != "" {
			t.Errorf("got %+v, %v, wanted the folder %s", source, err, root)
		}
	}
}

func TestTheRevisionIsTheVersionOrTheCommit(t *testing.T) {
	if got := (&Self{Dir: t.TempDir(), Version: "v1.2.3"}).Revision(); got != "v1.2.3" {
		t.Errorf("by its version: got %q", got)
	}
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=n", "-c", "user.email=n@example.com"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	if got := (&Self{Dir: dir}).Revision(); got != "" {
		t.Errorf("with no commit: got %q", got)
	}
	git("commit", "-q", "--allow-empty", "-m", "one")
	commit := git("rev-parse", "--short=12", "HEAD")
	if got := (&Self{Dir: dir}).Revision(); got != commit {
		t.Errorf("as committed: got %q, wanted %q", got, commit)
	}
	if err := os.WriteFile(filepath.Join(dir, "new.go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := (&Self{Dir: dir}).Revision(); got != commit+"+" {
		t.Errorf("changed: got %q, wanted %q", got, commit+"+")
	}
}

func TestOutsideACheckoutTheReasonSaysWhatToDo(t *testing.T) {
	inAnotherModule(t)
	if _, err := findSelf(nil); err == nil || !strings.Contains(err.Error(), "run it inside that, or by its version, go run "+selfModule+"/harness/cmd/smart-restore@<version>") {
		t.Errorf("got %v", err)
	}
}

func TestByItsVersionTheSourceIsInTheModuleCache(t *testing.T) {
	sum := publish(t, "v1.2.3")
	inAnotherModule(t)
	t.Setenv("GOFLAGS", "-mod=vendor") // what the other module likes
	source, err := findSelf(&debug.BuildInfo{Main: debug.Module{Path: selfModule, Version: "v1.2.3", Sum: sum}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(source.Dir, "e2e", "doc.go")); err != nil || source.Version != "v1.2.3" {
		t.Errorf("got %+v: %v", source, err)
	}
	if want := selfModule + "/harness/cmd/smart-restore@v1.2.3"; source.Command() != want {
		t.Errorf("its command is %s, wanted %s", source.Command(), want)
	}
	for name, c := range map[string]struct {
		main debug.Module
		want string
	}{
		"another content": {debug.Module{Path: selfModule, Version: "v1.2.3", Sum: "h1:other="}, "this program was compiled from one with h1:other="},
		"not published":   {debug.Module{Path: selfModule, Version: "v1.2.4", Sum: sum}, "find the source of " + selfModule + "@v1.2.4"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := findSelf(&debug.BuildInfo{Main: c.main}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, wanted an error that says %q", err, c.want)
			}
		})
	}
}

func inAnotherModule(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("go.mod", []byte("module example.com/other\n\ngo 1.26.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// publish serves a module of this project's name from a folder, as a module proxy does, with an empty module cache to go
// with it. It returns the module's sum.
func publish(t *testing.T, version string) string {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	source, proxy := t.TempDir(), t.TempDir()
	served := filepath.Join(proxy, filepath.FromSlash(selfModule), "@v")
	mod := []byte("module " + selfModule + "\n\ngo 1.26.0\n")
	must(os.MkdirAll(served, 0o755))
	must(os.MkdirAll(filepath.Join(source, "e2e"), 0o755))
	must(os.WriteFile(filepath.Join(source, "go.mod"), mod, 0o600))
	must(os.WriteFile(filepath.Join(source, "e2e", "doc.go"), []byte("package e2e\n"), 0o600))
	must(os.WriteFile(filepath.Join(served, version+".mod"), mod, 0o600))
	must(os.WriteFile(filepath.Join(served, version+".info"), []byte(`{"Version":"`+version+`"}`), 0o600))
	archive, err := os.Create(filepath.Join(served, version+".zip"))
	must(err)
	must(zip.CreateFromDir(archive, module.Version{Path: selfModule, Version: version}, source))
	must(archive.Close())
	sum, err := dirhash.HashZip(archive.Name(), dirhash.Hash1)
	must(err)
	t.Setenv("GOPROXY", "file://"+filepath.ToSlash(proxy))
	t.Setenv("GONOSUMDB", selfModule)
	modules := t.TempDir()
	t.Setenv("GOMODCACHE", modules)
	t.Cleanup(func() { // the go command makes folders read-only, which nobody could remove
		_ = filepath.WalkDir(modules, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				err = os.Chmod(path, 0o700)
			}
			return err
		})
	})
	return sum
}
