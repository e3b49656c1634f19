package claim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/volsync"
)

// HalfBackedUp waits until a first backup of the claim, of which S3 refuses the snapshot, has failed: its repository is there then,
// and is empty. A policy may want to be told first that the volume is to be backed up as it is.
func (c *Claim) HalfBackedUp(ctx context.Context) {
	defer c.claims.s3.Up(ctx)() // a mover may have to wait for Kyverno's question, too
	e, source := c.env(), c.HasReplicationSource(ctx)
	if c.failsHalfWay(ctx, source) {
		return
	}
	if !c.claims.CanAccept() {
		e.Failf("S3 holds no backup of PVC %s, and yet none is made: %s", c.Name, volsync.Progress(source))
	}
	c.Override(ctx)
	if !c.failsHalfWay(ctx, source) {
		e.Failf("a person took PVC %s as it is, S3 holds no backup of it, and yet none is made: %s", c.Name, volsync.Progress(source))
	}
}

// failsHalfWay waits until a backup has failed that has made a repository without a snapshot, and says so, or has seen for as long
// as a mover would take that none is tried.
func (c *Claim) failsHalfWay(ctx context.Context, source *unstructured.Unstructured) (failed bool) {
	e := c.env()
	wait, config := c.patiently(), false
	wait.until = wait.until.Add(e.Times.Scan - e.Times.Backup/2) // a policy may release the backups at the next scan
	e.Arrange(ctx, "a first backup of PVC "+c.Name+" that failed half-way, or none", 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		if gone, err := c.refresh(ctx, source); err != nil || gone {
			return await.RuledOut("ReplicationSource %s is gone", source.GetName()), err
		}
		listing, err := c.repos().List(ctx, c.Name)
		if err != nil {
			return await.State{}, err
		}
		config = false
		for key := range listing {
			if strings.Contains(key, "/snapshots/") {
				return await.RuledOut("there is a snapshot, though S3 refuses them"), nil
			}
			config = config || strings.HasSuffix(key, "/config")
		}
		podFailed, err := wait.look(ctx, source)
		if err != nil {
			return await.State{}, err
		}
		failed = config && podFailed
		if !failed && volsync.Nested(source, "status", "lastSyncTime") != "" && volsync.TriggerDone(source) { // of an empty volume, or in the outage
			if err := c.ask(ctx, source); err != nil {
				return await.State{}, err
			}
		}
		return await.ReachedIf(failed || wait.over(), "%s", volsync.Progress(source)), nil
	}))
	if !failed && config && wait.came {
		e.Unknownf("a mover of PVC %s has made a repository, and it was not seen that it failed before its snapshot: %s", c.Name, volsync.Progress(source))
	}
	if failed {
		e.Evidence("bucket", "the first backup of PVC "+c.Name+" has made a repository, and failed before its snapshot", nil)
	}
	return failed
}

// SourceMadeAnew deletes the claim's ReplicationSource and touches the claim. The policy makes it anew or, where it does not, it is
// brought back by hand.
func (c *Claim) SourceMadeAnew(ctx context.Context) {
	e, old := c.env(), c.HasReplicationSource(ctx)
	again := bare(old)
	again.SetOwnerReferences(old.GetOwnerReferences())
	e.Do(ctx, func(ctx context.Context) error { return client.IgnoreNotFound(e.API.Delete(ctx, old.DeepCopy())) })
	patience, asked, byHand := time.Now().Add(e.Times.Backup/2), false, false
	e.Arrange(ctx, "the ReplicationSource of PVC "+c.Name+" made anew", e.Times.Gone+e.Times.Backup, func(ctx context.Context) (await.State, error) {
		sources, err := c.sources(ctx)
		switch {
		case err != nil:
			return await.State{}, err
		case len(sources) > 0 && sources[0].GetUID() == old.GetUID():
			return await.NotYet("the old one is there"), nil
		case len(sources) > 0:
			return await.Reached(), nil
		}
		if !asked {
			asked = true
			return await.NotYet("it is gone"), e.API.Patch(ctx, c.object(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"example.com/touched":"its source is gone"}}}`)))
		}
		if time.Now().After(patience) {
			byHand = true
			return await.NotYet("the policy does not make it"), client.IgnoreAlreadyExists(e.API.Create(ctx, again.DeepCopy()))
		}
		return await.NotYet("it is gone"), nil
	})
	by := "by the policy"
	if byHand {
		by = "by hand"
	}
	e.Evidence("seen", fmt.Sprintf("the ReplicationSource of PVC %s was deleted, and is made anew %s", c.Name, by), nil)
}

// bare is an object as tools bring it back: with its labels, its annotations and its spec, and neither owners nor status.
func bare(object *unstructured.Unstructured) *unstructured.Unstructured {
	again := &unstructured.Unstructured{Object: map[string]any{"spec": object.DeepCopy().Object["spec"]}}
	again.SetGroupVersionKind(object.GroupVersionKind())
	again.SetNamespace(object.GetNamespace())
	again.SetName(object.GetName())
	again.SetLabels(object.GetLabels())
	again.SetAnnotations(object.GetAnnotations())
	return again
}
