package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
)

// What is known to be bad is bad in the way that its contract names, as far as can be seen without a cluster, and in no
// other.
func TestKnownBadPolicies(t *testing.T) {
	root := filepath.Join("..", "..", "fixtures", "known-bad")
	base, err := Load(filepath.Join(root, "base"), planEndpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() == "base" {
			continue
		}
		t.Run(entry.Name(), func(t *testing.T) {
			p, err := Load(filepath.Join(root, entry.Name()), endpoint.Endpoint{}) // its contract's
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Contract.CheckKnownBad(entry.Name(), p.Contract.CaughtBy); err != nil { // which specs there are, the session's tests know
				t.Error(err)
			}
			if p.SHA256 == base.SHA256 {
				t.Error("it is the base, unchanged: its kustomization.yaml must patch something")
			}
			var got []string
			for _, finding := range FindingsIn(p.Check()) {
				got = append(got, finding.Requirement)
			}
			want := slices.DeleteFunc(slices.Clone(p.Contract.CaughtBy), func(id string) bool { return !strings.HasPrefix(id, "policy/") })
			if !slices.Equal(got, want) {
				t.Errorf("found %v, its contract says %v: %v", got, want, p.Check())
			}
		})
	}
}

func TestAKnownBadContractIsOfItsFolder(t *testing.T) {
	for text, want := range map[string]string{
		"name: keeps-one\ncaughtBy: [core/fresh]\n": "",
		"name: keeps-two\ncaughtBy: [core/fresh]\n": `conformance.yaml:4:7: the name is "keeps-two": want "keeps-one", the name of its folder`,
		"name: keeps-one\n":                         "caughtBy is missing",
		"name: keeps-one\ncaughtBy: [core/frehs]\n": `conformance.yaml:5:12: no spec has the requirement "core/frehs"; those of the level core are core/fresh`,
	} {
		c, err := parseContract("conformance.yaml", []byte("apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\ndescription: x\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		err = c.CheckKnownBad("keeps-one", []string{"core/fresh", "safety/isolation"})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
