package scenario

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/probe"
)

// Patch changes the claim as a person would with kubectl patch (a JSON merge patch). Where the API server does not allow
// the change, that is evidence, and false is returned.
func (c *Claim) Patch(ctx context.Context, what, patch string) bool {
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.sc.Namespace, Name: c.Name}}
	err := c.sc.API.Patch(ctx, pvc, client.RawPatch("application/merge-patch+json", []byte(patch)))
	switch {
	case err == nil:
		c.sc.Evidence("seen", "PVC "+c.Name+": "+what, nil)
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err):
		c.sc.Evidence("seen", fmt.Sprintf("PVC %s: %s is not allowed here: %v", c.Name, what, err), nil)
	default:
		c.sc.must(err)
	}
	return err == nil
}

// SlowS3 lets all that the spec's namespace moves to and from S3 share this many kilobytes a second, until the
// returned function is called.
func (sc *Scenario) SlowS3(ctx context.Context, kilobytesPerSecond int64) (heal func()) {
	return sc.putFault(ctx, "slow", fmt.Sprintf("slow, %d kB/s for the namespace", kilobytesPerSecond), gateway.Rule{
		PathPrefix: sc.namespacePath(),
		Fault:      gateway.Fault{Kind: "throttle", KilobytesPerSecond: kilobytesPerSecond},
	})
}

// holdBackups keeps every backup of the claim from ending, until the returned function is called: S3 does not answer to
// the last that a mover writes, the snapshot. A restore meanwhile finds the snapshots that were there before.
func (c *Claim) holdBackups(ctx context.Context) (release func()) {
	return c.sc.putFault(ctx, "hold-backups", "holding new snapshots of PVC "+c.Name, gateway.Rule{
		PathPrefix: c.sc.path(c.Prefix() + "snapshots/"), Methods: []string{http.MethodPut},
		Fault: gateway.Fault{Kind: "hang", OnHeal: "answer"},
	})
}

// putFault puts a fault of the spec's own in force until the returned function is called, which may be done twice: as soon
// as it can, and when the spec ends.
func (sc *Scenario) putFault(ctx context.Context, name, sentence string, rule gateway.Rule) (heal func()) {
	rule.ID, rule.TTLSeconds = sc.Namespace+"-"+name, outage.TTLSeconds
	sc.must(sc.Gateway.Put(ctx, rule))
	sc.faultIs(name, sentence, true)
	on := true
	return func() {
		gone := sc.healed(ctx, name, func(ctx context.Context) error { return sc.Gateway.Heal(ctx, rule.ID) })
		if gone && on {
			sc.faultIs(name, sentence, false)
			on = false
		}
	}
}

// RestoreUnderWay waits until the claim's restore mover has read data from S3, and fails the spec where it is done by then:
// the setup gave it too little time.
func (c *Claim) RestoreUnderWay(ctx context.Context, destination *unstructured.Unstructured) {
	prefix := c.sc.path(c.Prefix() + "data/")
	c.sc.eventually(ctx, "the restore of PVC "+c.Name+" under way", moverTimeout, func(ctx context.Context) (bool, string, error) {
		page, err := c.sc.Gateway.Records(ctx, 0, prefix)
		return err == nil && slices.ContainsFunc(page.Records, func(r gateway.Record) bool {
			return r.Method == http.MethodGet && r.Time.After(c.CreatedAt) && r.UserAgent != probe.UserAgent
		}), "no data was read from S3", nil
	})
	if c.restoreDone(ctx, destination) {
		c.sc.Unknownf("the restore was done before it could be looked at")
	}
}

func (c *Claim) restoreDone(ctx context.Context, destination *unstructured.Unstructured) bool {
	c.sc.must(c.sc.API.Get(ctx, client.ObjectKeyFromObject(destination), destination))
	return triggerDone(destination)
}

// NoBackupWhileRestoring asks for backups, as a person would, one after the other while the restore runs, and fails the spec
// where a snapshot is added before the restore is done.
func (c *Claim) NoBackupWhileRestoring(ctx context.Context, destination *unstructured.Unstructured) {
	before := c.sc.SnapshotKeys(ctx, c.Name)
	looks, asked := 0, 0
	c.sc.eventually(ctx, "restore of PVC "+c.Name+" reported done, with no snapshot added before", moverTimeout, func(ctx context.Context) (bool, string, error) {
		done := c.restoreDone(ctx, destination)
		if now := c.sc.SnapshotKeys(ctx, c.Name); !done && !slices.Equal(before, now) {
			return false, "", fmt.Errorf("while the restore was writing, the snapshots became %v (they were %v): a half-restored volume is the latest backup", now, before)
		}
		if !done {
			looks++
			// The first may find the volume still empty, which VolSync does not back up.
			if c.askForBackup(ctx) {
				asked++
			}
		}
		return done, conditionsText(destination), nil
	})
	if looks < 5 {
		c.sc.Unknownf("the restore was done after %d looks: the window was too narrow to see a backup in", looks)
	}
	c.sc.Evidence("seen", fmt.Sprintf("meanwhile %d backups of PVC %s were asked for by hand", asked, c.Name), nil)
}

