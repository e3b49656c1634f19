package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/timing"
)

const (
	fieldOwner      = "smart-restore-conformance"
	parallelApplies = 8
)

// Apply applies objects server-side, in three waves: what others need (namespaces, kinds), the rest, and last what runs:
// a controller that starts before its kinds or its permissions are there exits, and is restarted late. Within a wave
// objects are applied side by side. beforeRunning, where there is one, is waited for before the last wave.
func Apply(ctx context.Context, api client.Client, objects []*unstructured.Unstructured, beforeRunning func(context.Context) error) error {
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
	if err := applyAll(ctx, api, needed); err != nil {
		return err
	}
	if err := established(ctx, api, needed); err != nil {
		return err
	}
	if err := applyAll(ctx, api, rest); err != nil {
		return err
	}
	if beforeRunning != nil {
		if err := beforeRunning(ctx); err != nil {
			return err
		}
	}
	return applyAll(ctx, api, running)
}

func applyAll(ctx context.Context, api client.Client, objects []*unstructured.Unstructured) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelApplies)
	for _, object := range objects {
		group.Go(func() error { return applyOne(ctx, api, object) })
	}
	return group.Wait()
}

// applyOne applies one object; an API server that is still starting or does not know the kind yet is given time.
func applyOne(ctx context.Context, api client.Client, object *unstructured.Unstructured) error {
	var last error // of the API server, the policy's or the stack's
	err := await(ctx, timing.Setup.Establish, func(ctx context.Context) (bool, string, error) {
		err := api.Patch(ctx, object.DeepCopy(), client.Apply, client.FieldOwner(fieldOwner), client.ForceOwnership) //nolint:staticcheck // Apply() takes typed configurations only
		if err != nil && unseen(err) {
			return false, "", err
		}
		last = err
		return err == nil || Refused(err) && !mayPass(err), fmt.Sprint(err), nil
	})
	if err == nil || isNotYet(err) {
		err = last
	}
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// mayPass says of a refusal that it may pass by itself: Kyverno refuses a policy of kyverno.io for what it has no rights to
// make, and the API server takes a second to add a role just applied to Kyverno's own; a namespace that was just deleted
// takes nothing until it is gone.
func mayPass(err error) bool {
	return strings.Contains(err.Error(), "requires permissions") || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// established waits until the API server serves every kind that objects define.
func established(ctx context.Context, api client.Client, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if err := await(ctx, timing.Setup.Establish, func(ctx context.Context) (bool, string, error) {
			current := &unstructured.Unstructured{}
			current.SetGroupVersionKind(object.GroupVersionKind())
			if err := api.Get(ctx, client.ObjectKeyFromObject(object), current); err != nil {
				return false, "it is gone", client.IgnoreNotFound(err)
			}
			return conditionTrue(current, "Established"), "it is not established", nil
		}); err != nil {
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
func Delete(ctx context.Context, api client.Client, objects []*unstructured.Unstructured) error {
	var problems []error
	for _, object := range objects {
		err := api.Delete(ctx, object.DeepCopy(), client.PropagationPolicy("Background"))
		if err != nil && !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
			problems = append(problems, fmt.Errorf("delete %s %s: %w", object.GetKind(), object.GetName(), err))
		}
	}
	return errors.Join(problems...)
}

// Remove is Delete, tried again until nothing of the objects is left.
func Remove(ctx context.Context, api client.Client, objects []*unstructured.Unstructured) error {
	err := await(ctx, timing.Setup.Gone, func(ctx context.Context) (bool, string, error) {
		if err := Delete(ctx, api, objects); err != nil {
			return false, "", err
		}
		for _, object := range objects {
			current := &unstructured.Unstructured{}
			current.SetGroupVersionKind(object.GroupVersionKind())
			switch err := api.Get(ctx, client.ObjectKeyFromObject(object), current); {
			case err == nil:
				return false, object.GetKind() + " " + object.GetName() + " is still there", nil
			case !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err):
				return false, "", err
			}
		}
		return true, "", nil
	})
	if err != nil {
		return fmt.Errorf("deleted objects are not gone: %w", err)
	}
	return nil
}

// DeploymentsReady waits until the namespace has deployments or daemon sets and all of them are rolled out: their status is of their
// newest spec, and no pod of an older one is left.
func DeploymentsReady(ctx context.Context, api client.Client, namespace string, timeout time.Duration) error {
	err := await(ctx, timeout, func(ctx context.Context) (bool, string, error) {
		found := 0
		for _, kind := range []schema.GroupVersionKind{Deployment, DaemonSet} {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(kind)
			if err := api.List(ctx, list, client.InNamespace(namespace)); err != nil {
				return false, "", err
			}
			for i := range list.Items {
				if ready, state := RolledOut(&list.Items[i]); !ready {
					return false, list.Items[i].GetName() + ": " + state, nil
				}
			}
			found += len(list.Items)
		}
		return found > 0, "it has no deployment", nil
	})
	if err != nil {
		return fmt.Errorf("wanted the deployments of namespace %s ready within %s: %w", namespace, timeout, err)
	}
	return nil
}

// DriversRegistered waits until the kubelet of each node has registered each of the CSI drivers: a volume for which it has none is
// not made, and a pod with one does not start.
func DriversRegistered(ctx context.Context, api client.Client, drivers []string, timeout time.Duration) error {
	if len(drivers) == 0 {
		return nil
	}
	err := await(ctx, timeout, func(ctx context.Context) (bool, string, error) {
		nodes := &storagev1.CSINodeList{}
		if err := api.List(ctx, nodes); err != nil {
			return false, "", err
		}
		for _, node := range nodes.Items {
			for _, driver := range drivers {
				if !slices.ContainsFunc(node.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == driver }) {
					return false, "node " + node.Name + " has no driver " + driver, nil
				}
			}
		}
		return len(nodes.Items) > 0, "there is no CSINode", nil
	})
	if err != nil {
		return fmt.Errorf("wanted the CSI drivers %s registered on each node within %s: %w", strings.Join(drivers, ", "), timeout, err)
	}
	return nil
}

// RolledOut says whether an object's status is of its newest spec, and complete.
func RolledOut(object *unstructured.Unstructured) (ready bool, state string) {
	result, err := status.Compute(object)
	if err != nil {
		return false, err.Error()
	}
	return result.Status == status.CurrentStatus, result.Message
}
