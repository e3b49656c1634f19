package scenario

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
)

// Timeouts, by what they wait for. Each is several times what was measured, and short enough that a run that cannot
// pass ends soon.
const (
	// generateTimeout: Kyverno generates within about 1 s of the creation of a PVC; just after a storm it has taken 25 s.
	generateTimeout = time.Minute
	// bindTimeout: the provisioner binds a claim some 2 s after its first consumer; a busy node takes longer.
	bindTimeout = 60 * time.Second
	// podTimeout: a pod whose image is there starts within about 2 s; on a busy node it has taken 20 s.
	podTimeout = 2 * time.Minute
	// moverTimeout: a backup or restore mover takes 6 to 17 s for the data set used here.
	moverTimeout = 3 * time.Minute
	// goneTimeout: deleting a claim waits for the pods that use it.
	goneTimeout = 60 * time.Second
)

// Claim is a PVC and what the policy made for it.
type Claim struct {
	sc   *Scenario
	Name string
	UID  string

	CreatedAt time.Time     // on this host's clock, just before the request
	Admission time.Duration // how long the API server took to admit it
	Decision  map[string]string
}

// Prefix is where the claim's repository is in the bucket.
func (c *Claim) Prefix() string { return c.sc.prefix(c.Name) }

// Claim creates a labelled PVC while S3 is up for Kyverno. For one in an outage there is ClaimInOutage.
func (sc *Scenario) Claim(ctx context.Context, name string) (claim *Claim) {
	sc.WhileS3IsUp(ctx, func() { claim = sc.createClaim(ctx, name, sc.Testbed.Contract.PVC.Labels()) })
	return claim
}

// ClaimOrRefusal creates a labelled PVC while S3 is up, or returns nil where an admission webhook refuses it, with a reason
// that a person can act on.
func (sc *Scenario) ClaimOrRefusal(ctx context.Context, name string) *Claim {
	err := sc.API.Create(ctx, sc.pvc(name, sc.Testbed.Contract.PVC.Labels()), client.DryRunAll)
	if err == nil {
		return sc.Claim(ctx, name)
	}
	if !strings.Contains(err.Error(), "denied the request:") {
		sc.Unknownf("PVC %s was neither admitted nor refused: %v", name, err)
	}
	sc.Evidence("admission", fmt.Sprintf("a PVC with a name of %d characters is refused: %v", len(name), err), nil)
	return nil
}

// UnlabelledClaim creates a PVC that is none of the policy's business.
func (sc *Scenario) UnlabelledClaim(ctx context.Context, name string) *Claim {
	return sc.createClaim(ctx, name, nil)
}

// ClaimWithBackupSource creates a labelled PVC while S3 is up, and waits until it has its ReplicationSource.
func (sc *Scenario) ClaimWithBackupSource(ctx context.Context, name string) *Claim {
	defer sc.s3Up(ctx)()
	claim := sc.Claim(ctx, name)
	claim.HasReplicationSource(ctx)
	return claim
}

// ClaimWithRestore creates a labelled PVC while S3 is up, and waits until it has a ReplicationDestination.
func (sc *Scenario) ClaimWithRestore(ctx context.Context, name string) *Claim {
	defer sc.s3Up(ctx)()
	claim := sc.Claim(ctx, name)
	claim.HasReplicationDestination(ctx)
	return claim
}

// TwinIsRestored is a positive control: a labelled PVC with a good backup, created while S3 is up, does get a
// ReplicationDestination. That is a policy's work; the restore itself would be VolSync's and is not awaited, so the twin
// has a storage class that does not exist, and no mover starts; unless the policy is for PVCs of one class.
func (sc *Scenario) TwinIsRestored(ctx context.Context) {
	const name = "twin"
	sc.Step("the positive control: with S3 up, a PVC with a backup gets a ReplicationDestination")
	sc.GoodBackup(ctx, name)
	defer sc.s3Up(ctx)()
	class := "no-such-class"
	sc.createClaim(ctx, name, sc.Testbed.Contract.PVC.Labels(),
		func(pvc *corev1.PersistentVolumeClaim) {
			if pvc.Spec.StorageClassName == nil {
				pvc.Spec.StorageClassName = &class
			}
		}).HasReplicationDestination(ctx)
}

func (sc *Scenario) pvc(name string, labels map[string]string) *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: sc.Namespace, Name: name, Labels: labels},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("256Mi")}},
		},
	}
	if class := sc.Testbed.Contract.PVC.StorageClass; class != "" {
		pvc.Spec.StorageClassName = &class
	}
	return pvc
}

