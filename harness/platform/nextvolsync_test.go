package platform

import (
	"context"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
)

// The next version is another image, of the controller and of its movers, and is taken back as a whole.
func TestVolSyncsNextVersion(t *testing.T) {
	const image, next = "registry.example/volsync:1", "registry.example/volsync:1-next"
	tag := "node bash -c " + tagImage + " " + image + " " + next
	for name, c := range map[string]struct {
		fail, want string
		did        []string // but patches
		now        string   // the image, before what is put back
	}{
		"rolled out": {"", "pass", []string{"register: put back VolSync's version", tag, "ready volsync-system", "answers"}, next},
		"no image":   {tag, "unknown", []string{"register: put back VolSync's version"}, image},
		"not ready":  {"ready volsync-system", "unknown", []string{"register: put back VolSync's version", tag}, next},
	} {
		bubble(t, name, func(t *testing.T) {
			d := deployment("volsync-system", "volsync", 1)
			d.Spec.Template.Spec.Containers = []corev1.Container{{
				Name: "manager", Image: image, Env: []corev1.EnvVar{{Name: "RELATED_IMAGE", Value: image}, {Name: "ANOTHER", Value: "of registry.example/volsync:1"}},
			}}
			l := &log{fail: c.fail}
			p := platformWith(t, l, env.Parts{Node: func(ctx context.Context, args ...string) (string, error) {
				return "", l.do(ctx, "node "+strings.Join(args, " "))
			}}, d)
			has := func(want string) {
				t.Helper()
				now := &appsv1.Deployment{}
				if err := l.api.Get(t.Context(), client.ObjectKeyFromObject(d), now); err != nil {
					t.Fatal(err)
				}
				of := now.Spec.Template.Spec.Containers[0]
				if of.Image != want || of.Env[0].Value != want || of.Env[1].Value != "of registry.example/volsync:1" {
					t.Errorf("it runs %s with %v, wanted %s", of.Image, of.Env, want)
				}
			}
			got := recorded.Outcome(func() { p.NextVolSync(t.Context()) })
			did := slices.DeleteFunc(slices.Clone(l.did), func(what string) bool { return strings.HasPrefix(what, "patch ") })
			if got.How != c.want || !slices.Equal(did, c.did) {
				t.Errorf("%+v, did %q, wanted %s and %q", got, did, c.want, c.did)
			}
			has(c.now)
			l.fail = ""
			for _, cleanUp := range l.CleanUps {
				if err := cleanUp(t.Context()); err != nil {
					t.Error(err)
				}
			}
			has(image)
		})
	}
	bubble(t, "no deployment", func(t *testing.T) {
		l := &log{}
		p := platformWith(t, l, env.Parts{})
		if got := recorded.Outcome(func() { p.NextVolSync(t.Context()) }); got.How != "unknown" || len(l.did) > 0 {
			t.Errorf("%+v, did %q", got, l.did)
		}
	})
}
