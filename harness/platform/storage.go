package platform

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/volsync"
)

// driverPods is the daemon set of the CSI driver.
var driverPods = client.ObjectKey{Namespace: "csi-driver", Name: "csi-driver"}

// capacityFile is where a node's driver reads, at each call, how much room there is.
const capacityFile = "/var/csi-smart-restore/capacity"

var snapshotClass = schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotClass"}

// WithoutSnapshotClasses deletes the VolumeSnapshotClasses of the CSI driver. What it returns makes them again.
func (p *Platform) WithoutSnapshotClasses(ctx context.Context) Back {
	classes := p.snapshotClasses(ctx)
	back := p.env.Undo("the VolumeSnapshotClasses", func(ctx context.Context) error { return p.apply(ctx, classes) })
	p.env.Do(ctx, func(ctx context.Context) error { return p.remove(ctx, classes) })
	p.env.Step("there is no VolumeSnapshotClass: %d are deleted", len(classes))
	return back
}

// SnapshotsNeverReady has the CSI driver take snapshots that are never ready, until what it returns is called. Those that it took by then
// stay as they are.
func (p *Platform) SnapshotsNeverReady(ctx context.Context) Back {
	classes := p.snapshotClasses(ctx)
	never := make([]*unstructured.Unstructured, len(classes))
	for i, class := range classes {
		never[i] = class.DeepCopy()
		p.env.Must(unstructured.SetNestedField(never[i].Object, "true", "parameters", "neverReady"))
	}
	// Made anew: a parameter that is not there any more would stay.
	replace := func(classes []*unstructured.Unstructured) func(context.Context) error {
		return func(ctx context.Context) error {
			if err := p.remove(ctx, classes); err != nil {
				return err
			}
			return p.apply(ctx, classes)
		}
	}
	back := p.env.Undo("the VolumeSnapshotClasses", replace(classes))
	p.env.Do(ctx, replace(never))
	p.env.Step("no VolumeSnapshot that is taken from now on gets ready")
	return back
}

// snapshotClasses are the CSI driver's, as they can be applied. The spec is unknown if there is none.
func (p *Platform) snapshotClasses(ctx context.Context) (classes []*unstructured.Unstructured) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(snapshotClass)
	p.env.Do(ctx, func(ctx context.Context) error { return p.env.API.List(ctx, list) })
	for i := range list.Items {
		class := &list.Items[i]
		if volsync.Nested(class, "driver") != Driver {
			continue
		}
		class.SetResourceVersion("")
		class.SetUID("")
		class.SetManagedFields(nil)
		class.SetGeneration(0)
		unstructured.RemoveNestedField(class.Object, "metadata", "creationTimestamp")
		classes = append(classes, class)
	}
	if len(classes) == 0 {
		p.env.Unknownf("there is no VolumeSnapshotClass of the driver %s", Driver)
	}
	return classes
}

// DriverAway keeps the CSI driver's pods off the nodes, and waits until they are gone. Volumes that are mounted stay mounted. What it returns lets the pods come back, and waits until the kubelets know of it again.
func (p *Platform) DriverAway(ctx context.Context) Back {
	e := p.env
	selector := func(value string) func(context.Context) error {
		return func(ctx context.Context) error {
			d := &appsv1.DaemonSet{}
			d.Namespace, d.Name = driverPods.Namespace, driverPods.Name
			return e.API.Patch(ctx, d, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"template":{"spec":{"nodeSelector":%s}}}}`, value)))
		}
	}
	back := e.Undo("the CSI driver", func(ctx context.Context) error {
		if err := selector("null")(ctx); err != nil {
			return err
		}
		if err := p.ready(ctx, driverPods.Namespace); err != nil {
			return err
		}
		return p.driverRegistered(ctx)
	})
	e.Do(ctx, selector(`{"conformance.smart-restore.io/no-node":"true"}`))
	e.Arrange(ctx, "no pod of the CSI driver", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		pods := &corev1.PodList{}
		err := e.API.List(ctx, pods, client.InNamespace(driverPods.Namespace), client.MatchingLabels{"app": driverPods.Name})
		return await.ReachedIf(len(pods.Items) == 0, "%d pods", len(pods.Items)), err
	})
	e.Step("the CSI driver is away")
	return back
}

// NoSpace has the CSI driver say of every new volume and snapshot that there is no room for it. What it returns makes room again.
func (p *Platform) NoSpace(ctx context.Context) Back {
	e := p.env
	back := e.Undo("room for volumes", func(ctx context.Context) error { return makeRoom(ctx, e.Suite) })
	if _, err := e.Node(ctx, "bash", "-c", `echo 0 > "$0"`, capacityFile); err != nil {
		e.Unknownf("the nodes could not be filled up: %v", err)
	}
	e.Step("the nodes have no room for volumes and snapshots")
	return back
}

// makeRoom has the driver go by its own idea of how much room there is.
func makeRoom(ctx context.Context, s *env.Suite) error {
	_, err := s.Node(ctx, "rm", "-f", "--", capacityFile)
	return err
}
