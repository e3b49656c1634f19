// Package claim is the user's PVC, and what a policy makes for it.
package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/alerts"
	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/s3down"
	"github.com/smart-restore/conformance/harness/scrape"
	"github.com/smart-restore/conformance/harness/subject"
	"github.com/smart-restore/conformance/harness/text"
	"github.com/smart-restore/conformance/harness/volsync"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// Claims are the PVCs of a spec's namespace.
type Claims struct {
	env        *env.Env
	repos      *repository.Repositories
	s3         *s3down.S3
	situations *situations
	metrics    func(context.Context) ([]alerts.Scrape, error) // of the stack's controllers
	templates  sync.Map                                       // *subject.Instance by a PVC's name: what template has filled in
}

// Of are the PVCs of a spec's namespace.
func Of(e *env.Env, repos *repository.Repositories, s3 *s3down.S3) *Claims {
	c := &Claims{env: e, repos: repos, s3: s3, situations: &situations{}, metrics: scrape.Of(e.Suite).Read}
	e.AfterOutage(c.situations.outageEnded)
	return c
}

// Sibling are the PVCs of another namespace of the same spec as c's.
func Sibling(c *Claims, e *env.Env, repos *repository.Repositories, s3 *s3down.S3) *Claims {
	return &Claims{env: e, repos: repos, s3: s3, situations: c.situations, metrics: c.metrics}
}

// Claim is a PVC.
type Claim struct {
	*scope
	Name string
	UID  string

	CreatedAt time.Time     // on the API server's clock, just before the request
	Admission time.Duration // how long the API server took to admit it
	atMost    bool          // the answer was lost: it took no longer than Admission, and perhaps less
	said      string        // what was written on it when it was admitted

	rest        []*unstructured.Unstructured // what was applied with it: see Set in package subject
	populatedBy string                       // the ReplicationDestination that its volume is filled from before it is bound; empty: none
}

// scope is what a claim is looked at with.
type scope struct{ claims *Claims }

func (s *scope) env() *env.Env                   { return s.claims.env }
func (s *scope) repos() *repository.Repositories { return s.claims.repos }
func (c *Claims) labels() map[string]string      { return c.env.Testbed.Contract.PVC.Labels() }
func (c *Claims) claim(name string) *Claim {
	return &Claim{scope: &scope{c}, Name: c.env.PVC(name), CreatedAt: c.env.Now()}
}
func (c *Claim) key() client.ObjectKey {
	return client.ObjectKey{Namespace: c.env().Namespace, Name: c.Name}
}
func (c *Claim) object() *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.env().Namespace, Name: c.Name}}
}

// Claim creates a labelled PVC while S3 is up for Kyverno. For one in an outage there is ClaimInOutage.
func (c *Claims) Claim(ctx context.Context, name string) (claim *Claim) {
	c.s3.WhileS3IsUp(ctx, func() { claim = c.create(ctx, name, c.labels()) })
	return claim
}

// ClaimWithoutItsSource creates a labelled PVC while S3 is up, with a dataSource that the API server leaves out and says nothing of, as it does
// with VolSync's, which belongs into dataSourceRef. There is none where the set-up's own PVC has a dataSourceRef.
func (c *Claims) ClaimWithoutItsSource(ctx context.Context, name string) (claim *Claim) {
	if c.pvc(name, c.labels()).Spec.DataSourceRef != nil {
		c.env.Step("the PVC of the set-up has a dataSourceRef: the API server leaves out no dataSource beside it")
		return nil
	}
	group := volsync.Destination.Group
	c.s3.WhileS3IsUp(ctx, func() {
		claim = c.create(ctx, name, c.labels(), func(pvc *corev1.PersistentVolumeClaim) {
			pvc.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: volsync.Destination.Kind, Name: name}
		})
	})
	if source := claim.now(ctx).Spec.DataSource; source != nil && source.Name == name {
		c.env.Unknownf("PVC %s kept its dataSource %s", name, source.Kind)
	}
	return claim
}

// ClaimOrRefusal creates a labelled PVC while S3 is up, or returns nil where an admission webhook or policy refuses it, with a reason
// that a person can act on.
func (c *Claims) ClaimOrRefusal(ctx context.Context, name string) *Claim {
	return c.orRefusal(ctx, name, fmt.Sprintf("a PVC with a name of %d characters", len(name)), func(*corev1.PersistentVolumeClaim) {})
}

