//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const gib = 1 << 30

func mounted(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}}
}

var writer = mounted(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)

func request(name string, size int64) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{writer}, CapacityRange: &csi.CapacityRange{RequiredBytes: size}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func (p *process) volume(t *testing.T, r *csi.CreateVolumeRequest) *csi.Volume {
	t.Helper()
	response, err := p.CreateVolume(t.Context(), r)
	must(t, err)
	return response.Volume
}

func (p *process) snapshot(t *testing.T, name, volume string) *csi.Snapshot {
	t.Helper()
	response, err := p.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
	must(t, err)
	return response.Snapshot
}

// publish publishes a volume, and gives where.
func (p *process) publish(t *testing.T, volume string) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "pod", "mount")
	_, err := p.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: volume, TargetPath: target, VolumeCapability: writer})
	must(t, err)
	t.Cleanup(func() { unpublish(t, volume, target) })
	return target
}

// unpublish works without the driver, too: a test's volumes go with it.
func unpublish(t *testing.T, volume, target string) {
	t.Helper()
	if _, err := (nodeService{driver: &driver{}}).NodeUnpublishVolume(context.Background(), &csi.NodeUnpublishVolumeRequest{VolumeId: volume, TargetPath: target}); err != nil {
		t.Error(err)
	}
}

// refused wants a code, and words that tell what to do.
func refused(t *testing.T, name string, err error, code codes.Code, words string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), words) {
		t.Errorf("%s: found %v, want %s with %q", name, err, code, words)
	}
}

func topologies(nodes ...string) (all []*csi.Topology) {
	for _, node := range nodes {
		all = append(all, &csi.Topology{Segments: map[string]string{topologyKey: node}})
	}
	return all
}

func TestAVolumeIsMadeHereOrRefused(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	change := func(f func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
		r := request("other", gib)
		f(r)
		return r
	}
	requisite := func(topologies ...*csi.Topology) *csi.CreateVolumeRequest {
		return change(func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: topologies, Preferred: topologies}
		})
	}
	mode := func(m csi.VolumeCapability_AccessMode_Mode) *csi.CreateVolumeRequest {
		return change(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = append(r.VolumeCapabilities, mounted(m)) })
	}
	for name, c := range map[string]struct {
		request *csi.CreateVolumeRequest
		code    codes.Code
		words   string
	}{
		"another node":               {requisite(topologies("node-2")...), codes.ResourceExhausted, "ask the driver there"},
		"this node in another zone":  {requisite(&csi.Topology{Segments: map[string]string{topologyKey: "node-1", "zone": "node-1"}}), codes.ResourceExhausted, "node-1"},
		"a snapshot of another node": {change(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromSnapshot("node-2_s") }), codes.ResourceExhausted, "node node-2"},
		"a volume of another node":   {change(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromVolume("node-2_v") }), codes.ResourceExhausted, "node node-2"},
		"no source in a source":      {change(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} }), codes.InvalidArgument, "snapshot or a volume"},
		"a block device": {change(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0] = &csi.VolumeCapability{AccessMode: writer.AccessMode, AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}}
		}), codes.InvalidArgument, "want volumeMode Filesystem"},
		"many writers":           {mode(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER), codes.InvalidArgument, "ReadWriteOnce"},
		"many readers":           {mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY), codes.InvalidArgument, "ReadWriteOnce"},
		"a parameter":            {change(func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"neverReady": "true"} }), codes.InvalidArgument, `"neverReady"`},
		"a limit below":          {change(func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = 1 }), codes.OutOfRange, "bytes"},
		"more than there can be": {request("other", 2<<40), codes.ResourceExhausted, "raise the capacity"},
	} {
		_, err := p.CreateVolume(t.Context(), c.request)
		refused(t, name, err, c.code, c.words)
	}
	if listed, err := p.ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err != nil || len(listed.Entries) != 0 {
		t.Errorf("what was refused is there: %v, %v", listed, err)
	}
	for name, r := range map[string]*csi.CreateVolumeRequest{
		"immediate":  request("a", gib),
		"selected":   requisite(topologies("node-1")...),
		"one of two": requisite(topologies("node-2", "node-1")...),
		"only preferred": change(func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Preferred: topologies("node-2")}
		}),
		"metadata": change(func(r *csi.CreateVolumeRequest) {
			r.Parameters = map[string]string{"csi.storage.k8s.io/pvc/name": "data"}
		}),
	} {
		v := p.volume(t, r)
		if len(v.AccessibleTopology) != 1 || v.AccessibleTopology[0].Segments[topologyKey] != "node-1" || v.CapacityBytes != gib {
			t.Errorf("%s: found %v", name, v)
		}
		info, err := os.Stat(filepath.Join(p.root, "volumes", v.VolumeId, "data"))
		if err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%s: found %v (%v), want a folder that everybody may write to", name, info, err)
		}
	}
	if v := p.volume(t, request("pvc-1", 0)); v.VolumeId != "node-1_pvc-1" || v.CapacityBytes != defaultSize {
		t.Errorf("found %v", v)
	}
}

