package claim

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/policy"
)

// A claim whose PVC is made by what deploys from git.

// Manifest is a labelled PVC as it is in git.
func Manifest(c *Claims, name string) *corev1.PersistentVolumeClaim {
	return c.manifest(name, c.labels())
}

// Unselected is a PVC as it is in git that the policy does not select.
func Unselected(c *Claims, name string) *corev1.PersistentVolumeClaim { return c.manifest(name, nil) }

func (c *Claims) manifest(name string, labels map[string]string) *corev1.PersistentVolumeClaim {
	pvc := c.pvc(name, labels)
	pvc.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
	return pvc
}

// Bare is an object as backup tools bring it back: without owner and status.
func Bare(object *unstructured.Unstructured) *unstructured.Unstructured { return bare(object) }

// MoversOf are the pods of a ReplicationSource's or a ReplicationDestination's movers.
func MoversOf(ctx context.Context, c *Claims, o *unstructured.Unstructured) ([]corev1.Pod, error) {
	return c.moversOf(ctx, o)
}

// MoverJob is the Job of a ReplicationSource's or a ReplicationDestination's movers. Nil: there is none.
func MoverJob(ctx context.Context, c *Claims, o *unstructured.Unstructured) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	err := c.env.API.Get(ctx, client.ObjectKey{Namespace: c.env.Namespace, Name: moverOf(o)}, job)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return job, err
}

// Policys are annotations without Kubernetes' own, as they are exported.
func Policys(annotations map[string]string) Annotations { return policys(annotations) }

// MadeFromGit waits for the PVC that is made of a manifest, and that is not an earlier one; nil: there was none.
func MadeFromGit(ctx context.Context, c *Claims, name string, earlier *Claim) *Claim {
	old := ""
	if earlier != nil {
		old = earlier.UID
	}
	return c.made(ctx, c.env.PVC(name), old)
}

// AuditIsCurrent waits until all requests so far are in the API server's audit log.
func AuditIsCurrent(ctx context.Context, c *Claims) { c.auditIsCurrent(ctx) }

// Decided is what the claim says was decided about it; empty: the contract does not say where that stands.
func (c *Claim) Decided(ctx context.Context) string {
	annotation := c.claims.decisionAnnotation()
	if annotation == "" {
		return ""
	}
	return c.now(ctx).Annotations[annotation]
}

// decisionAnnotation is the annotation in which PVCs say what was decided about them; empty: the contract does not promise one.
func (c *Claims) decisionAnnotation() string {
	contract := c.env.Testbed.Contract
	if !contract.Promises("visible-decision") {
		return ""
	}
	return contract.Decisions.Annotation
}

// StillDecided fails the spec where the claim, for as long as Kyverno may take to react, says something else than was decided.
func (c *Claim) StillDecided(ctx context.Context, decided, after string) {
	e, annotation := c.env(), c.claims.decisionAnnotation()
	if decided == "" {
		return
	}
	e.Throughout(ctx, fmt.Sprintf("PVC %s says %q after %s", c.Name, decided, after), e.Times.Reaction, func(ctx context.Context) (string, error) {
		pvc, err := c.get(ctx)
		if err != nil || pvc.Annotations[annotation] == decided {
			return "", err
		}
		return fmt.Sprintf("after %s, its annotation %s is %q: the decision is lost", after, annotation, pvc.Annotations[annotation]), nil
	})
}

// SaysUnknown waits until the claim says that it is not known whether there is something to restore, if it is promised that it says so.
func (c *Claim) SaysUnknown(ctx context.Context, why string) {
	if c.claims.decisionAnnotation() == "" {
		return
	}
	c.env().Eventually(ctx, "PVC "+c.Name+" says that it was not restored, since "+why, c.env().Times.Mover, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx)
		if err != nil {
			return await.State{}, err
		}
		not := c.env().Testbed.Contract.Decisions.NotDecided(policy.DecisionUnknown, pvc.Annotations)
		return await.ReachedIf(not == "", "%s", not), nil
	})
}

// LabelledAgain waits until the claim is selected by the policy again, which somebody else sees to.
func (c *Claim) LabelledAgain(ctx context.Context) {
	c.env().Arrange(ctx, "PVC "+c.Name+" labelled as in git", c.env().Times.Platform, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx)
		if err != nil {
			return await.State{}, err
		}
		for key, value := range c.claims.labels() {
			if pvc.Labels[key] != value {
				return await.NotYet("its label %s is %q", key, pvc.Labels[key]), nil
			}
		}
		return await.Reached(), nil
	})
}

// BeingDeleted waits until somebody has asked for the claim's deletion, which waits for its app, or it is another PVC.
func (c *Claim) BeingDeleted(ctx context.Context) {
	c.env().Arrange(ctx, "PVC "+c.Name+" being deleted", c.env().Times.Platform, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx)
		if apierrors.IsNotFound(err) {
			return await.Reached(), nil
		}
		return await.ReachedIf(err == nil && (pvc.DeletionTimestamp != nil || string(pvc.UID) != c.UID), "it is as it was"), err
	})
}
