package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/klient/wait"

	"golang.org/x/sync/errgroup"
)

const (
	fieldOwner = "smart-restore-conformance"
	// pollInterval is how often a wait looks again. Waits look at once, first.
	pollInterval = 200 * time.Millisecond
	// establishTimeout bounds how long the API server may take to serve a new kind.
	establishTimeout = 60 * time.Second
	parallelApplies  = 8
)

// Apply applies objects server-side, in three waves: what others need (namespaces, kinds), the rest, and last what runs:
// a controller that starts before its kinds or its permissions are there exits, and is restarted late. Within a wave
// objects are applied side by side. beforeRunning, where there is one, is waited for before the last wave.
func Apply(ctx context.Context, c klient.Client, objects []*unstructured.Unstructured, beforeRunning func(context.Context) error) error {
	var needed, rest, running []*unstructured.Unstructured
	for _, object := range objects {
		switch object.GetKind() {
		case "Namespace", "CustomResourceDefinition":
			needed = append(needed, object)
		case "Deployment", "DaemonSet", "StatefulSet", "Job", "CronJob", "Pod":
			running = append(running, object)
		default:
			rest = append(rest, object)
		}
	}
	if err := applyAll(ctx, c, needed); err != nil {
		return err
	}
	if err := established(ctx, c, needed); err != nil {
		return err
	}
	if err := applyAll(ctx, c, rest); err != nil {
		return err
	}
	if beforeRunning != nil {
		if err := beforeRunning(ctx); err != nil {
			return err
		}
	}
	return applyAll(ctx, c, running)
}

func applyAll(ctx context.Context, c klient.Client, objects []*unstructured.Unstructured) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelApplies)
	for _, object := range objects {
		group.Go(func() error { return applyOne(ctx, c, object) })
	}
	return group.Wait()
}

// applyOne applies one object; an API server that is still starting or does not know the kind yet is given time.
func applyOne(ctx context.Context, c klient.Client, object *unstructured.Unstructured) error {
	api := c.Resources().GetControllerRuntimeClient()
	var last error
	err := wait.For(func(ctx context.Context) (bool, error) {
		last = api.Patch(ctx, object.DeepCopy(), client.Apply, client.FieldOwner(fieldOwner), client.ForceOwnership) //nolint:staticcheck // Apply() takes typed configurations only
		switch {
		case last == nil:
			return true, nil
		case mayPass(last):
			return false, nil
		case apierrors.IsInvalid(last) || apierrors.IsBadRequest(last) || apierrors.IsForbidden(last):
			return false, last
		}
		return false, nil
	}, wait.WithContext(ctx), wait.WithTimeout(establishTimeout), wait.WithInterval(pollInterval), wait.WithImmediate())
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), errors.Join(last))
	}
	return nil
}

// mayPass says of a refusal that it may pass by itself: Kyverno refuses a policy of kyverno.io for what it has no rights to
// make, and the API server takes a second to add a role just applied to Kyverno's own.
func mayPass(err error) bool { return strings.Contains(err.Error(), "requires permissions") }

// established waits until the API server serves every kind that objects define.
func established(ctx context.Context, c klient.Client, objects []*unstructured.Unstructured) error {
	api := c.Resources().GetControllerRuntimeClient()
	for _, object := range objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if err := wait.For(func(ctx context.Context) (bool, error) {
			current := &unstructured.Unstructured{}
			current.SetGroupVersionKind(object.GroupVersionKind())
			if err := api.Get(ctx, client.ObjectKeyFromObject(object), current); err != nil {
				return false, nil
			}
			return conditionTrue(current, "Established"), nil
		}, wait.WithContext(ctx), wait.WithTimeout(establishTimeout), wait.WithInterval(pollInterval), wait.WithImmediate()); err != nil {
			return fmt.Errorf("the API server does not serve %s: %w", object.GetName(), err)
		}
	}
	return nil
}

func conditionTrue(object *unstructured.Unstructured, name string) bool {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, condition := range conditions {
		if c, ok := condition.(map[string]any); ok && c["type"] == name && c["status"] == "True" {
			return true
		}
	}
	return false
}

// Delete deletes objects by kind and name; those that are gone, or whose kind is, are no error.
func Delete(ctx context.Context, c klient.Client, objects []*unstructured.Unstructured) error {
	api := c.Resources().GetControllerRuntimeClient()
	var problems []error
	for _, object := range objects {
		err := api.Delete(ctx, object.DeepCopy(), client.PropagationPolicy("Background"))
		if err != nil && !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
			problems = append(problems, fmt.Errorf("delete %s %s: %w", object.GetKind(), object.GetName(), err))
		}
	}
	return errors.Join(problems...)
}

// DeploymentsReady waits until every deployment in the namespace that wants replicas has them ready.
func DeploymentsReady(ctx context.Context, c klient.Client, namespace string, timeout time.Duration) error {
	state := "no deployment"
	err := wait.For(func(ctx context.Context) (bool, error) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DeploymentList"})
		if err := c.Resources().GetControllerRuntimeClient().List(ctx, list, client.InNamespace(namespace)); err != nil {
			state = err.Error()
			return false, nil
		}
		for _, deployment := range list.Items {
			want, _, _ := unstructured.NestedInt64(deployment.Object, "spec", "replicas")
			ready, _, _ := unstructured.NestedInt64(deployment.Object, "status", "readyReplicas")
			if ready < want {
				state = fmt.Sprintf("%s has %d of %d replicas ready", deployment.GetName(), ready, want)
				return false, nil
			}
		}
		return len(list.Items) > 0, nil
	}, wait.WithContext(ctx), wait.WithTimeout(timeout), wait.WithInterval(pollInterval), wait.WithImmediate())
	if err != nil {
		return fmt.Errorf("namespace %s is not ready after %s: %s", namespace, timeout, state)
	}
	return nil
}
