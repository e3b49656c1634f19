package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/e2e-framework/klient/wait"

	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/outage"
)

// auditTimeout: the API server writes an event as it answers; this is for a busy disk.
const auditTimeout = 15 * time.Second

// Absence is something that must not happen for a claim until the end of the run. What a spec has promised here is
// looked at again when all specs are done: an object that comes late is found, too.
type Absence struct {
	Spec      string    `json:"spec"`
	Namespace string    `json:"namespace"`
	PVC       string    `json:"pvc"`
	UID       string    `json:"uid"`
	Since     time.Time `json:"since"`
	// Names are what the policy would have called what it made, by resource, where that is known.
	Names     map[string]string `json:"names,omitempty"`
	Resources []string          `json:"resources"`
}

// Violations lists what was made, as far as is known, that must not have been.
func (a Absence) Violations(ctx context.Context, known Creations) ([]string, error) {
	var found []string
	for _, kind := range a.Resources {
		created, err := known.Created(ctx, kind, a.Namespace, a.Since)
		if err != nil {
			return nil, err
		}
		for _, object := range created {
			if object.For(a.PVC, "") || a.looksLike(kind, object.Name) {
				found = append(found, fmt.Sprintf("%s %s, made by %s %.1f s after PVC %s", kind, object.Name, object.User, object.Time.Sub(a.Since).Seconds(), a.PVC))
			}
		}
	}
	return found, nil
}

// looksLike says whether an object has a name that was made for the PVC. Where nobody says how names are made, or they begin
// with the PVC's, one that does counts.
func (a Absence) looksLike(resource, name string) bool {
	promised := a.Names[resource]
	if promised != "" && !strings.HasPrefix(promised, a.PVC) {
		return name == promised
	}
	return name == promised || strings.HasPrefix(name, a.PVC+"-")
}

// NeverRestored proves that the claim got no ReplicationDestination so far, and has that looked at again at the end of
// the run. The positive control is the caller's: something that shows, at the same time, that the policy is at work.
// before is the bucket's listing for the claim; whatever made a restore run in vain would have changed it.
func (c *Claim) NeverRestored(ctx context.Context, before objectstore.Listing) {
	c.never(ctx, "replicationdestinations")
	c.bucketUnchanged(ctx, before, "the bucket is not as it was")
}

// bucketUnchanged fails the spec, for this reason, unless the bucket holds for the claim what it held before.
func (c *Claim) bucketUnchanged(ctx context.Context, before objectstore.Listing, reason string) {
	after := c.sc.Backup(ctx, c.Name)
	if lost, added := before.Lost(after), before.Added(after); len(lost)+len(added) > 0 {
		slices.Sort(added)
		c.sc.Failf("%s for PVC %s: %d objects changed or gone %v, %d new %v", reason, c.Name, len(lost), lost, len(added), added)
	}
	c.sc.Evidence("bucket", fmt.Sprintf("the bucket holds the same %d objects for PVC %s as before", len(after), c.Name), nil)
}

// lateMargin is what Kyverno and the API server take to make an object of an answer: under a second, usually. What failed
// at once is no later: Kyverno tries it five times within milliseconds and then forgets it, all of that in the outage.
const lateMargin = 3 * time.Second

// NotRestoredAfter watches, after an outage, for a ReplicationDestination of a claim that must have none, as long as one
// could still come of a probe that was made in the outage. One that hung comes back late: the kernel tries a connection
// again after 1, 3, 7, 15 … seconds, so at the latest when the time since the probe has doubled; the probe is not older
// than the claim.
func (c *Claim) NotRestoredAfter(ctx context.Context, f outage.Fault, healed time.Time) {
	until := healed.Add(lateMargin)
	if f.Hangs {
		until = until.Add(healed.Sub(c.CreatedAt))
	}
	c.unrestoredUntil(ctx, until, "S3 came back")
}

// reactionTime is how long Kyverno may take to act on a change of a PVC that concerns it; it is about 1 s.
const reactionTime = 4 * time.Second

// StaysUnrestored watches for as long as Kyverno may take to react to what was just done, and fails the spec where a
// ReplicationDestination is made for the claim.
func (c *Claim) StaysUnrestored(ctx context.Context, after string) {
	c.unrestoredUntil(ctx, time.Now().Add(reactionTime), after)
}

func (c *Claim) unrestoredUntil(ctx context.Context, until time.Time, after string) {
	absence := c.absence("replicationdestinations")
	err := wait.For(func(ctx context.Context) (bool, error) {
		violations, err := absence.Violations(ctx, c.sc.Made)
		if len(violations) > 0 {
			c.sc.Failf("after %s, a volume in use is restored over: %s", after, strings.Join(violations, "; "))
		}
		return time.Now().After(until), err
	}, wait.WithContext(ctx), wait.WithTimeout(time.Until(until)+auditTimeout), wait.WithInterval(pollInterval), wait.WithImmediate())
	if err != nil {
		c.sc.Unknownf("%s could not be watched after %s: %v", c.sc.witness(), after, err)
	}
	c.never(ctx, "replicationdestinations")
}

func (c *Claim) absence(resources ...string) Absence {
	return Absence{Spec: c.sc.ID, Namespace: c.sc.Namespace, PVC: c.Name, UID: c.UID, Since: c.CreatedAt, Names: c.promisedNames(), Resources: resources}
}

// NothingMade proves that the policy made nothing at all for the claim.
func (c *Claim) NothingMade(ctx context.Context) {
	c.never(ctx, "replicationdestinations", "replicationsources", "secrets")
}

func (c *Claim) never(ctx context.Context, resources ...string) {
	c.sc.auditIsCurrent(ctx)
	c.sc.prove(ctx, c.absence(resources...))
	c.sc.Evidence("audit", fmt.Sprintf("%s has no create of %s for PVC %s in %.1f s", c.sc.witness(), strings.Join(resources, ", "), c.Name, time.Since(c.CreatedAt).Seconds()), nil)
}

// prove fails the spec where the audit log, which must be current, knows of what must not have been, and has it looked at
// again at the end of the run.
func (s *Scenario) prove(ctx context.Context, absence Absence) {
	violations, err := absence.Violations(ctx, s.Made)
	s.must(err)
	if len(violations) > 0 {
		s.Failf("what must not be was made: %s", strings.Join(violations, "; "))
	}
	s.must(s.appendLine(AbsenceFile, absence))
}

// auditIsCurrent makes a request that is audited and waits until it is in the log: all earlier ones then are, too. Of a
// watch it waits until that is past all that was there.
func (s *Scenario) auditIsCurrent(ctx context.Context) {
	now := time.Now()
	if s.watch == nil { // a watch is told without
		s.must(s.API.Create(ctx, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "audit-marker"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
			},
		}, client.DryRunAll))
	}
	if err := wait.For(func(ctx context.Context) (bool, error) { return s.Made.Covers(ctx, now) },
		wait.WithContext(ctx), wait.WithTimeout(auditTimeout), wait.WithInterval(pollInterval), wait.WithImmediate()); err != nil {
		s.Unknownf("%s does not show what was there %s ago: absence cannot be proven (%v)", s.witness(), time.Since(now).Round(time.Second), err)
	}
}
