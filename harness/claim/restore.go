package claim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/probe"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/volsync"
)

// RestoreFailing waits until a mover has given up on the restore, and fails the spec where the restore is called
// Successful or the bucket is not as before all the same.
func (c *Claim) RestoreFailing(ctx context.Context, before objectstore.Listing) {
	e := c.env()
	e.Eventually(ctx, "a mover that cannot restore PVC "+c.Name, e.Times.Mover, func(ctx context.Context) (await.State, error) {
		// First: a mover that has given up has not been successful before.
		destination, err := c.destination(ctx)
		switch {
		case err != nil:
			return await.State{}, err
		case destination == nil:
			return await.RuledOut("the ReplicationDestination for PVC %s is gone", c.Name), nil
		case volsync.Nested(destination, "status", "latestMoverStatus", "result") == "Successful", volsync.Nested(destination, "status", "lastManualSync") != "":
			return await.RuledOut("ReplicationDestination %s says that the restore is done, which cannot be: %v", destination.GetName(), destination.Object["status"]), nil
		}
		if failed, err := c.restoreFailed(ctx, destination); failed || err != nil {
			return await.Reached(), err
		}
		return c.claims.notSynced(ctx, destination)
	})
	c.repos().Unchanged(ctx, c.Name, before, "the bucket is not as it was")
}

// RestoreEnded waits until VolSync calls the claim's restore done, or a mover has given up on it.
func (c *Claim) RestoreEnded(ctx context.Context) {
	e := c.env()
	e.Eventually(ctx, "an end of the restore of PVC "+c.Name, e.Times.Mover, func(ctx context.Context) (await.State, error) {
		destination, err := c.destination(ctx)
		if err != nil || destination == nil {
			return await.NotYet("no ReplicationDestination"), err
		}
		if volsync.Synced(destination) {
			return await.Reached(), nil
		}
		if failed, err := c.restoreFailed(ctx, destination); failed || err != nil {
			return await.Reached(), err
		}
		return c.claims.notSynced(ctx, destination)
	})
}

// restoreFailed says whether a mover of the claim's restore has given up.
func (c *Claim) restoreFailed(ctx context.Context, destination *unstructured.Unstructured) (bool, error) {
	pods, err := c.claims.moversOf(ctx, destination)
	return slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return pod.Status.Phase == corev1.PodFailed }), err
}

// HasOrSaysSo looks, after a restore that found something else, whether the claim has the good backup's content all the same, which has this
// sentinel, and says so. If it has not, the claim must not look like one that was restored.
func (c *Claim) HasOrSaysSo(ctx context.Context, restored *Claim, sentinel, found string) (has bool) {
	started, held := app.Try(ctx, c.env(), app.Of(c.env(), c.Name))
	if !held {
		started.Running(ctx)
		if app.Violation(ctx, started, app.Keeps(started, sentinel)) == "" {
			c.env().Evidence("volume", "PVC "+c.Name+" has been restored", nil)
			return true
		}
	}
	c.LooksUnlike(ctx, restored, found+", and nobody can see it")
	return false
}

// destination is the claim's ReplicationDestination; nil: there is none.
func (c *Claim) destination(ctx context.Context) (*unstructured.Unstructured, error) {
	destinations, err := c.claims.list(ctx, volsync.Destination)
	for i := range destinations {
		if c.isDestination(&destinations[i]) {
			return &destinations[i], err
		}
	}
	return nil, err
}

