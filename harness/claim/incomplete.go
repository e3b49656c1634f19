package claim

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/volsync"
)

// WithoutPrivilegedMovers makes the namespace what one is that nobody has prepared for VolSync: its movers read what anybody may read.
func (c *Claims) WithoutPrivilegedMovers(ctx context.Context) {
	e := c.env
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace}}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, env.PrivilegedMovers)
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.Patch(ctx, namespace, client.RawPatch(types.MergePatchType, patch))
	})
	e.Step("movers have no privileges in namespace %s", e.Namespace)
}

// SaysOther says whether what was written on the claim when it was created is other words than on another one.
func (c *Claim) SaysOther(other *Claim) bool {
	differ := plain(c.said, c, other) != plain(other.said, c, other)
	if differ {
		c.env().Evidence("decision", fmt.Sprintf("PVC %s said at once %q, and PVC %s %q", c.Name, c.said, other.Name, other.said), nil)
	}
	return differ
}

// TryBackup asks for a backup, as a person would, and waits until a snapshot is added, whatever VolSync says of it, or has seen for as
// long as a mover would take that none is.
func (c *Claim) TryBackup(ctx context.Context) (added bool) {
	e, source := c.env(), c.HasReplicationSource(ctx)
	before := c.repos().SnapshotKeys(ctx, c.Name)
	c.triggerBackup(ctx, source)
	wait := c.patiently()
	e.Arrange(ctx, "a snapshot of PVC "+c.Name+", or none", 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		if gone, err := c.refresh(ctx, source); err != nil || gone {
			return await.RuledOut("ReplicationSource %s is gone", source.GetName()), err
		}
		if _, err := wait.look(ctx, source); err != nil {
			return await.State{}, err
		}
		now, err := c.repos().ListSnapshotKeys(ctx, c.Name)
		added = err == nil && !slices.Equal(before, now)
		return await.ReachedIf(added || wait.over(), "%s", volsync.Progress(source)), err
	}))
	c.env().Evidence("seen", fmt.Sprintf("a backup was tried, and a snapshot added: %t; %s", added, volsync.Progress(source)), nil)
	return added
}

// IsCalledRestored waits until the claim's restore is called a success, or has seen for as long as a mover would take that none is
// tried.
func (c *Claim) IsCalledRestored(ctx context.Context) (restored bool) {
	e := c.env()
	wait, progress := c.patiently(), "there is no ReplicationDestination"
	e.Arrange(ctx, "a restore of PVC "+c.Name+" done, or none", 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		destination, err := c.destination(ctx)
		if err != nil {
			return await.State{}, err
		}
		if destination != nil {
			progress = volsync.Progress(destination)
			restored = volsync.Synced(destination) && volsync.Nested(destination, "status", "latestMoverStatus", "result") == "Successful"
			if _, err := wait.look(ctx, destination); err != nil {
				return await.State{}, err
			}
		}
		return await.ReachedIf(restored || wait.over(), "%s", progress), nil
	}))
	e.Evidence("seen", fmt.Sprintf("the restore of PVC %s is called a success: %t; %s", c.Name, restored, progress), nil)
	return restored
}
