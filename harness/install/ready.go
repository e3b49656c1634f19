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

	"github.com/smart-restore/conformance/harness/timing"
)

// VolSync's kinds.
var (
	ReplicationSource      = schema.GroupVersionKind{Group: "volsync.backube", Version: "v1alpha1", Kind: "ReplicationSource"}
	ReplicationDestination = schema.GroupVersionKind{Group: "volsync.backube", Version: "v1alpha1", Kind: "ReplicationDestination"}
)

var secrets = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}

// The kinds of what runs for good.
var (
	Deployment = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	DaemonSet  = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"}
)

// How a policy can turn out not to be one that can be tested. None of them is returned where the API server could not be
// asked: that is ErrUnseen.
var (
	ErrNotReady = errors.New("Kyverno did not report the policy as ready") //nolint:staticcheck // a name
	ErrIdle     = errors.New("the policy does nothing")
	ErrRefuses  = errors.New("the policy does not let a PVC be created")
)

// CanaryPrefix begins the names of the namespaces in which PolicyActs sees a policy act, where nothing else is said.
const CanaryPrefix = "smart-restore-canary-"

// ProbeLabel marks the ReplicationSources by which VolSyncAnswers sees VolSync answer.
const ProbeLabel = "conformance.smart-restore.io/probe"

// VolSyncAnswers waits until VolSync reconciles: it reports on a ReplicationSource, made anew each time, whose volume does
// not exist.
func VolSyncAnswers(ctx context.Context, api client.Client, timeout time.Duration) error {
	probe := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"sourcePVC": "no-such-volume",
		"trigger":   map[string]any{"manual": "probe"},
		"restic":    map[string]any{"repository": "no-such-secret", "copyMethod": "Direct"},
	}}}
	probe.SetGroupVersionKind(ReplicationSource)
	probe.SetNamespace("default")
	probe.SetName("smart-restore-volsync-answers-" + strings.ToLower(rand.Text()[:8]))
	probe.SetLabels(map[string]string{ProbeLabel: "volsync-answers"})
	defer cleanUp(ctx, api, probe)
	created := false
	err := await(ctx, timeout, func(ctx context.Context) (bool, string, error) {
		if !created {
			if err := client.IgnoreAlreadyExists(api.Create(ctx, probe.DeepCopy())); err != nil {
				return false, "a ReplicationSource cannot be made: " + err.Error(), ignoreAnswers(err)
			}
			created = true
		}
		current := &unstructured.Unstructured{}
		current.SetGroupVersionKind(ReplicationSource)
		if err := api.Get(ctx, client.ObjectKeyFromObject(probe), current); err != nil {
			return false, "the ReplicationSource is gone", ignoreAnswers(err)
		}
		conditions, found, _ := unstructured.NestedSlice(current.Object, "status", "conditions")
		return found && len(conditions) > 0, "the ReplicationSource has no status", nil
	})
	if err != nil {
		return fmt.Errorf("wanted VolSync to report on a ReplicationSource within %s: %w", timeout, err)
	}
	return nil
}

// cleanUp deletes what a wait made for itself, also where the wait was interrupted. What cannot be deleted is in nobody's
// way: it is of its own name.
func cleanUp(ctx context.Context, api client.Client, object client.Object, options ...client.DeleteOption) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timing.Setup.CleanUp)
	defer cancel()
	for {
		err := api.Delete(ctx, object, options...)
		if err == nil || !unseen(err) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(timing.Setup.Poll):
		}
	}
}

// Canary describes the PVC by which PolicyActs sees a policy act.
type Canary struct {
	PVCLabels       map[string]string
	PVCAnnotations  map[string]string
	StorageClass    string // of the PVC; empty: one that no provisioner serves, so that no mover starts
	NamespacePrefix string // begins the namespace's name; empty: smart-restore-canary-
	NamespaceLabels map[string]string
	BaseSecret      *corev1.Secret // of the PVC's namespace; nil: it has none
	// LateSource says that the ReplicationSource comes later than the PVC, as when that is bound, which the canary's never is. A Secret beside
	// the base Secret then shows, too, that the policy acts.
	LateSource bool
	// Templates is what is applied for a PVC of this namespace. nil: nothing is, and a policy acts by itself.
	Templates func(namespace string) ([]*unstructured.Unstructured, error)
	Policies  []*unstructured.Unstructured
	Status    func(format string, args ...any)
}