// What another node has is neither gone nor here.
func TestWhatIsAnotherNodes(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	_, err := p.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "node-2_v"})
	refused(t, "delete a volume", err, codes.FailedPrecondition, "on node node-2")
	_, err = p.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "node-2_s"})
	refused(t, "delete a snapshot", err, codes.FailedPrecondition, "on node node-2")
	_, err = p.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "node-2_v"})
	refused(t, "snapshot", err, codes.FailedPrecondition, "on node node-2")
	_, err = p.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: "node-2_v", TargetPath: "/nowhere", VolumeCapability: writer})
	refused(t, "publish", err, codes.FailedPrecondition, "on node node-2")
	expanded, err := p.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: "node-2_v", CapacityRange: &csi.CapacityRange{RequiredBytes: gib}})
	if err != nil || !expanded.NodeExpansionRequired || expanded.CapacityBytes != gib {
		t.Errorf("expand: found %v, %v: want node-2 to do it", expanded, err)
	}
	for _, id := range []string{"..", ".", "../volumes/node-1_v", "node-1_../../root", "", strings.Repeat("a", 300)} {
		if _, err := p.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: id}); status.Code(err) != codes.NotFound && id != "" {
			t.Errorf("%q: found %v", id, err)
		}
	}
}

func TestContentTravels(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	source := p.volume(t, request("source", 2*gib))
	target := p.publish(t, source.VolumeId)
	content := func(id string) string {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(p.publish(t, id), "file"))
		must(t, err)
		return string(raw)
	}
	must(t, os.WriteFile(filepath.Join(target, "file"), []byte("first"), 0o600))
	taken := p.snapshot(t, "taken", source.VolumeId)
	if !taken.ReadyToUse || taken.SizeBytes != 2*gib || taken.SourceVolumeId != source.VolumeId {
		t.Errorf("found %v", taken)
	}
	must(t, os.WriteFile(filepath.Join(target, "file"), []byte("second"), 0o600))
	clone := request("clone", 3*gib)
	clone.VolumeContentSource = fromVolume(source.VolumeId)
	restored := request("restored", gib)
	restored.VolumeContentSource = fromSnapshot(taken.SnapshotId)
	for _, c := range []struct {
		request *csi.CreateVolumeRequest
		want    string
		size    int64
	}{{clone, "second", 3 * gib}, {restored, "first", 2 * gib}} {
		v := p.volume(t, c.request)
		if found := content(v.VolumeId); found != c.want || v.CapacityBytes != c.size || v.ContentSource.String() != c.request.VolumeContentSource.String() {
			t.Errorf("%s: found %q and %v, want %q", c.request.Name, found, v, c.want)
		}
		if again := p.volume(t, c.request); again.VolumeId != v.VolumeId {
			t.Errorf("%s: made twice", c.request.Name)
		}
		c.request.VolumeContentSource = nil
		_, err := p.CreateVolume(t.Context(), c.request)
		refused(t, "another source", err, codes.AlreadyExists, "found one of")
	}
	// A snapshot outlives its volume.
	_, err := p.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: source.VolumeId})
	refused(t, "delete what a pod has", err, codes.FailedPrecondition, "published at")
	unpublish(t, source.VolumeId, target)
	_, err = p.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: source.VolumeId})
	must(t, err)
	later := request("later", gib)
	later.VolumeContentSource = fromSnapshot(taken.SnapshotId)
	if found := content(p.volume(t, later).VolumeId); found != "first" {
		t.Errorf("found %q after the volume was deleted", found)
	}
	for _, folder := range []string{"unfinished", "volumes/" + source.VolumeId} {
		if left, err := os.ReadDir(filepath.Join(p.root, folder)); len(left) > 0 || folder != "unfinished" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v is left (%v)", folder, left, err)
		}
	}
}

