package platform

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/testbed"
)

// Each policy takes the other's place with its own objects, and leaves those alone that both have. Whatever becomes of the spec, this one is
// alone at the end.
func TestAPolicyTakesThePlaceOfAnother(t *testing.T) {
	policies := &testbed.Testbed{
		Policy: []map[string]any{
			object("policies.kyverno.io/v1", "GeneratingPolicy", "this"), object("policies.kyverno.io/v1", "MutatingPolicy", "this"),
			object("rbac.authorization.k8s.io/v1", "ClusterRole", "shared"),
		},
		Earlier: &testbed.EarlierPolicy{Name: "before", Objects: []map[string]any{
			object("kyverno.io/v1", "ClusterPolicy", "before"), object("rbac.authorization.k8s.io/v1", "ClusterRole", "shared"),
		}},
	}
	const register = "register: put back the policy , alone"
	undone := []string{"apply 3: this this shared", "remove 1: before", "acts"}
	for name, c := range map[string]struct {
		fail string
		want string
		did  []string // and then what undoes it
	}{
		"there and back": {"", "pass", []string{
			register, "apply 2: before shared", "the earlier acts", "remove 2: this this", "the earlier acts",
			"apply 3: this this shared", "acts", "apply 3: this this shared", "remove 1: before", "acts",
		}},
		"it does not act": {"the earlier acts", "unknown", append([]string{register, "apply 2: before shared"}, undone...)},
		"it is not taken": {"apply 2: before shared", "unknown", append([]string{register}, undone...)},
		"it stays":        {"remove 2: this this", "unknown", append([]string{register, "apply 2: before shared", "the earlier acts"}, undone...)},
	} {
		bubble(t, name, func(t *testing.T) {
			l := &log{fail: c.fail, names: true}
			p := platformWith(t, l, env.Parts{Testbed: policies})
			got := recorded.Outcome(func() {
				earlier := p.EarlierPolicy(t.Context())
				earlier.Alone(t.Context())
				earlier.ThisPolicy(t.Context()).Alone(t.Context())
			})
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
	t.Run("there is no other", func(t *testing.T) {
		l := &log{}
		p := platformWith(t, l, env.Parts{})
		if got := recorded.Outcome(func() { p.EarlierPolicy(t.Context()) }); got.How != "unknown" || len(l.did) > 0 {
			t.Errorf("%+v, did %q", got, l.did)
		}
	})
}

// bubble is a test in which no wait takes time.
func bubble(t *testing.T, name string, test func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