// RestoreUnderWay waits until the claim's restore mover has read data from S3. The spec is unknown where the restore is done by
// then: the set-up gave it too little time.
func (c *Claim) RestoreUnderWay(ctx context.Context, destination *unstructured.Unstructured) {
	e, prefix := c.env(), c.repos().Path(c.Name)+"data/"
	e.Eventually(ctx, "the restore of PVC "+c.Name+" under way", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		page, err := e.Gateway.Records(ctx, 0, prefix)
		if err != nil {
			return await.State{}, err
		}
		if slices.ContainsFunc(page.Records, func(r gateway.Record) bool {
			return r.Method == http.MethodGet && r.Time.After(c.CreatedAt) && r.UserAgent != probe.UserAgent
		}) {
			return await.Reached(), nil
		}
		return await.NotYet("no data was read from S3"), c.remembered(ctx, page)
	})
	c.notDone(ctx, destination)
}

// remembered is an error where the gateway may have forgotten a request that was made since the claim was.
func (c *Claim) remembered(ctx context.Context, page gateway.RecordsPage) error {
	if page.Dropped == 0 {
		return nil
	}
	all, err := c.env().Gateway.Records(ctx, 0, "")
	if err == nil && (len(all.Records) == 0 || all.Records[0].Time.After(c.CreatedAt)) {
		err = fmt.Errorf("the gateway has forgotten %d requests, some of them since PVC %s was made", all.Dropped, c.Name)
	}
	return err
}

// NoBackupWhileRestoring asks for backups of the claim, as a person would, for as long as one would take, and fails the spec where a snapshot
// is added. Where the claim's ReplicationSources are paused, it watches for as long as Kyverno and VolSync may take to react. The restore must
// be held meanwhile: the spec is unknown where it is done.
func (c *Claim) NoBackupWhileRestoring(ctx context.Context, destination *unstructured.Unstructured) {
	e := c.env()
	before := c.repos().SnapshotKeys(ctx, c.Name)
	asked, wait, done := 0, c.patiently(), false
	var heldSince time.Time
	blind := func() {
		wait.renew()
		heldSince = time.Time{}
	}
	e.Eventually(ctx, "no backup of PVC "+c.Name+" beside its restore, for as long as one would take", 2*e.Times.Mover, ifBlind(blind, func(ctx context.Context) (await.State, error) {
		over := wait.over() || !heldSince.IsZero() && time.Since(heldSince) > e.Times.Reaction // before the looks: it was so for all of the time
		// In this order: a snapshot that is there before the restore is seen not to be done was added while it was not.
		now, err := c.repos().ListSnapshotKeys(ctx, c.Name)
		if err != nil {
			return await.State{}, err
		}
		gone, err := c.refresh(ctx, destination)
		switch {
		case err != nil:
			return await.State{}, err
		case gone:
			return await.RuledOut("ReplicationDestination %s is gone", destination.GetName()), nil
		case volsync.Synced(destination):
			done = true
			return await.Reached(), nil
		case !slices.Equal(before, now):
			return await.RuledOut("while the restore was writing, the snapshots became %v (they were %v): a half-restored volume is the latest backup", now, before), nil
		case over:
			return await.Reached(), nil
		}
		if err := c.renewWhileBackedUp(ctx, wait); err != nil {
			return await.State{}, err
		}
		held, err := c.cannotBeBackedUp(ctx)
		switch {
		case err != nil:
			return await.State{}, err
		case !held:
			heldSince = time.Time{}
		case heldSince.IsZero():
			heldSince = time.Now()
		}
		// The first may find the volume still empty, which VolSync does not back up.
		was, err := c.askForBackup(ctx)
		if was {
			asked++
		}
		return await.NotYet("%s", volsync.Progress(destination)), err
	}))
	if done {
		e.Unknownf("the restore of PVC %s was done before a backup beside it could be made", c.Name)
	}
	e.Evidence("seen", fmt.Sprintf("meanwhile %d backups of PVC %s were asked for by hand", asked, c.Name), nil)
}

// renewWhileBackedUp renews the wait where a mover backs the claim up.
func (c *Claim) renewWhileBackedUp(ctx context.Context, wait *patience) error {
	sources, err := c.sources(ctx)
	for i := range sources {
		if err == nil {
			_, err = wait.look(ctx, &sources[i])
		}
	}
	return err
}

