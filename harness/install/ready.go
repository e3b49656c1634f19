package install

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/klient/wait"
)

// VolSync's kinds.
var (
	ReplicationSource      = schema.GroupVersionKind{Group: "volsync.backube", Version: "v1alpha1", Kind: "ReplicationSource"}
	ReplicationDestination = schema.GroupVersionKind{Group: "volsync.backube", Version: "v1alpha1", Kind: "ReplicationDestination"}
)

// How a policy can turn out not to be one that can be tested.
var (
	ErrNotReady = errors.New("Kyverno did not get the policy ready") //nolint:staticcheck // a name
	ErrIdle     = errors.New("the policy does nothing")
)

const (
	// policyTimeout bounds how long an accepted policy may take to act. Kyverno compiles it and registers its webhook,
	// some seconds after the policy is there; the RBAC it brings is aggregated within about a second.
	policyTimeout = 90 * time.Second
	// actTimeout is how long the first labelled PVC is given before another is tried, which is given twice as long, and so
	// on: a PVC that was admitted before the webhook knew the policy is never acted on, and a busy Kyverno acts late.
	actTimeout = 4 * time.Second
)

// VolSyncAnswers waits until VolSync reconciles: it reports on a ReplicationSource whose volume does not exist.
func VolSyncAnswers(ctx context.Context, c klient.Client, timeout time.Duration) error {
	api := c.Resources().GetControllerRuntimeClient()
	probe := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"sourcePVC": "no-such-volume",
		"trigger":   map[string]any{"manual": "probe"},
		"restic":    map[string]any{"repository": "no-such-secret", "copyMethod": "Direct"},
	}}}
	probe.SetGroupVersionKind(ReplicationSource)
	probe.SetNamespace("default")
	probe.SetName("smart-restore-volsync-answers")
	key := client.ObjectKeyFromObject(probe)
	if err := api.Create(ctx, probe); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	err := wait.For(func(ctx context.Context) (bool, error) {
		if err := api.Get(ctx, key, probe); err != nil {
			return false, nil
		}
		conditions, found, _ := unstructured.NestedSlice(probe.Object, "status", "conditions")
		return found && len(conditions) > 0, nil
	}, wait.WithContext(ctx), wait.WithTimeout(timeout), wait.WithInterval(pollInterval), wait.WithImmediate())
	if err != nil {
		return fmt.Errorf("VolSync does not answer: a ReplicationSource got no status within %s", timeout)
	}
	return client.IgnoreNotFound(api.Delete(ctx, probe))
}

// Canary describes the PVC by which PolicyActs sees a policy act.
type Canary struct {
	PVCLabels       map[string]string
	StorageClass    string // of the PVC; empty: one that no provisioner serves, so that no mover starts
	NamespacePrefix string // begins the namespace's name; empty: smart-restore-canary-
	NamespaceLabels map[string]string
	BaseSecret      *corev1.Secret // of the PVC's namespace; nil: it has none
	Policies        []*unstructured.Unstructured
	Status          func(format string, args ...any)
}

// PolicyActs waits until every policy says that it is ready and the policies visibly act on a labelled PVC: it, or what
// is beside it in its namespace, is no longer what was created.
func PolicyActs(ctx context.Context, c klient.Client, canary Canary) error {
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	api := c.Resources().GetControllerRuntimeClient()
	canary.Status("waiting for Kyverno to compile it")
	if err := policiesReady(ctx, api, canary.Policies); err != nil {
		return err
	}
	canary.Status("waiting for it to act on a labelled PVC")
	for attempt := 1; ; attempt++ {
		namespace := cmp.Or(canary.NamespacePrefix, "smart-restore-canary-") + strings.ToLower(rand.Text()[:8])
		acted, err := acts(ctx, api, namespace, canary, actTimeout<<(attempt-1))
		if err == nil && acted {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("%w: a PVC labelled %s got neither a ReplicationSource nor a ReplicationDestination within %s, at %d tries; does it match that label?",
				ErrIdle, labels.Set(canary.PVCLabels), policyTimeout, attempt), err)
		}
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			return err
		}
	}
}

// NoPolicyActs waits until Kyverno has taken back the webhooks of all policies, after they were deleted: what is tried
// from then on is not touched by them.
func NoPolicyActs(ctx context.Context, c klient.Client) error {
	api := c.Resources().GetControllerRuntimeClient()
	var left []string
	err := wait.For(func(ctx context.Context) (bool, error) {
		left = nil
		validating, mutating := &admissionv1.ValidatingWebhookConfigurationList{}, &admissionv1.MutatingWebhookConfigurationList{}
		ours := client.MatchingLabels{"webhook.kyverno.io/managed-by": "kyverno"}
		if err := errors.Join(api.List(ctx, validating, ours), api.List(ctx, mutating, ours)); err != nil {
			left = []string{err.Error()}
			return false, nil
		}
		for _, configuration := range validating.Items {
			for _, webhook := range configuration.Webhooks {
				if strings.HasPrefix(configuration.Name, resourceWebhooks) {
					left = append(left, webhook.Name)
				}
			}
		}
		for _, configuration := range mutating.Items {
			for _, webhook := range configuration.Webhooks {
				if strings.HasPrefix(configuration.Name, resourceWebhooks) {
					left = append(left, webhook.Name)
				}
			}
		}
		return len(left) == 0, nil
	}, wait.WithContext(ctx), wait.WithTimeout(policyTimeout), wait.WithInterval(pollInterval), wait.WithImmediate())
	if err != nil {
		return fmt.Errorf("%s after its policies were deleted, Kyverno still has webhooks for them: %s", policyTimeout, strings.Join(left, ", "))
	}
	return nil
}