// NoBackupOfHalf fails the spec where any snapshot in the claim's repository was begun after the claim was made, and before
// its restore was done: whenever it ended, it is of a volume that was being filled.
func (c *Claim) NoBackupOfHalf(ctx context.Context, destination *unstructured.Unstructured) {
	done, err := time.Parse(time.RFC3339, nested(destination, "status", "lastSyncTime"))
	if err != nil {
		c.sc.Unknownf("when the restore of PVC %s was done is not known: %v", c.Name, err)
	}
	snapshots := c.Snapshots(ctx)
	for _, snapshot := range snapshots {
		if snapshot.Time.After(c.CreatedAt) && snapshot.Time.Before(done) {
			c.sc.Failf("snapshot %.8s was begun at %s, and the restore was done at %s: a half-restored volume was backed up", snapshot.ID,
				snapshot.Time.UTC().Format(time.TimeOnly), done.UTC().Format(time.TimeOnly))
		}
	}
	c.sc.Evidence("restic", fmt.Sprintf("none of %d snapshots was begun while the restore was writing", len(snapshots)), nil)
}

// askForBackup triggers a backup by hand, where there is a ReplicationSource that has done what it was last asked for, and
// says whether there was one.
func (c *Claim) askForBackup(ctx context.Context) bool {
	for _, source := range c.sc.list(ctx, install.ReplicationSource) {
		if c.isSource(&source) && triggerDone(&source) {
			c.sc.must(client.IgnoreNotFound(c.sc.triggerBackup(ctx, &source)))
			return true
		}
	}
	return false
}

// BackUpOrHold triggers a backup by hand and waits until VolSync has made it, or, for as long as a mover would take, sees
// that none is made; it says which.
func (c *Claim) BackUpOrHold(ctx context.Context) (made bool) {
	source := c.HasReplicationSource(ctx)
	before, asked := c.sc.SnapshotKeys(ctx, c.Name), false
	// As long as a first sync and one by hand take, each some 10 s; longer while a mover is at work on a busy machine.
	const patience = 30 * time.Second
	start, deadline := time.Now(), time.Now().Add(patience)
	for time.Now().Before(deadline) && !made {
		c.sc.must(c.sc.API.Get(ctx, client.ObjectKeyFromObject(source), source))
		if c.sc.moverAtWork(ctx, "volsync-src-"+source.GetName()) {
			deadline = time.Now().Add(patience)
			if time.Since(start) > 2*moverTimeout {
				c.sc.Unknownf("a backup of PVC %s is neither made nor refused after %s", c.Name, 2*moverTimeout)
			}
		}
		if !asked && nested(source, "status", "lastSyncTime") != "" {
			asked = c.askForBackup(ctx)
		}
		made = !slices.Equal(before, c.sc.SnapshotKeys(ctx, c.Name)) &&
			(!asked || triggerDone(source))
		select {
		case <-ctx.Done():
			c.sc.Unknownf("interrupted while waiting for a backup of PVC %s", c.Name)
		case <-time.After(pollInterval):
		}
	}
	if made {
		c.sc.Evidence("seen", "PVC "+c.Name+" was backed up", nil)
	} else {
		c.sc.Evidence("seen", "no backup of PVC "+c.Name+" is made: "+conditionsText(source), nil)
	}
	return made
}

// moverAtWork says whether there is a pod of this Job that has not ended.
func (sc *Scenario) moverAtWork(ctx context.Context, job string) bool {
	pods := &corev1.PodList{}
	sc.must(sc.API.List(ctx, pods, client.InNamespace(sc.Namespace), client.MatchingLabels{batchv1.JobNameLabel: job}))
	return slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodPending || pod.Status.Phase == corev1.PodRunning
	})
}

