package harness

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// Specs, and what they are written in, wait by the verbs of package await, and by nothing else: another wait would have its own
// idea of what a time-out means.
func TestSpecsWaitByTheThreeVerbs(t *testing.T) {
	// Where a pause is not a wait for something that a verdict could come of.
	excused := map[string]string{
		"env/env.go":           "putting back is tried again and again, and its error is the suite's",
		"platform/platform.go": "a process is killed again and again",
		"s3down/s3down.go":     "taking a fault away is tried again and again, and its error is the suite's",
		"repository/tools.go":  "set-up, before there are specs: what it comes to is an error",
	}
	other := map[string]bool{
		"time.Sleep": true, "time.After": true, "time.Tick": true, "time.NewTicker": true, "time.NewTimer": true,
		"wait.For": true, "gomega.Eventually": true, "gomega.Consistently": true, "Eventually": true, "Consistently": true,
	}
	used := map[string]bool{}
	for _, dir := range []string{"../e2e", "env", "app", "repository", "claim", "platform", "s3down", "gitops", "scenario"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") && dir != "../e2e" {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !other[called(call.Fun)] {
					return true
				}
				used[file] = true
				if excused[file] == "" {
					t.Errorf("%s waits by %s: use Arrange, Eventually or Throughout", file, called(call.Fun))
				}
				return true
			})
		}
	}
	for file := range excused {
		if !used[file] {
			t.Errorf("%s does not need its excuse any more", file)
		}
	}
}

// called is a function as it is called: name, or package.name.
func called(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if pkg, ok := f.X.(*ast.Ident); ok {
			return pkg.Name + "." + f.Sel.Name
		}
	}
	return ""
}