func (sc *Scenario) createClaim(ctx context.Context, name string, labels map[string]string, with ...func(*corev1.PersistentVolumeClaim)) *Claim {
	pvc := sc.pvc(name, labels)
	for _, change := range with {
		change(pvc)
	}
	claim := &Claim{sc: sc, Name: name, CreatedAt: time.Now()}
	err := sc.API.Create(ctx, pvc)
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			sc.Unknownf("interrupted while creating PVC %s", name)
		}
		sc.isDecidedOn(claim, err)
		sc.Failf("PVC %s was not admitted after %.1f s: %v", name, time.Since(claim.CreatedAt).Seconds(), err)
	}
	claim.Admission = time.Since(claim.CreatedAt)
	sc.isDecidedOn(claim, nil)
	claim.UID = string(pvc.UID)
	claim.Decision = pvc.Annotations
	sc.Evidence("admission", fmt.Sprintf("PVC %s admitted in %.2f s%s", name, claim.Admission.Seconds(), annotationsText(pvc.Annotations)),
		map[string]any{"seconds": claim.Admission.Seconds(), "annotations": pvc.Annotations})
	return claim
}

func annotationsText(annotations map[string]string) string {
	if len(annotations) == 0 {
		return ", without annotations"
	}
	return fmt.Sprintf(", with %v", annotations)
}

// AdmittedWithin fails the spec where the PVC's creation took longer than the bound.
func (c *Claim) AdmittedWithin(bound time.Duration) {
	if c.Admission > bound {
		c.sc.Failf("PVC %s took %.1f s to be admitted, wanted at most %s: a start-up is stalled", c.Name, c.Admission.Seconds(), bound)
	}
}

// HasReplicationSource waits for the claim's ReplicationSource and returns it.
func (c *Claim) HasReplicationSource(ctx context.Context) *unstructured.Unstructured {
	return c.has(ctx, install.ReplicationSource, c.isSource)
}

// HasReplicationDestination waits for the claim's ReplicationDestination and returns it. One that is older than the
// claim is another claim's.
func (c *Claim) HasReplicationDestination(ctx context.Context) *unstructured.Unstructured {
	return c.has(ctx, install.ReplicationDestination, c.isDestination)
}

// has waits for an object of the kind that is for this claim and not older than it.
func (c *Claim) has(ctx context.Context, kind schema.GroupVersionKind, isFor func(*unstructured.Unstructured) bool) *unstructured.Unstructured {
	var found *unstructured.Unstructured
	c.sc.eventually(ctx, fmt.Sprintf("%s for PVC %s", kind.Kind, c.Name), generateTimeout, func(ctx context.Context) (bool, string, error) {
		objects, err := c.sc.listed(ctx, kind)
		if err != nil {
			return blind(err)
		}
		seen := fmt.Sprintf("no %s in the namespace", kind.Kind)
		for i := range objects {
			switch object := &objects[i]; {
			case !isFor(object):
				seen = fmt.Sprintf("%s %s is for something else", kind.Kind, object.GetName())
			case c.isAnothers(object):
				seen = fmt.Sprintf("%s %s belongs to an earlier PVC", kind.Kind, object.GetName())
			default:
				found = object
				return true, "", nil
			}
		}
		return false, seen, nil
	})
	return found
}

// HasNewReplicationDestination returns the claim's ReplicationDestination, and fails the spec where it is older than the
// claim.
func (c *Claim) HasNewReplicationDestination(ctx context.Context) *unstructured.Unstructured {
	destination := c.HasReplicationDestination(ctx)
	pvc, err := c.get(ctx)
	c.sc.must(err)
	made, claimed := destination.GetCreationTimestamp(), pvc.CreationTimestamp
	if made.Time.Before(claimed.Time) {
		c.sc.Failf("ReplicationDestination %s is of %s, older than PVC %s of %s: an earlier life's", destination.GetName(), made, c.Name, claimed)
	}
	return destination
}

// IsNot fails the spec where two claims are one and the same object.
func (c *Claim) IsNot(other *Claim) {
	if c.UID == other.UID {
		c.sc.Unknownf("PVC %s was not re-created: its UID is still %s", c.Name, c.UID)
	}
}

// Bound waits until the claim is bound. It needs a consumer.
func (c *Claim) Bound(ctx context.Context) {
	c.sc.eventually(ctx, fmt.Sprintf("PVC %s bound", c.Name), bindTimeout, func(ctx context.Context) (bool, string, error) {
		pvc, err := c.get(ctx)
		if err != nil {
			return blind(err)
		}
		if pvc.Status.Phase == corev1.ClaimLost {
			return false, "", errors.New("the PVC is Lost")
		}
		return pvc.Status.Phase == corev1.ClaimBound, "phase " + string(pvc.Status.Phase), nil
	})
}

