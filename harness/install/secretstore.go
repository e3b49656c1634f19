package install

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// SecretStore applies a store of the External Secrets Operator's, over one of an earlier policy's, and waits until the operator has it
// ready. What it holds is in no error.
func SecretStore(ctx context.Context, api client.Client, store *unstructured.Unstructured, timeout time.Duration) error {
	name := store.GetKind() + " " + store.GetName()
	if err := Apply(ctx, api, []*unstructured.Unstructured{store}, nil); err != nil {
		if meta.IsNoMatchError(err) {
			return fmt.Errorf("%s: the cluster does not have the External Secrets Operator: choose a stack with STACK that has it", name)
		}
		return err
	}
	err := await(ctx, timeout, func(ctx context.Context) (bool, string, error) {
		current := &unstructured.Unstructured{}
		current.SetGroupVersionKind(store.GroupVersionKind())
		if err := api.Get(ctx, client.ObjectKeyFromObject(store), current); err != nil {
			return false, "it cannot be read: " + err.Error(), ignoreAnswers(err)
		}
		return conditionTrue(current, "Ready"), "its condition Ready is not True", nil
	})
	if err != nil {
		return fmt.Errorf("wanted the External Secrets Operator to have the %s ready within %s: %w", name, timeout, err)
	}
	return nil
}
