package policy

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/smart-restore/conformance/harness/verdict"
)

const (
	contractAPIVersion = "conformance.smart-restore.io/v1alpha1"
	contractKind       = "PolicyContract"
	// contractFile is the contract's name in a policy's folder. For a policy that is a single file F.yaml it is
	// F.conformance.yaml.
	contractFile = "conformance.yaml"
	// defaultAdmissionSeconds is Kyverno's default webhook timeout.
	defaultAdmissionSeconds = 10
	maxAdmissionSeconds     = 60
)

// Contract is what a policy's author says about it: what it promises beyond core and safety, and what it is known not
// to hold. It stands beside the policy and is not applied with it.
type Contract struct {
	APIVersion  string `yaml:"apiVersion" json:"-"`
	Kind        string `yaml:"kind" json:"-"`
	Name        string `yaml:"name" json:"name"`
	Description string `yaml:"description" json:"description,omitempty"`
	// AdmissionSeconds is within what a labelled PVC is admitted, whatever S3 does.
	AdmissionSeconds int `yaml:"admissionSeconds" json:"admissionSeconds"`
	// Features are those of verdict.Features that it promises.
	Features []string `yaml:"features" json:"features,omitempty"`
	// Stacks are those it is made for, as shell patterns of their names; none: any.
	Stacks           []string      `yaml:"stacks" json:"stacks,omitempty"`
	ExpectedFailures []Expectation `yaml:"expectedFailures" json:"expectedFailures,omitempty"`
	// CaughtBy are the requirements of which each must catch a policy that is known to be bad.
	CaughtBy []string `yaml:"caughtBy" json:"caughtBy,omitempty"`

	file string
	node yaml.Node // of the file, for positions
}

// Expectation is a requirement that the policy is known not to meet.
type Expectation struct {
	Requirement string `yaml:"requirement" json:"requirement"`
	Reason      string `yaml:"reason" json:"reason"`
}

// Promises says whether the policy promises a feature.
func (c Contract) Promises(feature string) bool { return slices.Contains(c.Features, feature) }

// AdmissionBound is within what a labelled PVC is admitted, whatever S3 does.
func (c Contract) AdmissionBound() time.Duration {
	if c.AdmissionSeconds == 0 { // of a stand that was kept by an earlier version
		return defaultAdmissionSeconds * time.Second
	}
	return time.Duration(c.AdmissionSeconds) * time.Second
}

// Reasons are the reasons of the expected failures, by requirement.
func (c Contract) Reasons() map[string]string {
	reasons := map[string]string{}
	for _, e := range c.ExpectedFailures {
		reasons[e.Requirement] = e.Reason
	}
	return reasons
}

// CheckStack refuses a stack that the policy is not made for, and a contract that names one which is none. Stacks are
// named by shell patterns: kyverno-1.19* is Kyverno 1.19 on any Kubernetes.
func (c Contract) CheckStack(stack string, known []string) error {
	var madeFor []string
	for i, pattern := range c.Stacks {
		names, err := matching(pattern, known)
		switch {
		case err != nil:
			return c.at(fmt.Sprintf("%q is no pattern of a stack's name: %s", pattern, err), "stacks", i)
		case len(names) == 0:
			return c.at(fmt.Sprintf("there is no stack %q: the lock has %s", pattern, strings.Join(known, ", ")), "stacks", i)
		}
		madeFor = append(madeFor, names...)
	}
	if len(c.Stacks) > 0 && !slices.Contains(madeFor, stack) {
		return fmt.Errorf("the policy %s is made for %s, not for the stack %s: choose with STACK=%s", c.Name, strings.Join(c.Stacks, ", "), stack, madeFor[0])
	}
	return nil
}

// matching are the names that a shell pattern matches.
func matching(pattern string, names []string) (matches []string, err error) {
	for _, name := range names {
		matched, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if matched {
			matches = append(matches, name)
		}
	}
	return matches, nil
}

// CheckRequirements refuses requirements that no spec has; specs are the IDs of all.
func (c Contract) CheckRequirements(specs []string) error {
	var problems []error
	check := func(id string, path ...any) {
		if !slices.Contains(specs, id) && !IsFinding(id) {
			problems = append(problems, c.at(fmt.Sprintf("no spec has the requirement %q; there are %s", id, strings.Join(specs, ", ")), path...))
		}
	}
	for i, e := range c.ExpectedFailures {
		check(e.Requirement, "expectedFailures", i, "requirement")
	}
	for i, id := range c.CaughtBy {
		check(id, "caughtBy", i)
	}
	return errors.Join(problems...)
}

// contractOf reads the contract that stands beside a policy; where there is none, it is one of defaults.
func contractOf(path string, folder bool) (Contract, error) {
	file := filepath.Join(path, contractFile)
	if !folder {
		file = strings.TrimSuffix(path, filepath.Ext(path)) + "." + contractFile
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return Contract{Name: filepath.Base(path), AdmissionSeconds: defaultAdmissionSeconds}, nil
	}
	if err != nil {
		return Contract{}, err
	}
	return parseContract(file, raw)
}

