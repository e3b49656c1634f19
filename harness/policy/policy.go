// Package policy reads the policy under test as it will be deployed: a manifest, a folder of manifests, or a
// kustomization. Nothing in it is changed.
package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/settings"
)

// Policy is the policy under test.
type Policy struct {
	Path     string
	Objects  []*unstructured.Unstructured // in the order they are applied in
	SHA256   string                       // of the objects as they are sent to the API server, hex
	Contract Contract
}

// Load reads a policy and its contract: both must parse, and it must hold a Kyverno policy and name the S3 endpoint.
// Check says whether it can be what is to be tested.
func Load(path string, endpoint settings.Endpoint) (*Policy, error) {
	objects, contract, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("POLICY=%s: %w", path, err)
	}
	raw, err := json.Marshal(objects)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	p := &Policy{Path: path, Objects: objects, SHA256: hex.EncodeToString(sum[:]), Contract: contract}
	if len(p.Kyverno()) == 0 {
		return nil, fmt.Errorf("POLICY=%s: none of its %d objects is a Kyverno policy (of kyverno.io or policies.kyverno.io)", path, len(objects))
	}
	if address := strings.TrimPrefix(endpoint.URL, "http://"); !bytes.Contains(raw, []byte(address)) {
		return nil, fmt.Errorf("POLICY=%s: it nowhere names the S3 endpoint %s; set S3_ENDPOINT to the one it uses", path, address)
	}
	return p, nil
}

// Kyverno lists the Kyverno policies among the objects.
func (p *Policy) Kyverno() []*unstructured.Unstructured {
	return slices.DeleteFunc(slices.Clone(p.Objects), func(o *unstructured.Unstructured) bool {
		group := o.GroupVersionKind().Group
		return group != "kyverno.io" && group != "policies.kyverno.io"
	})
}

// Describe lists the objects as kind/name.
func (p *Policy) Describe() []string {
	var names []string
	for _, o := range p.Objects {
		names = append(names, o.GetKind()+"/"+o.GetName())
	}
	return names
}

func read(path string) ([]*unstructured.Unstructured, Contract, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, Contract{}, err
	}
	objects, err := readObjects(path, info.IsDir())
	if err != nil {
		return nil, Contract{}, err
	}
	contract, err := contractOf(path, info.IsDir())
	return objects, contract, err
}

func readObjects(path string, folder bool) ([]*unstructured.Unstructured, error) {
	if !folder {
		return decode(path)
	}
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return install.Kustomize(path)
		}
	}
	var objects []*unstructured.Unstructured
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); entry.IsDir() || isContract(entry.Name()) || ext != ".yaml" && ext != ".yml" {
			continue
		}
		more, err := decode(filepath.Join(path, entry.Name()))
		if err != nil {
			return nil, err
		}
		objects = append(objects, more...)
	}
	if len(objects) == 0 {
		return nil, errors.New("no .yaml file in this folder has an object in it")
	}
	return objects, nil
}

func decode(path string) ([]*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for n := 1; ; n++ {
		var content map[string]any
		if err := decoder.Decode(&content); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s, document %d does not parse: %w", filepath.Base(path), n, err)
		}
		if len(content) == 0 {
			continue
		}
		object := &unstructured.Unstructured{Object: content}
		if object.GetAPIVersion() == "" || object.GetKind() == "" || object.GetName() == "" {
			return nil, fmt.Errorf("%s, document %d is no Kubernetes object: apiVersion, kind and metadata.name are needed", filepath.Base(path), n)
		}
		objects = append(objects, object)
	}
}
