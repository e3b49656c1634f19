package gitops

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
)

var applicationKind = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"}

// Application is an Application of Argo CD's, and what is committed for it.
type Application struct {
	of       *GitOps
	name     string // and its branch's
	objects  []*unstructured.Unstructured
	revision string // its newest commit
	commits  int
	within   time.Duration // how long a sync may take, restores included
}

func (a *Application) String() string { return "Application " + a.name }

func (a *Application) object() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(applicationKind)
	object.SetNamespace(testbed.ArgoCDNamespace)
	object.SetName(a.name)
	return object
}

// manifest is the Application as a user has it: synced by itself, with pruning and self-heal. A sync that fails is tried again, with what
// is committed by then: else one that can never succeed would keep the next commit out.
func (a *Application) manifest() *unstructured.Unstructured {
	object := a.object()
	object.SetLabels(map[string]string{runs.Label: a.of.env.Testbed.RunID})
	object.Object["spec"] = map[string]any{
		"project":     "default",
		"source":      map[string]any{"repoURL": repoURL, "targetRevision": a.name, "path": "."},
		"destination": map[string]any{"server": "https://kubernetes.default.svc", "namespace": a.of.env.Namespace},
		"syncPolicy": map[string]any{
			"automated": map[string]any{"prune": true, "selfHeal": true},
			"retry":     map[string]any{"limit": int64(20), "refresh": true, "backoff": map[string]any{"duration": "2s", "factor": int64(2), "maxDuration": "15s"}},
		},
	}
	return object
}

// commit has these objects, and no others, be what is deployed.
func (a *Application) commit(ctx context.Context, objects []*unstructured.Unstructured) {
	e := a.of.env
	a.commits++
	a.objects, a.revision = objects, commit(ctx, e, a.name, a.revision, a.commits, objects)
	if a.commits > 1 {
		a.refresh(ctx)
	}
	e.Step("commit %.8s: %s is %s", a.revision, a, kinds(objects))
}