// Mode is how a PVC's volume may be used.
type Mode struct {
	access corev1.PersistentVolumeAccessMode
	volume corev1.PersistentVolumeMode
}

// Modes other than the usual ReadWriteOnce and Filesystem.
var (
	Block     = Mode{corev1.ReadWriteOnce, corev1.PersistentVolumeBlock}
	OnePod    = Mode{corev1.ReadWriteOncePod, corev1.PersistentVolumeFilesystem}
	ManyNodes = Mode{corev1.ReadWriteMany, corev1.PersistentVolumeFilesystem}
)

// ClaimOfMode is ClaimOrRefusal of a PVC of this mode.
func (c *Claims) ClaimOfMode(ctx context.Context, name string, mode Mode) *Claim {
	return c.orRefusal(ctx, name, fmt.Sprintf("a PVC that is %s and %s", mode.access, mode.volume), func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.AccessModes, pvc.Spec.VolumeMode = []corev1.PersistentVolumeAccessMode{mode.access}, &mode.volume
	})
}

func (c *Claims) orRefusal(ctx context.Context, name, what string, with func(*corev1.PersistentVolumeClaim)) *Claim {
	defer c.s3.Up(ctx)() // also for the question: a policy may refuse a PVC because S3 is down for it
	pvc := c.pvc(name, c.labels())
	with(pvc)
	err := c.env.API.Create(ctx, pvc, client.DryRunAll)
	if err == nil {
		return c.create(ctx, name, c.labels(), with)
	}
	if !env.Denied(err) {
		c.env.Unknownf("PVC %s was neither admitted nor refused: %v", name, err)
	}
	c.env.Evidence("admission", fmt.Sprintf("%s is refused: %v", what, err), nil)
	return nil
}

// UnlabelledClaim creates a PVC that is none of the policy's business.
func (c *Claims) UnlabelledClaim(ctx context.Context, name string) *Claim {
	return c.create(ctx, name, nil)
}

// ClaimWithBackupSource creates a labelled PVC while S3 is up, and waits until it has its ReplicationSource.
func (c *Claims) ClaimWithBackupSource(ctx context.Context, name string) *Claim {
	defer c.s3.Up(ctx)()
	claim := c.Claim(ctx, name)
	claim.HasReplicationSource(ctx)
	claim.HasTriedToRestore(ctx) // what comes of it beside a first backup is another requirement's
	return claim
}

// ClaimAtOnce creates a labelled PVC while S3 is up, and waits for nothing but its ReplicationSource.
func (c *Claims) ClaimAtOnce(ctx context.Context, name string) *Claim {
	defer c.s3.Up(ctx)()
	claim := c.Claim(ctx, name)
	claim.HasReplicationSource(ctx)
	return claim
}

// ClaimWithRestore creates a labelled PVC while S3 is up, and waits until it has a ReplicationDestination.
func (c *Claims) ClaimWithRestore(ctx context.Context, name string) *Claim {
	defer c.s3.Up(ctx)()
	claim := c.Claim(ctx, name)
	claim.HasReplicationDestination(ctx)
	return claim
}

// ClaimThatIsRestored is ClaimWithRestore as a positive control: where a ReplicationDestination is there in any case, it waits until that
// has restored a snapshot.
func (c *Claims) ClaimThatIsRestored(ctx context.Context, name string) *Claim {
	claim := c.ClaimWithRestore(ctx, name)
	if c.alwaysRestores() {
		claim.restoresAnyway(ctx)
	}
	return claim
}

// TwinIsRestored is a positive control: a labelled PVC with a good backup, created while S3 is up, does get a
// ReplicationDestination.
func (c *Claims) TwinIsRestored(ctx context.Context) {
	c.env.Step("the positive control: with S3 up, a PVC with a backup gets a ReplicationDestination")
	defer c.s3.Up(ctx)()
	c.Twin(ctx).HasReplicationDestination(ctx)
}