// resourceWebhooks begins the names of the configurations that Kyverno fills with policies' webhooks; its others are about
// its own kinds.
const resourceWebhooks = "kyverno-resource-"

// policiesReady waits for the Ready condition that Kyverno sets on policies.
func policiesReady(ctx context.Context, api client.Client, policies []*unstructured.Unstructured) error {
	state := map[string]string{}
	err := wait.For(func(ctx context.Context) (bool, error) {
		all := true
		for _, policy := range policies {
			current := &unstructured.Unstructured{}
			current.SetGroupVersionKind(policy.GroupVersionKind())
			if err := api.Get(ctx, client.ObjectKeyFromObject(policy), current); err != nil {
				all = false
				if ctx.Err() == nil {
					state[policy.GetName()] = err.Error()
				}
				continue
			}
			ready, message := readiness(current)
			if !ready {
				state[policy.GetName()], all = message, false
				continue
			}
			delete(state, policy.GetName())
		}
		return all, nil
	}, wait.WithContext(ctx), wait.WithTimeout(policyTimeout), wait.WithInterval(pollInterval), wait.WithImmediate())
	if err == nil {
		return nil
	}
	var lines []string
	for name, message := range state {
		lines = append(lines, name+": "+message)
	}
	slices.Sort(lines)
	return fmt.Errorf("%w within %s: %s", ErrNotReady, policyTimeout, strings.Join(lines, "; "))
}

// readiness reads the status of either family of policies: policies.kyverno.io has status.conditionStatus, kyverno.io
// has status.conditions.
func readiness(policy *unstructured.Unstructured) (bool, string) {
	ready, found, _ := unstructured.NestedBool(policy.Object, "status", "conditionStatus", "ready")
	if found && ready {
		return true, ""
	}
	conditions, _, _ := unstructured.NestedSlice(policy.Object, "status", "conditionStatus", "conditions")
	if !found {
		conditions, _, _ = unstructured.NestedSlice(policy.Object, "status", "conditions")
		if conditionTrue(policy, "Ready") {
			return true, ""
		}
	}
	var messages []string
	for _, condition := range conditions {
		if c, ok := condition.(map[string]any); ok && c["status"] != "True" {
			messages = append(messages, fmt.Sprintf("%v: %v", c["type"], c["message"]))
		}
	}
	if len(messages) == 0 {
		return false, "no status yet"
	}
	return false, strings.Join(messages, ", ")
}

// acts creates a labelled PVC in a namespace of its own and looks, for this long, for any trace of the policy.
func acts(ctx context.Context, api client.Client, namespace string, canary Canary, within time.Duration) (bool, error) {
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: canary.NamespaceLabels}}
	if err := api.Create(ctx, made); err != nil {
		return false, err
	}
	defer func() {
		_ = api.Delete(context.WithoutCancel(ctx), made, client.Preconditions{UID: &made.UID})
	}()
	if canary.BaseSecret != nil {
		secret := canary.BaseSecret.DeepCopy()
		secret.Namespace = namespace
		if err := api.Create(ctx, secret); err != nil {
			return false, err
		}
	}
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "canary", Labels: maps.Clone(canary.PVCLabels)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
		},
	}
	class := canary.StorageClass // nothing need be bound for this
	pvc.Spec.StorageClassName = &class
	if err := api.Create(ctx, pvc); err != nil {
		return false, fmt.Errorf("a PVC labelled %s is refused: %w", labels.Set(canary.PVCLabels), err)
	}
	if len(pvc.Annotations) > 0 || len(pvc.Labels) > len(canary.PVCLabels) {
		// Mutated at admission; a policy of several parts must have all of them at work.
		canary.Status("it mutates PVCs; waiting for it to generate")
	}
	err := wait.For(func(ctx context.Context) (bool, error) {
		for _, kind := range []schema.GroupVersionKind{ReplicationSource, ReplicationDestination} {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(kind)
			if err := api.List(ctx, list, client.InNamespace(namespace)); err == nil && len(list.Items) > 0 {
				return true, nil
			}
		}
		return false, nil
	}, wait.WithContext(ctx), wait.WithTimeout(within), wait.WithInterval(pollInterval), wait.WithImmediate())
	return err == nil, nil
}
