//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/api/resource"
)

// kind is what a store holds: the name of its folder.
type kind string

const (
	volumes   kind = "volumes"
	snapshots kind = "snapshots"
)

// item is a volume or a snapshot: what is beside its data.
type item struct {
	Name         string    `json:"name"`
	Size         int64     `json:"size"`
	FromVolume   string    `json:"fromVolume,omitempty"`
	FromSnapshot string    `json:"fromSnapshot,omitempty"`
	Created      time.Time `json:"created"`
	NeverReady   bool      `json:"neverReady,omitempty"`

	ID string `json:"-"` // the folder's name
}

// store is ROOT/volumes/ID and ROOT/snapshots/ID, each with data and meta.json. An item is made in ROOT/unfinished and moved to its
// place when it is whole, so what has a place is whole. Nothing is synced: what is kept must survive the driver, not the node.
type store struct {
	root, node string
	limit      int64
}

// separator parts node and name in an ID. No node's name has it.
const separator = "_"

var (
	plainName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	safeID    = regexp.MustCompile(`^[a-z0-9][a-zA-Z0-9._-]{0,200}$`)
)

// id follows from the name, so that asking twice finds what is there. Kubernetes' names are kept, others are hashed.
func (s store) id(name string) string {
	if !plainName.MatchString(name) {
		name = fmt.Sprintf("sha256.%.20x", sha256.Sum256([]byte(name)))
	}
	return s.node + separator + name
}

func (s store) path(k kind, id string) string { return filepath.Join(s.root, string(k), id) }
func (s store) data(k kind, id string) string { return filepath.Join(s.path(k, id), "data") }
func (s store) unfinished() string            { return filepath.Join(s.root, "unfinished") }

// open makes the folders, and removes what an earlier driver did not finish.
func (s store) open() error {
	if err := os.RemoveAll(s.unfinished()); err != nil {
		return err
	}
	for _, folder := range []string{s.unfinished(), s.path(volumes, ""), s.path(snapshots, "")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// get finds an item: NOT_FOUND if there is none, FAILED_PRECONDITION if it would be another node's.
func (s store) get(k kind, id string) (item, error) {
	if id == "" {
		return item{}, status.Errorf(codes.InvalidArgument, "want an ID of %s, found none", k)
	}
	if !safeID.MatchString(id) {
		return item{}, status.Errorf(codes.NotFound, "no %q in %s", id, k)
	}
	if node, _, ok := strings.Cut(id, separator); ok && node != s.node {
		return item{}, status.Errorf(codes.FailedPrecondition, "%s of %s is on node %s, this is %s: ask the driver there", id, k, node, s.node)
	}
	raw, err := os.ReadFile(filepath.Join(s.path(k, id), "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return item{}, status.Errorf(codes.NotFound, "no %q in %s", id, k)
	}
	found := item{ID: id}
	if err == nil {
		err = json.Unmarshal(raw, &found)
	}
	return found, internal(err)
}

// list has all items in the order of their IDs.
func (s store) list(k kind) ([]item, error) {
	entries, err := os.ReadDir(s.path(k, ""))
	if err != nil {
		return nil, internal(err)
	}
	var all []item
	for _, entry := range entries {
		found, err := s.get(k, entry.Name())
		if status.Code(err) == codes.NotFound {
			continue // it went while we looked
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found)
	}
	return all, nil
}

// create fills a folder and gives it its place.
func (s store) create(k kind, i item, fill func(data string) error) error {
	folder := filepath.Join(s.unfinished(), i.ID)
	err := os.Mkdir(folder, 0o700)
	if err == nil {
		err = fill(filepath.Join(folder, "data"))
	}
	if err == nil {
		err = write(folder, i)
	}
	if err == nil {
		err = os.Rename(folder, s.path(k, i.ID))
	}
	if err != nil {
		return internal(errors.Join(err, os.RemoveAll(folder)))
	}
	return nil
}

// remove takes an item from its place first: nobody finds half of it.
func (s store) remove(k kind, id string) error {
	folder, err := os.MkdirTemp(s.unfinished(), "removed-")
	if err == nil {
		err = os.Rename(s.path(k, id), filepath.Join(folder, "item"))
	}
	if err == nil {
		err = os.RemoveAll(folder)
	}
	return internal(err)
}

// resize is what expanding a folder comes to.
func (s store) resize(i item) error { return internal(write(s.path(volumes, i.ID), i)) }

// write replaces an item's metadata as a whole.
func write(folder string, i item) error {
	raw, err := json.Marshal(i)
	if err != nil {
		return err
	}
	next := filepath.Join(folder, "meta.json.next")
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(folder, "meta.json"))
}

// free is how much more may be asked for.
func (s store) free() (int64, error) {
	free := s.limit
	switch raw, err := os.ReadFile(filepath.Join(s.root, "capacity")); {
	case err == nil:
		limit, err := resource.ParseQuantity(strings.TrimSpace(string(raw)))
		if err != nil {
			return 0, status.Errorf(codes.Internal, "%s/capacity: want a size, such as 10Gi, found %q: %v", s.root, raw, err)
		}
		free = limit.Value()
	case !errors.Is(err, fs.ErrNotExist):
		return 0, internal(err)
	}
	for _, k := range []kind{volumes, snapshots} {
		all, err := s.list(k)
		if err != nil {
			return 0, err
		}
		for _, i := range all {
			free -= i.Size
		}
	}
	return max(free, 0), nil
}

// need is RESOURCE_EXHAUSTED if there is less than size.
func (s store) need(size int64) error {
	free, err := s.free()
	if err == nil && size > free {
		err = status.Errorf(codes.ResourceExhausted, "want %d more bytes, found %d left on node %s: delete volumes or snapshots, or raise the capacity", size, free, s.node)
	}
	return err
}

// internal gives an error of the system the code that a sidecar acts upon; an error that has a code keeps it.
func internal(err error) error {
	var coded interface{ GRPCStatus() *status.Status }
	switch {
	case err == nil || errors.As(err, &coded):
		return err
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, errMoving):
		return status.Error(codes.Aborted, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}