func TestNoSpace(t *testing.T) {
	p := start(t, "node-1", t.TempDir(), "--capacity=10Gi")
	v := p.volume(t, request("a", 4*gib)).VolumeId
	p.snapshot(t, "s", v)
	free := func(want int64) {
		t.Helper()
		if found, err := p.GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: topologies("node-1")[0]}); err != nil || found.AvailableCapacity != want {
			t.Errorf("found %v (%v), want %d", found, err, want)
		}
	}
	full := func(name string) {
		t.Helper()
		_, err := p.CreateVolume(t.Context(), request("b", 3*gib))
		refused(t, name+": volume", err, codes.ResourceExhausted, "delete volumes or snapshots")
		_, err = p.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "t", SourceVolumeId: v})
		refused(t, name+": snapshot", err, codes.ResourceExhausted, "delete volumes or snapshots")
		_, err = p.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: v, CapacityRange: &csi.CapacityRange{RequiredBytes: 7 * gib}})
		refused(t, name+": expand", err, codes.ResourceExhausted, "delete volumes or snapshots")
		p.volume(t, request("a", 4*gib)) // what is there stays there
		p.snapshot(t, "s", v)
	}
	free(2 * gib)
	if elsewhere, err := p.GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: topologies("node-2")[0]}); err != nil || elsewhere.AvailableCapacity != 0 {
		t.Errorf("found %v (%v) on another node", elsewhere, err)
	}
	full("by the flag")
	limit := filepath.Join(p.root, "capacity")
	must(t, os.WriteFile(limit, []byte("0\n"), 0o600))
	free(0)
	full("by the file")
	must(t, os.WriteFile(limit, []byte("much"), 0o600))
	_, err := p.CreateVolume(t.Context(), request("b", gib))
	refused(t, "no size in the file", err, codes.Internal, "want a size")
	must(t, os.WriteFile(limit, []byte("20Gi"), 0o600))
	free(12 * gib)
	must(t, os.Remove(limit))
	free(2 * gib)
	p.volume(t, request("b", 2*gib))
	free(0)
	_, err = p.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "node-1_s"})
	must(t, err)
	expanded, err := p.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: v, CapacityRange: &csi.CapacityRange{RequiredBytes: 7 * gib}})
	if err != nil || expanded.CapacityBytes != 7*gib || expanded.NodeExpansionRequired {
		t.Errorf("found %v, %v", expanded, err)
	}
	free(gib)
}

func TestASnapshotThatIsNeverReady(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	v := p.volume(t, request("a", gib)).VolumeId
	r := &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: v, Parameters: map[string]string{"neverReady": "true"}}
	for range 2 {
		if s, err := p.CreateSnapshot(t.Context(), r); err != nil || s.Snapshot.ReadyToUse {
			t.Errorf("found %v, %v", s, err)
		}
	}
	listed, err := p.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: "node-1_s"})
	if err != nil || len(listed.Entries) != 1 || listed.Entries[0].Snapshot.ReadyToUse {
		t.Errorf("found %v, %v", listed, err)
	}
	restore := request("b", gib)
	restore.VolumeContentSource = fromSnapshot("node-1_s")
	_, err = p.CreateVolume(t.Context(), restore)
	refused(t, "restore", err, codes.FailedPrecondition, "never is")
	r.Name, r.Parameters = "t", map[string]string{"neverready": "true"}
	_, err = p.CreateSnapshot(t.Context(), r)
	refused(t, "a typo", err, codes.InvalidArgument, `"neverready"`)
}

