package platform

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/volsync"
)

var externalSecret = schema.GroupVersionKind{Group: "external-secrets.io", Version: "v1", Kind: "ExternalSecret"}

// wrongPassword is what a store has in place of the restic password.
const wrongPassword = "not-the-one"

// store is the one that the contract names, with these values.
func (p *Platform) store(values policy.StoreValues) *unstructured.Unstructured {
	of := p.env.Testbed.Contract.SecretStore
	if !of.Named() {
		p.env.Unknownf("the contract names no store of the External Secrets Operator's, which this is about")
	}
	return of.Object(p.env.Namespace, values)
}

// WithoutSecretStore takes the store away that the contract names. What it returns puts it back, and waits until the operator has read it for
// every ExternalSecret of the namespace.
func (p *Platform) WithoutSecretStore(ctx context.Context) Back {
	e, store := p.env, p.store(p.env.Testbed.StoreValues())
	name := store.GetKind() + " " + store.GetName()
	back := e.Undo("the "+name, func(ctx context.Context) error {
		return p.apply(ctx, []*unstructured.Unstructured{store})
	})
	gone := time.Now()
	e.Do(ctx, func(ctx context.Context) error { return p.remove(ctx, []*unstructured.Unstructured{store}) })
	e.Arrange(ctx, name+" gone", e.Times.Gone, e.Gone(store.DeepCopy()))
	e.Step("the %s is gone", name)
	return func(ctx context.Context) {
		back(ctx)
		e.Step("the %s is back", name)
		// The operator tries again after a pause that doubles: at the latest after as long as the store was away.
		e.Arrange(ctx, "every ExternalSecret of the namespace read from the "+name, e.Times.Platform+2*time.Since(gone), func(ctx context.Context) (await.State, error) {
			read, all, err := p.externalSecrets(ctx)
			return await.ReachedIf(all > 0 && read == all, "%d of %d are", read, all), err
		})
	}
}

// SecretStoreMissed waits until the operator says of an ExternalSecret of the namespace that it cannot be read, as the store is away. Without,
// nothing was seen of that.
func (p *Platform) SecretStoreMissed(ctx context.Context) {
	e := p.env
	e.Arrange(ctx, "an ExternalSecret of the namespace that cannot be read", e.Times.Generate, func(ctx context.Context) (await.State, error) {
		read, all, err := p.externalSecrets(ctx)
		return await.ReachedIf(read < all, "%d of %d are read", read, all), err
	})
	e.Step("the operator cannot read what the ExternalSecret takes")
}

// externalSecrets counts those of the namespace, and those of them that the operator has read.
func (p *Platform) externalSecrets(ctx context.Context) (read, all int, err error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(externalSecret)
	if err := p.env.API.List(ctx, list, client.InNamespace(p.env.Namespace)); err != nil {
		return 0, 0, err
	}
	for _, item := range list.Items {
		conditions, _, _ := unstructured.NestedSlice(item.Object, "status", "conditions")
		for _, condition := range conditions {
			if c, ok := condition.(map[string]any); ok && c["type"] == "Ready" && c["status"] == "True" {
				read++
			}
		}
	}
	return read, len(list.Items), nil
}

// WrongPasswordInSecretStore has the store answer with another restic password until the spec has ended, and returns when the operator is
// seen to answer with it.
func (p *Platform) WrongPasswordInSecretStore(ctx context.Context) {
	p.passwordInSecretStore(ctx, wrongPassword)
	p.env.Step("the store of secrets has another restic password")
}