// Twin creates a labelled PVC with a good backup while S3 is up. What a policy makes of it can be seen; the restore itself would be
// VolSync's and is not awaited, so the twin gets no volume.
func (c *Claims) Twin(ctx context.Context) *Claim {
	const name = "twin"
	c.repos.GoodBackup(ctx, name)
	defer c.s3.Up(ctx)()
	if c.alwaysRestores() { // that there is a ReplicationDestination shows nothing: the twin's restore must end
		twin := c.create(ctx, name, c.labels())
		twin.restoresAnyway(ctx)
		return twin
	}
	return c.create(ctx, name, c.labels(), withoutVolume)
}

// withoutVolume makes a PVC one that never gets a volume, so that no mover for it starts; unless the policy is for PVCs of one class.
func withoutVolume(pvc *corev1.PersistentVolumeClaim) {
	class := "no-such-class"
	if pvc.Spec.StorageClassName == nil {
		pvc.Spec.StorageClassName = &class
	}
}

func (c *Claims) pvc(name string, labels map[string]string) *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.env.Namespace, Name: c.env.PVC(name), Labels: labels},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("256Mi")}},
		},
	}
	if class := c.env.Testbed.Contract.PVC.StorageClass; class != "" {
		pvc.Spec.StorageClassName = &class
	}
	if c.templated() {
		pvc = c.pvcOf(pvc, labels)
	}
	if selected := c.env.Testbed.Contract.PVC; labels != nil {
		annotate(pvc, selected.Annotations)
	} else {
		annotate(pvc, selected.OptOut)
	}
	return pvc
}

// Found is the claim of a PVC that is there.
func Found(c *Claims, pvc *corev1.PersistentVolumeClaim) *Claim {
	claim := c.claim(pvc.Name)
	claim.UID, claim.CreatedAt = string(pvc.UID), pvc.CreationTimestamp.Time
	return claim
}

// annotate gives a PVC more annotations.
func annotate(pvc *corev1.PersistentVolumeClaim, more map[string]string) {
	if pvc.Annotations == nil && len(more) > 0 {
		pvc.Annotations = map[string]string{}
	}
	maps.Copy(pvc.Annotations, more)
}

// create creates a PVC. If it is refused, by the API server or by a webhook that could not be asked, the requirement fails; that
// the request could not be made is blindness.
func (c *Claims) create(ctx context.Context, name string, labels map[string]string, with ...func(*corev1.PersistentVolumeClaim)) *Claim {
	e := c.env
	pvc := c.pvc(name, labels)
	for _, change := range with {
		change(pvc)
	}
	rest := &subject.Instance{}
	if c.templated() && labels != nil {
		rest = c.instance(ctx, name)
		c.apply(ctx, name, rest.Before)
	}
	var claim *Claim
	var refused error
	first := c.claim(name)
	firstTry := time.Now()
	e.Arrange(ctx, "PVC "+name+" asked for", e.Times.Generate, func(context.Context) (await.State, error) {
		// Without the time of a look: a webhook that is slow to answer is the policy's, and seen as such.
		claim = c.claim(name)
		start := time.Now()
		err := e.API.Create(ctx, pvc)
		claim.Admission = time.Since(start)
		switch {
		case err == nil:
		case apierrors.IsAlreadyExists(err): // by a try whose answer was lost: which one, and how long it took, is not known
			err = e.API.Get(ctx, client.ObjectKeyFromObject(pvc), pvc)
			claim.CreatedAt, claim.Admission, claim.atMost = first.CreatedAt, time.Since(firstTry), true
		case env.Refused(err), apierrors.IsTimeout(err):
			refused, err = err, nil
		}
		return await.Reached(), err
	})
	c.situations.decidedOn(claim, refused)
	if refused != nil {
		e.Failf("PVC %s was not admitted after %.1f s: %v", name, claim.Admission.Seconds(), refused)
	}
	claim.UID, claim.said = string(pvc.UID), c.written(pvc)
	e.Evidence("admission", fmt.Sprintf("PVC %s admitted in %.2f s, %s", name, claim.Admission.Seconds(), annotationsText(pvc.Annotations)),
		map[string]any{"seconds": claim.Admission.Seconds(), "annotations": pvc.Annotations})
	claim.applied(ctx, pvc, rest)
	return claim
}

func annotationsText(annotations map[string]string) string {
	if len(annotations) == 0 {
		return "without annotations"
	}
	return "with " + text.Pairs(annotations)
}

