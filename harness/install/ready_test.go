package install

import (
	"errors"
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

func TestOnlyARefusalForWantOfRightsMayPass(t *testing.T) {
	for message, want := range map[string]bool{
		`admission webhook "validate-policy.kyverno.svc" denied the request: path: spec.rules[0].generate..: system:serviceaccount:kyverno:kyverno-background-controller requires permissions create for resource v1/Secret`: true,
		`admission webhook "validate-policy.kyverno.svc" denied the request: variable {{ x }} must match patterns`:                                                                                                           false,
	} {
		if got := mayPass(errors.New(message)); got != want {
			t.Errorf("%s: %v, wanted %v", message, got, want)
		}
	}
}
