package session

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
)

func TestAStackThatTheLockDoesNotHaveIsRefused(t *testing.T) {
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Lock: lock, Settings: &settings.Settings{}}
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("policy.yaml", "apiVersion: policies.kyverno.io/v1\nkind: GeneratingPolicy\nmetadata: {name: p, annotations: {asks: \"http://192.168.10.133:9000\"}}\n")
	contract := "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: p\ndescription: d\nstacks: "
	for stacks, want := range map[string]string{"[kyverno-1.19*]": "", "[kyverno-1.19, kyverno-1.99*]": `conformance.yaml:5:24: no stack matches "kyverno-1.99*"`} {
		write("conformance.yaml", contract+stacks+"\n")
		policies, err := s.loadToCheck(t.Context(), []string{folder})
		switch {
		case want == "" && (err != nil || len(policies) != 1):
			t.Errorf("%s: %v", stacks, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: want %s, found %v", stacks, want, err)
		}
	}
}

func TestWhatWasCheckedIsRecordedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "checked.txt")
	var out bytes.Buffer
	s := &Session{Out: &out}
	for _, verdicts := range []string{"one", "one", "two"} {
		if err := s.record(file, []byte(verdicts)); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "two" || strings.Count(out.String(), "commit it") != 2 {
		t.Errorf("%q %v\n%s", raw, err, out.String())
	}
}