// PolicyActs waits until every policy says that it is ready and the policies visibly act on a labelled PVC: there is a
// ReplicationSource or ReplicationDestination beside it in its namespace or, where that comes late, a Secret.
func PolicyActs(ctx context.Context, api client.Client, canary Canary) error {
	canary.Status("waiting for Kyverno to compile it")
	if err := policiesReady(ctx, api, canary.Policies); err != nil {
		return err
	}
	if canary.Templates != nil {
		canary.Status("seeing whether the API server takes the templates")
		return templatesTaken(ctx, api, canary)
	}
	canary.Status("waiting for it to act on a labelled PVC")
	limited, cancel := context.WithTimeout(ctx, atMost(timing.Setup.Policy))
	defer cancel()
	began, sight := time.Now(), newSight()
	tries, refusedSince, lastRefusal := 0, time.Time{}, error(nil)
	for {
		pause := timing.Setup.Poll
		namespace := cmp.Or(canary.NamespacePrefix, CanaryPrefix) + strings.ToLower(rand.Text()[:8])
		within := min(timing.Setup.Act<<min(tries, 8), max(timing.Setup.Act, timing.Setup.Policy-sight.seen))
		acted, err := acts(limited, api, namespace, canary, within, sight)
		switch {
		case acted:
			return nil
		case err == nil:
			tries, refusedSince, lastRefusal = tries+1, time.Time{}, nil
		case !errors.Is(err, errPVCRefused):
			if Refused(err) {
				return err // nothing of the policy's: a namespace or Secret, or a quota
			}
			refusedSince = time.Time{}
		default:
			lastRefusal, pause = err, timing.Setup.Act/2
			if refusedSince.IsZero() {
				refusedSince = time.Now()
			}
			if time.Since(refusedSince) >= timing.Setup.Refused {
				return fmt.Errorf("%w for %s: %w", ErrRefuses, timing.Setup.Refused, err)
			}
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("wanted the policy to act on a PVC labelled %s within %s: %w", labels.Set(canary.PVCLabels), timing.Setup.Policy, sight.unseen(time.Since(began)))
		case <-time.After(pause):
		}
		if err != nil && !errors.Is(err, errPVCRefused) {
			sight.begin()
			continue
		}
		sight.note(nil) // every request of this try was answered
		if sight.seen < timing.Setup.Policy {
			continue
		}
		if lastRefusal != nil { // not for long enough to be returned above: acts and refusals take turns
			return fmt.Errorf("%w: %w", ErrRefuses, lastRefusal)
		}
		return fmt.Errorf("%w: it made neither a ReplicationSource nor a ReplicationDestination for a PVC labelled %s within %s, at %d tries; check which PVCs its match.resources (matchConstraints) selects",
			ErrIdle, labels.Set(canary.PVCLabels), time.Since(began).Round(time.Second), tries)
	}
}

// errPVCRefused says that a labelled PVC was not let in, or was made an invalid one: a policy's doing.
var errPVCRefused = errors.New("refused")

// ManagedWebhooks is the label of the webhook configurations that Kyverno makes.
const ManagedWebhooks = "webhook.kyverno.io/managed-by"