// NoBackupOfHalf waits until the claim's restore is done, and fails the spec where any snapshot in the claim's repository was begun after
// the claim was made, and before its restore was done: whenever it ended, it is of a volume that was being filled.
func (c *Claim) NoBackupOfHalf(ctx context.Context, destination *unstructured.Unstructured) {
	e := c.env()
	c.Restored(ctx, destination)
	done, err := time.Parse(time.RFC3339, volsync.Nested(destination, "status", "lastSyncTime"))
	if err != nil {
		e.Unknownf("when the restore of PVC %s was done is not known: %v", c.Name, err)
	}
	snapshots := c.repos().Snapshots(ctx, c.Name)
	for _, snapshot := range snapshots {
		if snapshot.Time.After(c.CreatedAt) && snapshot.Time.Before(done) {
			e.Failf("snapshot %.8s was begun at %s, and the restore was done at %s: a half-restored volume was backed up", snapshot.ID,
				snapshot.Time.UTC().Format(time.TimeOnly), done.UTC().Format(time.TimeOnly))
		}
	}
	e.Evidence("restic", fmt.Sprintf("none of %d snapshots was begun while the restore was writing", len(snapshots)), nil)
}

// askForBackup triggers a backup by hand, where there is a ReplicationSource that has done what it was last asked for, and
// says whether there was one.
func (c *Claim) askForBackup(ctx context.Context) (asked bool, err error) {
	sources, err := c.sources(ctx)
	for i := range sources {
		if volsync.TriggerDone(&sources[i]) {
			err := c.ask(ctx, &sources[i])
			return err == nil, client.IgnoreNotFound(err)
		}
	}
	return false, err
}

// AskForBackup asks for a backup of the claim by hand, as a person would, where it has a ReplicationSource, and waits for nothing. Where there is
// none, it says so. It returns when that was, on the API server's clock.
func (c *Claim) AskForBackup(ctx context.Context) time.Time {
	e, asked := c.env(), false
	e.Arrange(ctx, "a backup of PVC "+c.Name+" asked for", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		sources, err := c.sources(ctx)
		for i := range sources {
			asked = true
			err = errors.Join(err, client.IgnoreNotFound(c.ask(ctx, &sources[i])))
		}
		return await.Reached(), err
	})
	if !asked {
		e.Step("PVC %s has no ReplicationSource that could be asked for a backup", c.Name)
	}
	return e.Now()
}

// ask triggers a backup by hand, and leaves the ReplicationSource as it is then.
func (c *Claim) ask(ctx context.Context, source *unstructured.Unstructured) error {
	patch := fmt.Appendf(nil, `{"spec":{"trigger":{"manual":%q}}}`, "conformance-"+env.RandomSuffix())
	return c.env().API.Patch(ctx, source, client.RawPatch(types.MergePatchType, patch))
}

// BackUpOrHold waits until VolSync has made a backup: its first one, if that is still to come, else one that is triggered by hand.
// Or it sees, for as long as a mover would take, that none is made. It says which.
func (c *Claim) BackUpOrHold(ctx context.Context) (made bool) {
	e := c.env()
	source := c.HasReplicationSource(ctx)
	before, asked := c.repos().SnapshotKeys(ctx, c.Name), false
	wait := c.patiently()
	e.Arrange(ctx, "a backup of PVC "+c.Name+" made or held", 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		if gone, err := c.refresh(ctx, source); err != nil || gone {
			return await.RuledOut("ReplicationSource %s is gone", source.GetName()), err
		}
		if _, err := wait.look(ctx, source); err != nil {
			return await.State{}, err
		}
		now, err := c.repos().ListSnapshotKeys(ctx, c.Name)
		if err != nil {
			return await.State{}, err
		}
		added := !slices.Equal(before, now)
		if !asked && !added && volsync.Nested(source, "status", "lastSyncTime") != "" {
			if err := c.ask(ctx, source); err != nil {
				return await.State{}, err
			}
			asked = true
			wait.renew()
		}
		// Done, and not only uploaded: VolSync removes old snapshots after that. Once asked, the source is as it was after that: of the
		// one before, every backup is done.
		made = added && volsync.Nested(source, "status", "lastSyncTime") != "" && volsync.TriggerDone(source)
		return await.ReachedIf(made || wait.over(), "%s", volsync.Progress(source)), nil
	}))
	if made {
		e.Evidence("seen", "PVC "+c.Name+" was backed up", nil)
	} else {
		e.Evidence("seen", "no backup of PVC "+c.Name+" is made: "+volsync.Progress(source), nil)
	}
	return made
}

