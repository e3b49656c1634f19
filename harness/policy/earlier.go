package policy

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Earlier is the policy that another one replaces.
type Earlier struct {
	Name    string
	Objects []*unstructured.Unstructured
}

// ReplacesPolicy labels specs about a policy that takes the place of another: not every contract names one.
const ReplacesPolicy = "replaces-policy"

// earlierOf is the policy that the contract in this file names under upgradesFrom; nil: it names none.
func earlierOf(file string, c Contract) (*Earlier, error) {
	if c.UpgradesFrom == "" {
		return nil, nil
	}
	earlier, err := replacedBy(c, filepath.Join(filepath.Dir(file), filepath.FromSlash(c.UpgradesFrom)))
	if err != nil {
		return nil, c.doc.At(fmt.Sprintf("%s: %v", c.UpgradesFrom, err), "upgradesFrom")
	}
	return earlier, nil
}

// UpgradeFrom takes the policy at this path for the one that this one replaces, whatever its contract says.
func (p *Policy) UpgradeFrom(path string) (err error) {
	if p.Earlier, err = replacedBy(p.Contract, path); err != nil {
		return fmt.Errorf("UPGRADES_FROM=%s: %w", path, err)
	}
	p.Contract.UpgradesFrom = path
	return nil
}

// replacedBy is the policy at a path, of which one with this contract can take the place. PVCs, repositories and base Secret must be the
// same: else neither could go on with what the other made.
func replacedBy(c Contract, path string) (*Earlier, error) {
	objects, templates, was, _, err := read(path)
	switch {
	case err != nil:
		return nil, err
	case templates != nil || c.OnlyTemplates():
		return nil, errors.New("a policy that is replaced, and the one that replaces it, are of Kyverno's, without templates")
	case len(Kyverno(objects)) == 0:
		return nil, fmt.Errorf("none of its %d objects is a Kyverno policy", len(objects))
	}
	for _, both := range []struct {
		field     string
		is, other any
	}{
		{"pvc", c.PVC, was.PVC}, {"namespaceLabels", c.NamespaceLabels, was.NamespaceLabels}, {"baseSecret", c.BaseSecret, was.BaseSecret},
		{"secretStore", c.SecretStore, was.SecretStore}, {"s3.endpoint", c.S3.Endpoint, was.S3.Endpoint}, {"s3.bucket", c.S3.Bucket, was.S3.Bucket},
		{"s3.path", c.S3.Path, was.S3.Path},
	} {
		if !reflect.DeepEqual(both.is, both.other) {
			return nil, fmt.Errorf("its %s is %v, and here it is %v: wanted is one that is the same in both, so that each can go on with what the other made", both.field, both.other, both.is)
		}
	}
	return &Earlier{Name: was.Name, Objects: objects}, nil
}

// Without are those of the objects that are not among others, in whatever version.
func Without(objects, others []*unstructured.Unstructured) (rest []*unstructured.Unstructured) {
	id := func(o *unstructured.Unstructured) string {
		return strings.Join([]string{o.GroupVersionKind().GroupKind().String(), o.GetNamespace(), o.GetName()}, "/")
	}
	there := map[string]bool{}
	for _, o := range others {
		there[id(o)] = true
	}
	for _, o := range objects {
		if !there[id(o)] {
			rest = append(rest, o)
		}
	}
	return rest
}