func TestPublishing(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	v := p.volume(t, request("a", gib)).VolumeId
	target := p.publish(t, v)
	must(t, os.WriteFile(filepath.Join(target, "file"), []byte("x"), 0o600))
	for name, readOnly := range map[string]*csi.NodePublishVolumeRequest{
		"asked":              {VolumeId: v, VolumeCapability: writer, Readonly: true},
		"by the access mode": {VolumeId: v, VolumeCapability: mounted(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)},
	} {
		readOnly.TargetPath = filepath.Join(t.TempDir(), "mount")
		for range 2 {
			_, err := p.NodePublishVolume(t.Context(), readOnly)
			must(t, err)
		}
		t.Cleanup(func() { unpublish(t, v, readOnly.TargetPath) })
		if err := os.WriteFile(filepath.Join(readOnly.TargetPath, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: written to what is read-only: %v", name, err)
		}
		_, err := p.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: v, TargetPath: readOnly.TargetPath, VolumeCapability: writer})
		refused(t, "another way", err, codes.AlreadyExists, "read-only false")
	}
	// Unpublishing keeps the content, can be asked for twice, and removes no other's file.
	for range 2 {
		_, err := p.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: v, TargetPath: target})
		must(t, err)
	}
	if raw, err := os.ReadFile(filepath.Join(p.root, "volumes", v, "data", "file")); err != nil || string(raw) != "x" || exists(target) {
		t.Errorf("found %q (%v), and the target: %t", raw, err, exists(target))
	}
	other := t.TempDir()
	must(t, os.WriteFile(filepath.Join(other, "file"), nil, 0o600))
	if _, err := p.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: v, TargetPath: other}); err == nil || !exists(filepath.Join(other, "file")) {
		t.Errorf("a folder that is no mount point was removed: %v", err)
	}
}

func TestStatsAreTheVolumes(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	v := p.volume(t, request("a", gib)).VolumeId
	target := p.publish(t, v)
	must(t, os.WriteFile(filepath.Join(target, "file"), make([]byte, 1<<20), 0o600))
	stats, err := p.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v, VolumePath: target})
	must(t, err)
	bytes, inodes := stats.Usage[0], stats.Usage[1]
	if bytes.Total != gib || bytes.Used < 1<<20 || bytes.Used > 2<<20 || bytes.Available != bytes.Total-bytes.Used || inodes.Used != 2 {
		t.Errorf("found %v", stats.Usage)
	}
}

func TestPages(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		p.volume(t, request(name, gib))
	}
	first, err := p.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: 2})
	must(t, err)
	for _, entry := range first.Entries { // the token names one of them
		_, err := p.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: entry.Volume.VolumeId})
		must(t, err)
	}
	p.volume(t, request("bb", gib))
	var all []string
	next := first
	for {
		for _, entry := range next.Entries {
			all = append(all, entry.Volume.VolumeId)
		}
		if next.NextToken == "" {
			break
		}
		next, err = p.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: next.NextToken})
		must(t, err)
	}
	if want := []string{"node-1_a", "node-1_b", "node-1_bb", "node-1_c", "node-1_d", "node-1_e"}; !slices.Equal(all, want) {
		t.Errorf("found %v, want %v", all, want)
	}
	_, err = p.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: -1})
	refused(t, "less than nothing", err, codes.InvalidArgument, "0 or more")
}

func TestExpanding(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	v := p.volume(t, request("a", 2*gib)).VolumeId
	target := p.publish(t, v)
	bytes := func(required, limit int64) *csi.CapacityRange {
		return &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
	}
	for name, c := range map[string]struct {
		size  *csi.CapacityRange
		code  codes.Code
		words string
	}{
		"no size":              {nil, codes.InvalidArgument, "bytes that are required"},
		"a limit below":        {bytes(3*gib, 2*gib), codes.OutOfRange, "at most"},
		"a limit that is past": {bytes(gib, gib), codes.OutOfRange, "at most"},
	} {
		_, err := p.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: v, CapacityRange: c.size})
		refused(t, name, err, c.code, c.words)
		_, err = p.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: v, VolumePath: target, CapacityRange: c.size})
		refused(t, name+", on the node", err, c.code, c.words)
	}
	is := func(want, answered int64, err error) {
		t.Helper()
		found, errGet := p.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: v})
		if must(t, err, errGet); answered != want || found.Volume.CapacityBytes != want {
			t.Errorf("found %d bytes, answered %d, want %d", found.Volume.CapacityBytes, answered, want)
		}
	}
	for _, want := range []int64{3 * gib, 3 * gib, gib} { // once, again, and no volume gets smaller
		r, err := p.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: v, CapacityRange: bytes(want, 0)})
		is(3*gib, r.GetCapacityBytes(), err)
	}
	r, err := p.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: v, VolumePath: target, CapacityRange: bytes(4*gib, 0)})
	is(4*gib, r.GetCapacityBytes(), err)
}

