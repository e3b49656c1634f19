package testbed

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/timing"
)

// makePrerequisites makes what the policy's contract says that there is: the bucket with its marker, the oracle's answers, the storage class, the store of
// secrets where that is the cluster's, and the base Secret where that is in a namespace of its own. Another policy on the same testbed may want others; those of before stay.
func (s *Testbed) makePrerequisites(ctx context.Context, api client.Client) error {
	if bucket := s.Contract.S3.Bucket; bucket != s.Store.Bucket {
		if err := s.Store.UseBucket(ctx, s.Credentials, bucket); err != nil {
			return err
		}
	}
	if marker := s.Contract.S3.Marker; marker != "" {
		if err := s.Store.Put(ctx, s.Credentials, marker, s.Contract.S3.MarkerBody); err != nil {
			return err
		}
	}
	if oracle := s.Contract.Oracle; oracle.Named() {
		if err := s.Store.Gateway(s.Credentials).SetOracle(ctx, oracle.Gateway(s.Contract.S3)); err != nil {
			return fmt.Errorf("the oracle of the contract: %w", err)
		}
	}
	if err := s.makeStorageClass(ctx, api); err != nil {
		return err
	}
	if store := s.SecretStore(""); store != nil && s.Contract.SecretStore.Kind == policy.ClusterSecretStore {
		if err := install.SecretStore(ctx, api, store, timing.Setup.Policy); err != nil {
			return err
		}
	}
	namespace := s.Contract.BaseSecret.Namespace
	if namespace == "" {
		return nil
	}
	object := func(kind string, content map[string]any) *unstructured.Unstructured {
		content["apiVersion"], content["kind"] = "v1", kind
		return &unstructured.Unstructured{Object: content}
	}
	data := map[string]any{}
	for key, value := range s.baseSecretData() {
		data[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	// Applied, so that one of an earlier policy's, with other keys, becomes this one's.
	return install.Apply(ctx, api, []*unstructured.Unstructured{
		object("Namespace", map[string]any{"metadata": map[string]any{"name": namespace}}),
		object("Secret", map[string]any{"metadata": map[string]any{"name": s.Contract.BaseSecret.Name, "namespace": namespace}, "data": data}),
	}, nil)
}

// makeStorageClass makes the class that the contract's PVCs name, where there is none of that name: the default one once
// more.
func (s *Testbed) makeStorageClass(ctx context.Context, api client.Client) error {
	name := s.Contract.PVC.StorageClass
	if name == "" {
		return nil
	}
	err := api.Get(ctx, client.ObjectKey{Name: name}, &storagev1.StorageClass{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	classes := &storagev1.StorageClassList{}
	if err := api.List(ctx, classes); err != nil {
		return err
	}
	for _, class := range classes.Items {
		if class.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			class.ObjectMeta = metav1.ObjectMeta{Name: name}
			return api.Create(ctx, &class)
		}
	}
	return fmt.Errorf("the cluster has no storage class %s, and no default one to make it of", name)
}

// BaseSecret is the base Secret of a namespace with labelled PVCs, without the namespace; nil: the policy takes it from
// elsewhere.
func (s *Testbed) BaseSecret() *corev1.Secret {
	if s.Contract.BaseSecret.Namespace != "" {
		return nil
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.Contract.BaseSecret.Name}, StringData: s.baseSecretData()}
}

// SecretStore is the store of the External Secrets Operator's that the contract names, with the run's credentials and address. One that is
// not the cluster's is in this namespace. nil: the contract names none.
func (s *Testbed) SecretStore(namespace string) *unstructured.Unstructured {
	if !s.Contract.SecretStore.Named() {
		return nil
	}
	return s.Contract.SecretStore.Object(namespace, s.StoreValues())
}

// StoreValues are what the placeholders of the store's values stand for in this run.
func (s *Testbed) StoreValues() policy.StoreValues {
	return policy.StoreValues{
		AccessKey: s.Credentials.AccessKey, SecretKey: s.Credentials.SecretKey, ResticPassword: s.Credentials.ResticPassword,
		Endpoint: s.Endpoint, CA: s.CA, Bucket: s.Contract.S3.Bucket,
	}
}

func (s *Testbed) baseSecretData() map[string]string {
	keys := s.Contract.BaseSecret.Keys
	data := map[string]string{
		keys.AccessKey:      s.Credentials.AccessKey,
		keys.SecretKey:      s.Credentials.SecretKey,
		keys.ResticPassword: s.Credentials.ResticPassword,
	}
	maps.Copy(data, s.Contract.BaseSecret.Filled(s.CA))
	return data
}
