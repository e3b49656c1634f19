package platform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/testbed"
)

// The other version is applied over Kyverno's own objects, and nobody else's, and what only it has goes again.
func TestTheEarlierKyverno(t *testing.T) {
	in := func(namespace string, o map[string]any) map[string]any {
		o["metadata"].(map[string]any)["namespace"] = namespace
		return o
	}
	crd := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "policies.kyverno.io")
	crd["spec"] = map[string]any{"group": "policies.kyverno.io"}
	write := func(t *testing.T, objects ...map[string]any) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "objects.jsonl")
		var lines []byte
		for _, o := range objects {
			raw, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(append(lines, raw...), '\n')
		}
		if err := os.WriteFile(path, lines, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const register = "register: put back the version of Kyverno that was installed"
	undone := []string{"apply 3: policies.kyverno.io kyverno:role kyverno", "remove 1: kyverno-old", "ready kyverno", "acts"}
	for name, c := range map[string]struct {
		fail, want string
		did        []string // and then what undoes it
	}{
		"in its place": {"", "pass", append([]string{register, "apply 2: kyverno kyverno-old", "ready kyverno", "acts"}, undone...)},
		"not taken":    {"apply 2: kyverno kyverno-old", "unknown", append([]string{register}, undone...)},
	} {
		bubble(t, name, func(t *testing.T) {
			up := &testbed.Testbed{
				Platform: &testbed.Platform{Installed: write(t, crd, object("rbac.authorization.k8s.io/v1", "ClusterRole", "kyverno:role"),
					in("kyverno", object("apps/v1", "Deployment", "kyverno")), in("volsync-system", object("apps/v1", "Deployment", "volsync")),
					object("rbac.authorization.k8s.io/v1", "ClusterRole", "volsync-role"))},
				EarlierKyverno: write(t, in("kyverno", object("apps/v1", "Deployment", "kyverno")), in("kyverno", object("v1", "Service", "kyverno-old"))),
			}
			l := &log{fail: c.fail, names: true}
			p := platformWith(t, l, env.Parts{Testbed: up})
			got := recorded.Outcome(func() { p.EarlierKyverno(t.Context())(t.Context()) })
			for _, cleanUp := range l.CleanUps {
				if err := cleanUp(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if got.How != c.want || !slices.Equal(l.did, c.did) {
				t.Errorf("%+v, did %q, wanted %s and %q", got, l.did, c.want, c.did)
			}
		})
	}
	bubble(t, "one version", func(t *testing.T) {
		l := &log{}
		p := platformWith(t, l, env.Parts{})
		if got := recorded.Outcome(func() { p.EarlierKyverno(t.Context()) }); got.How != "unknown" || len(l.did) > 0 {
			t.Errorf("%+v, did %q", got, l.did)
		}
	})
}
