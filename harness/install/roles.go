package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/stack"
)

// rbacGroup is the API group of roles and bindings.
const rbacGroup = "rbac.authorization.k8s.io"

// kubernetesModule has the roles that an API server makes itself, such as view: its own golden file of them.
const (
	kubernetesModule = "k8s.io/kubernetes"
	ownRoles         = "plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata/cluster-roles.yaml"
)

// Roles returns the roles and bindings of a stack: those that Kubernetes makes itself, and those of the stack's manifests. Those
// that need a feature gate of Kubernetes are not among them.
func (r *Renderer) Roles(ctx context.Context, lock *stack.Lock, of *stack.Stack) ([]*unstructured.Unstructured, error) {
	kubernetes, ok := lock.Build("kubernetes-" + of.Versions["kubernetes"])
	if !ok {
		return nil, fmt.Errorf("the stack %s has no build of Kubernetes %s, whose roles are needed", of.Name, of.Versions["kubernetes"])
	}
	parts := []any{"roles/1"}
	key, err := r.Modules.Key(kubernetes)
	if err != nil {
		return nil, err
	}
	parts = append(parts, key)
	var manifests []*stack.Manifest
	for _, name := range of.Manifests {
		m, _ := lock.Manifest(name)
		key, err := r.key(lock, m)
		if err != nil {
			return nil, err
		}
		manifests, parts = append(manifests, m), append(parts, key)
	}
	path, err := r.Cache.Make(ctx, "manifests", cache.Key(parts...)+".jsonl", func(out string) error {
		return r.roles(ctx, lock, kubernetes, manifests, out)
	})
	if err != nil {
		return nil, fmt.Errorf("the roles of the stack %s: %w", of.Name, err)
	}
	return readObjects(path)
}

func (r *Renderer) roles(ctx context.Context, lock *stack.Lock, kubernetes *stack.Build, manifests []*stack.Manifest, out string) error {
	module, err := r.Modules.ModuleDir(ctx, kubernetes.Name, kubernetesModule)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(module, filepath.FromSlash(ownRoles)))
	if err != nil {
		return err
	}
	all, err := listed(raw)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", ownRoles, kubernetesModule, err)
	}
	for _, m := range manifests {
		objects, err := r.Render(ctx, lock, m)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if o.GroupVersionKind().Group == rbacGroup {
				all = append(all, o)
			}
		}
	}
	return writeObjects(out, all)
}

// listed are the objects of a List, in YAML.
func listed(raw []byte) (all []*unstructured.Unstructured, err error) {
	list := &unstructured.UnstructuredList{}
	if raw, err = yaml.YAMLToJSON(raw); err == nil {
		err = list.UnmarshalJSON(raw)
	}
	if err == nil && len(list.Items) == 0 {
		err = errors.New("it holds no object")
	}
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	return all, err
}

// writeObjects writes one object a line: JSON is read some ten times faster than YAML.
func writeObjects(path string, objects []*unstructured.Unstructured) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for _, object := range objects {
		line, err := json.Marshal(object.Object)
		if err != nil {
			return err
		}
		if _, err := file.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}
