package claim

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/volsync"
)

// Tidied deletes a ReplicationDestination that is done, as VolSync's documentation says that one can, and waits until it is gone.
func (c *Claim) Tidied(ctx context.Context, destination *unstructured.Unstructured) {
	e, uid := c.env(), destination.GetUID()
	e.Arrange(ctx, "ReplicationDestination "+destination.GetName()+" gone", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		now := destination.DeepCopy()
		switch err := e.API.Get(ctx, client.ObjectKeyFromObject(destination), now); {
		case apierrors.IsNotFound(err), err == nil && now.GetUID() != uid: // a policy may make another at once
			return await.Reached(), nil
		case err != nil:
			return await.State{}, err
		}
		return await.NotYet("it is there, finalizers %v", now.GetFinalizers()), client.IgnoreNotFound(e.API.Delete(ctx, now, client.Preconditions{UID: &uid}))
	})
}

// BroughtBack creates a ReplicationDestination again that is gone, as tools do that bring things back: without owner and status. The
// policy may refuse it.
func (c *Claim) BroughtBack(ctx context.Context, destination *unstructured.Unstructured) {
	e := c.env()
	e.Arrange(ctx, "ReplicationDestination "+destination.GetName()+" brought back, or refused", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		switch err := e.API.Create(ctx, bare(destination)); {
		case env.NotAllowed(err):
			e.Evidence("admission", fmt.Sprintf("ReplicationDestination %s is not taken: %v", destination.GetName(), err), nil)
		case err != nil && !apierrors.IsAlreadyExists(err):
			return await.State{}, err
		default:
			e.Evidence("seen", fmt.Sprintf("ReplicationDestination %s is there again, without owner and status", destination.GetName()), nil)
		}
		return await.Reached(), nil
	})
}

// KeptBy watches, for as long as a mover would take, that the claim's app keeps what it wrote.
func (c *Claim) KeptBy(ctx context.Context, a *app.App, written string) {
	c.env().ThroughoutLasting(ctx, "the app keeps what it wrote on PVC "+c.Name, c.env().Times.Backup, app.Keeps(a, written))
}

// LeftTo leaves the claim, which no app uses, to whatever restores into it: until that is done or, for as long as a mover would take,
// nothing is.
func (c *Claim) LeftTo(ctx context.Context, destination *unstructured.Unstructured) {
	e, until := c.env(), time.Now().Add(c.env().Times.Backup)
	now := destination.DeepCopy()
	e.Arrange(ctx, "ReplicationDestination "+destination.GetName()+" done, or the time over", 2*e.Times.Backup, func(ctx context.Context) (await.State, error) {
		gone, err := c.refresh(ctx, now)
		return await.ReachedIf(time.Now().After(until) || !gone && volsync.Synced(now), "%s", volsync.Progress(now)), err
	})
	e.Evidence("seen", fmt.Sprintf("what came of it while no app ran: %s", volsync.Progress(now)), nil)
}