// AdmittedInTime fails the spec if the PVC's creation took longer than the contract allows.
func (c *Claim) AdmittedInTime() {
	bound := c.env().Testbed.Contract.AdmissionBound()
	if c.Admission > bound && c.atMost {
		c.env().Unknownf("how long PVC %s took to be admitted was not seen: the API server's answer was lost, and it was there %.1f s after it was asked for", c.Name, c.Admission.Seconds())
	}
	if c.Admission > bound {
		c.env().Failf("PVC %s was admitted after %.1f s, want at most %s (admissionSeconds in conformance.yaml): a start-up is stalled", c.Name, c.Admission.Seconds(), bound)
	}
}

// HasReplicationSource waits for the claim's ReplicationSource and returns it.
func (c *Claim) HasReplicationSource(ctx context.Context) *unstructured.Unstructured {
	when := c.env().Testbed.Contract.BackupSource
	if when.When == policy.WhenBound {
		c.bindForSource(ctx)
	}
	return c.has(ctx, volsync.Source, c.isSource, when.Delay())
}

// ScanComesBy waits until Kyverno's background scan has come by, which shows by the claim's ReplicationSource, or would have.
func (c *Claim) ScanComesBy(ctx context.Context) {
	e := c.env()
	until := time.Now().Add(e.Times.Scan)
	e.Arrange(ctx, "Kyverno's background scan come by", e.Times.Scan+e.Times.Look, func(ctx context.Context) (await.State, error) {
		sources, err := c.sources(ctx)
		if err != nil {
			return await.State{}, err
		}
		return await.ReachedIf(len(sources) > 0 || time.Now().After(until), "PVC %s has no ReplicationSource", c.Name), nil
	})
}

// HasReplicationDestination waits for the claim's ReplicationDestination and returns it. One that belongs to an earlier claim
// is that one's.
func (c *Claim) HasReplicationDestination(ctx context.Context) *unstructured.Unstructured {
	return c.has(ctx, volsync.Destination, c.isDestination, 0)
}

// bindForSource binds the claim, which its ReplicationSource waits for, by a pod that writes nothing and is gone then.
func (c *Claim) bindForSource(ctx context.Context) {
	e := c.env()
	if c.now(ctx).Status.Phase == corev1.ClaimBound {
		return
	}
	pod := app.Of(e, c.Name)
	pod.Name = "binds" + strings.TrimPrefix(pod.Name, "app")
	consumer := app.Create(ctx, e, pod)
	c.Bound(ctx)
	consumer.Delete(ctx)
}

// has waits for an object of the kind that is for this claim, and no earlier one's.
func (c *Claim) has(ctx context.Context, kind schema.GroupVersionKind, isFor func(*unstructured.Unstructured) bool, late time.Duration) (found *unstructured.Unstructured) {
	e := c.env()
	e.Eventually(ctx, fmt.Sprintf("%s for PVC %s", kind.Kind, c.Name), e.Times.Generate+late, func(ctx context.Context) (await.State, error) {
		objects, err := c.claims.list(ctx, kind)
		if err != nil {
			return await.State{}, err
		}
		seen := fmt.Sprintf("no %s in the namespace", kind.Kind)
		for i := range objects {
			switch object := &objects[i]; {
			case !isFor(object):
				seen = fmt.Sprintf("%s %s is for something else", kind.Kind, object.GetName())
			case volsync.OwnedByAnother(object, c.UID):
				seen = fmt.Sprintf("%s %s belongs to an earlier PVC", kind.Kind, object.GetName())
			default:
				found = object
				return await.Reached(), nil
			}
		}
		return await.NotYet("%s", seen), nil
	})
	return found
}

// HasNewReplicationDestination returns the claim's ReplicationDestination, and fails the spec where it is older than the
// claim.
func (c *Claim) HasNewReplicationDestination(ctx context.Context) *unstructured.Unstructured {
	destination := c.HasReplicationDestination(ctx)
	pvc := c.now(ctx)
	made, claimed := destination.GetCreationTimestamp(), pvc.CreationTimestamp
	if made.Time.Before(claimed.Time) {
		c.env().Failf("ReplicationDestination %s (created %s) is older than PVC %s (created %s): it belongs to an earlier PVC", destination.GetName(), made, c.Name, claimed)
	}
	return destination
}

