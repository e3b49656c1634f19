//go:build linux

// Command csi-driver is a CSI driver with snapshots, small enough to be read in ten minutes: a volume is a folder of one node, a
// snapshot a copy of it. Identity, controller and node service are one process behind one socket, one process on each node.
//
// # What it does
//
//   - Volumes: create, from nothing, from a snapshot, from a volume (clone), delete, expand, list, get; NodePublishVolume is a bind mount.
//   - Snapshots: create, delete, list, get. A copy keeps modes, owners, times, symlinks, hard links, holes and extended attributes, and
//     shares blocks where the file system can (FICLONE).
//   - A snapshot is a moment: the pods that have the volume stand still while it is copied (--cgroups), and a copy during which
//     something changed is thrown away. It is not ready in parts: it is there whole, or not at all. The same is true of a clone.
//   - State is on disk only: ROOT/volumes/ID and ROOT/snapshots/ID, each with data and meta.json. The ID is the PV's volumeHandle or the
//     VolumeSnapshotContent's snapshotHandle, NODE_pvc-UID or NODE_snapshot-UID. What was not finished when the driver ended is removed
//     when it starts.
//
// # What it does not
//
//   - Block volumes, access modes of more than one node: a folder of one node is neither. It says so.
//   - A size is no quota: a folder can hold more than its volume's size. But the sum of all sizes is kept below --capacity.
//   - No attaching (CSIDriver: attachRequired: false) and no staging: there is nothing to do in these steps.
//
// # How it is deployed
//
// A DaemonSet, on one node as on two. Each pod holds the driver and its own csi-provisioner, csi-snapshotter and csi-resizer, since a
// volume can be made only where it is to be. Sidecars reach the driver by its socket, in a folder that the pod shares.
//
//	CSIDriver csi.smart-restore.io: attachRequired false, podInfoOnMount false, fsGroupPolicy File, storageCapacity false,
//	  volumeLifecycleModes [Persistent]
//
//	driver      --node=$(NODE_NAME) --cgroups=/host/cgroup
//	            privileged: true (hostPID and hostNetwork are not needed), and mounts
//	              hostPath /var/csi-smart-restore, DirectoryOrCreate, at the same path,
//	              hostPath /var/lib/kubelet at the same path with mountPropagation: Bidirectional, which the node must share
//	                (mount --make-rshared /); it has pods, plugins and plugins_registry,
//	              hostPath /sys/fs/cgroup at /host/cgroup, not read-only.
//	            The image needs nothing but this binary, linked statically: mounts are system calls.
//	csi-provisioner
//	            --csi-address=/csi/csi.sock --node-deployment=true --strict-topology=true --timeout=60s
//	            --node-deployment-base-delay=50ms --node-deployment-max-delay=1s (defaults 20s and 60s: the wait of an Immediate class)
//	            --retry-interval-start=200ms --retry-interval-max=5s --kube-api-qps=50 --kube-api-burst=100
//	csi-snapshotter
//	            --csi-address=/csi/csi.sock --node-deployment=true --timeout=60s --feature-gates=CSIVolumeGroupSnapshot=false
//	            --retry-interval-start=200ms --retry-interval-max=5s --kube-api-qps=50 --kube-api-burst=100
//	csi-resizer --csi-address=/csi/csi.sock --leader-election=true (with one node: false)
//	            --retry-interval-start=200ms --retry-interval-max=5s --kube-api-qps=50 --kube-api-burst=100
//	snapshot-controller (a Deployment of its own)
//	            --enable-distributed-snapshotting=true --feature-gates=CSIVolumeGroupSnapshot=false --retry-interval-start=200ms
//	            --kube-api-qps=50 --kube-api-burst=100
//
// Sidecars mount hostPath /var/lib/kubelet/plugins/csi.smart-restore.io, DirectoryOrCreate, at /csi. The first two need NODE_NAME from
// spec.nodeName in their environment and must not have --leader-election. A sidecar that starts before the driver waits for it or
// is restarted. Without that feature gate, csi-snapshotter waits 60 s and snapshot-controller 30 s for CRDs of group snapshots
// whenever they start.
//
// RBAC is that of the sidecars' modules (deploy/kubernetes/rbac.yaml of external-provisioner and external-resizer,
// deploy/kubernetes/csi-snapshotter/rbac-csi-snapshotter.yaml and deploy/kubernetes/snapshot-controller/rbac-snapshot-controller.yaml
// of external-snapshotter), with these changes: snapshot-controller gets, lists and watches nodes, since it finds by a PV's node
// affinity whose snapshot it is; nobody needs Secrets, VolumeAttachments, CSIStorageCapacities or group snapshots; Leases are
// csi-resizer's only, with two nodes. The driver itself never talks to the API server.
//
// # Topology
//
// The key is topology.csi.smart-restore.io/node, its value --node; kubelet makes it a label of the node. The driver has one place,
// its node: it makes a volume there if the requisite topologies are none or have it among them, and has nothing to prefer. A volume
// from a snapshot or volume of another node is RESOURCE_EXHAUSTED, the spec's word for "not in this topology": csi-provisioner then
// gives up the selected node, and it is selected again. With WaitForFirstConsumer the scheduler selects, which does not know where the
// source is and may come to the same wrong node each time. With Immediate the nodes themselves do, in random order, and end on the right one.
//
// The node is the first part of each ID, so that another node's volume is never taken for one that is gone. Only one csi-resizer
// asks its driver for the volumes of all nodes: for another node's volume the driver answers that the node has to expand it, and
// kubelet there calls NodeExpandVolume when the volume is published.
//
// A VolumeSnapshotContent that somebody made by hand needs the label snapshot.storage.kubernetes.io/managed-by: NODE; else no
// csi-snapshotter takes it.
//
// # Faults from outside
//
//   - No space: write a size into ROOT/capacity (such as 0); it is read at each call, and stands for --capacity while the file is there.
//     Creating and expanding then answer RESOURCE_EXHAUSTED.
//   - A snapshot that never gets ready: parameter neverReady: "true" of the VolumeSnapshotClass.
//   - A driver that is away: delete the DaemonSet or keep its pods off the node. Published volumes stay mounted. SIGTERM lets a copy
//     end; a driver that is killed while it copies leaves the pods of that volume standing still until it starts again.
package main
