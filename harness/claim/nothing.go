package claim

import (
	"context"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/volsync"
)

// Requests that come to nothing.

// CreatedAgain asks the API server to create the claim, which is there, and is told so.
func (c *Claim) CreatedAgain(ctx context.Context, times int) {
	e := c.env()
	for range times {
		e.Arrange(ctx, "a refusal to create PVC "+c.Name+", which is there", e.Times.Gone, func(ctx context.Context) (await.State, error) {
			err := e.API.Create(ctx, c.claims.pvc(c.Name, c.claims.labels()))
			switch {
			case apierrors.IsAlreadyExists(err), env.Denied(err):
				return await.Reached(), nil
			case err == nil:
				return await.RuledOut("it was created anew"), nil
			}
			return await.State{}, err
		})
	}
	e.Step("PVC %s, which is there, was asked for %d times more", c.Name, times)
}

// DryRun asks the API server what would become of a labelled PVC, while S3 is up. It must be answered. Whatever is made of that PVC is
// made of nothing.
func (c *Claims) DryRun(ctx context.Context, name string, times int) *Claim {
	claim := c.claim(name)
	c.s3.WhileS3IsUp(ctx, func() {
		for range times {
			c.env.Eventually(ctx, "a dry run of PVC "+name+" answered", c.env.Times.Look, func(ctx context.Context) (await.State, error) {
				err := c.env.API.Create(ctx, c.pvc(name, c.labels()), client.DryRunAll)
				if env.Refused(err) {
					return await.RuledOut("it was refused: %v", err), nil
				}
				return await.Reached(), err
			})
		}
	})
	c.env.Step("PVC %s was tried in %d dry runs", name, times)
	return claim
}

// OverQuota asks for a labelled PVC, while S3 is up, in a namespace whose quota has no room for one. Whatever is made of that PVC is
// made of nothing. The quota is gone then.
func (c *Claims) OverQuota(ctx context.Context, name string) *Claim {
	e := c.env
	quota := c.quota(ctx, "no-room", "count/persistentvolumeclaims")
	claim := c.claim(name)
	c.s3.WhileS3IsUp(ctx, func() {
		e.Arrange(ctx, "PVC "+name+" refused by the quota", e.Times.Gone, func(ctx context.Context) (await.State, error) {
			err := e.API.Create(ctx, c.pvc(name, c.labels()))
			switch {
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
				e.Evidence("admission", fmt.Sprintf("PVC %s is refused: %v", name, err), nil)
				return await.Reached(), nil
			case err == nil:
				return await.RuledOut("it was created"), nil
			}
			return await.State{}, err
		})
	})
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(e.API.Delete(ctx, quota)) })
	return claim
}

// CameToNothing watches, for as long as Kyverno may take, that all that is there of a policy's and of VolSync's kinds belongs to one
// of the living claims, and then proves that nothing was made for the others.
func (c *Claims) CameToNothing(ctx context.Context, others []*Claim, living ...*Claim) {
	e, alive := c.env, map[string]bool{}
	for _, claim := range living {
		alive[claim.UID] = true
	}
	e.Throughout(ctx, "nothing there for a PVC that nobody has", 2*e.Times.Reaction, func(ctx context.Context) (string, error) {
		for _, kind := range append([]schema.GroupVersionKind{{Version: "v1", Kind: "Secret"}, batchv1.SchemeGroupVersion.WithKind("Job")}, volsync.Kinds...) {
			objects := &metav1.PartialObjectMetadataList{}
			objects.SetGroupVersionKind(kind)
			if err := e.API.List(ctx, objects, client.InNamespace(e.Namespace)); err != nil {
				return "", err
			}
			for _, object := range objects.Items {
				for _, owner := range object.OwnerReferences {
					if owner.Kind == "PersistentVolumeClaim" && !alive[string(owner.UID)] {
						return fmt.Sprintf("%s %s belongs to a PVC %s with the UID %s, which nobody has", kind.Kind, object.Name, owner.Name, owner.UID), nil
					}
				}
				for _, other := range others {
					if strings.HasPrefix(object.Name, other.Name+"-") {
						return fmt.Sprintf("%s %s was made for PVC %s, which was never made", kind.Kind, object.Name, other.Name), nil
					}
				}
			}
		}
		return "", nil
	})
	for _, other := range others {
		other.never(ctx, absence.ReplicationDestinations, absence.ReplicationSources, absence.Secrets)
	}
}
