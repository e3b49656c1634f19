package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/policy"
)

// setByHand is what a person sets on a ReplicationSource, by its field: in an incident, or because a mover needs it.
var setByHand = map[string]any{
	"paused": true,
	"restic": map[string]any{"unlock": "by-hand", "cacheCapacity": "2Gi", "moverSecurityContext": map[string]any{"runAsUser": int64(0)}},
}

// ByHand is what a person has set on a claim's ReplicationSource, and the Secret that this uses.
type ByHand struct {
	claim  *Claim
	secret *corev1.Secret
}

// SetByHand sets on the claim's ReplicationSource what people set.
func (c *Claim) SetByHand(ctx context.Context) *ByHand {
	e, source := c.env(), c.HasReplicationSource(ctx)
	h := &ByHand{c, c.secret(ctx)}
	patch, err := json.Marshal(map[string]any{"spec": setByHand})
	e.Must(err)
	e.Do(ctx, func(ctx context.Context) error {
		return e.API.Patch(ctx, source, client.RawPatch(types.MergePatchType, patch))
	})
	e.Step("ReplicationSource %s is set by hand: %s", source.GetName(), patch)
	return h
}

// StaysThroughAScan watches, until Kyverno's background scan has come by and for as long as Kyverno then takes, that all that was set by hand stays,
// and that the Secret keeps what the repository was made with. The spec is unknown where no scan was seen that would concern the policy.
func (h *ByHand) StaysThroughAScan(ctx context.Context) {
	e := h.claim.env()
	what, since := "what was set by hand on the ReplicationSource of PVC "+h.claim.Name+", and its Secret, as they were", e.Now()
	e.Throughout(ctx, what, e.Times.Scan, h.changed)
	if !policy.Scanned(e.Testbed.PolicyObjects()) {
		e.Evidence("seen", "Kyverno's background scan asks nothing for this policy: it is not for what exists (generateExisting, mutateExisting, synchronize)", nil)
		return
	}
	scanned := h.claim.claims.scannedSince(ctx, since)
	if !scanned {
		e.Throughout(ctx, what, e.Times.Scan, h.changed)
		scanned = h.claim.claims.scannedSince(ctx, since)
	}
	if !scanned {
		e.Unknownf("in %s, no request of Kyverno's background scan was seen: on this cluster, it may come by the hour", e.Now().Sub(since).Round(time.Second))
	}
	e.Throughout(ctx, what+", after a scan", e.Times.Reaction, h.changed)
}

// scannedSince says whether Kyverno's background scan has come by since then: whether the background controller has made a request to itself, as
// it does for no other reason while the policies stay as they are.
func (c *Claims) scannedSince(ctx context.Context, since time.Time) bool {
	e, scanned := c.env, false
	if e.Watches() {
		e.Unknownf("on this cluster, nobody sees whether Kyverno's background scan comes by")
	}
	c.auditIsCurrent(ctx)
	e.Do(ctx, func(ctx context.Context) error {
		made, err := e.Created.Created(ctx, "updaterequests", "", since)
		for _, request := range made {
			if !scanned && strings.Contains(request.User, "background-controller") {
				scanned = true
				e.Evidence("audit", fmt.Sprintf("Kyverno's background scan came by %.1f s after the change", request.Time.Sub(since).Seconds()), nil)
			}
		}
		return err
	})
	return scanned
}

// changed says what is not as it was set by hand, or not as the repository was made with; empty: all is.
func (h *ByHand) changed(ctx context.Context) (string, error) {
	now := h.secret.DeepCopy()
	err := h.claim.env().API.Get(ctx, client.ObjectKeyFromObject(h.secret), now)
	switch {
	case apierrors.IsNotFound(err):
		return "Secret " + h.secret.Name + " is gone", nil
	case err != nil:
		return "", err
	}
	for _, key := range slices.Sorted(maps.Keys(h.secret.Data)) {
		if string(now.Data[key]) != string(h.secret.Data[key]) { // their values are in no report
			return fmt.Sprintf("%s in Secret %s has another value: the repository was made with the old one", key, h.secret.Name), nil
		}
	}
	return h.source(ctx)
}

// source says what of the claim's ReplicationSource is not as it was set; empty: all is.
func (h *ByHand) source(ctx context.Context) (undone string, err error) {
	sources, err := h.claim.sources(ctx)
	switch {
	case err != nil:
		return "", err
	case len(sources) == 0:
		return "the ReplicationSource is gone", nil
	}
	return changed(setByHand, sources[0].Object, "spec"), nil
}

// changed is the first field of an object that is not as in want; empty: all are.
func changed(want map[string]any, object map[string]any, path ...string) string {
	for _, field := range slices.Sorted(maps.Keys(want)) {
		at := append(slices.Clone(path), field)
		found, _, _ := unstructured.NestedFieldNoCopy(object, at...)
		if below, ok := want[field].(map[string]any); ok {
			if text := changed(below, object, at...); text != "" {
				return text
			}
		} else if found != want[field] {
			return fmt.Sprintf("%v is %v, and was set to %v", at, found, want[field])
		}
	}
	return ""
}