// Marks are the annotations and labels that the claim has now.
func (c *Claim) Marks(ctx context.Context) string {
	pvc, err := c.get(ctx)
	c.sc.must(err)
	return fmt.Sprint(pvc.Annotations, pvc.Labels)
}

var digits = regexp.MustCompile(`[0-9]+`)

// LooksUnlike fails the spec unless, once neither has changed for as long as Kyverno may take to react, the claim's
// annotations or labels differ from the other's in more than digits and UIDs.
func (c *Claim) LooksUnlike(ctx context.Context, other *Claim, why string) {
	plain := func(claim *Claim) string {
		return digits.ReplaceAllString(strings.ReplaceAll(claim.Marks(ctx), claim.UID, ""), "0")
	}
	var mine, others string
	settled := time.Now()
	c.sc.eventually(ctx, "nothing more written on PVCs "+c.Name+" and "+other.Name, 10*reactionTime, func(context.Context) (bool, string, error) {
		if m, o := plain(c), plain(other); m != mine || o != others {
			mine, others, settled = m, o, time.Now()
		}
		return time.Since(settled) > reactionTime, "they changed just now", nil
	})
	if mine == others {
		c.sc.Failf("%s: PVC %s is marked %s, just like PVC %s", why, c.Name, c.Marks(ctx), other.Name)
	}
	c.sc.Evidence("seen", fmt.Sprintf("PVC %s can be told from PVC %s: %s", c.Name, other.Name, c.Marks(ctx)), nil)
}

// UntouchedByBackup fails the spec unless VolSync's first sync of the claim's ReplicationSource, of an empty volume, leaves
// the bucket as it was.
func (c *Claim) UntouchedByBackup(ctx context.Context, before objectstore.Listing) {
	c.awaitFirstSync(ctx, c.HasReplicationSource(ctx))
	c.bucketUnchanged(ctx, before, "a PVC that was never written to changed the bucket, and whoever asks next finds a repository,")
}

// LeftOver makes what an earlier PVC of this name would have left of the objects that the model claim has: the same, under
// the name they would have had, with no owner. The ReplicationDestination would still restore the state of that time.
func (sc *Scenario) LeftOver(ctx context.Context, model *Claim, name string, restoreAsOf time.Time) {
	rename := func(s string) string { return strings.ReplaceAll(s, model.Name, name) }
	source, destination := model.HasReplicationSource(ctx), model.HasReplicationDestination(ctx)
	secret := &corev1.Secret{}
	sc.must(sc.API.Get(ctx, client.ObjectKey{Namespace: sc.Namespace, Name: nested(destination, "spec", "restic", "repository")}, secret))
	secret.Data["RESTIC_REPOSITORY"] = []byte(sc.repository(sc.prefix(name)))
	sc.must(sc.API.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: sc.Namespace, Name: rename(secret.Name)}, Data: secret.Data,
	}))
	var left metav1.Time
	for _, object := range []*unstructured.Unstructured{source, destination} {
		old := &unstructured.Unstructured{Object: map[string]any{"spec": object.Object["spec"]}}
		old.SetGroupVersionKind(object.GroupVersionKind())
		old.SetNamespace(sc.Namespace)
		old.SetName(rename(object.GetName()))
		old.SetLabels(object.GetLabels())
		set := func(value string, fields ...string) {
			sc.must(unstructured.SetNestedField(old.Object, value, fields...))
		}
		set(rename(secret.Name), "spec", "restic", "repository")
		if object == source {
			set(name, "spec", "sourcePVC")
		} else {
			set(name, "spec", "restic", "destinationPVC")
			set("an-earlier-life", "spec", "trigger", "manual")
			set(restoreAsOf.UTC().Format(time.RFC3339), "spec", "restic", "restoreAsOf")
		}
		sc.must(sc.API.Create(ctx, old))
		left = old.GetCreationTimestamp()
		sc.Evidence("seen", fmt.Sprintf("an earlier PVC %s left %s %s", name, old.GetKind(), old.GetName()), nil)
	}
	// Its timestamps have a resolution of a second: the next PVC's must not be the left-overs'.
	sc.eventually(ctx, "an API server that dates new objects later than the left-overs", 5*time.Second, func(ctx context.Context) (bool, string, error) {
		next := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: sc.Namespace, GenerateName: "next-"}}
		if err := sc.API.Create(ctx, next, client.DryRunAll); err != nil {
			return blind(err)
		}
		return next.CreationTimestamp.After(left.Time), "the left-overs' second", nil
	})
}