// IsNot ends the spec as unknown where two claims are one and the same object.
func (c *Claim) IsNot(other *Claim) {
	if c.UID == other.UID {
		c.env().Unknownf("PVC %s was not re-created: its UID is still %s", c.Name, c.UID)
	}
}

// Bound waits until the claim is bound. It needs a consumer.
func (c *Claim) Bound(ctx context.Context) {
	e := c.env()
	e.Eventually(ctx, fmt.Sprintf("PVC %s bound", c.Name), e.Times.Bind, func(ctx context.Context) (await.State, error) {
		pvc, err := c.get(ctx)
		switch {
		case err != nil:
			return await.State{}, err
		case pvc.Status.Phase == corev1.ClaimLost:
			return await.RuledOut("the PVC is Lost"), nil
		}
		return await.ReachedIf(pvc.Status.Phase == corev1.ClaimBound, "phase %s", pvc.Status.Phase), nil
	})
}

// App starts a pod that mounts the claim and waits until it runs.
func (c *Claim) App(ctx context.Context) *app.App {
	return app.Start(ctx, c.env(), app.Of(c.env(), c.Name))
}

// TryApp creates a pod that mounts the claim, if it is let in, and does not wait for it; nil: it is not let in.
func (c *Claim) TryApp(ctx context.Context) *app.App {
	started, _ := app.Try(ctx, c.env(), app.Of(c.env(), c.Name))
	return started
}

// AppThatLooks starts a pod that, before anything else, lists what is on the claim, without waiting for it.
func (c *Claim) AppThatLooks(ctx context.Context) *app.App {
	return app.Create(ctx, c.env(), app.ThatLooks(c.env(), c.Name))
}

// AppOn starts a pod that mounts the claim and can run on this node only, and waits until it runs.
func (c *Claim) AppOn(ctx context.Context, node string) *app.App {
	return app.Start(ctx, c.env(), app.OfOn(c.env(), c.Name, node))
}

// AppThatKeepsWriting starts a pod that writes on the claim, which is empty, as long as it runs.
func (c *Claim) AppThatKeepsWriting(ctx context.Context) *app.App {
	return app.Start(ctx, c.env(), app.ThatKeepsWriting(c.env(), c.Name))
}

// AppAtOnce starts a pod that mounts the claim, which is none of the policy's business, and fails the spec where it is refused.
func (c *Claim) AppAtOnce(ctx context.Context) *app.App {
	return app.TakenAtOnce(ctx, c.env(), app.Of(c.env(), c.Name))
}

// PodAtOnce starts a pod without any volume, and fails the spec where it is refused.
func (c *Claims) PodAtOnce(ctx context.Context) *app.App {
	return app.TakenAtOnce(ctx, c.env, app.Pod(c.env, "without-volume", nil))
}

// PodsAtOnceIn asks for a pod in each of these namespaces, without having it made, and fails the spec where it is refused.
func (c *Claims) PodsAtOnceIn(ctx context.Context, namespaces ...string) {
	for _, namespace := range namespaces {
		pod := app.Pod(c.env, "conformance", nil)
		pod.Namespace = namespace
		app.WouldBeTaken(ctx, c.env, pod)
	}
}

// Restored waits until the ReplicationDestination reports the end of the restore it was made for.
func (c *Claim) Restored(ctx context.Context, destination *unstructured.Unstructured) {
	c.synced(ctx, destination, "restore")
}

// RestoredAndProtected waits until the claim is restored by a ReplicationDestination that is not older than it, fails the spec
// unless its app sees the good backup and it is bound, and waits for its ReplicationSource.
func (c *Claim) RestoredAndProtected(ctx context.Context) {
	c.Restored(ctx, c.HasNewReplicationDestination(ctx))
	c.App(ctx).SeesGoodBackup(ctx)
	c.Bound(ctx)
	c.HasReplicationSource(ctx)
}

// BackedUp waits until there is a backup of all that the app has written so far: the one that VolSync makes as soon as
// there is a ReplicationSource, or, where that was begun too early, one triggered by hand.
func (c *Claim) BackedUp(ctx context.Context) {
	written := c.env().Now().Add(c.env().ClockError()) // movers date snapshots by their node's clock
	source := c.HasReplicationSource(ctx)
	c.awaitFirstSync(ctx, source)
	late := volsync.OfAMoment(source) && !volsync.Began(source).After(written)
	if !late && len(c.repos().Listing(ctx, c.Name)) > 0 {
		for _, snapshot := range c.repos().Snapshots(ctx, c.Name) {
			if snapshot.Time.After(written) {
				return
			}
		}
	}
	c.env().Step("the first backup began before the app was done: triggering another")
	c.BackUp(ctx)
}

