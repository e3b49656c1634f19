// Package absence is what must not have happened for a PVC, and how that is looked up in what is known to have been made: while
// a spec runs, and again when all specs are done.
package absence

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/creations"
)

// Resources that a policy makes for a PVC, as the API server names them.
const (
	ReplicationSources      = "replicationsources"
	ReplicationDestinations = "replicationdestinations"
	Secrets                 = "secrets"
)

// Backups are the pods of VolSync's backups: those that read the PVC or a copy of it, and of no restore.
const Backups = "pods"

// claims are PVCs, as the API server names them: VolSync makes its copies as such.
const claims = "persistentvolumeclaims"

// Creations knows what was made in the cluster, also what is gone again: the API server's audit log or, in a cluster that
// has none of ours, a watch.
type Creations interface {
	// Created returns what was made of a resource in a namespace since then, oldest first.
	Created(ctx context.Context, resource, namespace string, since time.Time) ([]creations.CreatedObject, error)
	// Covers says whether all that was made before t is known.
	Covers(ctx context.Context, t time.Time) (bool, error)
	Close() error
}

// Absence is something that must not happen for a PVC until the end of the run. What a spec has proven is looked at again when
// all specs are done: an object that comes late is found, too.
type Absence struct {
	Spec      string    `json:"spec"`
	Namespace string    `json:"namespace"`
	PVC       string    `json:"pvc"`
	UID       string    `json:"uid"`
	Since     time.Time `json:"since"` // on the API server's clock
	// Begun is when nothing was in the namespace yet, on the same clock: what backs the PVC up may be older than the PVC.
	Begun time.Time `json:"begun"`
	// Names are what the policy would have called what it made, by resource, where that is known.
	Names     map[string]string `json:"names,omitempty"`
	Resources []string          `json:"resources"`
}

// Violations lists what was made, as far as is known, that must not have been.
func (a Absence) Violations(ctx context.Context, known Creations) ([]string, error) {
	var found []string
	for _, resource := range a.Resources {
		var read []string
		if resource == Backups {
			var err error
			if read, err = a.read(ctx, known); err != nil {
				return nil, err
			}
		}
		// After the copies, which come before what reads them.
		created, err := known.Created(ctx, resource, a.Namespace, a.Since)
		if err != nil {
			return nil, err
		}
		for _, object := range created {
			if a.isAbout(resource, object, read) {
				found = append(found, fmt.Sprintf("%s %s, made by %s %.1f s after PVC %s", resource, object.Name, object.User, object.Time.Sub(a.Since).Seconds(), a.PVC))
			}
		}
	}
	return found, nil
}

// read are the PVCs that VolSync's backups of the PVC read: itself or, where the copyMethod is not Direct, one that is made from a
// VolumeSnapshot or a clone, and is the ReplicationSource's.
func (a Absence) read(ctx context.Context, known Creations) (names []string, err error) {
	names = []string{a.PVC}
	sources, err := known.Created(ctx, ReplicationSources, a.Namespace, a.Begun)
	if err != nil {
		return nil, err
	}
	made, err := known.Created(ctx, claims, a.Namespace, a.Begun)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		if !source.For(a.PVC, "") {
			continue
		}
		for _, claim := range made {
			if claim.IsOf("ReplicationSource", source.Name) {
				names = append(names, claim.Name)
			}
		}
	}
	return names, nil
}

// isAbout says whether what was made of a resource is the PVC's, whose backups read these.
func (a Absence) isAbout(resource string, object creations.CreatedObject, read []string) bool {
	if resource == Backups {
		return object.BacksUp(read...)
	}
	return a.IsFor(resource, object)
}

// IsFor says whether what was made of a resource is for the PVC: it says so itself or, where it says nothing of another, its name does.
func (a Absence) IsFor(resource string, object creations.CreatedObject) bool {
	return object.For(a.PVC, "") || a.looksLike(resource, object.Name) && (object.Name == a.Names[resource] || !object.ForAnother(a.PVC))
}

// looksLike says whether an object has a name that was made for the PVC. If the contract gives no name template, or the name
// starts with the PVC's, any name that starts with "<pvc>-" matches.
func (a Absence) looksLike(resource, name string) bool {
	promised := a.Names[resource]
	if promised != "" && !strings.HasPrefix(promised, a.PVC) {
		return name == promised
	}
	return name == promised || strings.HasPrefix(name, a.PVC+"-")
}
