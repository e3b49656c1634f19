package install

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestReadinessOfEitherFamilyOfPolicies(t *testing.T) {
	condition := func(kind, status, message string) map[string]any {
		return map[string]any{"type": kind, "status": status, "message": message}
	}
	for name, c := range map[string]struct {
		status  map[string]any
		ready   bool
		message string
	}{
		"no status": {nil, false, "no status yet"},
		"CEL, ready": {map[string]any{"conditionStatus": map[string]any{"ready": true}},
			true, ""},
		"CEL, without permission": {map[string]any{"conditionStatus": map[string]any{"ready": false, "conditions": []any{
			condition("WebhookConfigured", "True", ""), condition("RBACPermissionsGranted", "False", "missing permissions")}}},
			false, "RBACPermissionsGranted: missing permissions"},
		"ClusterPolicy, ready": {map[string]any{"conditions": []any{condition("Ready", "True", "")}}, true, ""},
		"ClusterPolicy, not ready": {map[string]any{"conditions": []any{condition("Ready", "False", "webhook")}},
			false, "Ready: webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &unstructured.Unstructured{Object: map[string]any{}}
			if c.status != nil {
				policy.Object["status"] = c.status
			}
			if ready, message := readiness(policy); ready != c.ready || message != c.message {
				t.Errorf("got %v, %q, wanted %v, %q", ready, message, c.ready, c.message)
			}
		})
	}
}
