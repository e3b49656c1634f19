package main

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
)

const separator = "_"

type driver struct {
	csi.UnimplementedControllerServer
	node       string
	maxVolumes int64
	freezer    freezer
	store      store
}

func (d *driver) recover() error { return nil }

type store struct {
	root, node string
	limit      int64
}
type freezer struct{ cgroups, record string }

type nodeService struct {
	csi.UnimplementedNodeServer
	*driver
}
