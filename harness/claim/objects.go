package claim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/volsync"
)

// Objects are what the policy made for claims: kind and name → UID.
type Objects map[string]string

// ObjectsOfTheirs are the ReplicationSources, ReplicationDestinations and Secrets that the policy made for the claims.
func (c *Claims) ObjectsOfTheirs(ctx context.Context, claims ...*Claim) Objects {
	found := Objects{}
	for _, claim := range claims {
		secret := claim.secret(ctx)
		found["Secret "+secret.Name] = string(secret.UID)
	}
	made, err := c.replications(ctx)
	c.env.Must(err)
	maps.Copy(found, made)
	return found
}

// SameObjects fails the spec where, as long as Kyverno may take to react, one of the objects is deleted or replaced, or
// one is added.
func (c *Claims) SameObjects(ctx context.Context, before Objects, when string) {
	e := c.env
	e.Throughout(ctx, "all objects still there after "+when, 2*e.Times.Reaction, func(ctx context.Context) (string, error) {
		now, err := c.replications(ctx)
		if err != nil {
			return "", err
		}
		secrets := &metav1.PartialObjectMetadataList{}
		secrets.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "SecretList"})
		if err := e.API.List(ctx, secrets, client.InNamespace(e.Namespace)); err != nil {
			return "", err
		}
		for _, secret := range secrets.Items {
			if _, ours := before["Secret "+secret.Name]; ours {
				now["Secret "+secret.Name] = string(secret.UID)
			}
		}
		if !maps.Equal(before, now) {
			return fmt.Sprintf("there were %v, there are %v", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(now))), nil
		}
		return "", nil
	})
}

// HasObjects fails the spec where one of the objects is gone or another one.
func (c *Claims) HasObjects(ctx context.Context, before Objects) {
	now, err := c.replications(ctx)
	c.env.Must(err)
	for name, uid := range before {
		if !strings.HasPrefix(name, "Secret ") && now[name] != uid {
			c.env.Failf("%s is not as before", name)
		}
	}
}

// replications are the namespace's ReplicationSources and ReplicationDestinations. One that is being deleted has no UID any
// more.
func (c *Claims) replications(ctx context.Context) (Objects, error) {
	found := Objects{}
	for _, kind := range volsync.Kinds {
		objects, err := c.list(ctx, kind)
		if err != nil {
			return nil, err
		}
		for i := range objects {
			uid := string(objects[i].GetUID())
			if objects[i].GetDeletionTimestamp() != nil {
				uid = "being deleted"
			}
			found[kind.Kind+" "+objects[i].GetName()] = uid
		}
	}
	return found, nil
}

// byVolSync selects what VolSync makes for itself: its movers, and their volumes.
var byVolSync = client.MatchingLabels{"app.kubernetes.io/created-by": "volsync"}

// VolSyncsOwnVolumes fails the spec where the policy acted on a PVC that VolSync made for itself. There must be one. If the policy promises
// to see PVCs that are labelled later, those get the label, too, as of kubectl label pvc --all.
func (c *Claims) VolSyncsOwnVolumes(ctx context.Context) {
	e := c.env
	pvcs := &corev1.PersistentVolumeClaimList{}
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.List(ctx, pvcs, client.InNamespace(e.Namespace), byVolSync)
	})
	pvcs.Items = slices.DeleteFunc(pvcs.Items, func(pvc corev1.PersistentVolumeClaim) bool { return pvc.DeletionTimestamp != nil })
	if len(pvcs.Items) == 0 {
		e.Unknownf("VolSync made no PVC of its own in %s", e.Namespace)
	}
	var nothing []absence.Absence
	for _, pvc := range pvcs.Items {
		nothing = append(nothing, absence.Absence{
			Spec: e.ID, Namespace: e.Namespace, PVC: pvc.Name, UID: string(pvc.UID), Since: e.Started,
			Resources: []string{absence.ReplicationSources, absence.ReplicationDestinations, absence.Secrets},
		})
	}
	if e.Testbed.Contract.Promises("relabel") {
		c.label(ctx, pvcs.Items)
		e.Throughout(ctx, "nothing made for VolSync's own PVCs, which have the label", e.Times.Reaction, func(ctx context.Context) (string, error) {
			for _, a := range nothing {
				if violations, err := a.Violations(ctx, e.Created); err != nil || len(violations) > 0 {
					return strings.Join(violations, "; "), err
				}
			}
			return "", nil
		})
	}
	c.auditIsCurrent(ctx)
	for _, a := range nothing {
		c.prove(ctx, a)
	}
	e.Evidence("audit", fmt.Sprintf("nothing was made for VolSync's own %d PVCs", len(pvcs.Items)), nil)
}

// label gives PVCs the label that the policy is about.
func (c *Claims) label(ctx context.Context, pvcs []corev1.PersistentVolumeClaim) {
	for _, pvc := range pvcs {
		claim := &Claim{scope: &scope{c}, Name: pvc.Name, UID: string(pvc.UID), CreatedAt: pvc.CreationTimestamp.Time}
		if !claim.Relabel(ctx) {
			c.env.Unknownf("PVC %s, which VolSync made, cannot be labelled", pvc.Name)
		}
	}
}

// SameHourFor waits, should the hour end within d, until it has: retention by the hour must see one and the same.
func (c *Claims) SameHourFor(ctx context.Context, d time.Duration) {
	e := c.env
	next := e.Now().Truncate(time.Hour).Add(time.Hour)
	if next.Sub(e.Now()) > d {
		return
	}
	e.Step("waiting for the hour to end, so that what follows is all in one hour of the retention")
	e.Arrange(ctx, "the next hour", d+e.Times.Poll, func(context.Context) (await.State, error) {
		return await.ReachedIf(e.Now().After(next), "%s", e.Now().Format(time.TimeOnly)), nil
	})
}
