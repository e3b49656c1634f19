package scenario

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
)

// What is in this file takes away what a policy needs: its rights, VolSync's CRDs. Specs that use it run alone.

var customResourceDefinition = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// WithoutRights deletes the roles and bindings that belong to the policy. The returned function, which can be called again,
// puts them back. A policy that brings none has nothing to take away: the spec is unknown.
func (sc *Scenario) WithoutRights(ctx context.Context) (back func(context.Context)) {
	var rights []*unstructured.Unstructured
	for _, object := range sc.Testbed.PolicyObjects() {
		if object.GroupVersionKind().Group == "rbac.authorization.k8s.io" {
			rights = append(rights, object)
		}
	}
	if len(rights) == 0 {
		sc.Unknownf("the policy brings no roles with it, so none can be missing")
	}
	sc.must(install.Delete(ctx, sc.API, rights))
	sc.Step("%d roles and bindings of the policy are gone", len(rights))
	return once(func(ctx context.Context) {
		sc.must(install.Apply(ctx, sc.API, rights, nil))
		sc.Step("the policy's roles and bindings are there")
	})
}

// WithoutVolSync takes VolSync away, its CRDs with everything that was made of them. The returned function, which can be
// called again, installs it again.
func (sc *Scenario) WithoutVolSync(ctx context.Context) (back func(context.Context)) {
	on := sc.Off(ctx, VolSync)
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(customResourceDefinition)
	sc.must(sc.API.List(ctx, list))
	var crds []*unstructured.Unstructured
	for i := range list.Items {
		crd := &list.Items[i]
		if group, _, _ := unstructured.NestedString(crd.Object, "spec", "group"); group != install.ReplicationSource.Group {
			continue
		}
		crd.SetResourceVersion("")
		crd.SetUID("")
		crd.SetManagedFields(nil)
		crd.SetFinalizers(nil)
		unstructured.RemoveNestedField(crd.Object, "status")
		crds = append(crds, crd)
	}
	if len(crds) == 0 {
		sc.Unknownf("there are no CRDs of %s to take away", install.ReplicationSource.Group)
	}
	sc.must(install.Delete(ctx, sc.API, crds))
	for _, crd := range crds {
		sc.eventually(ctx, "CRD "+crd.GetName()+" gone", goneTimeout, func(ctx context.Context) (bool, string, error) {
			err := sc.API.Get(ctx, client.ObjectKeyFromObject(crd), crd.DeepCopy())
			return apierrors.IsNotFound(err), "it is there", nil
		})
	}
	sc.Step("VolSync is gone, with its %d CRDs", len(crds))
	return once(func(ctx context.Context) {
		sc.must(install.Apply(ctx, sc.API, crds, nil))
		on(ctx)
		sc.must(install.VolSyncAnswers(ctx, sc.API, platformTimeout))
		sc.Step("VolSync is installed again")
	})
}

// TryPolicy applies the policy. That the API server or Kyverno refuses something of it is evidence, and what whoever applies
// it reads.
func (sc *Scenario) TryPolicy(ctx context.Context) {
	taken := true
	for _, object := range sc.Testbed.PolicyObjects() {
		err := install.Apply(ctx, sc.API, []*unstructured.Unstructured{object}, nil)
		switch {
		case err == nil:
		case refusedByWebhook(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
			taken = false
			sc.Evidence("admission", fmt.Sprintf("%s %s is refused: %v", object.GetKind(), object.GetName(), err), nil)
		default:
			sc.must(err)
		}
	}
	if taken {
		sc.Evidence("admission", "the policy is taken, though VolSync's CRDs are not there", nil)
	}
}