// refresh has Argo CD look at once, as its UI's button does.
func (a *Application) refresh(ctx context.Context) {
	a.of.env.Do(ctx, func(ctx context.Context) error {
		return a.of.env.API.Patch(ctx, a.object(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"argocd.argoproj.io/refresh":"hard"}}}`)))
	})
}

// deploy makes the Application. When the spec has ended it is deleted, and what it deployed stays.
func (a *Application) deploy(ctx context.Context) {
	e := a.of.env
	e.Undo("the cluster without "+a.String(), a.remove)
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreAlreadyExists(e.API.Create(ctx, a.manifest())) })
}

func (a *Application) remove(ctx context.Context) error {
	return client.IgnoreNotFound(a.of.env.API.Delete(ctx, a.object()))
}

// kinds says what a commit holds.
func kinds(objects []*unstructured.Unstructured) string {
	count, order := map[string]int{}, []string{}
	for _, object := range objects {
		if kind := object.GetKind(); count[kind] == 0 {
			order = append(order, kind)
		}
		count[object.GetKind()]++
	}
	for i, kind := range order {
		order[i] = fmt.Sprintf("%d %s", count[kind], kind)
	}
	if len(order) == 0 {
		return "empty"
	}
	return strings.Join(order, ", ")
}

// status is what Argo CD says of an Application.
type status struct {
	ReconciledAt string `json:"reconciledAt"`
	Sync         struct {
		Status   string `json:"status"`
		Revision string `json:"revision"`
	} `json:"sync"`
	Health     health `json:"health"`
	Conditions []struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"conditions"`
	OperationState struct {
		Phase      string `json:"phase"`
		Message    string `json:"message"`
		SyncResult struct {
			Revision  string   `json:"revision"`
			Resources []result `json:"resources"`
		} `json:"syncResult"`
	} `json:"operationState"`
	Resources []struct {
		Kind            string `json:"kind"`
		Name            string `json:"name"`
		Status          string `json:"status"`
		Health          health `json:"health"`
		RequiresPruning bool   `json:"requiresPruning"`
	} `json:"resources"`
}

// result is what came of the sync of one object.
type result struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// What Argo CD says if all is well.
const (
	synced    = "Synced"
	healthy   = "Healthy"
	succeeded = "Succeeded"
)

// excluded is the condition of an Application with objects that Argo CD is told not to deploy.
const excluded = "ExcludedResourceWarning"

// comparison is the condition of an Application of which Argo CD could not find out what is committed, or what is in the cluster.
const comparison = "ComparisonError"

// status reads what Argo CD says.
func (a *Application) status(ctx context.Context) (status, error) {
	current := a.object()
	if err := a.of.env.API.Get(ctx, client.ObjectKeyFromObject(current), current); err != nil {
		return status{}, err
	}
	return statusOf(current)
}

func statusOf(application *unstructured.Unstructured) (s status, err error) {
	raw, err := json.Marshal(application.Object["status"])
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// wrong is what Argo CD says that is not well, of this commit; empty: all is. That it could not see is an error.
func (s status) wrong(revision string) (string, error) {
	if s.ReconciledAt == "" {
		return "Argo CD has not looked at it yet", nil
	}
	var words []string
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	for _, c := range s.Conditions {
		if c.Type == comparison {
			return "", fmt.Errorf("Argo CD could not compare it: %s", c.Message) //nolint:staticcheck // Argo CD is a name
		}
		say("%s: %s", c.Type, c.Message)
	}
	if s.Sync.Revision != revision {
		say("Argo CD has not seen commit %.8s yet, and is at %.8s", revision, s.Sync.Revision)
	}
	if s.Sync.Status != synced {
		say("it is %s", s.Sync.Status)
	}
	if s.Health.Status != healthy {
		say("it is %s", strings.TrimSuffix(s.Health.Status+": "+s.Health.Message, ": "))
	}
	if phase := s.OperationState.Phase; phase != succeeded && phase != "" { // there is none where all was there before
		say("its sync is %s: %s", phase, s.OperationState.Message)
		for _, r := range s.OperationState.SyncResult.Resources {
			if r.Status != synced && r.Message != "" {
				say("%s %s: %s: %s", r.Kind, r.Name, r.Status, r.Message)
			}
		}
	}
	for _, r := range s.Resources {
		switch {
		case r.RequiresPruning:
			say("%s %s is not in git and is to be deleted", r.Kind, r.Name)
		case r.Status != "" && r.Status != synced:
			say("%s %s is %s", r.Kind, r.Name, r.Status)
		case r.Health.Status != "" && r.Health.Status != healthy:
			say("%s %s is %s", r.Kind, r.Name, strings.TrimSuffix(r.Health.Status+": "+r.Health.Message, ": "))
		}
	}
	return strings.Join(words, "; "), nil
}

// Synced waits until Argo CD has deployed the newest commit, and says of everything in it that it is Synced and Healthy.
func (a *Application) Synced(ctx context.Context) {
	e := a.of.env
	e.Eventually(ctx, a.String()+" Synced and Healthy, without a warning", a.within, func(ctx context.Context) (await.State, error) {
		now, err := a.status(ctx)
		if err != nil {
			return await.State{}, err
		}
		wrong, err := now.wrong(a.revision)
		return await.ReachedIf(wrong == "", "%s", wrong), err
	})
}

// Tried waits until Argo CD has tried to deploy the newest commit, and says what came of it.
func (a *Application) Tried(ctx context.Context) {
	e := a.of.env
	var came string
	e.Arrange(ctx, a.String()+" deployed, or not", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		now, err := a.status(ctx)
		if err != nil {
			return await.State{}, err
		}
		operation := now.OperationState
		came = operation.Message
		// A sync that has failed is Running again, until there have been as many as it may be tried.
		tried := operation.SyncResult.Revision == a.revision && slices.ContainsFunc(operation.SyncResult.Resources, func(r result) bool {
			return r.Status != "" && r.Kind == "PersistentVolumeClaim"
		})
		return await.ReachedIf(tried, "its sync of %.8s is %s: %s", operation.SyncResult.Revision, operation.Phase, operation.Message), nil
	})
	e.Evidence("seen", fmt.Sprintf("what Argo CD says of the sync of %s: %s", a, came), nil)
}
