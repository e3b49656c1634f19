//go:build linux

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

// nodeService is the node service: to publish is a bind mount, made by a system call, since the image has no mount command.
type nodeService struct {
	csi.UnimplementedNodeServer
	*driver
}

func (n nodeService) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.store.node, MaxVolumesPerNode: n.maxVolumes, AccessibleTopology: n.topology()}, nil
}

func (n nodeService) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	response := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS, csi.NodeServiceCapability_RPC_EXPAND_VOLUME, csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		response.Capabilities = append(response.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return response, nil
}

func (n nodeService) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if r.VolumeId == "" || r.TargetPath == "" {
		return nil, status.Errorf(codes.InvalidArgument, "want a volume and where to publish it, found %q and %q", r.VolumeId, r.TargetPath)
	}
	if r.VolumeCapability == nil {
		return nil, checkCapabilities()
	}
	if err := checkCapabilities(r.VolumeCapability); err != nil {
		return nil, err
	}
	if _, err := n.store.get(volumes, r.VolumeId); err != nil {
		return nil, err
	}
	n.mounts.Lock()
	defer n.mounts.Unlock()
	data := n.store.data(volumes, r.VolumeId)
	targets, err := publishedAt(data)
	if err != nil {
		return nil, internal(err)
	}
	mode := r.VolumeCapability.AccessMode.Mode
	readOnly := r.Readonly || mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	if slices.Contains(targets, r.TargetPath) {
		var st unix.Statfs_t
		if err := unix.Statfs(r.TargetPath, &st); err != nil {
			return nil, internal(err)
		}
		if is := st.Flags&unix.ST_RDONLY != 0; is != readOnly {
			return nil, status.Errorf(codes.AlreadyExists, "want %s at %s with read-only %t, found it there with %t", r.VolumeId, r.TargetPath, readOnly, is)
		}
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER && len(targets) > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "want one pod only to have %s, found it published at %v", r.VolumeId, targets)
	}
	return &csi.NodePublishVolumeResponse{}, internal(bind(data, r.TargetPath, readOnly))
}

// bind mounts a folder at a second place. Read-only takes a second call, which must keep what the file system is restricted to.
func bind(folder, target string, readOnly bool) error {
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if err := unix.Mount(folder, target, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "bind " + folder + " to", Path: target, Err: err}
	}
	if !readOnly {
		return nil
	}
	var st unix.Statfs_t
	err := unix.Statfs(target, &st)
	if err == nil {
		const kept = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME // as statfs has them
		err = unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|uintptr(st.Flags)&kept, "")
	}
	if err != nil {
		return errors.Join(&fs.PathError{Op: "make read-only", Path: target, Err: err}, unix.Unmount(target, 0))
	}
	return nil
}

// publishedAt finds where a folder is mounted: the kernel knows it, whatever happened to the driver.
func publishedAt(folder string) ([]string, error) {
	return mount.SearchMountPoints(folder, "/proc/self/mountinfo")
}

func (n nodeService) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.VolumeId == "" || r.TargetPath == "" {
		return nil, status.Errorf(codes.InvalidArgument, "want a volume and where it is published, found %q and %q", r.VolumeId, r.TargetPath)
	}
	n.mounts.Lock()
	defer n.mounts.Unlock()
	for {
		err := unix.Unmount(r.TargetPath, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // nothing is mounted there any more
			break
		}
		if err != nil {
			return nil, internal(&fs.PathError{Op: "unmount", Path: r.TargetPath, Err: err})
		}
	}
	// Never with what is in it: if something is, it is not ours.
	if err := os.Remove(r.TargetPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, internal(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// published finds a volume that is published at a path.
func (n nodeService) published(id, path string) (item, error) {
	if id == "" || path == "" {
		return item{}, status.Errorf(codes.InvalidArgument, "want a volume and where it is published, found %q and %q", id, path)
	}
	found, err := n.store.get(volumes, id)
	if err != nil {
		return item{}, err
	}
	targets, err := publishedAt(n.store.data(volumes, id))
	if err == nil && !slices.Contains(targets, path) {
		err = status.Errorf(codes.NotFound, "want %s published at %s, found it at %v", id, path, targets)
	}
	return found, internal(err)
}

// NodeGetVolumeStats is about the volume, not about the file system that it shares with others.
func (n nodeService) NodeGetVolumeStats(_ context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	volume, err := n.published(r.VolumeId, r.VolumePath)
	if err != nil {
		return nil, err
	}
	var bytes, inodes int64
	err = filepath.WalkDir(r.VolumePath, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went while we looked
		}
		bytes, inodes = bytes+st.Blocks*512, inodes+1
		return err
	})
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: volume.Size, Used: bytes, Available: max(volume.Size-bytes, 0)},
		{Unit: csi.VolumeUsage_INODES, Used: inodes},
	}}, internal(err)
}

// NodeExpandVolume is for a volume that another node's driver was asked to expand.
func (n nodeService) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if _, err := n.published(r.VolumeId, r.VolumePath); err != nil {
		return nil, err
	}
	size, err := n.expand(ctx, r.VolumeId, r.CapacityRange, r.VolumeCapability)
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, err
}