// BackUp triggers a backup by hand, as a person would, and waits for its end.
func (c *Claim) BackUp(ctx context.Context) {
	source := c.HasReplicationSource(ctx)
	c.awaitFirstSync(ctx, source)
	c.triggerBackup(ctx, source)
	c.synced(ctx, source, "backup")
}

// triggerBackup asks a ReplicationSource for a backup, as a person would by hand, and returns it as it is then.
func (c *Claim) triggerBackup(ctx context.Context, source *unstructured.Unstructured) {
	e := c.env()
	e.Arrange(ctx, "a backup of PVC "+c.Name+" asked for", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		return await.Reached(), c.ask(ctx, source)
	})
}

// awaitFirstSync waits for the sync that VolSync starts with a new ReplicationSource. One that is triggered while it
// runs would be called done when the first one is. So would it be in a later one: where a backup is of a moment, none may be under way.
func (c *Claim) awaitFirstSync(ctx context.Context, source *unstructured.Unstructured) {
	e := c.env()
	e.Eventually(ctx, fmt.Sprintf("first sync of ReplicationSource %s ended", source.GetName()), e.Times.Mover, func(ctx context.Context) (await.State, error) {
		return c.isFirstSynced(ctx, source)
	})
}

func (c *Claim) isFirstSynced(ctx context.Context, source *unstructured.Unstructured) (await.State, error) {
	if gone, err := c.refresh(ctx, source); err != nil || gone {
		return await.RuledOut("ReplicationSource %s is gone", source.GetName()), err
	}
	under := volsync.OfAMoment(source) && volsync.Working(source)
	if volsync.Nested(source, "status", "lastSyncTime") != "" && !under {
		return await.Reached(), nil
	}
	return c.claims.notSynced(ctx, source)
}

// refresh reads an object again, and says whether it is gone.
func (c *Claim) refresh(ctx context.Context, object *unstructured.Unstructured) (gone bool, err error) {
	err = c.env().API.Get(ctx, client.ObjectKeyFromObject(object), object)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// synced waits until VolSync reports that it did what the object's manual trigger asks for.
func (c *Claim) synced(ctx context.Context, object *unstructured.Unstructured, what string) {
	e := c.env()
	e.Eventually(ctx, fmt.Sprintf("%s of PVC %s reported done", what, c.Name), e.Times.Mover, func(ctx context.Context) (await.State, error) {
		return c.isSynced(ctx, object)
	})
}

func (c *Claim) isSynced(ctx context.Context, object *unstructured.Unstructured) (await.State, error) {
	switch gone, err := c.refresh(ctx, object); {
	case err != nil:
		return await.State{}, err
	case gone:
		return await.RuledOut("%s %s is gone", object.GetKind(), object.GetName()), nil
	case !volsync.Synced(object):
		return c.claims.notSynced(ctx, object)
	}
	if result := volsync.Nested(object, "status", "latestMoverStatus", "result"); result != "Successful" {
		return await.RuledOut("the mover's result is %q: %s", result, volsync.Nested(object, "status", "latestMoverStatus", "logs")), nil
	}
	return await.Reached(), nil
}

// Delete deletes the claim, and waits until it and what belonged to it are gone.
func (c *Claim) Delete(ctx context.Context) {
	c.delete(ctx)
	e := c.env()
	e.Arrange(ctx, fmt.Sprintf("the objects of PVC %s gone", c.Name), e.Times.Gone, func(ctx context.Context) (await.State, error) {
		left, err := c.claims.owned(ctx, map[types.UID]bool{types.UID(c.UID): true})
		return await.ReachedIf(len(left) == 0, "%s is there", strings.Join(left, ", ")), err
	})
}

// owned are VolSync's objects that belong to one of these PVCs, each as kind and name.
func (c *Claims) owned(ctx context.Context, pvcs map[types.UID]bool) (owned []string, err error) {
	for _, kind := range volsync.Kinds {
		objects, err := c.list(ctx, kind)
		if err != nil {
			return nil, err
		}
		for i := range objects {
			if slices.ContainsFunc(objects[i].GetOwnerReferences(), func(o metav1.OwnerReference) bool { return pvcs[o.UID] }) {
				owned = append(owned, kind.Kind+" "+objects[i].GetName())
			}
		}
	}
	return owned, nil
}

// delete deletes the claim, and waits until it is gone.
func (c *Claim) delete(ctx context.Context) {
	e, pvc := c.env(), c.object()
	e.Arrange(ctx, "PVC "+c.Name+" gone", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		if err := errors.Join(client.IgnoreNotFound(e.API.Delete(ctx, pvc)), c.prune(ctx)); err != nil {
			return await.State{}, err
		}
		if left, err := c.pruned(ctx); left != "" || err != nil {
			return await.NotYet("%s", left), err
		}
		return e.Gone(pvc)(ctx)
	})
}