// RestoredByItsOwn waits until a ReplicationDestination that is not older than the claim has restored it.
func (c *Claim) RestoredByItsOwn(ctx context.Context) {
	pvc, err := c.get(ctx)
	c.sc.must(err)
	var own *unstructured.Unstructured
	c.sc.eventually(ctx, "a ReplicationDestination made for this PVC "+c.Name, generateTimeout, func(ctx context.Context) (bool, string, error) {
		seen := "no ReplicationDestination in the namespace"
		destinations, err := c.sc.listed(ctx, install.ReplicationDestination)
		if err != nil {
			return blind(err)
		}
		for i := range destinations {
			d := &destinations[i]
			made := d.GetCreationTimestamp()
			switch {
			case !c.isDestination(d):
			case made.Time.Before(pvc.CreationTimestamp.Time):
				seen = fmt.Sprintf("ReplicationDestination %s is older than the PVC", d.GetName())
			case c.isAnothers(d):
				seen = fmt.Sprintf("ReplicationDestination %s belongs to an earlier PVC", d.GetName())
			default:
				own = d
				return true, "", nil
			}
		}
		return false, seen, nil
	})
	c.Restored(ctx, own)
}

// Recreate deletes the claim and creates it again at once, as soon as the API server takes the name: what belonged to
// the old one may still be there.
func (c *Claim) Recreate(ctx context.Context) *Claim {
	c.sc.must(c.sc.API.Delete(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.sc.Namespace, Name: c.Name}}))
	c.sc.eventually(ctx, "PVC "+c.Name+" gone", goneTimeout, func(ctx context.Context) (bool, string, error) {
		pvc, err := c.get(ctx)
		return apierrors.IsNotFound(err), fmt.Sprintf("it is there, finalizers %v", pvc.Finalizers), nil
	})
	return c.sc.Claim(ctx, c.Name)
}

// OwnsItsObjects fails the spec unless, when the garbage collector is done with what belonged to earlier ones, the living
// claim has its ReplicationSource, and all that is there for it is its own.
func (c *Claim) OwnsItsObjects(ctx context.Context) {
	c.sc.eventually(ctx, "only objects of the living PVC "+c.Name, goneTimeout, func(ctx context.Context) (bool, string, error) {
		mine := map[string]int{}
		for _, kind := range replications {
			objects, err := c.sc.listed(ctx, kind)
			if err != nil {
				return blind(err)
			}
			for i := range objects {
				switch object := &objects[i]; {
				case !c.isSource(object) && !c.isDestination(object):
				case c.isAnothers(object):
					return false, fmt.Sprintf("%s %s belongs to an earlier PVC", kind.Kind, object.GetName()), nil
				case object.GetDeletionTimestamp() != nil:
					return false, fmt.Sprintf("%s %s is being deleted", kind.Kind, object.GetName()), nil
				default:
					mine[kind.Kind]++
				}
			}
		}
		if mine["ReplicationSource"] == 0 {
			return false, "it has no ReplicationSource", nil
		}
		return true, "", nil
	})
}

// secret is the one that the claim's ReplicationSource uses.
func (c *Claim) secret(ctx context.Context) *corev1.Secret {
	source := c.HasReplicationSource(ctx)
	secret := &corev1.Secret{}
	c.sc.eventually(ctx, "the Secret of PVC "+c.Name, generateTimeout, func(ctx context.Context) (bool, string, error) {
		err := c.sc.API.Get(ctx, client.ObjectKey{Namespace: c.sc.Namespace, Name: nested(source, "spec", "restic", "repository")}, secret)
		return err == nil, fmt.Sprint(err), nil
	})
	return secret
}

var placeholder = regexp.MustCompile(`\{\{|\}\}|\$\{|\$\(|<[A-Za-z_-]+>|(?i)changeme|(?i)placeholder|(?i)\bnull\b|<no value>`)

