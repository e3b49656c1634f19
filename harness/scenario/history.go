package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// AddSnapshot adds a restic snapshot to the repository of a PVC of this name, as VolSync would have made it at that time
// of a volume with this sentinel. It makes the repository where there is none.
func (sc *Scenario) AddSnapshot(ctx context.Context, name, sentinel string, at time.Time) {
	if len(sc.Backup(ctx, name)) == 0 {
		sc.EmptyRepository(ctx, name)
	}
	// The same host and path as VolSync's own: retention counts by them. One at a time: all specs share the folder.
	script := fmt.Sprintf(`until mkdir /tmp/adding 2>/dev/null; do sleep 0.1; done; trap 'rmdir /tmp/adding' EXIT
		printf %%s %[2]q > /data/%[4]s && cd /data &&
		restic -q backup -r %[1]s --no-cache --host volsync --time %[3]q .`,
		sc.repository(sc.prefix(name)), sentinel, at.UTC().Format(time.DateTime), dataset.SentinelName)
	sc.tool(ctx, "restic", "/bin/bash", "-c", script)
	sc.Evidence("restic", fmt.Sprintf("a snapshot of %s with the content %q is in the repository of PVC %s", at.UTC().Format(time.DateTime), sentinel, name), nil)
}

// tool runs a command in a container of the inspector. That it fails is the harness's failure.
func (sc *Scenario) tool(ctx context.Context, container string, command ...string) []byte {
	out, err := sc.execIn(ctx, sc.toolsNamespace(), inspectorPod, container, command)
	sc.must(err)
	return out
}

// EmptyRepository puts a repository without any snapshot where the backup of a PVC of this name would be: what an
// interrupted first backup leaves, or a restore of what never was.
func (sc *Scenario) EmptyRepository(ctx context.Context, name string) {
	sc.GoodBackup(ctx, name)
	s3, err := sc.Testbed.Store.S3(sc.Testbed.Credentials)
	sc.must(err)
	for key := range sc.Backup(ctx, name) {
		if strings.Contains(key, "/snapshots/") {
			sc.must(s3.RemoveObject(ctx, sc.Testbed.Store.Bucket, key, minio.RemoveObjectOptions{}))
		}
	}
}

// SnapshotKeys lists the names of the snapshots in the bucket for a PVC of this name.
func (sc *Scenario) SnapshotKeys(ctx context.Context, name string) []string {
	var keys []string
	for key := range sc.Backup(ctx, name) {
		if _, id, found := strings.Cut(key, "/snapshots/"); found {
			keys = append(keys, id)
		}
	}
	slices.Sort(keys)
	return keys
}

// SnapshotHolds fails the spec unless the snapshot can be restored with restic and has this sentinel.
func (c *Claim) SnapshotHolds(ctx context.Context, id, sentinel string) {
	if keys := c.sc.SnapshotKeys(ctx, c.Name); id != "latest" && !slices.Contains(keys, id) {
		c.sc.Failf("snapshot %.8s of PVC %s, which held %q, is gone: retention has removed it for later ones (%d are left)", id, c.Name, sentinel, len(keys))
	}
	target := fmt.Sprintf("/scratch/%s/restored-%s", c.sc.Namespace, id[:min(8, len(id))])
	c.restic(ctx, "restore", id, "--target", target, "--quiet")
	if got := string(c.sc.tool(ctx, "agent", c.sc.Testbed.AgentPath(), "get", "--file", target+"/"+dataset.SentinelName)); got != sentinel {
		c.sc.Failf("snapshot %s of PVC %s holds %q, wanted %q", id, c.Name, got, sentinel)
	}
	c.sc.Evidence("restic", fmt.Sprintf("snapshot %.8s of PVC %s can be restored and holds %q", id, c.Name, sentinel), nil)
}

// SameHourFor waits, should the hour end within d, until it has: retention by the hour must see one and the same.
func (sc *Scenario) SameHourFor(ctx context.Context, d time.Duration) {
	now := time.Now()
	next := now.Truncate(time.Hour).Add(time.Hour)
	if next.Sub(now) > d {
		return
	}
	sc.Step("waiting for the hour to end, so that what follows is all in one hour of the retention")
	select {
	case <-ctx.Done():
		sc.Unknownf("interrupted while waiting for the hour to end")
	case <-time.After(time.Until(next) + time.Second):
	}
}

// LatestSnapshot is the ID of the newest snapshot in the repository of a PVC of this name.
func (sc *Scenario) LatestSnapshot(ctx context.Context, name string) string {
	snapshots := (&Claim{sc: sc, Name: name}).Snapshots(ctx)
	if len(snapshots) == 0 {
		sc.Unknownf("there is no snapshot in the repository of PVC %s", name)
	}
	return snapshots[len(snapshots)-1].ID
}
