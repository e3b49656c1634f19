package claim

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/volsync"
)

// NeverRestored proves that the claim got no ReplicationDestination so far, and has that looked at again at the end of
// the run. The positive control is the caller's: something that shows, at the same time, that the policy is at work.
// before is the bucket's listing for the claim; whatever made a restore run in vain would have changed it.
func (c *Claim) NeverRestored(ctx context.Context, before objectstore.Listing) {
	c.neverRestored(ctx)
	if c.claims.alwaysRestores() { // that a restore of nothing makes a repository is another requirement's
		c.repos().NothingLost(ctx, c.Name, before)
		return
	}
	c.repos().Unchanged(ctx, c.Name, before, "the bucket is not as it was")
}

// NothingMadeToRestore proves that the claim got no ReplicationDestination so far, as NeverRestored does, of a claim
// whose backups may go on meanwhile: of those before nothing is lost.
func (c *Claim) NothingMadeToRestore(ctx context.Context, before objectstore.Listing) {
	c.neverRestored(ctx)
	c.repos().NothingLost(ctx, c.Name, before)
}

// NothingMade proves that the policy made nothing at all for the claim.
func (c *Claim) NothingMade(ctx context.Context) {
	c.never(ctx, absence.ReplicationDestinations, absence.ReplicationSources, absence.Secrets)
}

// NoBackupLetIn proves that VolSync could begin no backup of the claim so far, and has that looked at again at the end of the
// run: a snapshot of a volume that may have lost its data pushes a good one out. The claim must have been asked for one.
func (c *Claim) NoBackupLetIn(ctx context.Context) {
	if c.claims.copies() { // a backup of a copy takes longer than anything that was waited for before
		c.NoBackupSoFar(ctx, "nobody knows whether its data are the newest")
	}
	c.never(ctx, absence.Backups)
}

// NoBackupSoFar watches, for as long as Kyverno and VolSync may take to react, that no backup of the claim is let in. Where a copy must be made
// first, and VolSync may make it, it watches for as long as a backup would take.
func (c *Claim) NoBackupSoFar(ctx context.Context, why string) {
	c.NoBackupSince(ctx, c.env().Now(), why)
}

// NoBackupSince is NoBackupSoFar of a backup that was asked for then: what is left of that time is waited for.
func (c *Claim) NoBackupSince(ctx context.Context, asked time.Time, why string) {
	e := c.env()
	e.Eventually(ctx, "no backup of PVC "+c.Name+" let in, for as long as one would take", 2*e.Times.Backup, func(ctx context.Context) (await.State, error) {
		window := e.Times.Reaction
		if c.claims.copies() {
			switch held, err := c.cannotBeBackedUp(ctx); {
			case err != nil:
				return await.State{}, err
			case !held:
				window = e.Times.Backup
			}
		}
		over := e.Now().Sub(asked) > window // before the look: it was so for all of the window
		violations, err := c.absence(absence.Backups).Violations(ctx, e.Created)
		if err != nil {
			return await.State{}, err
		}
		if len(violations) > 0 {
			return await.RuledOut("%s, and a backup is let in: %s", why, strings.Join(violations, "; ")), nil
		}
		return await.ReachedIf(over, "none was, and one could come"), nil
	})
}

// cannotBeBackedUp says that VolSync can begin no backup of the claim as things are: it has no volume, or all its ReplicationSources
// are paused.
func (c *Claim) cannotBeBackedUp(ctx context.Context) (bool, error) {
	switch pvc, err := c.get(ctx); {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, err
	case pvc.Spec.VolumeName == "":
		return true, nil
	}
	sources, err := c.sources(ctx)
	for i := range sources {
		if !volsync.Paused(&sources[i]) {
			return false, nil
		}
	}
	return err == nil, err
}

// copies says whether backups are made of a copy of the volume.
func (c *Claims) copies() bool { return c.env.Testbed.Contract.CopyMethod != policy.CopyDirect }

// NotRestoredAfter watches, after an outage, for a ReplicationDestination of a claim that must have none, as long as one
// could still come of a probe that was made in the outage. One that hung comes back late: the kernel tries a connection
// again after 1, 3, 7, 15 … seconds, so at the latest when the time since the probe has doubled; the probe is not older
// than the claim. One that is slow to be answered may still be under way.
func (c *Claim) NotRestoredAfter(ctx context.Context, f outage.Fault, healed time.Time) {
	e := c.env()
	window := e.Times.Late + f.Delay()
	if f.Hangs {
		window += healed.Sub(c.CreatedAt)
	}
	c.unrestored(ctx, window-e.Now().Sub(healed), "S3 came back")
}

// StaysUnrestored watches for as long as Kyverno may take to react to what was just done, and fails the spec where a
// ReplicationDestination is made for the claim.
func (c *Claim) StaysUnrestored(ctx context.Context, after string) {
	c.unrestored(ctx, c.env().Times.Reaction, after)
}

