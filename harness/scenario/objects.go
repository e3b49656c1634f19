package scenario

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
)

// replications are the kinds that a policy makes.
var replications = []schema.GroupVersionKind{install.ReplicationSource, install.ReplicationDestination}

// listed lists the namespace's objects of a kind.
func (sc *Scenario) listed(ctx context.Context, kind schema.GroupVersionKind) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	err := sc.API.List(ctx, list, client.InNamespace(sc.Namespace))
	return list.Items, err
}

// list is listed outside of a wait: where the API server does not answer, the spec is unknown.
func (sc *Scenario) list(ctx context.Context, kind schema.GroupVersionKind) []unstructured.Unstructured {
	objects, err := sc.listed(ctx, kind)
	sc.must(err)
	return objects
}

// get is the claim as the API server has it now.
func (c *Claim) get(ctx context.Context) (*corev1.PersistentVolumeClaim, error) {
	pvc := &corev1.PersistentVolumeClaim{}
	err := c.sc.API.Get(ctx, client.ObjectKey{Namespace: c.sc.Namespace, Name: c.Name}, pvc)
	return pvc, err
}

// isSource and isDestination say whether an object is a ReplicationSource of, a ReplicationDestination into, a PVC of the
// claim's name.
func (c *Claim) isSource(o *unstructured.Unstructured) bool {
	return nested(o, "spec", "sourcePVC") == c.Name
}

func (c *Claim) isDestination(o *unstructured.Unstructured) bool {
	return nested(o, "spec", "restic", "destinationPVC") == c.Name
}

// isAnothers says whether an object belongs to an earlier PVC of the claim's name.
func (c *Claim) isAnothers(o *unstructured.Unstructured) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(owner metav1.OwnerReference) bool {
		return owner.Kind == "PersistentVolumeClaim" && string(owner.UID) != c.UID
	})
}

// triggerDone says whether VolSync has done what the object's manual trigger asks for. Where there is none, it has.
func triggerDone(o *unstructured.Unstructured) bool {
	return nested(o, "spec", "trigger", "manual") == nested(o, "status", "lastManualSync")
}

// triggerBackup asks a ReplicationSource for a backup, as a person would by hand.
func (sc *Scenario) triggerBackup(ctx context.Context, source *unstructured.Unstructured) error {
	patch := fmt.Appendf(nil, `{"spec":{"trigger":{"manual":%q}}}`, "conformance-"+randomSuffix())
	return sc.API.Patch(ctx, source, client.RawPatch("application/merge-patch+json", patch))
}

// replicationUIDs are the namespace's ReplicationSources and ReplicationDestinations: kind and name → UID. One that is
// being deleted has no UID any more.
func (sc *Scenario) replicationUIDs(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	for _, kind := range replications {
		objects, err := sc.listed(ctx, kind)
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
