//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// defaultSize is a volume's for which no size is asked.
const defaultSize = 1 << 30

// driver is the controller service.
type driver struct {
	csi.UnimplementedControllerServer
	store      store
	freezer    freezer
	maxVolumes int64
	// one makes and removes one thing at a time: whoever asks again while the first request goes on waits, and finds the result.
	one sync.Mutex
	// mounts is one publishing at a time: it does not wait for a copy.
	mounts sync.Mutex
}

// newDriver brings the node into the state in which an earlier driver should have left it.
func newDriver(s store, cgroups string, maxVolumes int64) (*driver, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	resolved, err := filepath.EvalSymlinks(s.root) // as /proc/self/mountinfo has it
	if err != nil {
		return nil, err
	}
	s.root = resolved
	f := freezer{cgroups: cgroups, record: filepath.Join(resolved, "frozen"), patience: 5 * time.Second}
	return &driver{store: s, freezer: f, maxVolumes: maxVolumes}, f.thaw()
}

// begin waits for its turn. A request that nobody waits for any more does nothing.
func (d *driver) begin(ctx context.Context) (end func(), err error) {
	d.one.Lock()
	if ctx.Err() != nil {
		d.one.Unlock()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return d.one.Unlock, nil
}

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	response := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME, csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES, csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_GET_VOLUME, csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY, csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		response.Capabilities = append(response.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}}})
	}
	return response, nil
}

func (d *driver) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.Name == "" {
		return nil, status.Error(codes.InvalidArgument, "want a volume's name, found none")
	}
	if err := checkCapabilities(r.VolumeCapabilities...); err != nil {
		return nil, err
	}
	if err := checkParameters(r.Parameters); err != nil {
		return nil, err
	}
	// What is preferred does not matter: there is one place.
	if requisite := r.AccessibilityRequirements.GetRequisite(); len(requisite) > 0 && !slices.ContainsFunc(requisite, d.here) {
		return nil, status.Errorf(codes.ResourceExhausted, "want a volume in one of %v, found only node %s here: ask the driver there", requisite, d.store.node)
	}
	end, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	wanted := item{ID: d.store.id(r.Name), Name: r.Name, Created: time.Now(),
		FromVolume: r.VolumeContentSource.GetVolume().GetVolumeId(), FromSnapshot: r.VolumeContentSource.GetSnapshot().GetSnapshotId()}
	required, limit := r.CapacityRange.GetRequiredBytes(), r.CapacityRange.GetLimitBytes()
	switch found, err := d.store.get(volumes, wanted.ID); {
	case err == nil && found.Size >= required && (limit == 0 || found.Size <= limit) &&
		found.FromVolume == wanted.FromVolume && found.FromSnapshot == wanted.FromSnapshot:
		return &csi.CreateVolumeResponse{Volume: d.volume(found)}, nil
	case err == nil:
		return nil, status.Errorf(codes.AlreadyExists, "want volume %s of %d to %d bytes from %q, found one of %d bytes from %q",
			r.Name, required, limit, wanted.FromVolume+wanted.FromSnapshot, found.Size, found.FromVolume+found.FromSnapshot)
	case status.Code(err) != codes.NotFound:
		return nil, err
	}
	fill, least, err := d.content(r.VolumeContentSource)
	if err != nil {
		return nil, err
	}
	if wanted.Size = max(required, least); wanted.Size == 0 {
		wanted.Size = defaultSize
		if limit > 0 {
			wanted.Size = min(limit, defaultSize)
		}
	}
	if limit > 0 && wanted.Size > limit || required < 0 || limit < 0 {
		return nil, status.Errorf(codes.OutOfRange, "want a size of %d to %d bytes, found that it must be %d", required, limit, wanted.Size)
	}
	if err := d.store.need(wanted.Size); err != nil {
		return nil, err
	}
	if err := d.store.create(volumes, wanted, fill); err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: d.volume(wanted)}, nil
}

// content is what a new volume is filled with, and how large it is at least.
func (d *driver) content(source *csi.VolumeContentSource) (fill func(data string) error, least int64, err error) {
	if source == nil {
		return func(data string) error {
			if err := os.Mkdir(data, 0o777); err != nil {
				return err
			}
			return os.Chmod(data, 0o777) // whoever the app's user is; the umask is not asked
		}, 0, nil
	}
	var from item
	switch {
	case source.GetVolume() != nil:
		from, err = d.store.get(volumes, source.GetVolume().GetVolumeId())
		fill = func(data string) error { return d.copyVolume(from.ID, data) }
	case source.GetSnapshot() != nil:
		from, err = d.store.get(snapshots, source.GetSnapshot().GetSnapshotId())
		fill = func(data string) error { return copyTree(d.store.data(snapshots, from.ID), data) }
	default:
		err = status.Errorf(codes.InvalidArgument, "want a snapshot or a volume as source, found %v", source)
	}
	switch {
	case status.Code(err) == codes.FailedPrecondition: // on another node: csi-provisioner lets the scheduler select again
		err = status.Errorf(codes.ResourceExhausted, "want a volume from a source on this node: %s", status.Convert(err).Message())
	case err == nil && from.NeverReady:
		err = status.Errorf(codes.FailedPrecondition, "want a snapshot that is ready, found that %s never is", from.ID)
	}
	return fill, from.Size, err
}

