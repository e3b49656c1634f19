package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
)

// skipped says why csi-sanity has nothing to judge there. The key is the container or spec as csi-sanity names it.
var skipped = map[string]string{
	"ControllerPublishVolume":                         noAttach,
	"ControllerUnpublishVolume":                       noAttach,
	"volume lifecycle":                                noAttach,
	"NodeStageVolume":                                 noStage,
	"NodeUnstageVolume":                               noStage,
	"ModifyVolume [Controller Server]":                noModify,
}

const (
	noAttach = "a folder is not attached: CSIDriver has attachRequired false"
	noStage  = "a bind mount has nothing to do but to publish"
	noModify = "no VolumeAttributesClass: a folder has no attribute to change"
)

// TestSanity runs csi-sanity as a whole, against the driver behind its socket.
func TestSanity(t *testing.T) {
	folder := t.TempDir()
	socket := filepath.Join(folder, "csi.sock")
	start(t, "--node=node-1", "--root="+filepath.Join(folder, "root"), "--socket="+socket, "--registration=")

	config := sanity.NewTestConfig()
	config.Address = "unix:" + socket
	config.TargetPath, config.StagingPath = filepath.Join(folder, "target"), filepath.Join(folder, "staging")
	suite := sanity.GinkgoTest(&config)
	defer suite.Finalize()

	gomega.RegisterFailHandler(ginkgo.Fail)
	ran, found := 0, map[string]bool{}
	ginkgo.ReportAfterEach(func(r ginkgo.SpecReport) {
		name := strings.Join(append(slices.Clone(r.ContainerHierarchyTexts), r.LeafNodeText), " / ")
		switch r.State {
		case types.SpecStatePassed:
			ran++
		case types.SpecStateSkipped, types.SpecStatePending:
			found[name+": "+r.Failure.Message] = true
		}
	})
	ginkgo.RunSpecs(t, "csi-sanity")
	for _, name := range slices.Sorted(maps.Keys(found)) {
		t.Log(name)
	}
	t.Log(ran)
}

// start runs the driver as a process would, until the test ends.
func start(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	ctx, _ := context.WithCancel(context.Background())
	ready, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		err := run(ctx, args, writer)
		_ = writer.Close()
		done <- err
	}()
	line := make([]byte, 1<<12)
	n, _ := ready.Read(line)
	if !strings.Contains(string(line[:n]), "ready") {
		t.Fatalf("want the driver ready, found %q: %v", line[:n], <-done)
	}
	go func() { _, _ = ready.WriteTo(testWriter{t}) }()
	return func() {}
}
type testWriter struct{ t *testing.T }
func (w testWriter) Write(b []byte) (int, error) { w.t.Log(strings.TrimSpace(string(b))); return len(b), nil }