// Recreate deletes the claim and creates it again at once, as soon as the API server takes the name: what belonged to
// the old one may still be there.
func (c *Claim) Recreate(ctx context.Context) *Claim {
	c.delete(ctx)
	return c.claims.Claim(ctx, c.Name)
}

// Patch changes the claim as a person would with kubectl patch (a JSON merge patch). Where the API server does not allow
// the change, that is evidence, and false is returned.
func (c *Claim) Patch(ctx context.Context, what, patch string) (allowed bool) {
	e := c.env()
	e.Arrange(ctx, "PVC "+c.Name+" "+what+", or refused", e.Times.Gone, func(ctx context.Context) (await.State, error) {
		err := e.API.Patch(ctx, c.object(), client.RawPatch(types.MergePatchType, []byte(patch)))
		if env.NotAllowed(err) {
			e.Evidence("seen", fmt.Sprintf("PVC %s: %s is not allowed here: %v", c.Name, what, err), nil)
			return await.Reached(), nil
		}
		allowed = err == nil
		return await.Reached(), err
	})
	if allowed {
		e.Evidence("seen", "PVC "+c.Name+" "+what, nil)
	}
	return allowed
}

// Unlabel takes from the claim the label that the policy is about.
func (c *Claim) Unlabel(ctx context.Context) bool {
	return c.selects(ctx, "unlabelled", c.env().Testbed.Contract.PVC.Metadata(false))
}

// PausedForAWhile pauses the claim's ReplicationSources and lets them go on, as a person does with all of a namespace.
func (c *Claim) PausedForAWhile(ctx context.Context) {
	e := c.env()
	for _, paused := range []bool{true, false} {
		e.Arrange(ctx, fmt.Sprintf("the ReplicationSources of PVC %s with paused: %t", c.Name, paused), e.Times.Gone, func(ctx context.Context) (await.State, error) {
			sources, err := c.sources(ctx)
			for i := range sources {
				patch := fmt.Appendf(nil, `{"spec":{"paused":%t}}`, paused)
				err = errors.Join(err, e.API.Patch(ctx, &sources[i], client.RawPatch(types.MergePatchType, patch)))
			}
			return await.Reached(), err
		})
	}
	e.Step("the ReplicationSources of PVC %s were paused for a while", c.Name)
}

// Relabel gives the claim the label that the policy is about.
func (c *Claim) Relabel(ctx context.Context) bool {
	selected := c.env().Testbed.Contract.PVC.Metadata(true)
	if c.claims.templated() {
		c.appliedLater(ctx)
		if len(selected) == 0 {
			return true
		}
	}
	return c.selects(ctx, "labelled", selected)
}

// RelabelAs gives the label that the policy is about this value.
func (c *Claim) RelabelAs(ctx context.Context, value string) bool {
	return c.selects(ctx, "labelled with the value "+value, c.env().Testbed.Contract.PVC.Of(value).Metadata(true))
}

