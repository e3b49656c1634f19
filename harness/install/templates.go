package install

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/timing"
)

// ApplyOwner is the field manager of what is applied for each PVC.
const ApplyOwner = "smart-restore-templates"

// templatesTaken has the API server say whether it takes what is applied for each PVC, without making it, and whether the classes
// that it names are there. Policies may have a say, too: one that was just applied may be asked a moment later.
func templatesTaken(ctx context.Context, api client.Client, canary Canary) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: cmp.Or(canary.NamespacePrefix, CanaryPrefix) + strings.ToLower(rand.Text()[:8]), Labels: canary.NamespaceLabels,
	}}
	objects, err := canary.Templates(namespace.Name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefuses, err)
	}
	defer cleanUp(ctx, api, namespace)
	var refused error
	err = await(ctx, timing.Setup.Policy, func(ctx context.Context) (bool, string, error) {
		if err := client.IgnoreAlreadyExists(api.Create(ctx, namespace.DeepCopy())); err != nil {
			return false, "the namespace is not made", ignoreAnswers(err)
		}
		if refused, err = firstRefused(ctx, api, objects); err != nil {
			return false, "", err
		}
		return true, "", nil
	})
	if err != nil {
		return fmt.Errorf("wanted the API server to say whether it takes the templates within %s: %w", timing.Setup.Policy, err)
	}
	if refused != nil {
		return fmt.Errorf("%w: %w", ErrRefuses, refused)
	}
	return nil
}

// classes are the kinds of classes that objects name, by the fields' names.
var classes = map[string]schema.GroupVersionKind{
	"storageClassName":        {Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"},
	"cacheStorageClassName":   {Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"},
	"volumeSnapshotClassName": {Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotClass"},
}

// firstRefused is why one of the objects would not be taken, or would not work.
func firstRefused(ctx context.Context, api client.Client, objects []*unstructured.Unstructured) (refused, unseen error) {
	for _, object := range objects {
		name := object.GetKind() + " " + object.GetName()
		err := api.Patch(ctx, object.DeepCopy(), client.Apply, client.FieldOwner(ApplyOwner), client.ForceOwnership, client.DryRunAll) //nolint:staticcheck // Apply() takes typed configurations only
		switch {
		case meta.IsNoMatchError(err):
			return fmt.Errorf("%s: the cluster does not serve %s: choose a stack with STACK that has it", name, object.GroupVersionKind()), nil
		case err != nil && Refused(err):
			return fmt.Errorf("%s is not taken: %w", name, err), nil
		case err != nil:
			return nil, err
		}
		if missing, err := missingClass(ctx, api, object.Object); missing != "" || err != nil {
			if err == nil {
				refused = fmt.Errorf("%s names the %s, which is not there: choose a stack with STACK that has it, or another class", name, missing)
			}
			return refused, err
		}
	}
	return nil, nil
}

// missingClass is the first class that is named in a value and is not there.
func missingClass(ctx context.Context, api client.Client, value any) (string, error) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			if missing, err := missingClass(ctx, api, item); missing != "" || err != nil {
				return missing, err
			}
		}
	case map[string]any:
		for _, field := range slices.Sorted(maps.Keys(value)) {
			name, isText := value[field].(string)
			kind, isClass := classes[field]
			if !isClass || !isText || name == "" {
				if missing, err := missingClass(ctx, api, value[field]); missing != "" || err != nil {
					return missing, err
				}
				continue
			}
			class := &metav1.PartialObjectMetadata{}
			class.SetGroupVersionKind(kind)
			err := api.Get(ctx, client.ObjectKey{Name: name}, class)
			if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
				return kind.Kind + " " + name, nil
			}
			if err != nil {
				return "", err
			}
		}
	}
	return "", nil
}
