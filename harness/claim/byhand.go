package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/volsync"
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

// StaysThroughAScan watches, for as long as Kyverno's background scan takes to come by, that all that was set by hand stays, and that
// the Secret keeps what the repository was made with.
func (h *ByHand) StaysThroughAScan(ctx context.Context) {
	e := h.claim.env()
	e.Throughout(ctx, "what was set by hand on the ReplicationSource of PVC "+h.claim.Name+", and its Secret, as they were", e.Times.Scan, func(ctx context.Context) (string, error) {
		now := h.secret.DeepCopy()
		err := e.API.Get(ctx, client.ObjectKeyFromObject(h.secret), now)
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
	})
}

// source says what of the claim's ReplicationSource is not as it was set; empty: all is.
func (h *ByHand) source(ctx context.Context) (undone string, err error) {
	sources, err := h.claim.claims.list(ctx, volsync.Source)
	if err != nil {
		return "", err
	}
	for i := range sources {
		if h.claim.isSource(&sources[i]) {
			return changed(setByHand, sources[i].Object, "spec"), nil
		}
	}
	return "the ReplicationSource is gone", nil
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