// Restored waits until the ReplicationDestination reports the end of the restore it was made for.
func (c *Claim) Restored(ctx context.Context, destination *unstructured.Unstructured) {
	c.synced(ctx, destination, "restore")
}

// BackedUp waits until there is a backup of all that the app has written so far: the one that VolSync makes as soon as
// there is a ReplicationSource, or, where that was begun too early, one triggered by hand.
func (c *Claim) BackedUp(ctx context.Context) {
	written := time.Now()
	source := c.HasReplicationSource(ctx)
	c.awaitFirstSync(ctx, source)
	if len(c.sc.Backup(ctx, c.Name)) > 0 {
		for _, snapshot := range c.Snapshots(ctx) {
			if snapshot.Time.After(written) {
				return
			}
		}
	}
	c.sc.Step("the first backup began before the app was done: triggering another")
	c.BackUp(ctx)
}

// BackUp triggers a backup by hand, as a person would, and waits for its end.
func (c *Claim) BackUp(ctx context.Context) {
	source := c.HasReplicationSource(ctx)
	c.awaitFirstSync(ctx, source)
	c.sc.must(c.sc.triggerBackup(ctx, source))
	c.synced(ctx, source, "backup")
}

// awaitFirstSync waits for the sync that VolSync starts with a new ReplicationSource. One that is triggered while it
// runs would be called done when the first one is.
func (c *Claim) awaitFirstSync(ctx context.Context, source *unstructured.Unstructured) {
	c.sc.eventually(ctx, fmt.Sprintf("first sync of ReplicationSource %s ended", source.GetName()), moverTimeout, func(ctx context.Context) (bool, string, error) {
		if err := c.sc.API.Get(ctx, client.ObjectKeyFromObject(source), source); err != nil {
			return blind(err)
		}
		return nested(source, "status", "lastSyncTime") != "", conditionsText(source), nil
	})
}

// synced waits until VolSync reports that it did what the object's manual trigger asks for.
func (c *Claim) synced(ctx context.Context, object *unstructured.Unstructured, what string) {
	c.sc.eventually(ctx, fmt.Sprintf("%s of PVC %s reported done", what, c.Name), moverTimeout, func(ctx context.Context) (bool, string, error) {
		if err := c.sc.API.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			if apierrors.IsNotFound(err) {
				return false, "", fmt.Errorf("%s %s is gone", object.GetKind(), object.GetName())
			}
			return blind(err)
		}
		if !triggerDone(object) || (nested(object, "spec", "trigger", "manual") == "" && nested(object, "status", "lastSyncTime") == "") {
			return false, conditionsText(object), nil
		}
		if result := nested(object, "status", "latestMoverStatus", "result"); result != "Successful" {
			return false, "", fmt.Errorf("the mover's result is %q: %s", result, nested(object, "status", "latestMoverStatus", "logs"))
		}
		return true, "", nil
	})
}

// Delete deletes the claim, and waits until it and what belonged to it are gone.
func (c *Claim) Delete(ctx context.Context) {
	c.sc.must(c.sc.API.Delete(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.sc.Namespace, Name: c.Name}}))
	c.sc.eventually(ctx, fmt.Sprintf("PVC %s and its objects gone", c.Name), goneTimeout, func(ctx context.Context) (bool, string, error) {
		pvc, err := c.get(ctx)
		if !apierrors.IsNotFound(err) {
			return false, fmt.Sprintf("the PVC is there, finalizers %v", pvc.Finalizers), nil
		}
		for _, kind := range replications {
			objects, err := c.sc.listed(ctx, kind)
			if err != nil {
				return blind(err)
			}
			for i := range objects {
				for _, owner := range objects[i].GetOwnerReferences() {
					if string(owner.UID) == c.UID {
						return false, fmt.Sprintf("%s %s is there", kind.Kind, objects[i].GetName()), nil
					}
				}
			}
		}
		return true, "", nil
	})
}

func nested(object *unstructured.Unstructured, fields ...string) string {
	value, _, _ := unstructured.NestedString(object.Object, fields...)
	return value
}

func conditionsText(object *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, condition := range conditions {
		if c, ok := condition.(map[string]any); ok && c["type"] == "Synchronizing" {
			return fmt.Sprintf("%s %s: %v, %v", object.GetKind(), object.GetName(), c["reason"], c["message"])
		}
	}
	return fmt.Sprintf("%s %s has no status yet", object.GetKind(), object.GetName())
}

func randomSuffix() string { return rand.Text()[:6] }