// Everything is there after the driver was away, but for what it had not finished.
func TestARestart(t *testing.T) {
	folder := t.TempDir()
	p := start(t, "node-1", folder)
	v := p.volume(t, request("a", gib)).VolumeId
	target := p.publish(t, v)
	must(t, os.WriteFile(filepath.Join(target, "file"), []byte("x"), 0o600))
	p.snapshot(t, "s", v)
	_, err := p.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: v, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * gib}})
	must(t, err)
	state := func(p *process) string {
		t.Helper()
		volumes, errA := p.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
		snapshots, errB := p.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{})
		must(t, errA, errB)
		return fmt.Sprintf("%q %q", volumes, snapshots)
	}
	before := state(p)
	p.end()

	// A driver was killed while it copied, and another while it removed.
	half := filepath.Join(p.root, "unfinished", "node-1_half")
	must(t, os.MkdirAll(filepath.Join(half, "data"), 0o700), os.WriteFile(filepath.Join(half, "meta.json"), []byte(`{"name":"half"}`), 0o600),
		os.MkdirAll(filepath.Join(p.root, "unfinished", "removed-1", "item", "data"), 0o700),
		os.WriteFile(filepath.Join(p.root, "volumes", v, "meta.json.next"), []byte("{"), 0o600),
		os.WriteFile(filepath.Join(folder, "csi.sock"), nil, 0o600))
	p = start(t, "node-1", folder)
	if after := state(p); after != before {
		t.Errorf("found %s, want %s", after, before)
	}
	if left, err := os.ReadDir(filepath.Join(p.root, "unfinished")); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
	if raw, err := os.ReadFile(filepath.Join(target, "file")); err != nil || string(raw) != "x" {
		t.Errorf("a pod reads %q (%v)", raw, err)
	}
	restored := request("half", gib)
	restored.VolumeContentSource = fromSnapshot("node-1_s")
	if raw, err := os.ReadFile(filepath.Join(p.publish(t, p.volume(t, restored).VolumeId), "file")); err != nil || string(raw) != "x" {
		t.Errorf("restored %q (%v)", raw, err)
	}
}

// What is being filled is nobody's, and what could not be filled leaves nothing.
func TestNothingIsThereInParts(t *testing.T) {
	d, err := newDriver(store{root: filepath.Join(t.TempDir(), "root"), node: "node-1", limit: gib}, "", 0)
	must(t, err)
	s, i := d.store, item{ID: "node-1_a", Name: "a", Size: 1}
	for name, c := range map[string]struct {
		fails error
		code  codes.Code
	}{
		"a disk that is full":   {&fs.PathError{Op: "write", Path: "file", Err: unix.ENOSPC}, codes.ResourceExhausted},
		"a quota":               {unix.EDQUOT, codes.ResourceExhausted},
		"a volume that moves":   {errMoving, codes.Aborted},
		"a disk that is broken": {unix.EIO, codes.Internal},
		"nothing":               {nil, codes.OK},
	} {
		err := s.create(snapshots, i, func(data string) error {
			must(t, os.Mkdir(data, 0o700))
			_, err := s.get(snapshots, i.ID)
			refused(t, name, err, codes.NotFound, "no")
			if listed, err := s.list(snapshots); err != nil || len(listed) > 0 {
				t.Errorf("%s: half of it is listed: %v (%v)", name, listed, err)
			}
			return c.fails
		})
		if status.Code(err) != c.code {
			t.Errorf("%s: found %v, want %s", name, err, c.code)
		}
		left, err := os.ReadDir(s.unfinished())
		if must(t, err); len(left) > 0 || exists(s.path(snapshots, i.ID)) != (c.fails == nil) {
			t.Errorf("%s: %v is left, and the snapshot: %t", name, left, exists(s.path(snapshots, i.ID)))
		}
		must(t, os.RemoveAll(s.path(snapshots, i.ID)))
	}
}

