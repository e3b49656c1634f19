//go:build linux

package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
)

// skipped has every spec of csi-sanity that does not run, under the reason.
var skipped = map[string][]string{
	"a folder is not attached: CSIDriver has attachRequired false": {
		"Controller Service [Controller Server] / ControllerPublishVolume / should fail when no node id is provided",
		"Controller Service [Controller Server] / ControllerPublishVolume / should fail when no volume capability is provided",
		"Controller Service [Controller Server] / ControllerPublishVolume / should fail when no volume id is provided",
		"Controller Service [Controller Server] / ControllerPublishVolume / should fail when publishing more volumes than the node max attach limit",
		"Controller Service [Controller Server] / ControllerPublishVolume / should fail when the node does not exist",
		"Controller Service [Controller Server] / ControllerPublishVolume / should fail when the volume does not exist",
		"Controller Service [Controller Server] / ControllerPublishVolume / should fail when the volume is already published but is incompatible",
		"Controller Service [Controller Server] / ControllerUnpublishVolume / should fail when no volume id is provided",
		"Controller Service [Controller Server] / volume lifecycle / should be idempotent",
		"Controller Service [Controller Server] / volume lifecycle / should work",
	},
	"to publish is one bind mount: there is nothing to stage": {
		"Node Service / NodeStageVolume / should fail when no staging target path is provided",
		"Node Service / NodeStageVolume / should fail when no volume capability is provided",
		"Node Service / NodeStageVolume / should fail when no volume id is provided",
		"Node Service / NodeUnstageVolume / should fail when no staging target path is provided",
		"Node Service / NodeUnstageVolume / should fail when no volume id is provided",
	},
	"a folder has no attribute that a VolumeAttributesClass could change": {
		"Controller Service [Controller Server] / CreateVolume / should create volume with a volume attribute class",
		"Controller Service [Controller Server] / CreateVolume / should not create volume with an invalid volume attribute class",
		"ModifyVolume [Controller Server] / should fail if no volume id is given",
		"ModifyVolume [Controller Server] / should fail if specified mutable parameters are not supported by the volume",
		"ModifyVolume [Controller Server] / should fail if volume does not exist",
		"ModifyVolume [Controller Server] / should fail to modify a volume created with a volume attribute class if new mutable parameters are not supported by volume",
		"ModifyVolume [Controller Server] / should modify a volume created with a volume attribute class",
		"ModifyVolume [Controller Server] / should modify a volume created without a volume attribute class",
	},
	"no setup that we know takes snapshots of groups": {
		"GroupController Service [GroupController Server] / GroupControllerGetCapabilities / should return appropriate capabilities",
		"GroupController Service [GroupController VolumeGroupSnapshots] / CreateVolumeGroupSnapshot / should fail when no name is provided",
		"GroupController Service [GroupController VolumeGroupSnapshots] / DeleteVolumeGroupSnapshot / should fail when no volume id is provided",
		"GroupController Service [GroupController VolumeGroupSnapshots] / DeleteVolumeGroupSnapshot / should succeed when an invalid volume id is used",
		"GroupController Service [GroupController VolumeGroupSnapshots] / GetVolumeGroupSnapshot / should fail when an invalid volume id is used",
		"GroupController Service [GroupController VolumeGroupSnapshots] / GetVolumeGroupSnapshot / should fail when no volume id is provided",
	},
	"health is alpha, and a folder is as healthy as its node": {
		"ControllerGetVolumeHealth [Controller Server] / should fail when no volume id is provided",
		"ControllerGetVolumeHealth [Controller Server] / should return health for a valid volume",
		"ControllerListVolumeHealth [Controller Server] / should return appropriate response",
		"Node Service / NodeGetStorageHealth / should return appropriate response",
		"Node Service / NodeGetVolumeHealth / should fail when no volume id is provided",
		"Node Service / NodeGetVolumeHealth / should return health for a valid volume",
	},
	"alpha, and no sidecar asks for it; csi-sanity v5.6.0 also compares messages by Equal, which fails for equal ones that came over the wire": {
		"CreateSnapshot [Controller Server] / should succeed when creating a snapshot with accessibility requirements",
	},
	"csi-sanity itself leaves it out as fragile: TestPages has it": {
		"Controller Service [Controller Server] / ListVolumes / pagination should detect volumes added between pages and accept tokens when the last volume from a page is deleted",
	},
}

// TestSanity runs the whole of csi-sanity against the driver behind its socket.
func TestSanity(t *testing.T) {
	folder := t.TempDir()
	start(t, "node-1", folder)
	config := sanity.NewTestConfig()
	config.Address = "unix:" + filepath.Join(folder, "csi.sock")
	config.TargetPath, config.StagingPath = filepath.Join(folder, "target"), filepath.Join(folder, "staging")
	suite := sanity.GinkgoTest(&config)
	defer suite.Finalize()

	passed, found := 0, map[string]string{}
	ginkgo.ReportAfterEach(func(r ginkgo.SpecReport) {
		switch r.State {
		case types.SpecStatePassed:
			passed++
		case types.SpecStateSkipped, types.SpecStatePending:
			found[strings.Join(append(slices.Clone(r.ContainerHierarchyTexts), r.LeafNodeText), " / ")] = r.Failure.Message
		}
	})
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "csi-sanity")

	if passed == 0 {
		t.Error("no spec ran")
	}
	for reason, specs := range skipped {
		for _, spec := range specs {
			if _, ok := found[spec]; !ok {
				t.Errorf("%q ran, or is no more: take it off the table, where it stands as %q", spec, reason)
			}
			delete(found, spec)
		}
	}
	for _, spec := range slices.Sorted(maps.Keys(found)) {
		t.Errorf("%q did not run (%s): let it, or give it a reason in the table", spec, found[spec])
	}
}