// copyVolume copies a volume that may be in use.
func (d *driver) copyVolume(id, to string) error {
	data := d.store.data(volumes, id)
	targets, err := publishedAt(data)
	if err != nil {
		return err
	}
	return d.freezer.during(targets, func() error { return copyMoment(data, to, copyTree) })
}

func (d *driver) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return &csi.DeleteVolumeResponse{}, d.remove(ctx, volumes, r.VolumeId)
}

func (d *driver) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	return &csi.DeleteSnapshotResponse{}, d.remove(ctx, snapshots, r.SnapshotId)
}

func (d *driver) remove(ctx context.Context, k kind, id string) error {
	end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	switch _, err := d.store.get(k, id); status.Code(err) {
	case codes.OK:
	case codes.NotFound:
		return nil
	default:
		return err
	}
	targets, err := publishedAt(d.store.data(k, id))
	if err == nil && len(targets) > 0 {
		err = status.Errorf(codes.FailedPrecondition, "want a volume that nobody has, found %s published at %v", id, targets)
	}
	if err != nil {
		return internal(err)
	}
	return d.store.remove(k, id)
}

func (d *driver) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	size, err := d.expand(ctx, r.VolumeId, r.CapacityRange, r.VolumeCapability)
	if status.Code(err) == codes.FailedPrecondition { // on another node, where kubelet asks NodeExpandVolume
		return &csi.ControllerExpandVolumeResponse{CapacityBytes: r.CapacityRange.GetRequiredBytes(), NodeExpansionRequired: true}, nil
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: size}, err
}

func (d *driver) expand(ctx context.Context, id string, size *csi.CapacityRange, capability *csi.VolumeCapability) (int64, error) {
	end, err := d.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	found, err := d.store.get(volumes, id)
	if err == nil && capability != nil {
		err = checkCapabilities(capability)
	}
	if err == nil && size.GetRequiredBytes() <= 0 {
		err = status.Errorf(codes.InvalidArgument, "want the bytes that are required, found %d", size.GetRequiredBytes())
	}
	more := size.GetRequiredBytes() - found.Size
	if err == nil && size.GetLimitBytes() > 0 && max(found.Size, size.GetRequiredBytes()) > size.GetLimitBytes() {
		err = status.Errorf(codes.OutOfRange, "want at most %d bytes, found %d and %d required", size.GetLimitBytes(), found.Size, size.GetRequiredBytes())
	}
	if err != nil || more <= 0 {
		return found.Size, err
	}
	if err := d.store.need(more); err != nil {
		return 0, err
	}
	found.Size += more
	return found.Size, d.store.resize(found)
}

func (d *driver) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if r.Name == "" {
		return nil, status.Error(codes.InvalidArgument, "want a snapshot's name, found none")
	}
	if err := checkParameters(r.Parameters, "neverReady"); err != nil {
		return nil, err
	}
	end, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	id := d.store.id(r.Name)
	switch found, err := d.store.get(snapshots, id); {
	case err == nil && found.FromVolume == r.SourceVolumeId:
		return &csi.CreateSnapshotResponse{Snapshot: snapshot(found)}, nil
	case err == nil:
		return nil, status.Errorf(codes.AlreadyExists, "want snapshot %s of volume %s, found one of volume %s", r.Name, r.SourceVolumeId, found.FromVolume)
	case status.Code(err) != codes.NotFound:
		return nil, err
	}
	source, err := d.store.get(volumes, r.SourceVolumeId)
	if err != nil {
		return nil, err
	}
	if err := d.store.need(source.Size); err != nil {
		return nil, err
	}
	wanted := item{ID: id, Name: r.Name, Size: source.Size, FromVolume: source.ID, Created: time.Now(), NeverReady: r.Parameters["neverReady"] == "true"}
	if err := d.store.create(snapshots, wanted, func(data string) error { return d.copyVolume(source.ID, data) }); err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot(wanted)}, nil
}

func (d *driver) ListVolumes(_ context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	all, err := d.store.list(volumes)
	if err != nil {
		return nil, err
	}
	listed, next, err := page(all, r.StartingToken, r.MaxEntries)
	response := &csi.ListVolumesResponse{NextToken: next}
	for _, i := range listed {
		response.Entries = append(response.Entries, &csi.ListVolumesResponse_Entry{Volume: d.volume(i)})
	}
	return response, err
}

