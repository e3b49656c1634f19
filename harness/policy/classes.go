package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/stack"
)

// className is a class that is named. An expression or a variable in its place is none.
var className = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// classFields are the fields that name a class, in PVCs, snapshots, and VolSync's kinds. true: a VolumeSnapshotClass.
var classFields = map[string]bool{
	"storageClassName": false, "cacheStorageClassName": false, "metadataStorageClassName": false, "configStorageClassName": false,
	"volumeSnapshotClassName": true,
}

// inCEL is a field that an expression sets to a text, in a map or in an object with a type: a class, or an object's apiVersion. Where the value
// goes on, as a comparison does, it is none. A copy method is not looked for: a policy that makes one that the stack cannot bring about has to
// start, for the specs to catch it.
var inCEL = regexp.MustCompile(`[{,]\s*["']?(\w+ClassName|apiVersion)["']?\s*:\s*(?:dyn\(\s*)?["']([^"']*)["']\s*\)?\s*[,}]`)

// CheckClasses refuses objects that name a class that the stack does not have, wherever in them it stands. The class of the contract's
// PVCs is made where there is none.
func (c Contract) CheckClasses(objects []*unstructured.Unstructured, of *stack.Stack) error {
	classes := []string{c.PVC.StorageClass}
	for _, class := range of.Storage.Classes {
		classes = append(classes, class.Name)
	}
	var problems []error
	for _, object := range objects {
		eachClass(object.Object, "", func(path, name string, snapshot bool) {
			kind, has := "storage class", classes
			if snapshot {
				kind, has = "VolumeSnapshotClass", of.Storage.SnapshotClasses
			}
			if slices.Contains(has, name) {
				return
			}
			choose := "the stack has none: choose one with snapshots, such as kyverno-1.19-csi"
			if has = slices.DeleteFunc(slices.Clone(has), func(name string) bool { return name == "" }); len(has) > 0 {
				choose = "choose " + strings.Join(has, " or ")
			}
			if !snapshot && c.PVC.StorageClass == "" {
				choose += ", or name it as pvc.storageClass in the contract: the suite then makes one like the default class"
			}
			problems = append(problems, fmt.Errorf("%s %s: %s: the stack %s has no %s %q; %s", object.GetKind(), object.GetName(), path, of.Name, kind, name, choose))
		})
	}
	return errors.Join(problems...)
}

// eachClass calls do for each class that is named below a value.
func eachClass(value any, path string, do func(path, name string, snapshot bool)) {
	eachText(value, path, func(path, field, name string) {
		if snapshot, isClass := classFields[field]; isClass && className.MatchString(name) {
			do(path, name, snapshot)
		}
	})
}

// eachText calls do for each field below a value that holds a text, and for those of inCEL in it where it is an expression.
func eachText(value any, path string, do func(path, field, text string)) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			below := strings.TrimPrefix(path+"."+key, ".")
			if text, isText := value[key].(string); isText {
				do(below, key, text)
				if key == "expression" {
					eachSet(text, func(field, text string) { do(below, field, text) })
				}
				continue
			}
			eachText(value[key], below, do)
		}
	case []any:
		for i, item := range value {
			eachText(item, fmt.Sprintf("%s[%d]", path, i), do)
		}
	}
}

// eachSet calls do for each field that an expression sets, of those of inCEL.
func eachSet(expression string, do func(field, text string)) {
	for rest := expression; ; {
		at := inCEL.FindStringSubmatchIndex(rest)
		if at == nil {
			return
		}
		do(rest[at[2]:at[3]], rest[at[4]:at[5]])
		rest = rest[at[1]-1:] // what ends one field begins the next
	}
}

// CheckStack refuses a stack that the contract refuses, that lacks Kyverno where a part of the policy is Kyverno's, or a class that
// the policy names.
func (p *Policy) CheckStack(name string, known []stack.Stack) error {
	if err := p.Contract.CheckStack(name, known); err != nil {
		return err
	}
	i := slices.IndexFunc(known, func(s stack.Stack) bool { return s.Name == name })
	if kyvernos := p.Kyverno(); len(kyvernos) > 0 && !known[i].HasKyverno() {
		return fmt.Errorf("the stack %s has no Kyverno, which %s %s needs: %s", name, kyvernos[0].GetKind(), kyvernos[0].GetName(), p.Contract.choose(known, (*stack.Stack).HasKyverno))
	}
	more, err := p.filled("data")
	if err != nil {
		return err
	}
	objects := slices.Concat(p.Objects, more)
	return errors.Join(p.Contract.checkKinds(objects, &known[i], known), p.Contract.checkCopies(objects, &known[i], known), p.Contract.checkServed(objects, &known[i], known), p.Contract.CheckClasses(objects, &known[i]))
}

