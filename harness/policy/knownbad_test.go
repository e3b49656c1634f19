package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
			p, err := Load(filepath.Join(root, entry.Name()), planEndpoint(t))
			if err != nil {
				t.Fatal(err)
			}
			if p.Contract.Name != entry.Name() {
				t.Errorf("its conformance.yaml calls it %q: wanted is its folder's name", p.Contract.Name)
			}
			if len(p.Contract.CaughtBy) == 0 {
				t.Error("its conformance.yaml has no caughtBy: name the requirements that must catch it")
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