func (d *driver) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	all, err := d.store.list(snapshots)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(i item) bool {
		return r.SnapshotId != "" && i.ID != r.SnapshotId || r.SourceVolumeId != "" && i.FromVolume != r.SourceVolumeId
	})
	listed, next, err := page(all, r.StartingToken, r.MaxEntries)
	response := &csi.ListSnapshotsResponse{NextToken: next}
	for _, i := range listed {
		response.Entries = append(response.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshot(i)})
	}
	return response, err
}

// page is the part of a list that is asked for. A token names the last entry of the page before, which may be gone by now.
func page(all []item, token string, most int32) (listed []item, next string, err error) {
	if token != "" {
		last, ours := strings.CutPrefix(token, "after:")
		if !ours {
			return nil, "", status.Errorf(codes.Aborted, "want a token of this driver, found %q: list from the beginning", token)
		}
		all = slices.DeleteFunc(all, func(i item) bool { return i.ID <= last })
	}
	if most < 0 {
		return nil, "", status.Errorf(codes.InvalidArgument, "want 0 or more entries, found %d", most)
	}
	if most > 0 && len(all) > int(most) {
		all = all[:most]
		next = "after:" + all[most-1].ID
	}
	return all, next, nil
}

func (d *driver) ControllerGetVolume(_ context.Context, r *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	found, err := d.store.get(volumes, r.VolumeId)
	return &csi.ControllerGetVolumeResponse{Volume: d.volume(found), Status: &csi.ControllerGetVolumeResponse_VolumeStatus{}}, err
}

func (d *driver) GetSnapshot(_ context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	found, err := d.store.get(snapshots, r.SnapshotId)
	return &csi.GetSnapshotResponse{Snapshot: snapshot(found)}, err
}

func (d *driver) GetCapacity(_ context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	if r.AccessibleTopology != nil && !d.here(r.AccessibleTopology) || len(r.VolumeCapabilities) > 0 && checkCapabilities(r.VolumeCapabilities...) != nil {
		return &csi.GetCapacityResponse{}, nil
	}
	free, err := d.store.free()
	return &csi.GetCapacityResponse{AvailableCapacity: free}, err
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if _, err := d.store.get(volumes, r.VolumeId); err != nil {
		return nil, err
	}
	if len(r.VolumeCapabilities) == 0 {
		return nil, checkCapabilities()
	}
	for _, err := range []error{checkCapabilities(r.VolumeCapabilities...), checkParameters(r.Parameters)} {
		if err != nil {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
		}
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.VolumeContext, VolumeCapabilities: r.VolumeCapabilities, Parameters: r.Parameters}}, nil
}

// checkCapabilities refuses what a folder of one node can't be.
func checkCapabilities(capabilities ...*csi.VolumeCapability) error {
	if len(capabilities) == 0 {
		return status.Error(codes.InvalidArgument, "want a volume's capability, found none")
	}
	for _, c := range capabilities {
		if c.GetMount() == nil {
			return status.Error(codes.InvalidArgument, "a folder is no block device: want volumeMode Filesystem")
		}
		switch mode := c.GetAccessMode().GetMode(); mode {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
			csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		default:
			return status.Errorf(codes.InvalidArgument, "a folder of one node cannot be %s: want ReadWriteOnce or ReadWriteOncePod", mode)
		}
	}
	return nil
}

// checkParameters refuses a class's parameter that would be without effect, such as one with a typo. Sidecars' own have a prefix.
func checkParameters(parameters map[string]string, known ...string) error {
	for name := range parameters {
		if !slices.Contains(known, name) && !strings.HasPrefix(name, "csi.storage.k8s.io/") {
			return status.Errorf(codes.InvalidArgument, "want no parameters but %q in the class, found %q", known, name)
		}
	}
	return nil
}

func (d *driver) topology() *csi.Topology {
	return &csi.Topology{Segments: map[string]string{topologyKey: d.store.node}}
}

// here tells whether this node is in a topology.
func (d *driver) here(t *csi.Topology) bool {
	for key, value := range t.GetSegments() {
		if key != topologyKey || value != d.store.node {
			return false
		}
	}
	return true
}

func (d *driver) volume(i item) *csi.Volume {
	v := &csi.Volume{VolumeId: i.ID, CapacityBytes: i.Size, AccessibleTopology: []*csi.Topology{d.topology()}}
	switch {
	case i.FromVolume != "":
		v.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: i.FromVolume}}}
	case i.FromSnapshot != "":
		v.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: i.FromSnapshot}}}
	}
	return v
}

func snapshot(i item) *csi.Snapshot {
	return &csi.Snapshot{SnapshotId: i.ID, SourceVolumeId: i.FromVolume, SizeBytes: i.Size, CreationTime: timestamppb.New(i.Created), ReadyToUse: !i.NeverReady}
}