// checkCopies refuses objects that name a copy method which no volume of the stack can have, whatever the contract says of it.
func (c Contract) checkCopies(objects []*unstructured.Unstructured, of *stack.Stack, known []stack.Stack) error {
	if len(of.Storage.Snapshotted()) > 0 {
		return nil
	}
	var problems []error
	for _, object := range objects {
		eachText(object.Object, "", func(path, field, method string) {
			if field == "copyMethod" && (method == CopySnapshot || method == copyClone) {
				problems = append(problems, fmt.Errorf("%s %s: %s: %s needs volumes that can be snapshotted; the stack %s has none: %s", object.GetKind(), object.GetName(), path, method, of.Name,
					c.choose(known, func(s *stack.Stack) bool { return len(s.Storage.Snapshotted()) > 0 })))
			}
		})
	}
	return errors.Join(problems...)
}

// servedGroups are those of the API groups that some stack serves beside Kubernetes' own.
var servedGroups = []string{"kyverno.io", "policies.kyverno.io", "volsync.backube", "external-secrets.io", "argoproj.io"}

// mutatingSince is the minor version of Kubernetes 1 that has MutatingAdmissionPolicies without a feature gate, in the version v1.
const mutatingSince = 36

// checkKinds refuses objects of kinds that no stack serves, or not this one.
func (c Contract) checkKinds(objects []*unstructured.Unstructured, of *stack.Stack, known []stack.Stack) error {
	groups := slices.Clone(servedGroups)
	for _, object := range objects {
		if group, _, _ := unstructured.NestedString(object.Object, "spec", "group"); object.GetKind() == "CustomResourceDefinition" {
			groups = append(groups, group)
		}
	}
	var problems []error
	for _, object := range objects {
		what, kind := object.GetKind()+" "+object.GetName(), object.GroupVersionKind()
		mutating := kind.Group == "admissionregistration.k8s.io" && strings.HasPrefix(kind.Kind, "MutatingAdmissionPolicy")
		switch {
		case strings.Contains(kind.Group, ".") && !strings.HasSuffix(kind.Group, ".k8s.io") && !slices.Contains(groups, kind.Group):
			problems = append(problems, fmt.Errorf("%s: no stack serves %s: leave it out", what, object.GetAPIVersion()))
		case mutating && kind.Version != "v1":
			problems = append(problems, fmt.Errorf("%s: no stack serves %s of it: write admissionregistration.k8s.io/v1, which Kubernetes has since 1.%d", what, object.GetAPIVersion(), mutatingSince))
		case mutating && minorOf(of) < mutatingSince:
			problems = append(problems, fmt.Errorf("%s: Kubernetes has %s of it since 1.%d, and the stack %s is on %s: %s", what, object.GetAPIVersion(), mutatingSince, of.Name, of.Versions["kubernetes"],
				c.choose(known, func(s *stack.Stack) bool { return minorOf(s) >= mutatingSince })))
		}
	}
	return errors.Join(problems...)
}

// minorOf is the minor version of a stack's Kubernetes; 0: it says none.
func minorOf(s *stack.Stack) (minor int) {
	if _, err := fmt.Sscanf(s.Versions["kubernetes"], "v1.%d", &minor); err != nil {
		return 0
	}
	return minor
}

// checkServed refuses objects of the External Secrets Operator's, or policies that make some, on a stack that does not have it.
func (c Contract) checkServed(objects []*unstructured.Unstructured, of *stack.Stack, known []stack.Stack) error {
	if of.HasExternalSecrets() {
		return nil
	}
	var problems []error
	for _, object := range objects {
		eachText(object.Object, "", func(path, field, version string) {
			if field == "apiVersion" && strings.HasPrefix(version, "external-secrets.io/") {
				problems = append(problems, fmt.Errorf("%s %s: %s: the stack %s does not have the External Secrets Operator, which serves %s: %s", object.GetKind(), object.GetName(), path, of.Name, version,
					c.choose(known, (*stack.Stack).HasExternalSecrets)))
			}
		})
	}
	return errors.Join(problems...)
}

// choose says which stacks to choose from: those of the contract's that can, or else those that its stacks leave out.
func (c Contract) choose(known []stack.Stack, can func(*stack.Stack) bool) string {
	madeFor, err := c.MadeFor(known)
	if err != nil {
		return err.Error()
	}
	var able, others []string
	for i := range known {
		switch {
		case !can(&known[i]):
		case slices.Contains(madeFor, known[i].Name):
			able = append(able, known[i].Name)
		default:
			others = append(others, known[i].Name)
		}
	}
	switch {
	case len(able) > 0:
		return "choose with STACK=" + strings.Join(able, " or ")
	case len(others) > 0:
		return "add one that has it to stacks in its contract: " + strings.Join(others, " or ")
	}
	return "no stack has what it needs"
}
