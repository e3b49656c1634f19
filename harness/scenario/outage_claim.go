package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/outage"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

// ClaimInOutage creates a labelled PVC during an outage and waits for what the policy must make at once: its
// ReplicationDestination where S3 says that there is a backup, else its ReplicationSource. An outage of the spec's own
// requests can only be met by Kyverno while no other spec's outage keeps it from S3 altogether.
func (sc *Scenario) ClaimInOutage(ctx context.Context, f outage.Fault, name string) *Claim {
	if !f.HoldsForAll() {
		defer sc.s3Up(ctx)()
	}
	sc.Situation("s3-down/"+f.Name, wantedOf(f.Outcome), name)
	claim := sc.createClaim(ctx, name, sc.Testbed.Contract.PVC.Labels())
	claim.AdmittedWithin(sc.Testbed.Contract.AdmissionBound())
	if f.Outcome == outage.OutcomeBackup || f.Outcome == outage.OutcomeLater {
		claim.HasNewReplicationDestination(ctx)
		return claim
	}
	// A policy that makes a ReplicationDestination may hold the ReplicationSource back for it: no use waiting then.
	absence := claim.absence("replicationdestinations")
	sc.eventually(ctx, "ReplicationSource for PVC "+name, generateTimeout, func(ctx context.Context) (bool, string, error) {
		sources, err := sc.listed(ctx, install.ReplicationSource)
		if err != nil {
			return blind(err)
		}
		for i := range sources {
			if claim.isSource(&sources[i]) {
				return true, "", nil
			}
		}
		violations, err := absence.Violations(ctx, sc.Made)
		if err == nil && len(violations) > 0 {
			sc.Failf("a ReplicationDestination was made while S3 is %s: %s", f.Sentence, strings.Join(violations, "; "))
		}
		return false, "no ReplicationSource for it", nil
	})
	return claim
}

// DecisionVisible records what the policy has written on the PVC, which is what an operator sees of its decision, and
// returns it as text: the annotations and labels that were not sent and are not Kubernetes' own. Empty: nothing.
func (c *Claim) DecisionVisible(ctx context.Context) string {
	pvc, err := c.get(ctx)
	c.sc.must(err)
	text := decisionText(pvc.Annotations, pvc.Labels, c.sc.Testbed.Contract.PVC.Labels())
	seen := "nothing"
	if text != "" {
		seen = text
	}
	c.sc.Evidence("decision", fmt.Sprintf("what the policy wrote on PVC %s: %s", c.Name, seen),
		map[string]any{"annotations": pvc.Annotations, "labels": pvc.Labels})
	return text
}

// decisionText is what of a PVC's annotations and labels, of which these labels were sent, is a policy's.
func decisionText(annotations, labels, sent map[string]string) string {
	written := maps.Clone(annotations)
	if written == nil {
		written = map[string]string{}
	}
	for key, value := range labels {
		if was, ok := sent[key]; !ok || was != value {
			written["label "+key] = value
		}
	}
	maps.DeleteFunc(written, func(key, _ string) bool {
		domain, _, _ := strings.Cut(strings.TrimPrefix(key, "label "), "/")
		return domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io")
	})
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(written)) {
		lines = append(lines, key+": "+written[key])
	}
	return strings.Join(lines, ", ")
}

// NothingMadeToRestore proves that the claim got no ReplicationDestination so far, as NeverRestored does, of a claim
// whose backups may go on meanwhile: of those before nothing is lost.
func (c *Claim) NothingMadeToRestore(ctx context.Context, before objectstore.Listing) {
	c.never(ctx, "replicationdestinations")
	after := c.sc.Backup(ctx, c.Name)
	if lost := before.Lost(after); len(lost) > 0 {
		c.sc.Failf("of the %d objects in the bucket for PVC %s %d changed or are gone: %v", len(before), c.Name, len(lost), lost)
	}
	c.sc.Evidence("bucket", fmt.Sprintf("the bucket holds the %d objects for PVC %s that were there before, and %d more", len(before), c.Name, len(after)-len(before)), nil)
}

// RestoreFailing waits until a mover has given up on the restore, and fails the spec where the restore is called
// Successful or the bucket is not as before all the same.
func (c *Claim) RestoreFailing(ctx context.Context, before objectstore.Listing) {
	c.sc.eventually(ctx, "a mover that cannot restore PVC "+c.Name, moverTimeout, func(ctx context.Context) (bool, string, error) {
		// First: a mover that has given up has not been successful before.
		destination, err := c.destination(ctx)
		if err != nil {
			return blind(err)
		}
		if nested(destination, "status", "latestMoverStatus", "result") == "Successful" || nested(destination, "status", "lastManualSync") != "" {
			return false, "", fmt.Errorf("ReplicationDestination %s says that the restore is done, which cannot be: %v", destination.GetName(), destination.Object["status"])
		}
		pods := &corev1.PodList{}
		if err := c.sc.API.List(ctx, pods, client.InNamespace(c.sc.Namespace)); err != nil {
			return blind(err)
		}
		for _, pod := range pods.Items {
			if strings.HasPrefix(pod.Name, "volsync-dst-") && pod.Status.Phase == corev1.PodFailed {
				return true, "", nil
			}
		}
		return false, conditionsText(destination), nil
	})
	c.bucketUnchanged(ctx, before, "the bucket is not as it was")
}

func (c *Claim) destination(ctx context.Context) (*unstructured.Unstructured, error) {
	destinations, err := c.sc.listed(ctx, install.ReplicationDestination)
	if err != nil {
		return nil, err
	}
	for i := range destinations {
		if c.isDestination(&destinations[i]) {
			return &destinations[i], nil
		}
	}
	return nil, fmt.Errorf("the ReplicationDestination for PVC %s is gone", c.Name)
}

// SeesGoodBackup fails the spec unless the volume holds what GoodBackup's snapshot does, and nothing else.
func (a *App) SeesGoodBackup(ctx context.Context) {
	found := a.Reads(ctx)
	if !asInGoodBackup(found.Entries) {
		a.sc.Failf("the volume is not as in the backup: wanted the one file %s with %q, found %d entries and %q", dataset.SentinelName, SeedContent, len(found.Entries), found.Seed)
	}
	a.sc.Evidence("volume", "the volume is as in the backup", nil)
}

// asInGoodBackup says whether these entries, by their paths on the volume, are what GoodBackup's snapshot holds.
func asInGoodBackup(entries []dataset.Entry) bool {
	sum := sha256.Sum256([]byte(SeedContent))
	return len(entries) == 1 && entries[0].Path == dataset.SentinelName && entries[0].SHA256 == hex.EncodeToString(sum[:])
}

// SeesGoodBackups fails the spec unless the volume of each claim, in a pod of AppOfAll, holds what GoodBackup's snapshot does,
// and nothing else.
func (a *App) SeesGoodBackups(ctx context.Context, claims []*Claim) {
	held := map[string][]dataset.Entry{}
	for _, entry := range a.Reads(ctx).Entries {
		if volume, below, ok := strings.Cut(entry.Path, "/"); ok {
			entry.Path = below
			held[volume] = append(held[volume], entry)
		}
	}
	for _, claim := range claims {
		if on := held[claim.Name]; !asInGoodBackup(on) {
			a.sc.Failf("PVC %s is not as in the backup: wanted the one file %s with %q, found %d entries: %+v", claim.Name, dataset.SentinelName, SeedContent, len(on), on)
		}
	}
	a.sc.Evidence("volume", fmt.Sprintf("all %d volumes are as in the backup", len(claims)), nil)
}