// isContract says whether a file in a policy's folder is a contract.
func isContract(name string) bool {
	return name == contractFile || strings.HasSuffix(name, "."+contractFile)
}

// parseContract reads a contract strictly. Errors say where: file:line:column.
func parseContract(file string, raw []byte) (Contract, error) {
	c := Contract{AdmissionSeconds: defaultAdmissionSeconds, file: filepath.Base(file)}
	if err := yaml.Unmarshal(raw, &c.node); err != nil {
		return c, fmt.Errorf("%s: %w", c.file, err)
	}
	if len(c.node.Content) != 1 || c.node.Content[0].Kind != yaml.MappingNode {
		return c, fmt.Errorf("%s is no contract: it must be a mapping with the fields %s", c.file, strings.Join(fieldsOf(reflect.TypeFor[Contract]()), ", "))
	}
	if err := c.knownFields(c.node.Content[0], reflect.TypeFor[Contract]()); err != nil {
		return c, err
	}
	if err := c.node.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", c.file, err)
	}
	return c, c.validate()
}

func (c *Contract) validate() error {
	var problems []error
	report := func(text string, path ...any) { problems = append(problems, c.at(text, path...)) }
	if c.APIVersion != contractAPIVersion || c.Kind != contractKind {
		report(fmt.Sprintf("it is a %q of %q, wanted a %s of %s", c.Kind, c.APIVersion, contractKind, contractAPIVersion), "kind")
	}
	if c.Name == "" || c.Description == "" {
		report("name and description are needed", "name")
	}
	if c.AdmissionSeconds < 1 || c.AdmissionSeconds > maxAdmissionSeconds {
		report(fmt.Sprintf("admissionSeconds is %d, wanted 1 to %d", c.AdmissionSeconds, maxAdmissionSeconds), "admissionSeconds")
	}
	twice := func(seen []string, value, what string, path ...any) {
		if slices.Contains(seen, value) {
			report(fmt.Sprintf("%s %s is there twice", what, value), path...)
		}
	}
	for i, feature := range c.Features {
		if err := verdict.CheckFeature(feature); err != nil {
			report(err.Error(), "features", i)
		}
		twice(c.Features[:i], feature, "feature", "features", i)
	}
	for i, stack := range c.Stacks {
		twice(c.Stacks[:i], stack, "stack", "stacks", i)
	}
	var expected []string
	for i, e := range c.ExpectedFailures {
		if e.Requirement == "" || strings.TrimSpace(e.Reason) == "" {
			report("an expected failure needs its requirement and a reason", "expectedFailures", i)
		}
		if IsFinding(e.Requirement) {
			report(e.Requirement+" is checked before anything is tried: it cannot be expected to fail", "expectedFailures", i, "requirement")
		}
		twice(expected, e.Requirement, "expected failure", "expectedFailures", i, "requirement")
		expected = append(expected, e.Requirement)
	}
	for i, id := range c.CaughtBy {
		if strings.HasPrefix(id, "policy/") && !IsFinding(id) {
			report(fmt.Sprintf("there is no check %q of policies; there are %s", id, strings.Join(findings, ", ")), "caughtBy", i)
		}
		twice(c.CaughtBy[:i], id, "requirement", "caughtBy", i)
	}
	return errors.Join(problems...)
}

// knownFields refuses fields that the type has not.
func (c *Contract) knownFields(node *yaml.Node, t reflect.Type) error {
	var problems []error
	switch {
	case t.Kind() == reflect.Slice && node.Kind == yaml.SequenceNode:
		for _, item := range node.Content {
			problems = append(problems, c.knownFields(item, t.Elem()))
		}
	case t.Kind() == reflect.Struct && node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			field, known := fieldNamed(t, key.Value)
			if !known {
				problems = append(problems, fmt.Errorf("%s:%d:%d: there is no field %q; there are %s", c.file, key.Line, key.Column, key.Value, strings.Join(fieldsOf(t), ", ")))
				continue
			}
			problems = append(problems, c.knownFields(node.Content[i+1], field))
		}
	}
	return errors.Join(problems...)
}

func fieldNamed(t reflect.Type, name string) (reflect.Type, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Tag.Get("yaml") == name {
			return f.Type, true
		}
	}
	return nil, false
}

func fieldsOf(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			names = append(names, f.Tag.Get("yaml"))
		}
	}
	return names
}

// at is an error at the place that a path of field names and indices leads to, or as near to it as there is something.
func (c *Contract) at(text string, path ...any) error {
	if len(c.node.Content) == 0 {
		return errors.New(text)
	}
	node := c.node.Content[0]
	for _, step := range path {
		next := child(node, step)
		if next == nil {
			break
		}
		node = next
	}
	return fmt.Errorf("%s:%d:%d: %s", c.file, node.Line, node.Column, text)
}

func child(node *yaml.Node, step any) *yaml.Node {
	switch step := step.(type) {
	case int:
		if step < len(node.Content) {
			return node.Content[step]
		}
	case string:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1]
			}
		}
	}
	return nil
}
