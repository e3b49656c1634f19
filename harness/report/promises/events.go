package promises

import (
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/report/markdown"
)

// Event is something ordinary by which data is lost, as an operator would say it, and the requirement that it is not.
type Event struct{ Text, Requirement string }

// Events that lose data.
var Events = []Event{
	{"S3 answers before the disk behind it is there: the bucket is empty", "core/s3-down/empty-bucket"},
	{"S3 forgets for a while what it holds, and takes writes", "core/s3-down/amnesia"},
	{"S3 forgets a repository that a volume is backed up to, or is to be restored from", "safety/bucket-forgets"},
	{"S3 lists nothing, although it holds snapshots", "core/s3-down/list-lies"},
	{"S3 lists only older snapshots than it holds", "core/s3-down/list-short"},
	{"The repository's `config` is lost", "core/s3-down/config-gone"},
	{"S3 is full or read-only", "core/s3-down/read-only"},
	{"A Deployment's PVC is deleted and made again while its pods are there; a restore is given up, and ends later", "safety/restore-beside-app"},
	{"The PVC and the pod of a StatefulSet are lost, or a pod has an ephemeral volume", "safety/stateful-set"},
	{"A `Retain` volume is taken back, or a PVC is made from a snapshot", "safety/volume-with-content"},
	{"A manifest brings annotations of an earlier PVC, or drops those of this one: `kubectl replace`, Argo CD, an export", "safety/manifest-decides-nothing"},
	{"A ReplicationSource is deleted, or the first backup fails half-way", "safety/own-repository"},
	{"The label is taken off, or changed", "safety/label-is-not-the-gate"},
	{"Another webhook or policy adds the label later", "safety/label-by-webhook"},
	{"A backup tool brings a ReplicationDestination back", "safety/ownerless-destination"},
	{"A ReplicationDestination that is done is deleted", "resilience/finished-destination-deleted"},
	{"The creation of a PVC is refused, by a quota or because it is there", "safety/request-that-came-to-nothing"},
	{"A mover cannot read a file", "safety/incomplete-snapshot"},
	{"Two clusters use one bucket, and have namespaces and PVCs of the same names", "safety/another-cluster"},
	{"Somebody with the role `view` looks at Kyverno's objects", "safety/secrets-stay"},
	{"A mover is killed, and leaves its lock", "resilience/killed-mover"},
	{"Kyverno scans in the background: what somebody set is undone", "resilience/hourly-scan"},
	{"Kyverno drops a request", "resilience/restore-made-up-for"},
	{"Kyverno gets its rights a minute after the PVC", "resilience/rights-missing"},
	{"A namespace refuses movers, by Pod Security or a quota", "resilience/movers-forbidden"},
	{"A volume is a block device, or one pod only may use it", "resilience/other-modes"},
	{"Kyverno is scaled to zero in the middle of a restore", "resilience/kyverno-scaled-to-zero"},
	{"Kyverno is down, and pods without such a PVC must start", "resilience/blast-radius"},
	{"Nobody is told that a volume is not backed up", "resilience/told"},
}

// events are the rows of those whose requirements there are.
func (t *table) events() (rows []markdown.Row) {
	for _, e := range Events {
		if _, known := t.labels[e.Requirement]; known {
			rows = append(rows, markdown.Row{
				Label: markdown.Of(e.Text, e.Requirement),
				Cells: t.cells(func(c policy.Contract) string { return t.requirement(c, e.Requirement) }),
			})
		}
	}
	return rows
}