// patience is the wait for a mover that may never come: it lasts as long as a mover would take, and longer while one is at work, or is kept
// from it by what is no policy's doing.
type patience struct {
	claim *Claim
	until time.Time
	came  bool // there was a mover
}

func (c *Claim) patiently() *patience {
	p := &patience{claim: c}
	p.renew()
	return p
}

func (p *patience) renew() { p.renewAfter(0) }

// renewAfter renews it for a mover that may come so much later.
func (p *patience) renewAfter(later time.Duration) {
	if until := time.Now().Add(later + p.claim.env().Times.Backup); until.After(p.until) {
		p.until = until
	}
}

func (p *patience) over() bool { return time.Now().After(p.until) }

// ifBlind is a look that does this where it could not see, such as renewing a wait for what may never come: it may have come meanwhile, or
// nobody could bring it about.
func ifBlind(do func(), look await.Look) await.Look {
	return func(ctx context.Context) (await.State, error) {
		state, err := look(ctx)
		if err != nil {
			do()
		}
		return state, err
	}
}

// look renews it where there is a mover of this ReplicationSource or ReplicationDestination that has not ended, and says whether one has failed.
// Where there is none and that is no policy's doing, it is an error.
func (p *patience) look(ctx context.Context, of *unstructured.Unstructured) (failed bool, err error) {
	pods, err := p.claim.claims.moversOf(ctx, of)
	p.came = p.came || len(pods) > 0
	atWork := false
	for _, pod := range pods {
		failed = failed || pod.Status.Phase == corev1.PodFailed
		atWork = atWork || !volsync.Over(&pod)
	}
	if atWork {
		p.renew()
	}
	if atWork || err != nil {
		return failed, err
	}
	err = p.claim.claims.hindered(ctx, of)
	if errors.Is(err, errOutage) {
		p.renewAfter(jobRetry)
	}
	return failed, err
}

var digits = regexp.MustCompile(`[0-9]+`)

