package external

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient/wait"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/runs"
	"github.com/smart-restore/conformance/harness/testbed"
)

const (
	// rightsTimeout bounds how long Kyverno may take to be given the rights that a policy brings with it.
	rightsTimeout = 30 * time.Second
	// goneInterval is how often it is looked whether something is gone.
	goneInterval = 500 * time.Millisecond
)

// MakePolicy makes the policy's objects, with the run's label, and none that is there already. What it made is returned,
// also where it ends with an error: DeletePolicy takes it.
func MakePolicy(ctx context.Context, api client.Client, p *policy.Policy, runID string) (made []*unstructured.Unstructured, err error) {
	kyverno := p.Kyverno()
	var others []*unstructured.Unstructured
	for _, o := range p.Objects {
		if !slices.Contains(kyverno, o) {
			others = append(others, o)
		}
	}
	for _, wanted := range slices.Concat(others, kyverno) { // a policy is refused before it has its rights
		o := wanted.DeepCopy()
		labels := maps.Clone(o.GetLabels())
		if labels == nil {
			labels = map[string]string{}
		}
		labels[runs.Label] = runID
		o.SetLabels(labels)
		var last error
		err := wait.For(func(ctx context.Context) (bool, error) {
			last = api.Create(ctx, o)
			if last != nil && strings.Contains(last.Error(), "requires permissions") {
				return false, nil // it takes a second until a role just made is added to Kyverno's own
			}
			return last == nil, last
		}, wait.WithContext(ctx), wait.WithTimeout(rightsTimeout), wait.WithInterval(goneInterval), wait.WithImmediate())
		if err != nil {
			return made, fmt.Errorf("make %s %s: %w", o.GetKind(), o.GetName(), errors.Join(last))
		}
		made = append(made, o)
	}
	return made, nil
}

// DeletePolicy deletes what MakePolicy made, and nothing that has come in its place.
func DeletePolicy(ctx context.Context, api client.Client, made []*unstructured.Unstructured) error {
	var problems []error
	for _, o := range slices.Backward(made) {
		uid := o.GetUID()
		err := api.Delete(ctx, o.DeepCopy(), client.Preconditions{UID: &uid}, client.PropagationPolicy("Background"))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			problems = append(problems, fmt.Errorf("delete %s %s: %w", o.GetKind(), o.GetName(), err))
		}
	}
	return errors.Join(problems...)
}

// namespaces are those with the run's label, by name.
func namespaces(ctx context.Context, api client.Client, runID string) (map[string]corev1.Namespace, error) {
	list := &corev1.NamespaceList{}
	if err := api.List(ctx, list, client.MatchingLabels{runs.Label: runID}); err != nil {
		return nil, err
	}
	found := map[string]corev1.Namespace{}
	for _, namespace := range list.Items {
		found[namespace.Name] = namespace
	}
	return found, nil
}

// DeleteNamespaces deletes the run's namespaces but those with these names, and waits until they are gone. A namespace is
// the run's by its label and its name; it is deleted by the UID that was seen with these.
func DeleteNamespaces(ctx context.Context, api client.Client, runID string, but ...string) error {
	var left []string
	err := wait.For(func(ctx context.Context) (bool, error) {
		found, err := namespaces(ctx, api, runID)
		if err != nil {
			left = []string{err.Error()}
			return false, nil
		}
		left = nil
		for _, name := range slices.Sorted(maps.Keys(found)) {
			namespace := found[name]
			if slices.Contains(but, name) || !strings.HasPrefix(name, testbed.NamespacePrefix(runID)) {
				continue
			}
			left = append(left, name)
			if namespace.DeletionTimestamp == nil {
				err := api.Delete(ctx, &namespace, client.Preconditions{UID: &namespace.UID})
				if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
					left[len(left)-1] += " (" + err.Error() + ")"
				}
			}
		}
		return len(left) == 0, nil
	}, wait.WithContext(ctx), wait.WithTimeout(time.Hour), wait.WithInterval(goneInterval), wait.WithImmediate()) // ctx ends it
	if err != nil {
		return fmt.Errorf("namespaces are not gone: %s", strings.Join(left, ", "))
	}
	return nil
}

var snapshotContent = schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotContent"}

// Leaks lists what of the run is left in the cluster: namespaces, volumes and snapshots of its PVCs, what it made of the
// policy, and whatever else of these kinds has its label. Volumes go some seconds after their PVCs: it looks until nothing
// is left, or patience ends.
func Leaks(ctx context.Context, api client.Client, runID string, p *policy.Policy, patience time.Duration) ([]string, error) {
	var left []string
	var problem error
	_ = wait.For(func(context.Context) (bool, error) {
		left, problem = leaks(ctx, api, runID, p) // ctx is the caller's: one that the end of patience cuts off would list nothing
		return problem == nil && len(left) == 0, nil
	}, wait.WithContext(ctx), wait.WithTimeout(patience), wait.WithInterval(goneInterval), wait.WithImmediate())
	return left, problem
}

// leaks lists what it can; what it cannot is in the error.
func leaks(ctx context.Context, api client.Client, runID string, p *policy.Policy) ([]string, error) {
	var left []string
	var problems []error
	seen := func(kind string, err error) bool {
		if err != nil {
			problems = append(problems, fmt.Errorf("list every %s: %w", kind, err))
		}
		return err == nil
	}
	prefix := testbed.NamespacePrefix(runID)
	ours, err := namespaces(ctx, api, runID)
	seen("namespace of the run", err)
	all := &corev1.NamespaceList{}
	if seen("namespace", api.List(ctx, all)) {
		for _, namespace := range all.Items {
			if _, labelled := ours[namespace.Name]; labelled || strings.HasPrefix(namespace.Name, prefix) {
				left = append(left, fmt.Sprintf("namespace %s (%s)", namespace.Name, namespace.Status.Phase))
			}
		}
	}
	volumes := &corev1.PersistentVolumeList{}
	if seen("PersistentVolume", api.List(ctx, volumes)) {
		for _, volume := range volumes.Items {
			if claim := volume.Spec.ClaimRef; claim != nil && strings.HasPrefix(claim.Namespace, prefix) {
				left = append(left, fmt.Sprintf("volume %s of PVC %s/%s (%s)", volume.Name, claim.Namespace, claim.Name, volume.Status.Phase))
			}
		}
	}
	snapshots, err := listed(ctx, api, snapshotContent)
	seen(snapshotContent.Kind, err)
	for _, s := range snapshots {
		if of, _, _ := unstructured.NestedString(s.Object, "spec", "volumeSnapshotRef", "namespace"); strings.HasPrefix(of, prefix) {
			left = append(left, fmt.Sprintf("VolumeSnapshotContent %s of namespace %s", s.GetName(), of))
		}
	}
	kinds := map[schema.GroupVersionKind]bool{}
	for _, o := range p.Objects {
		kind := o.GroupVersionKind()
		if kinds[kind] || kind.Kind == "Namespace" {
			continue
		}
		kinds[kind] = true
		objects, err := listed(ctx, api, kind, client.MatchingLabels{runs.Label: runID})
		seen(kind.Kind, err)
		for _, o := range objects {
			left = append(left, strings.TrimSpace(fmt.Sprintf("%s %s %s", o.GetKind(), o.GetName(), o.GetNamespace())))
		}
	}
	return left, errors.Join(problems...)
}

// listed lists a kind, which the cluster need not have.
func listed(ctx context.Context, api client.Client, kind schema.GroupVersionKind, options ...client.ListOption) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	err := api.List(ctx, list, options...)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	return list.Items, err
}
