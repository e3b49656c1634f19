package session

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
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

// What make e2e would refuse is said by make check, which is asked first: of the stack on which the least is wrong.
func TestWhatNoStackTakes(t *testing.T) {
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Lock: lock, Settings: &settings.Settings{}, Stack: &stack.Stack{Name: "kyverno-1.19"}}
	for name, c := range map[string]struct{ of, variables, more, want string }{
		"as it is":                       {"populator-template", "", "", ""},
		"a class it has":                 {"populator-template", "VOLSYNC_STORAGECLASS: standard, ", "", ""},
		"another's class":                {"populator-template", "VOLSYNC_SNAPSHOTCLASS: ceph, ", "", `has no VolumeSnapshotClass "ceph"; choose csi`},
		"of those that have snapshots":   {"populator-template", "VOLSYNC_SNAPSHOTCLASS: ceph, ", "", `ReplicationSource data: spec.restic`},
		"what nobody has":                {"populator-template", "", "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: \"${APP}\"}\n", "HelmRelease data: no stack serves helm.toolkit.fluxcd.io/v2: leave it out"},
		"of many the one that is chosen": {"app-template", "", "    storageClassName: local-path\n", `the stack kyverno-1.19 has no storage class "local-path"; choose standard, or name it as pvc.storageClass in the contract`},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.CopyFS(folder, os.DirFS(filepath.Join("..", "..", "fixtures", "gallery", c.of))); err != nil {
				t.Fatal(err)
			}
			change := func(file string, how func(string) string) {
				t.Helper()
				path := filepath.Join(folder, file)
				raw, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(path, []byte(how(string(raw))), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			change("conformance.yaml", func(text string) string {
				return strings.Replace(text, "variables: {", "variables: {"+c.variables, 1)
			})
			change("source.yaml", func(text string) string {
				if strings.HasPrefix(c.more, "---") {
					return text + c.more
				}
				return strings.Replace(text, "    copyMethod: Direct\n", "    copyMethod: Direct\n"+c.more, 1)
			})
			change("conformance.yaml", func(text string) string { // every stack is asked
				return strings.Replace(text, "stacks: ", "#", 1)
			})
			p, err := policy.Load(folder, endpoint.Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.refusedEverywhere(p); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}
}