// plain is what is written on one of these claims, without what differs between claims of which the same is said: numbers, UIDs, and the
// names of all these claims and of their namespaces.
func plain(said string, of ...*Claim) string {
	var names []string
	for _, c := range of {
		names = append(names, c.UID, c.Name, c.env().Namespace)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may begin another
	for _, name := range names {
		if name != "" {
			said = strings.ReplaceAll(said, name, "")
		}
	}
	return digits.ReplaceAllString(said, "0")
}

// says is what is written on the claim, and whether that is other words than on another one, or on itself, when that was admitted.
func (c *Claim) says(ctx context.Context, other *Claim) (said string, differs bool, err error) {
	pvc, err := c.get(ctx)
	if err != nil {
		return "", false, err
	}
	said = c.claims.written(pvc)
	return said, plain(said, c, other) != plain(other.said, c, other), nil
}

// LooksUnlike fails the spec unless, once neither has changed for as long as Kyverno may take to react, the claim's
// annotations or labels differ from the other's in more than digits, UIDs and names.
func (c *Claim) LooksUnlike(ctx context.Context, other *Claim, why string) {
	e := c.env()
	var mine, others, marks string
	settled := time.Now()
	words := func(ctx context.Context, claim *Claim) (text, raw string, err error) {
		pvc, err := claim.get(ctx)
		if err != nil {
			return "", "", err
		}
		annotations, labels := c.claims.beside(pvc)
		raw = fmt.Sprint(decisionText(annotations, nil, nil), " ", decisionText(nil, labels, nil))
		return plain(raw, c, other), raw, nil
	}
	again := func() { settled = time.Now() }
	e.Arrange(ctx, "nothing more written on PVCs "+c.Name+" and "+other.Name, 10*e.Times.Reaction, ifBlind(again, func(ctx context.Context) (await.State, error) {
		m, raw, err := words(ctx, c)
		if err != nil {
			return await.State{}, err
		}
		o, _, err := words(ctx, other)
		if err != nil {
			return await.State{}, err
		}
		if m != mine || o != others {
			mine, others = m, o
			again()
		}
		marks = raw
		return await.ReachedIf(time.Since(settled) > e.Times.Reaction, "they changed just now"), nil
	}))
	if mine == others {
		e.Failf("%s: PVC %s is marked %s, just like PVC %s", why, c.Name, marks, other.Name)
	}
	e.Evidence("seen", fmt.Sprintf("PVC %s can be told from PVC %s: %s", c.Name, other.Name, marks), nil)
}

// UntouchedByBackup fails the spec unless VolSync's first sync of the claim's ReplicationSource, of an empty volume, leaves
// the bucket as it was.
func (c *Claim) UntouchedByBackup(ctx context.Context, before objectstore.Listing) {
	c.awaitFirstSync(ctx, c.HasReplicationSource(ctx))
	c.repos().Unchanged(ctx, c.Name, before, "a PVC that was never written to changed the bucket, and whoever asks next finds a repository,")
}

// LeftOver makes what an earlier PVC of this name would have left of the objects that the model claim has: the same, under
// the name they would have had, with no owner. The ReplicationDestination would still restore the state of that time.
func (c *Claims) LeftOver(ctx context.Context, model *Claim, name string, restoreAsOf time.Time) {
	e := c.env
	name = e.PVC(name)
	rename := func(s string) string { return strings.ReplaceAll(s, model.Name, name) }
	source, destination := model.HasReplicationSource(ctx), model.HasReplicationDestination(ctx)
	secret := &corev1.Secret{}
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: volsync.Nested(destination, "spec", "restic", "repository")}, secret)
	})
	secret.Data["RESTIC_REPOSITORY"] = []byte(c.repos.Address(name))
	e.Must(e.API.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: rename(secret.Name)}, Data: secret.Data,
	}))
	var left metav1.Time
	for _, object := range []*unstructured.Unstructured{source, destination} {
		old := &unstructured.Unstructured{Object: map[string]any{"spec": object.Object["spec"]}}
		old.SetGroupVersionKind(object.GroupVersionKind())
		old.SetNamespace(e.Namespace)
		old.SetName(rename(object.GetName()))
		old.SetLabels(object.GetLabels())
		set := func(value string, fields ...string) {
			e.Must(unstructured.SetNestedField(old.Object, value, fields...))
		}
		set(rename(secret.Name), "spec", "restic", "repository")
		if object == source {
			set(name, "spec", "sourcePVC")
		} else {
			if volsync.Nested(destination, "spec", "restic", "destinationPVC") != "" { // where VolSync fills the PVC itself, it names none
				set(name, "spec", "restic", "destinationPVC")
			}
			set("an-earlier-life", "spec", "trigger", "manual")
			set(restoreAsOf.UTC().Format(time.RFC3339), "spec", "restic", "restoreAsOf")
		}
		e.Must(e.API.Create(ctx, old))
		left = old.GetCreationTimestamp()
		e.Evidence("seen", fmt.Sprintf("an earlier PVC %s left %s %s", name, old.GetKind(), old.GetName()), nil)
	}
	// Its timestamps have a resolution of a second: the next PVC's must not be the left-overs'.
	e.Arrange(ctx, "an API server that dates new objects later than the left-overs", e.Times.Nothing, func(ctx context.Context) (await.State, error) {
		next := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, GenerateName: "next-"}}
		err := e.API.Create(ctx, next, client.DryRunAll)
		return await.ReachedIf(next.CreationTimestamp.After(left.Time), "the left-overs' second"), err
	})
}

