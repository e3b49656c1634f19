package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What a spec can reach. A spec imports the scenario package only, but a type that it gets may promote fields and methods of
// others: an import rule does not see those. So all exported fields and methods of what a spec is given are followed.

// reachable are the packages of this project whose types a spec may be given. Others, clients above all, it may not.
var reachable = []string{
	"harness/scenario", "harness/outage", "harness/verdict", "harness/workload/dataset", "harness/endpoint", "harness/policy", "harness/probe",
	// The packages of the nouns that scenarios are about.
	"harness/claim", "harness/app", "harness/repository", "harness/s3down", "harness/platform", "harness/gitops", "harness/recorder",
}

// values are single types of other packages that are data and lead to nothing.
var values = []string{
	"github.com/smart-restore/conformance/harness/fault.PacketFault",
	"github.com/smart-restore/conformance/harness/fault/gateway/api.Fault",
	"github.com/smart-restore/conformance/harness/fault/gateway/api.Rule",
	"github.com/smart-restore/conformance/harness/objectstore.Listing",
	"k8s.io/apimachinery/pkg/types.NamespacedName",
	"k8s.io/apimachinery/pkg/types.UID",
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured.Unstructured",
}

// given are the types that specs begin with.
var given = []struct{ pkg, name string }{{"harness/scenario", "Scenario"}}

// clients are those of the standard library, whose other types may be reached: a spec asks nobody by itself.
var clients = []string{"net/http.Client", "os/exec.Cmd", "net.Conn"}

func TestSpecsReachNoClient(t *testing.T) {
	load := exportedTypes(t, "./scenario")
	w := &walls{t: t, seen: map[types.Type]bool{}}
	for _, g := range given {
		pkg, err := load.Import(module + g.pkg)
		if err != nil {
			t.Fatal(err)
		}
		object := pkg.Scope().Lookup(g.name)
		if object == nil {
			t.Fatalf("%s has no %s: this test looks at the wrong place", g.pkg, g.name)
		}
		w.follow(object.Type(), g.name)
	}
	if w.followed < 10 {
		t.Errorf("only %d fields and methods were followed: this test looks at the wrong place", w.followed)
	}
}

// walls follows types.
type walls struct {
	t        *testing.T
	seen     map[types.Type]bool
	followed int
}

// follow looks at a type that a spec can get hold of by the path.
func (w *walls) follow(of types.Type, path string) {
	switch of := types.Unalias(of).(type) {
	case *types.Pointer:
		w.follow(of.Elem(), path)
	case *types.Slice:
		w.follow(of.Elem(), path+"[]")
	case *types.Array:
		w.follow(of.Elem(), path+"[]")
	case *types.Chan:
		w.follow(of.Elem(), path)
	case *types.Map:
		w.follow(of.Key(), path)
		w.follow(of.Elem(), path+"[]")
	case *types.Signature:
		for _, tuple := range []*types.Tuple{of.Params(), of.Results()} {
			for v := range tuple.Variables() {
				w.follow(v.Type(), path+"()")
			}
		}
	case *types.Struct:
		w.fields(of, path)
	case *types.Interface:
		for m := range of.Methods() {
			if m.Exported() {
				w.follow(m.Type(), path+"."+m.Name())
			}
		}
	case *types.Named:
		w.named(of, path)
	}
}

func (w *walls) named(of *types.Named, path string) {
	if w.seen[of] {
		return
	}
	w.seen[of] = true
	for arg := range of.TypeArgs().Types() {
		w.follow(arg, path)
	}
	pkg := of.Obj().Pkg()
	if pkg == nil { // error
		return
	}
	name, ours := strings.CutPrefix(pkg.Path(), module)
	standard := !strings.Contains(strings.Split(pkg.Path(), "/")[0], ".")
	full := pkg.Path() + "." + of.Obj().Name()
	switch {
	case slices.Contains(values, full):
		return
	case standard:
		if slices.Contains(clients, full) {
			w.t.Errorf("a spec can reach %s, a %s: a spec says what happens and sees what comes of it, and asks nobody itself", path, full)
		}
		return // what it leads to is the standard library's
	case !ours || !slices.Contains(reachable, name):
		w.t.Errorf("a spec can reach %s, a %s: its package is none of reachable, and it is none of values, in walls_test.go", path, full)
		return
	}
	if s, ok := of.Underlying().(*types.Struct); ok {
		w.fields(s, path)
	} else {
		w.follow(of.Underlying(), path)
	}
	// With the methods of what it embeds, of a pointer too.
	set := types.NewMethodSet(types.NewPointer(of))
	for i := range set.Len() {
		if m := set.At(i).Obj(); m.Exported() {
			w.followed++
			w.follow(m.Type(), path+"."+m.Name())
		}
	}
}

// fields are those that are exported, and those that are promoted from what is embedded, exported or not.
func (w *walls) fields(of *types.Struct, path string) {
	for f := range of.Fields() {
		switch {
		case f.Exported():
			w.followed++
			w.follow(f.Type(), path+"."+f.Name())
		case f.Embedded():
			inner := f.Type()
			if p, ok := inner.Underlying().(*types.Pointer); ok {
				inner = p.Elem()
			}
			if s, ok := inner.Underlying().(*types.Struct); ok {
				w.fields(s, path)
			}
		}
	}
}

// exportedTypes imports packages by the export data that the go command makes.
func exportedTypes(t *testing.T, pattern string) types.Importer {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Export", pattern)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	files := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		files[p.ImportPath] = p.Export
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, fmt.Errorf("the go command has no export data of %s", path)
		}
		return os.Open(files[path])
	})
}
