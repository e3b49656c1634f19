package testbed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/timing"
)

// driverFolders lists what the CSI driver has on a node, as volumes/ID and snapshots/ID: harness/cmd/csi-driver's --root.
const driverFolders = `[ -d /var/csi-smart-restore ] || exit 0
cd /var/csi-smart-restore && shopt -s nullglob && for folder in volumes/* snapshots/*; do echo "$folder"; done`

var snapshotContent = schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotContent"}

// leftByDriver lists the folders of the CSI driver that are of no PersistentVolume and no VolumeSnapshotContent. One that is deleted goes
// before the object does, and one that is made comes before it: it looks until there is none, or for as long as a repair may take.
func (s *Testbed) leftByDriver(ctx context.Context, api client.Client) ([]string, error) {
	if len(s.Platform.drivers()) == 0 {
		return nil, nil
	}
	for until := time.Now().Add(timing.Setup.Repair); ; {
		left, err := untilSeen(ctx, "the CSI driver's folders", func(ctx context.Context) ([]string, error) {
			return s.driversFolders(ctx, api)
		})
		if err != nil || len(left) == 0 || time.Now().After(until) {
			return left, err
		}
		select {
		case <-ctx.Done():
			return left, ctx.Err()
		case <-time.After(timing.Setup.ExaminePoll):
		}
	}
}

func (s *Testbed) driversFolders(ctx context.Context, api client.Client) ([]string, error) {
	out, err := s.NodeExec(ctx, "bash", "-c", driverFolders)
	if err != nil {
		return nil, fmt.Errorf("list the CSI driver's folders: %w", err)
	}
	folders := strings.Fields(out)
	if len(folders) == 0 {
		return nil, nil
	}
	volumes, contents := &corev1.PersistentVolumeList{}, &unstructured.UnstructuredList{}
	contents.SetGroupVersionKind(snapshotContent)
	if err := api.List(ctx, volumes); err != nil {
		return nil, err
	}
	if err := api.List(ctx, contents); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, v := range volumes.Items {
		if v.Spec.CSI != nil {
			known["volumes/"+v.Spec.CSI.VolumeHandle] = true
		}
	}
	for _, c := range contents.Items {
		for _, field := range [][]string{{"status", "snapshotHandle"}, {"spec", "source", "snapshotHandle"}} {
			handle, _, _ := unstructured.NestedString(c.Object, field...)
			known["snapshots/"+handle] = true
		}
	}
	return slices.DeleteFunc(folders, func(folder string) bool { return known[folder] }), nil
}