// RestoredByItsOwn waits until a ReplicationDestination that is not older than the claim has restored it.
func (c *Claim) RestoredByItsOwn(ctx context.Context) {
	e, pvc := c.env(), c.now(ctx)
	var own *unstructured.Unstructured
	e.Eventually(ctx, "a ReplicationDestination made for this PVC "+c.Name, e.Times.Generate, func(ctx context.Context) (await.State, error) {
		seen := "no ReplicationDestination in the namespace"
		destinations, err := c.claims.list(ctx, volsync.Destination)
		if err != nil {
			return await.State{}, err
		}
		for i := range destinations {
			d := &destinations[i]
			made := d.GetCreationTimestamp()
			switch {
			case !c.isDestination(d):
			case made.Time.Before(pvc.CreationTimestamp.Time):
				seen = fmt.Sprintf("ReplicationDestination %s is older than the PVC", d.GetName())
			case volsync.OwnedByAnother(d, c.UID):
				seen = fmt.Sprintf("ReplicationDestination %s belongs to an earlier PVC", d.GetName())
			default:
				own = d
				return await.Reached(), nil
			}
		}
		return await.NotYet("%s", seen), nil
	})
	c.Restored(ctx, own)
}

// MadeUpFor waits, for as long as Kyverno's background scan takes to come by, until the claim has a ReplicationDestination, or says
// something else than when it was created: what a person can do.
func (c *Claim) MadeUpFor(ctx context.Context) {
	e := c.env()
	e.Eventually(ctx, "a ReplicationDestination for PVC "+c.Name+", or other words on it", e.Times.Scan+e.Times.Generate, func(ctx context.Context) (await.State, error) {
		destination, err := c.destination(ctx)
		if err != nil {
			return await.State{}, err
		}
		said, differs, err := c.says(ctx, c)
		if err != nil {
			return await.State{}, err
		}
		return await.ReachedIf(destination != nil || differs, "there is none, and it says %s, as it did at first", said), nil
	})
}

// RestoredAtMost waits, where a ReplicationDestination is made for the claim within the time that Kyverno may take, until
// its restore is reported done, and returns its name; otherwise "".
func (c *Claim) RestoredAtMost(ctx context.Context) string {
	c.HasReplicationSource(ctx)
	e := c.env()
	until := time.Now().Add(e.Times.Reaction)
	var found *unstructured.Unstructured
	e.Arrange(ctx, "a ReplicationDestination for PVC "+c.Name+" or none", 2*e.Times.Reaction, func(ctx context.Context) (_ await.State, err error) {
		found, err = c.destination(ctx)
		return await.ReachedIf(found != nil || time.Now().After(until), "none"), err
	})
	if found != nil {
		c.Restored(ctx, found)
		return found.GetName()
	}
	c.never(ctx, absence.ReplicationDestinations)
	return ""
}