// PolicyWebhooks lists the webhooks that Kyverno has registered for policies, as configuration/webhook.
func PolicyWebhooks(ctx context.Context, api client.Client) ([]string, error) {
	var found []string
	add := func(configuration, webhook string) {
		if strings.HasPrefix(configuration, resourceWebhooks) {
			found = append(found, configuration+"/"+webhook)
		}
	}
	validating, mutating := &admissionv1.ValidatingWebhookConfigurationList{}, &admissionv1.MutatingWebhookConfigurationList{}
	ours := client.MatchingLabels{ManagedWebhooks: "kyverno"}
	if err := errors.Join(api.List(ctx, validating, ours), api.List(ctx, mutating, ours)); err != nil {
		return nil, err
	}
	for _, configuration := range validating.Items {
		for _, webhook := range configuration.Webhooks {
			add(configuration.Name, webhook.Name)
		}
	}
	for _, configuration := range mutating.Items {
		for _, webhook := range configuration.Webhooks {
			add(configuration.Name, webhook.Name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// NoPolicyActs waits until Kyverno has taken back the webhooks of all policies, after they were deleted: what is tried
// from then on is not touched by them.
func NoPolicyActs(ctx context.Context, api client.Client) error {
	err := await(ctx, timing.Setup.Policy, func(ctx context.Context) (bool, string, error) {
		left, err := PolicyWebhooks(ctx, api)
		return len(left) == 0, strings.Join(left, ", "), err
	})
	if err != nil {
		return fmt.Errorf("wanted Kyverno to remove the webhooks of policies that were deleted within %s: %w", timing.Setup.Policy, err)
	}
	return nil
}

// resourceWebhooks begins the names of the configurations that Kyverno fills with policies' webhooks; its others are about
// its own kinds.
const resourceWebhooks = "kyverno-resource-"

// policiesReady waits for the Ready condition that Kyverno sets on policies.
func policiesReady(ctx context.Context, api client.Client, policies []*unstructured.Unstructured) error {
	err := await(ctx, timing.Setup.Policy, func(ctx context.Context) (bool, string, error) {
		state := map[string]string{}
		for _, policy := range policies {
			current := &unstructured.Unstructured{}
			current.SetGroupVersionKind(policy.GroupVersionKind())
			switch err := api.Get(ctx, client.ObjectKeyFromObject(policy), current); {
			case apierrors.IsNotFound(err):
				state[policy.GetName()] = "it is not there"
			case err != nil:
				return false, "", err
			default:
				if ready, message := readiness(current); !ready {
					state[policy.GetName()] = message
				}
			}
		}
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(state)) {
			lines = append(lines, name+": "+state[name])
		}
		return len(state) == 0, strings.Join(lines, "; "), nil
	})
	if isNotYet(err) {
		return fmt.Errorf("%w within %s: %w", ErrNotReady, timing.Setup.Policy, err)
	}
	return err
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

// acts creates a labelled PVC in a namespace of its own and looks, for this long, for any trace of the policy. An error is
// of a request that failed; where that was not answered, sight knows.
func acts(ctx context.Context, api client.Client, namespace string, canary Canary, within time.Duration, sight *sight) (bool, error) {
	create := func(object client.Object) error {
		err := api.Create(ctx, object)
		if unseen(err) {
			sight.note(err)
		}
		return err
	}
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: canary.NamespaceLabels}}
	err := create(made)
	switch {
	case err == nil:
		defer cleanUp(ctx, api, made, client.Preconditions{UID: &made.UID})
	case unseen(err): // it may be there: only the reply was lost
		cleanUp(ctx, api, made)
		return false, err
	default:
		return false, err
	}
	if canary.BaseSecret != nil {
		secret := canary.BaseSecret.DeepCopy()
		secret.Namespace = namespace
		if err := create(secret); err != nil {
			return false, err
		}
	}
	traces := []schema.GroupVersionKind{ReplicationSource, ReplicationDestination}
	if canary.LateSource {
		traces = append(traces, secrets)
	}
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "canary", Labels: maps.Clone(canary.PVCLabels), Annotations: maps.Clone(canary.PVCAnnotations)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
		},
	}
	class := canary.StorageClass // nothing need be bound for this
	pvc.Spec.StorageClassName = &class
	err = create(pvc)
	if denied(err) || apierrors.IsInvalid(err) {
		return false, fmt.Errorf("%w: a PVC labelled %s: %w", errPVCRefused, labels.Set(canary.PVCLabels), err)
	}
	if err != nil {
		return false, err
	}
	if len(pvc.Annotations) > len(canary.PVCAnnotations) || len(pvc.Labels) > len(canary.PVCLabels) {
		// Mutated at admission; a policy of several parts must have all of them at work.
		canary.Status("it mutates PVCs; waiting for it to generate")
	}
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		for _, kind := range traces {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(kind)
			err := api.List(limited, list, client.InNamespace(namespace))
			sight.note(err)
			ours := func(o unstructured.Unstructured) bool {
				return kind == secrets && canary.BaseSecret != nil && o.GetName() == canary.BaseSecret.Name
			}
			if err == nil && len(slices.DeleteFunc(list.Items, ours)) > 0 {
				return true, nil
			}
		}
		select {
		case <-limited.Done():
			return false, nil
		case <-time.After(timing.Setup.Poll):
		}
	}
}
