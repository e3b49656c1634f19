package gomod

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
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

func TestOutsideACheckoutTheReasonSaysWhatToDo(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("go.mod", []byte("module example.com/other\n\ngo 1.26.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findSelf(nil); err == nil || !strings.Contains(err.Error(), "run it inside that, or by its version, go run "+selfModule+"/harness/cmd/smart-restore@<version>") {
		t.Errorf("got %v", err)
	}
}