// StayUnrestored is StaysUnrestored of several claims, after what was done then: what is left of that time is waited for once.
func (c *Claims) StayUnrestored(ctx context.Context, since time.Time, after string, claims ...*Claim) {
	until := since.Add(c.env.Times.Reaction)
	for _, claim := range claims {
		claim.unrestored(ctx, until.Sub(c.env.Now()), after)
	}
}

// Now is the time on the API server's clock.
func (c *Claims) Now() time.Time { return c.env.Now() }

// unrestored watches, for the window, that no ReplicationDestination is made for the claim, and then proves it.
func (c *Claim) unrestored(ctx context.Context, window time.Duration, after string) {
	e := c.env()
	if c.claims.alwaysRestores() {
		c.staysUnfilled(ctx, after)
		return
	}
	// The first to ask reads all that there is of an audit log, which may take longer than a window may go unwatched.
	e.Arrange(ctx, e.Witness()+" read", e.Times.Audit, func(context.Context) (await.State, error) {
		_, err := c.absence(absence.ReplicationDestinations).Violations(ctx, e.Created)
		return await.Reached(), err
	})
	e.Throughout(ctx, fmt.Sprintf("no ReplicationDestination for PVC %s after %s", c.Name, after), max(window, 0), func(ctx context.Context) (string, error) {
		violations, err := c.absence(absence.ReplicationDestinations).Violations(ctx, e.Created)
		if err != nil || len(violations) == 0 {
			return "", err
		}
		return fmt.Sprintf("after %s, a volume in use is restored over: %s", after, strings.Join(violations, "; ")), nil
	})
	c.never(ctx, absence.ReplicationDestinations)
}

// neverRestored proves that nothing restores into the claim so far: that there is no ReplicationDestination or, where there is one in any
// case, that it has restored no snapshot.
func (c *Claim) neverRestored(ctx context.Context) {
	if c.claims.alwaysRestores() {
		c.neverFilled(ctx)
		return
	}
	c.never(ctx, absence.ReplicationDestinations)
}

// restores are the ReplicationDestinations that were made for the claim, or what was restored where there is one in any case.
func (c *Claim) restores(ctx context.Context) ([]string, error) {
	if !c.claims.alwaysRestores() {
		return c.absence(absence.ReplicationDestinations).Violations(ctx, c.env().Created)
	}
	seen, err := c.filled(ctx)
	if seen == "" {
		return nil, err
	}
	return []string{seen}, err
}

func (c *Claim) absence(resources ...string) absence.Absence {
	return absence.Absence{
		Spec: c.env().ID, Namespace: c.env().Namespace, PVC: c.Name, UID: c.UID, Since: c.CreatedAt, Begun: c.env().Started, Names: c.promisedNames(), Resources: resources,
	}
}

// promisedNames are what the policy would call what it makes for the claim, by resource, where its contract says so.
func (c *Claim) promisedNames() map[string]string {
	names, promised := c.env().Testbed.Contract.Names, map[string]string{}
	for resource, template := range map[string]policy.Template{
		absence.ReplicationSources: names.ReplicationSource, absence.ReplicationDestinations: names.ReplicationDestination, absence.Secrets: names.Secret,
	} {
		if template != "" {
			promised[resource] = template.Expand(c.env().Namespace, c.Name, c.UID)
		}
	}
	if c.populatedBy != "" {
		promised[absence.ReplicationDestinations] = c.populatedBy
	}
	return promised
}

func (c *Claim) never(ctx context.Context, resources ...string) {
	c.claims.auditIsCurrent(ctx)
	c.claims.prove(ctx, c.absence(resources...))
	e := c.env()
	e.Evidence("audit", fmt.Sprintf("%s has no create of %s for PVC %s in %.1f s", e.Witness(), strings.Join(resources, ", "), c.Name, e.Now().Sub(c.CreatedAt).Seconds()), nil)
}

// prove fails the spec where the audit log, which must be current, knows of what must not have been, and has it looked at
// again at the end of the run.
func (c *Claims) prove(ctx context.Context, a absence.Absence) {
	violations, err := a.Violations(ctx, c.env.Created)
	c.env.Must(err)
	if len(violations) > 0 {
		c.env.Failf("must not exist, but was created: %s", strings.Join(violations, "; "))
	}
	c.env.Proven(a)
}

// auditIsCurrent makes a request that is audited and waits until it is in the log: all earlier ones then are, too. Of a
// watch it waits until that is past all that was there.
func (c *Claims) auditIsCurrent(ctx context.Context) {
	e := c.env
	now := e.Now()
	e.Arrange(ctx, e.Witness()+" is current", e.Times.Audit, func(ctx context.Context) (await.State, error) {
		if !e.Watches() { // a watch is told without
			if err := e.API.Create(ctx, auditMarker(e.Namespace), client.DryRunAll); err != nil {
				return await.State{}, err
			}
		}
		covers, err := e.Created.Covers(ctx, now)
		return await.ReachedIf(covers, "it does not show what was there %s ago: absence cannot be proven", e.Now().Sub(now).Round(time.Second)), err
	})
}

func auditMarker(namespace string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "audit-marker"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
		},
	}
}