// OwnsItsObjects fails the spec unless, when the garbage collector is done with what belonged to earlier ones, the living
// claim has its ReplicationSource, and all that is there for it is its own.
func (c *Claim) OwnsItsObjects(ctx context.Context) {
	e := c.env()
	e.Eventually(ctx, "only objects of the living PVC "+c.Name, e.Times.Gone, func(ctx context.Context) (await.State, error) {
		mine, secrets := map[string]int{}, map[string]bool{}
		for _, kind := range volsync.Kinds {
			objects, err := c.claims.list(ctx, kind)
			if err != nil {
				return await.State{}, err
			}
			for i := range objects {
				secrets[volsync.Nested(&objects[i], "spec", "restic", "repository")] = true
				switch object := &objects[i]; {
				case !c.isSource(object) && !c.isDestination(object):
				case volsync.OwnedByAnother(object, c.UID):
					return await.NotYet("%s %s belongs to an earlier PVC", kind.Kind, object.GetName()), nil
				case object.GetDeletionTimestamp() != nil:
					return await.NotYet("%s %s is being deleted", kind.Kind, object.GetName()), nil
				default:
					mine[kind.Kind]++
				}
			}
		}
		for kind, n := range mine {
			if n > 1 {
				return await.NotYet("there are %d objects of kind %s: those of earlier PVCs are left", n, kind), nil
			}
		}
		var all corev1.SecretList
		if err := e.API.List(ctx, &all, client.InNamespace(e.Namespace)); err != nil {
			return await.State{}, err
		}
		if left := unusedCredentials(all.Items, c.repos().Address(c.Name), c.UID, secrets); left != "" {
			return await.NotYet("Secret %s of an earlier PVC is left, with its credentials", left), nil
		}
		return await.ReachedIf(mine[volsync.Source.Kind] > 0, "it has no ReplicationSource"), nil
	})
}

// unusedCredentials names a Secret for a repository that nothing uses, and that does not go with the living PVC. Empty: there is none.
func unusedCredentials(secrets []corev1.Secret, repository, uid string, used map[string]bool) string {
	for _, secret := range secrets {
		owned := slices.ContainsFunc(secret.OwnerReferences, func(owner metav1.OwnerReference) bool { return string(owner.UID) == uid })
		if string(secret.Data["RESTIC_REPOSITORY"]) == repository && !used[secret.Name] && !owned {
			return secret.Name
		}
	}
	return ""
}

// TriesToRestore waits until a mover that restores into the claim has ended, or is refused by more than a quota, or has seen for as long as a
// mover would take that there is none.
func (c *Claim) TriesToRestore(ctx context.Context) {
	e, wait, seen := c.env(), c.patiently(), ""
	e.Arrange(ctx, "a mover that restores into PVC "+c.Name+" tried, or none", 2*e.Times.Mover, ifBlind(wait.renew, func(ctx context.Context) (await.State, error) {
		destination, err := c.destination(ctx)
		if err == nil && destination != nil {
			if seen, err = c.triedBy(ctx, destination); seen == "" && err == nil {
				_, err = wait.look(ctx, destination)
			}
		}
		return await.ReachedIf(seen != "" || wait.over(), "no mover has ended, and none is refused"), err
	}))
	e.Evidence("seen", fmt.Sprintf("a restore into PVC %s was tried: %s", c.Name, cmp.Or(seen, "no")), nil)
}

// triedBy says what came of the mover of a ReplicationDestination. Empty: nothing so far.
func (c *Claim) triedBy(ctx context.Context, destination *unstructured.Unstructured) (string, error) {
	if volsync.Synced(destination) {
		return "VolSync calls it done", nil
	}
	pods, err := c.claims.moversOf(ctx, destination)
	for _, pod := range pods {
		if volsync.Over(&pod) {
			return fmt.Sprintf("mover %s ended, %s", pod.Name, pod.Status.Phase), err
		}
	}
	events := &corev1.EventList{}
	if err == nil {
		err = c.env().API.List(ctx, events, client.InNamespace(c.env().Namespace))
	}
	for _, event := range events.Items {
		of := event.InvolvedObject
		if of.Kind == "Job" && of.Name == moverOf(destination) && event.Type == corev1.EventTypeWarning && !strings.Contains(event.Message, "exceeded quota") {
			return event.Message, err
		}
	}
	return "", err
}