// A request whose sender went away while it waited does nothing.
func TestNobodyWaitsAnyMore(t *testing.T) {
	d, err := newDriver(store{root: filepath.Join(t.TempDir(), "root"), node: "node-1", limit: gib}, "", 0)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.CreateVolume(ctx, request("a", 1))
	refused(t, "create", err, codes.Canceled, "")
	if _, err := d.CreateVolume(t.Context(), request("a", 1)); err != nil {
		t.Errorf("the turn was not given back: %v", err)
	}
}

// The pods that have a volume stand still while it is copied, for a snapshot and for a clone.
func TestACopyWaitsForThePods(t *testing.T) {
	cgroups := t.TempDir()
	d, err := newDriver(store{root: filepath.Join(t.TempDir(), "root"), node: "node-1", limit: 9 * gib}, cgroups, 0)
	must(t, err)
	d.freezer.patience = 0
	pod := filepath.Join(cgroups, "kubepods", "pod"+podA)
	events := filepath.Join(pod, "cgroup.events")
	must(t, os.MkdirAll(pod, 0o700), os.WriteFile(filepath.Join(pod, "cgroup.freeze"), []byte("0"), 0o600), os.WriteFile(events, []byte("frozen 0\n"), 0o600))
	_, err = d.CreateVolume(t.Context(), request("a", gib))
	must(t, err)
	target := filepath.Join(t.TempDir(), targetOf(podA))
	_, err = nodeService{driver: d}.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: "node-1_a", TargetPath: target, VolumeCapability: writer})
	must(t, err)
	t.Cleanup(func() { unpublish(t, "node-1_a", target) })
	clone := request("b", gib)
	clone.VolumeContentSource = fromVolume("node-1_a")
	snapshot := &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "node-1_a"}

	_, err = d.CreateSnapshot(t.Context(), snapshot)
	refused(t, "snapshot of a pod that goes on", err, codes.Internal, "want "+pod+" frozen")
	_, err = d.CreateVolume(t.Context(), clone)
	refused(t, "clone of a pod that goes on", err, codes.Internal, "want "+pod+" frozen")
	must(t, os.WriteFile(events, []byte(frozen), 0o600))
	_, errA := d.CreateSnapshot(t.Context(), snapshot)
	_, errB := d.CreateVolume(t.Context(), clone)
	must(t, errA, errB)
}

func TestWhatTheNodeIs(t *testing.T) {
	p := start(t, "node-1", t.TempDir(), "--max-volumes=7")
	info, err := p.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || info.NodeId != "node-1" || info.MaxVolumesPerNode != 7 || info.AccessibleTopology.Segments[topologyKey] != "node-1" {
		t.Errorf("found %v, %v", info, err)
	}
}

func TestWhatAVolumeCanBe(t *testing.T) {
	p := start(t, "node-1", t.TempDir())
	v := p.volume(t, request("a", gib)).VolumeId
	many := mounted(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)
	for name, c := range map[string]struct {
		request *csi.ValidateVolumeCapabilitiesRequest
		message string
	}{
		"a writer": {&csi.ValidateVolumeCapabilitiesRequest{VolumeId: v, VolumeCapabilities: []*csi.VolumeCapability{writer}}, ""},
		"many":     {&csi.ValidateVolumeCapabilitiesRequest{VolumeId: v, VolumeCapabilities: []*csi.VolumeCapability{writer, many}}, "ReadWriteOnce"},
		"a parameter": {&csi.ValidateVolumeCapabilitiesRequest{VolumeId: v, VolumeCapabilities: []*csi.VolumeCapability{writer},
			Parameters: map[string]string{"fast": "yes"}}, `"fast"`},
	} {
		r, err := p.ValidateVolumeCapabilities(t.Context(), c.request)
		if must(t, err); (r.Confirmed != nil) != (c.message == "") || !strings.Contains(r.Message, c.message) {
			t.Errorf("%s: found %v, want %q", name, r, c.message)
		}
	}
	_, err := p.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: v, TargetPath: "/nowhere", VolumeCapability: many})
	refused(t, "publish for many", err, codes.InvalidArgument, "ReadWriteOnce")
	if none, err := p.GetCapacity(t.Context(), &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{many}}); err != nil || none.AvailableCapacity != 0 {
		t.Errorf("found %v (%v) for many", none, err)
	}
}
