package session

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/external"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/progress"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
)

// fakeSuite is a bucket in which one object stays.
type fakeSuite struct {
	emptied, listed bool
	listing         error
}

func (f *fakeSuite) EmptyBucket(ctx context.Context) ([]string, error) {
	f.emptied = true
	return nil, ctx.Err()
}

func (f *fakeSuite) LeftInBucket(ctx context.Context) ([]string, error) {
	f.listed = true
	return []string{"k8s/x/data/config"}, errors.Join(ctx.Err(), f.listing)
}

func (*fakeSuite) Close() error { return nil }

// Whatever hangs, what is left is listed: the bucket's objects where namespaces are not gone, too.
func TestLeavingAnExternalClusterListsWhatIsLeft(t *testing.T) {
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, c := range []struct {
		name     string
		funcs    interceptor.Funcs
		listing  error
		problems []string
		left     []string
	}{
		{"namespaces stay", interceptor.Funcs{Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error { return nil }}, nil,
			[]string{"clean-up: delete the namespaces of specs: namespaces are not gone: sr-r7-core", "2 things of this run are left in the cluster theirs"},
			[]string{"object k8s/x/data/config of the bucket volsync-backups", "namespace sr-r7-core"}},
		{"the API server hangs", interceptor.Funcs{
			Delete: func(ctx context.Context, _ client.WithWatch, _ client.Object, _ ...client.DeleteOption) error {
				return hangs(ctx)
			},
			List: func(ctx context.Context, _ client.WithWatch, _ client.ObjectList, _ ...client.ListOption) error {
				return hangs(ctx)
			},
		}, nil,
			[]string{"clean-up: delete the namespaces of specs: ", "clean-up: look for what is left: "},
			[]string{"object k8s/x/data/config of the bucket volsync-backups", "not known: objects of this run in the cluster theirs could not be listed"}},
		{"the bucket cannot be listed", interceptor.Funcs{}, errors.New("no route"),
			[]string{"clean-up: list the bucket: no route"},
			[]string{"object k8s/x/data/config of the bucket volsync-backups", "not known: objects of this run in the bucket volsync-backups could not be listed (no route)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			run, err := runs.New(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			run.ID = "r7"
			synctest.Test(t, func(t *testing.T) {
				namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "sr-r7-core", UID: "u", Labels: map[string]string{runs.Label: "r7"}}}
				api := fake.NewClientBuilder().WithObjects(namespace).WithInterceptorFuncs(c.funcs).Build()
				p := &policy.Policy{Contract: policy.Default()}
				s := &Session{Settings: &settings.Settings{}, Stack: &stack.Stack{}, Log: progress.New(&bytes.Buffer{}), Out: &bytes.Buffer{}}
				r := s.newE2E(p, selection{}, t.TempDir())
				suite := &fakeSuite{listing: c.listing}
				r.run, r.external = run, &externalCluster{
					Plan: &external.Plan{Request: external.Request{RunID: "r7", Chosen: &external.Chosen{Cluster: "theirs"}, Policy: p}}, api: api, suite: suite,
				}
				interrupted, cancel := context.WithCancel(t.Context())
				cancel()
				began := time.Now()
				problems := errors.Join(r.leave(interrupted)...)
				if took := time.Since(began); took > leaveTimeout {
					t.Errorf("it took %s, more than %s", took, leaveTimeout)
				}
				if !suite.emptied || !suite.listed {
					t.Errorf("the bucket was emptied: %v, and listed: %v", suite.emptied, suite.listed)
				}
				for _, want := range c.problems {
					if problems == nil || !strings.Contains(problems.Error(), want) {
						t.Errorf("%q is not in %v", want, problems)
					}
				}
				left := r.report.Stack.ExternalCluster.Left
				for _, want := range c.left {
					if !slices.ContainsFunc(left, func(one string) bool { return strings.HasPrefix(one, want) }) {
						t.Errorf("%q is not in what is left: %q", want, left)
					}
				}
			})
		})
	}
}

// A cell that is interrupted is killed only after all that it may still have to do.
func TestAnInterruptedCellHasTheTimeToLeave(t *testing.T) {
	r := &e2eRun{Session: &Session{}, run: &runs.Run{}, external: &externalCluster{
		Plan: &external.Plan{Request: external.Request{Chosen: &external.Chosen{}, Policy: &policy.Policy{}}}, suite: &fakeSuite{},
	}}
	if got := external.Timeout(r.leaveSteps()); got != leaveTimeout {
		t.Errorf("the steps of leave take up to %s, and leaveTimeout is %s", got, leaveTimeout)
	}
	if StopTimeout < interruptPatience+cleanupTimeout+leaveTimeout {
		t.Errorf("a cell is killed after %s, while its clean-up may take %s", StopTimeout, leaveTimeout)
	}
}