// LateApp is an app that was started while the claim's restore could not run, or was held back by an admission webhook.
type LateApp struct {
	claim *Claim
	app   *app.App // nil: held back, or gone again
	wrote bool     // else it was held back, or waits for the volume, which VolSync fills first
}

// writtenEarly is what an app writes that was started before its restore.
const writtenEarly = "written while nothing was restored yet"

// AppBeforeRestore starts an app while the claim's restore cannot run. It writes on the volume, if it is let in.
func (c *Claim) AppBeforeRestore(ctx context.Context) *LateApp {
	started, held := app.Try(ctx, c.env(), app.Of(c.env(), c.Name))
	waits := !held && c.waitsToBeFilled(ctx)
	if !held && !waits {
		started.Running(ctx)
		started.PutSentinel(ctx, writtenEarly)
	}
	return &LateApp{c, started, !held && !waits}
}

// AppThatComesAndGoes starts the app of a PVC that is not there yet, and creates the PVC, whose restore cannot run. The app writes on the volume,
// if it is let in, and then its pod goes.
func (c *Claims) AppThatComesAndGoes(ctx context.Context, name string) *LateApp {
	started, held := app.Try(ctx, c.env, app.Of(c.env, c.env.PVC(name)))
	late := &LateApp{claim: c.Claim(ctx, name)}
	if held {
		return late
	}
	if late.wrote = !late.claim.waitsToBeFilled(ctx); late.wrote {
		started.Running(ctx)
		started.PutSentinel(ctx, writtenEarly)
	}
	started.Delete(ctx)
	return late
}

// LosesNothing proves, once the restore can run, that the app does not lose by it: either it was held back until its data was
// there, or what it wrote stays. Backups of the claim must be held meanwhile (HoldBackups): else a policy's own backup may be
// quicker than its late restore, which then restores what the app has written.
func (l *LateApp) LosesNothing(ctx context.Context) {
	c, e := l.claim, l.claim.env()
	if !l.wrote {
		started := l.app
		if started == nil {
			started = c.App(ctx)
		} else {
			started.Running(ctx)
		}
		started.Holds(ctx, repository.SeedContent, "the app was held back, and must find the restored data")
		e.Evidence("volume", "the app was held back until its data was restored", nil)
		return
	}
	c.HasReplicationSource(ctx) // so Kyverno has caught up
	keeps := func(context.Context) (string, error) { return "", nil }
	if l.app != nil {
		keeps = app.Keeps(l.app, writtenEarly)
	}
	var quiet time.Time // since when no restore is under way; zero: one is, or that is not known
	loud := func() { quiet = time.Time{} }
	e.Eventually(ctx, "no restore of PVC "+c.Name+" under way nor to come, and what the app wrote unchanged", e.Times.Mover+e.Times.Reaction, ifBlind(loud, func(ctx context.Context) (await.State, error) {
		violation, err := keeps(ctx)
		switch {
		case err != nil:
			return await.State{}, err
		case violation != "":
			return await.RuledOut("the late restore has written over it: %s", violation), nil
		}
		destinations, err := c.claims.list(ctx, volsync.Destination)
		if err != nil {
			return await.State{}, err
		}
		for i := range destinations {
			if c.isDestination(&destinations[i]) && !volsync.Synced(&destinations[i]) {
				loud()
				return await.NotYet("ReplicationDestination %s is not done", destinations[i].GetName()), nil
			}
		}
		if quiet.IsZero() {
			quiet = time.Now()
		}
		// As long as Kyverno may take: a ReplicationDestination that comes now must be done, too.
		return await.ReachedIf(time.Since(quiet) >= e.Times.Reaction, "a restore may still come"), nil
	}))
	// What was restored last is on the volume by now.
	if l.app == nil {
		c.App(ctx).Holds(ctx, writtenEarly, "the app wrote it before its pod went")
		return
	}
	if violation := app.Violation(ctx, l.app, keeps); violation != "" {
		e.Failf("the late restore has written over it: %s", violation)
	}
}
