// Package install puts a stack's manifests into a cluster and waits until what they install answers.
package install

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/smart-restore/conformance/harness/cache"
	"github.com/smart-restore/conformance/harness/gomod"
	"github.com/smart-restore/conformance/harness/stack"
)

// Renderer turns the lock's manifests into objects. Rendering takes seconds for the large ones, so it is cached.
type Renderer struct {
	Cache    *cache.Dir
	Fixtures fs.FS
	Modules  *gomod.Builder
}

// Render returns the manifest's objects in the order they are to be applied in.
func (r *Renderer) Render(ctx context.Context, lock *stack.Lock, m *stack.Manifest) ([]*unstructured.Unstructured, error) {
	key, err := r.key(lock, m)
	if err != nil {
		return nil, err
	}
	path, err := r.Cache.Make(ctx, "manifests", key+".jsonl", func(out string) error {
		return r.render(ctx, m, out)
	})
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", m.Name, err)
	}
	return readObjects(path)
}

// key identifies what a manifest renders to.
func (r *Renderer) key(lock *stack.Lock, m *stack.Manifest) (string, error) {
	build, _ := lock.Build(m.Of)
	key, err := r.Modules.Key(build)
	if err != nil {
		return "", err
	}
	overlay := ""
	if m.Overlay != "" {
		if overlay, err = cache.HashFS(r.Fixtures, m.Overlay); err != nil {
			return "", err
		}
	}
	return cache.Key("manifest/1", m, key, overlay), nil
}

func (r *Renderer) render(ctx context.Context, m *stack.Manifest, out string) (err error) {
	module, err := r.Modules.ModuleDir(ctx, m.Of, m.Module)
	if err != nil {
		return err
	}
	work, err := r.Cache.Temp()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	upstream := filepath.Join(module, m.Path)
	root := filepath.Join(work, "upstream")
	info, err := os.Stat(upstream)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		err = copyWritable(os.DirFS(upstream), root)
	default:
		root = work
		err = copyFile(upstream, filepath.Join(work, "upstream.yaml"))
	}
	if err != nil {
		return err
	}
	if m.Overlay != "" {
		overlay, err := fs.Sub(r.Fixtures, m.Overlay)
		if err != nil {
			return err
		}
		if err := copyWritable(overlay, work); err != nil {
			return err
		}
		root = work
	}
	objects, err := Kustomize(root)
	if err != nil {
		return err
	}
	if m.Tag != "" {
		for _, object := range objects {
			setTag(object.Object, m.Tag)
		}
	}
	return writeObjects(out, objects)
}

// setTag gives every image that is tagged "latest" another tag, wherever in the object it stands.
func setTag(value any, tag string) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if image, ok := inner.(string); ok && key == "image" {
				if repository, latest := strings.CutSuffix(image, ":latest"); latest {
					value[key] = repository + ":" + tag
				}
				continue
			}
			setTag(inner, tag)
		}
	case []any:
		for _, inner := range value {
			setTag(inner, tag)
		}
	}
}

// Kustomize builds the kustomization in a folder.
func Kustomize(dir string) ([]*unstructured.Unstructured, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // namespaces and CRDs first
	options.LoadRestrictions = kustomize.LoadRestrictionsRootOnly
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, resource := range resources.Resources() {
		raw, err := resource.MarshalJSON()
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func readObjects(path string) ([]*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	scanner := bufio.NewScanner(bytes.NewReader(raw))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(scanner.Bytes()); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		objects = append(objects, object)
	}
	return objects, scanner.Err()
}

// copyWritable copies a tree; a module's own files are read-only.
func copyWritable(from fs.FS, to string) error {
	return fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, filepath.FromSlash(path))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}
