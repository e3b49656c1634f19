package history

import (
	"regexp"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/explore/picture"
)

// Terms are what a policy's contract says, as far as histories need it.
type Terms struct {
	// Claim is the manifest of a PVC that the policy selects, without a name, and Selected and Unselected the metadata that make it so.
	Claim                map[string]any `json:"claim"`
	Selected, Unselected map[string]any
	// Base are the base Secrets, and Namespaces those namespaces that have labels.
	Base       []map[string]any `json:"base"`
	Namespaces []map[string]any `json:"namespaces,omitempty"`
	// PasswordKey is the key of the restic password in a base Secret.
	PasswordKey string `json:"passwordKey"`
	// Bucket is the beginning of RESTIC_REPOSITORY, before the path.
	Bucket string `json:"bucket"`
	// Paths are where each PVC's repository is promised to be.
	Paths map[string]string `json:"paths"`
	// Annotation is where the decision is written, and these are the patterns of its value. Empty: it is not written.
	Annotation, Restore, Fresh, Unknown string
	// Accept is the annotation by which somebody accepts a volume as it is, and AcceptValue its value, with {uid}.
	Accept, AcceptValue string
	// StartsEmpty says that a PVC of which nothing is known is bound and stays as it is.
	StartsEmpty bool
	// Gates says that it promises to hold an app back until the restore is done.
	Gates bool
	// CatchesUp and Relabels say that it promises to act for PVCs that were created while Kyverno was away, and that are labelled later.
	CatchesUp, Relabels bool
	// Schedule is when backups are promised. Empty: every hour.
	Schedule string
	// Retain is what the contract promises to keep. Zero: what the ReplicationSource says.
	Retain Retain
}

// Fault is a way in which S3 is down.
type Fault struct {
	Name   string      `json:"name"`
	Outage play.Outage `json:"outage"`
	// Unknown says that a policy cannot know then whether there is a backup.
	Unknown bool `json:"unknown,omitempty"`
	// Movers is what it is to VolSync's movers.
	Movers Sight `json:"movers"`
}

// Sight is what S3 is to movers.
type Sight string

// What movers see.
const (
	Works    Sight = ""          // what is there
	Fails    Sight = "fails"     // nothing: each request fails
	ReadOnly Sight = "read-only" // what is there, and no write succeeds
	Lists    Sight = "no-lists"  // no snapshots
	Forgets  Sight = "forgets"   // an empty bucket, which takes writes
	NoDisk   Sight = "no-disk"   // an empty bucket, which takes none
)

// World is the cluster: Kubernetes' API with a policy in force.
type World interface {
	// Do does one step, as in a situation of the check.
	Do(step play.Step) error
	Now() time.Time
	// Get and List return objects that must not be changed. Nil: there is none.
	Get(kind, namespace, name string) map[string]any
	List(kind string) []map[string]any
	// Populated are the PVCs, namespace/name, that VolSync's populator has filled since it was last asked, and from which destination.
	Populated() map[string]string
	// Move lets VolSync bring about the Job and the pod of a ReplicationSource or ReplicationDestination. The pod is nil where it was refused.
	Move(owner map[string]any) (pod map[string]any, err error)
	// Pod is the pod of its mover. Nil: there is none.
	Pod(owner map[string]any) map[string]any
	// Ended takes that pod away. If it failed, its Job counts that, and is taken away when it has reached its limit. If it did not, VolSync
	// writes this status.
	Ended(owner map[string]any, failed bool, status map[string]any) error
	// Store writes an object as it is.
	Store(object map[string]any) error
}

// matches says whether a pattern matches the whole of a value.
func matches(pattern, value string) bool {
	if pattern == "" {
		return false
	}
	matched, err := regexp.MatchString("^(?:"+pattern+")$", value)
	return err == nil && matched
}

// Decided is what a PVC says was decided, by its annotations. Empty: the contract does not say where that stands.
func (t Terms) Decided(annotations map[string]any) string {
	if t.Annotation == "" {
		return ""
	}
	said, _ := annotations[t.Annotation].(string)
	switch {
	case said == "":
		return picture.None
	case matches(t.Restore, said):
		return "restore"
	case matches(t.Fresh, said):
		return "fresh"
	case matches(t.Unknown, said):
		return "unknown"
	}
	return picture.Other
}

// at is a text in an object.
func at(o map[string]any, fields ...string) string {
	for i, field := range fields {
		if i == len(fields)-1 {
			text, _ := o[field].(string)
			return text
		}
		o, _ = o[field].(map[string]any)
	}
	return ""
}

func mapAt(o map[string]any, fields ...string) map[string]any {
	for _, field := range fields {
		o, _ = o[field].(map[string]any)
	}
	return o
}

// key is namespace/name of an object.
func key(o map[string]any) string {
	return at(o, "metadata", "namespace") + "/" + at(o, "metadata", "name")
}

func uid(o map[string]any) string { return at(o, "metadata", "uid") }

func split(key string) (namespace, name string) {
	namespace, name, _ = strings.Cut(key, "/")
	return namespace, name
}