// selects changes what the policy selects the claim by.
func (c *Claim) selects(ctx context.Context, what string, metadata map[string]any) bool {
	if len(metadata) == 0 {
		c.env().Unknownf("PVC %s cannot be %s: its contract names nothing that selects PVCs", c.Name, what)
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	c.env().Must(err)
	return c.Patch(ctx, what, string(patch))
}

// StaysAdmitted watches, for as long as Kyverno may take, that the claim is there and not being deleted.
func (c *Claim) StaysAdmitted(ctx context.Context) { c.staysAdmitted(ctx, c.env().Times.Reaction) }

// StaysAdmittedLong is StaysAdmitted until Kyverno has given up whatever it could not do for the claim.
func (c *Claim) StaysAdmittedLong(ctx context.Context) { c.staysAdmitted(ctx, c.env().Times.GivenUp) }

func (c *Claim) staysAdmitted(ctx context.Context, window time.Duration) {
	c.env().Throughout(ctx, "PVC "+c.Name+" still there", window, func(ctx context.Context) (string, error) {
		pvc, err := c.get(ctx)
		switch {
		case apierrors.IsNotFound(err):
			return "the PVC is gone", nil
		case err == nil && pvc.DeletionTimestamp != nil:
			return "the PVC is being deleted", nil
		}
		return "", err
	})
}

// get is the claim as the API server has it now.
func (c *Claim) get(ctx context.Context) (*corev1.PersistentVolumeClaim, error) {
	pvc := &corev1.PersistentVolumeClaim{}
	err := c.env().API.Get(ctx, c.key(), pvc)
	return pvc, err
}

// now is get outside of a wait. It waits for an answer.
func (c *Claim) now(ctx context.Context) (pvc *corev1.PersistentVolumeClaim) {
	e := c.env()
	err := errors.New("not asked")
	e.Arrange(ctx, "an answer about PVC "+c.Name, e.Times.Look, func(ctx context.Context) (await.State, error) {
		pvc, err = c.get(ctx)
		return await.Reached(), client.IgnoreNotFound(err)
	})
	if err != nil {
		e.Failf("PVC %s is gone: %v", c.Name, err)
	}
	return pvc
}

// list lists the namespace's objects of a kind.
func (c *Claims) list(ctx context.Context, kind schema.GroupVersionKind) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	err := c.env.API.List(ctx, list, client.InNamespace(c.env.Namespace))
	return list.Items, err
}

// sources are the ReplicationSources of a PVC of the claim's name.
func (c *Claim) sources(ctx context.Context) ([]unstructured.Unstructured, error) {
	all, err := c.claims.list(ctx, volsync.Source)
	return slices.DeleteFunc(all, func(o unstructured.Unstructured) bool { return !c.isSource(&o) }), err
}

// isSource and isDestination say whether an object is a ReplicationSource of, a ReplicationDestination into, a PVC of the
// claim's name.
func (c *Claim) isSource(o *unstructured.Unstructured) bool { return volsync.SourceOf(o, c.Name) }

func (c *Claim) isDestination(o *unstructured.Unstructured) bool {
	if volsync.DestinationOf(o, c.Name) {
		return true
	}
	name := c.populatedBy
	if name == "" && c.claims.alwaysRestores() { // it stands there also where nothing is filled from it
		name = c.promisedNames()[absence.ReplicationDestinations]
	}
	return name != "" && o.GetName() == name && o.GetKind() == volsync.Destination.Kind
}

// HasNoAnnotations fails the spec if the claim was given any when it was created.
func (c *Claim) HasNoAnnotations(ctx context.Context) {
	annotations, _ := c.claims.beside(c.now(ctx))
	if given := decisionText(annotations, nil, nil); given != "" {
		c.env().Failf("PVC %s was given annotations: %s", c.Name, given)
	}
}

// HasSnapshots fails the spec if restic lists no snapshot of the claim.
func (c *Claim) HasSnapshots(ctx context.Context) {
	if len(c.repos().Snapshots(ctx, c.Name)) == 0 {
		c.env().Failf("the backup of PVC %s was reported done, and there is no snapshot", c.Name)
	}
}

// BackupIsExactly fails the spec unless the latest snapshot, restored with restic itself, is what was written.
func (c *Claim) BackupIsExactly(ctx context.Context, want dataset.Manifest) {
	c.repos().LatestIsExactly(ctx, c.Name, want)
}

// SnapshotHolds fails the spec unless the snapshot can be restored with restic and has this sentinel.
func (c *Claim) SnapshotHolds(ctx context.Context, id, sentinel string) {
	c.repos().SnapshotHolds(ctx, c.Name, id, sentinel)
}