// SecretIsSound fails the spec where the claim's Secret has a placeholder or an empty value, lacks what restic needs, or
// can be read by somebody who cannot read the base Secret.
func (c *Claim) SecretIsSound(ctx context.Context) {
	secret := c.secret(ctx)
	for _, key := range []string{"RESTIC_REPOSITORY", "RESTIC_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		switch value := string(secret.Data[key]); {
		case value == "":
			c.sc.Failf("Secret %s has no %s", secret.Name, key)
		case placeholder.MatchString(value):
			c.sc.Failf("%s in Secret %s has a placeholder in it", key, secret.Name) // its value is in no report
		}
	}
	if want, got := c.sc.repository(c.Prefix()), string(secret.Data["RESTIC_REPOSITORY"]); got != want {
		c.sc.Failf("PVC %s is backed up to %s, wanted %s", c.Name, got, want)
	}
	for _, who := range []authorizationv1.SubjectAccessReviewSpec{
		{User: "system:serviceaccount:" + c.sc.Namespace + ":default", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + c.sc.Namespace, "system:authenticated"}},
		{User: "somebody", Groups: []string{"system:authenticated"}},
		{User: "system:anonymous", Groups: []string{"system:unauthenticated"}},
	} {
		base := c.sc.Testbed.Contract.BaseSecret.Name
		if !c.sc.mayRead(ctx, who, c.sc.baseSecretNamespace(c.sc.Namespace), base) && c.sc.mayRead(ctx, who, c.sc.Namespace, secret.Name) {
			c.sc.Failf("%s may read Secret %s, and not the base Secret", who.User, secret.Name)
		}
	}
	c.sc.Evidence("seen", "Secret "+secret.Name+" is whole, points at the PVC's own repository and is read by nobody who may not read the base Secret", nil)
}

func (sc *Scenario) mayRead(ctx context.Context, who authorizationv1.SubjectAccessReviewSpec, namespace, secret string) bool {
	who.ResourceAttributes = &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Version: "v1", Resource: "secrets", Name: secret}
	review := &authorizationv1.SubjectAccessReview{Spec: who}
	sc.must(sc.API.Create(ctx, review))
	return review.Status.Allowed
}

// NoTokenSent fails the spec where any request of the policy engine's to S3, of this or any other spec, carried a token.
func (sc *Scenario) NoTokenSent(ctx context.Context, name string) {
	page, err := sc.Gateway.Records(ctx, 0, "")
	sc.must(err)
	own, prefix := 0, sc.path(sc.prefix(name))
	for _, r := range page.Records {
		if r.Auth == "bearer" || r.Auth == "basic" || r.Auth == "other" {
			sc.Failf("%s %s from %s carried %s credentials: a Kubernetes token for S3's log", r.Method, r.Path, r.Client, r.Auth)
		}
		if r.Auth == "none" && r.UserAgent != probe.UserAgent && strings.HasPrefix(r.Path, prefix) {
			own++
		}
	}
	if own == 0 {
		sc.Unknownf("no request of the policy engine's to S3 for PVC %s was seen", name)
	}
	sc.Evidence("s3", fmt.Sprintf("of %d requests to S3 none carried a token; %d of them were the policy engine's for PVC %s", len(page.Records), own, name), nil)
}

// VolSyncsOwnVolumes fails the spec where the policy acted on a PVC that VolSync made for itself. There must be one.
func (sc *Scenario) VolSyncsOwnVolumes(ctx context.Context) {
	pvcs := &corev1.PersistentVolumeClaimList{}
	sc.must(sc.API.List(ctx, pvcs, client.InNamespace(sc.Namespace), client.MatchingLabels{"app.kubernetes.io/created-by": "volsync"}))
	if len(pvcs.Items) == 0 {
		sc.Unknownf("VolSync made no PVC of its own in %s", sc.Namespace)
	}
	sc.auditIsCurrent(ctx)
	for _, pvc := range pvcs.Items {
		absence := Absence{Spec: sc.ID, Namespace: sc.Namespace, PVC: pvc.Name, UID: string(pvc.UID), Since: sc.Started, Resources: []string{"replicationsources", "replicationdestinations", "secrets"}}
		sc.prove(ctx, absence)
	}
	sc.Evidence("audit", fmt.Sprintf("nothing was made for VolSync's own %d PVCs", len(pvcs.Items)), nil)
}

// RestoredAtMost waits, where a ReplicationDestination is made for the claim within the time that Kyverno may take, until
// its restore is reported done, and returns its name; otherwise "".
func (c *Claim) RestoredAtMost(ctx context.Context) string {
	c.HasReplicationSource(ctx)
	until := time.Now().Add(reactionTime)
	for time.Now().Before(until) {
		for _, d := range c.sc.list(ctx, install.ReplicationDestination) {
			if c.isDestination(&d) {
				c.Restored(ctx, &d)
				return d.GetName()
			}
		}
		select {
		case <-ctx.Done():
			c.sc.Unknownf("interrupted while waiting for a ReplicationDestination of PVC %s", c.Name)
		case <-time.After(pollInterval):
		}
	}
	c.never(ctx, "replicationdestinations")
	return ""
}