// RotatedInSecretStore has the store answer with a new restic password until the spec has ended, and refreshes the ExternalSecrets of the
// namespace, as a person does who does not want to wait for the refreshInterval. It returns when the Secrets that are made of them hold
// the new one.
func (p *Platform) RotatedInSecretStore(ctx context.Context, password string) {
	e := p.env
	p.passwordInSecretStore(ctx, password)
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(externalSecret)
	e.Do(ctx, func(ctx context.Context) error { return e.API.List(ctx, list, client.InNamespace(e.Namespace)) })
	for i := range list.Items {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"force-sync":%q}}}`, time.Now().UTC().Format(time.RFC3339Nano))
		e.Do(ctx, func(ctx context.Context) error {
			return e.API.Patch(ctx, &list.Items[i], client.RawPatch(types.MergePatchType, patch))
		})
	}
	e.Arrange(ctx, "the new password in the Secrets that are made of ExternalSecrets", e.Times.Platform, func(ctx context.Context) (await.State, error) {
		renewed, old := 0, 0
		for i := range list.Items {
			name := volsync.Nested(&list.Items[i], "spec", "target", "name")
			secret := &corev1.Secret{}
			if err := e.API.Get(ctx, client.ObjectKey{Namespace: e.Namespace, Name: cmp.Or(name, list.Items[i].GetName())}, secret); err != nil {
				return await.State{}, err
			}
			for _, value := range secret.Data {
				switch string(value) {
				case password:
					renewed++
				case e.Testbed.Credentials.ResticPassword:
					old++
				}
			}
		}
		return await.ReachedIf(renewed > 0 && old == 0, "%d hold it, %d the old one", renewed, old), nil
	})
	e.Step("the store of secrets has a new restic password, and the ExternalSecrets are refreshed")
}

// passwordInSecretStore has the store answer with this restic password until the spec has ended.
func (p *Platform) passwordInSecretStore(ctx context.Context, password string) {
	e, values := p.env, p.env.Testbed.StoreValues()
	right := p.store(values)
	values.ResticPassword = password
	other, ref := p.store(values), passwordIn(e.Testbed.Contract.SecretStore)
	if ref == nil {
		e.Unknownf("no value of the store is {resticPassword}: it can have no other one")
	}
	e.Undo("what the "+right.GetKind()+" "+right.GetName()+" holds", func(ctx context.Context) error {
		return p.apply(ctx, []*unstructured.Unstructured{right})
	})
	e.Do(ctx, func(ctx context.Context) error { return p.apply(ctx, []*unstructured.Unstructured{other}) })
	p.answers(ctx, right, ref, password)
}

// passwordIn is a reference to a value that is the restic password; nil: there is none.
func passwordIn(store policy.SecretStore) map[string]any {
	const password = "{resticPassword}"
	for _, entry := range store.Entries {
		ref := map[string]any{"key": entry.Key}
		if entry.Version != "" {
			ref["version"] = entry.Version
		}
		if entry.Value == password {
			return ref
		}
		for name, value := range entry.Properties {
			if value == password {
				ref["property"] = name
				return ref
			}
		}
	}
	return nil
}

// answers waits until an ExternalSecret of the suite's own, made anew each time, gets this password: the operator may have kept what the store
// held before.
func (p *Platform) answers(ctx context.Context, store *unstructured.Unstructured, ref map[string]any, password string) {
	e, tries := p.env, 0
	e.Arrange(ctx, "the operator answering with what the store holds now", e.Times.Platform, func(ctx context.Context) (await.State, error) {
		probe := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
			"secretStoreRef": map[string]any{"kind": store.GetKind(), "name": store.GetName()},
			"data":           []any{map[string]any{"secretKey": "value", "remoteRef": ref}},
		}}}
		probe.SetGroupVersionKind(externalSecret)
		probe.SetNamespace(e.Namespace)
		probe.SetName(fmt.Sprint("smart-restore-probe-", tries))
		if err := e.API.Create(ctx, probe.DeepCopy()); client.IgnoreAlreadyExists(err) != nil {
			return await.State{}, err
		}
		secret := &corev1.Secret{}
		err := e.API.Get(ctx, client.ObjectKeyFromObject(probe), secret)
		if apierrors.IsNotFound(err) {
			return await.NotYet("it has made no Secret yet"), nil
		}
		if err != nil {
			return await.State{}, err
		}
		// The Secret is the probe's, and goes with it.
		if err := e.API.Delete(ctx, probe); client.IgnoreNotFound(err) != nil {
			return await.State{}, err
		}
		tries++
		return await.ReachedIf(string(secret.Data["value"]) == password, "it answers with what the store held before"), nil
	})
}
