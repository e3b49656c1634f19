package policy

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const contract = `apiVersion: conformance.smart-restore.io/v1alpha1
kind: PolicyContract
name: one
description: It does it.
admissionSeconds: 6
features: [gated-start, visible-decision]
stacks: [kyverno-1.19]
expectedFailures:
- {requirement: safety/late-restore, reason: it asks again}
caughtBy:
- core/fresh
- policy/label
`

func TestContract(t *testing.T) {
	c, err := parseContract("/somewhere/conformance.yaml", []byte(contract))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Promises("gated-start") || c.Promises("relabel") || c.AdmissionBound() != 6*time.Second || c.Reasons()["safety/late-restore"] != "it asks again" || len(c.CaughtBy) != 2 {
		t.Errorf("%+v", c)
	}
	if err := c.CheckRequirements([]string{"core/fresh", "safety/late-restore"}); err != nil {
		t.Error(err)
	}
	if err := c.CheckStack("kyverno-1.19", []string{"kyverno-1.19", "kyverno-1.13"}); err != nil {
		t.Error(err)
	}
}

func TestContractRefusesWithAPosition(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"no YAML":                 {"name: one", "name: [", "conformance.yaml: yaml: line"},
		"unknown field":           {"stacks:", "stack:", `conformance.yaml:7:1: there is no field "stack"; there are apiVersion, kind, name, description, admissionSeconds, features, stacks, expectedFailures, caughtBy`},
		"unknown field below":     {"reason:", "why:", `conformance.yaml:9:38: there is no field "why"; there are requirement, reason`},
		"field twice":             {"kind: PolicyContract", "kind: PolicyContract\nkind: PolicyContract", `mapping key "kind" already defined at line 2`},
		"another type":            {"admissionSeconds: 6", "admissionSeconds: soon", "line 5: cannot unmarshal"},
		"another kind":            {"kind: PolicyContract", "kind: Policy", "conformance.yaml:2:7: it is a \"Policy\""},
		"another version":         {"v1alpha1", "v2", "wanted a PolicyContract of conformance.smart-restore.io/v1alpha1"},
		"no name":                 {"name: one", "name: ''", "conformance.yaml:3:7: name and description are needed"},
		"no time":                 {"admissionSeconds: 6", "admissionSeconds: 0", "conformance.yaml:5:19: admissionSeconds is 0, wanted 1 to 60"},
		"unknown feature":         {"visible-decision", "visibel", `conformance.yaml:6:25: there is no feature "visibel": known are gated-start, visible-decision, existing-volumes, catches-up, relabel`},
		"feature twice":           {"visible-decision", "gated-start", "conformance.yaml:6:25: feature gated-start is there twice"},
		"no reason":               {"it asks again", "' '", "conformance.yaml:9:3: an expected failure needs its requirement and a reason"},
		"expects a check to fail": {"safety/late-restore", "policy/label", "conformance.yaml:9:17: policy/label is checked before anything is tried"},
		"unknown check":           {"policy/label", "policy/labels", `conformance.yaml:12:3: there is no check "policy/labels" of policies; there are policy/restores, policy/backs-up`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(contract, c.from, c.to, 1)
			if changed == contract {
				t.Fatal("nothing to change")
			}
			if _, err := parseContract("conformance.yaml", []byte(changed)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	for _, raw := range []string{"", "# nothing\n", "- a\n"} {
		if _, err := parseContract("conformance.yaml", []byte(raw)); err == nil || !strings.Contains(err.Error(), "is no contract") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestContractIsHeldAgainstTheSuite(t *testing.T) {
	c, err := parseContract("conformance.yaml", []byte(contract))
	if err != nil {
		t.Fatal(err)
	}
	err = c.CheckRequirements([]string{"core/fresh", "core/restore"})
	if want := `conformance.yaml:9:17: no spec has the requirement "safety/late-restore"; there are core/fresh, core/restore`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	err = c.CheckStack("kyverno-1.13", []string{"kyverno-1.19", "kyverno-1.13"})
	if want := "the policy one is made for kyverno-1.19, not for the stack kyverno-1.13: choose with STACK=kyverno-1.19"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	err = c.CheckStack("kyverno-1.13", []string{"kyverno-1.13"})
	if want := `conformance.yaml:7:10: there is no stack "kyverno-1.19": the lock has kyverno-1.13`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestStacksArePatterns(t *testing.T) {
	known := []string{"kyverno-1.13", "kyverno-1.19", "kyverno-1.19-k8s-1.33"}
	for name, c := range map[string]struct {
		stacks []string
		stack  string
		want   string
	}{
		"any":               {nil, "kyverno-1.13", ""},
		"itself":            {[]string{"kyverno-1.13"}, "kyverno-1.13", ""},
		"a prefix":          {[]string{"kyverno-1.19*"}, "kyverno-1.19-k8s-1.33", ""},
		"the second":        {[]string{"kyverno-1.13*", "kyverno-1.19*"}, "kyverno-1.19", ""},
		"another":           {[]string{"kyverno-1.19*"}, "kyverno-1.13", "is made for kyverno-1.19*, not for the stack kyverno-1.13: choose with STACK=kyverno-1.19"},
		"not its beginning": {[]string{"kyverno-1.19"}, "kyverno-1.19-k8s-1.33", "not for the stack kyverno-1.19-k8s-1.33"},
		"none at all":       {[]string{"kyverno-1.2*"}, "kyverno-1.13", `there is no stack "kyverno-1.2*"`},
		"no pattern":        {[]string{"kyverno-[1"}, "kyverno-1.13", `"kyverno-[1" is no pattern`},
	} {
		t.Run(name, func(t *testing.T) {
			err := Contract{Name: "p", Stacks: c.stacks}.CheckStack(c.stack, known)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, wanted %q", err, c.want)
			}
		})
	}
}

// The contract is found beside every form of a policy, and is never a part of it.
func TestContractIsReadWithThePolicy(t *testing.T) {
	folder := write(t, map[string]string{"policy.yaml": good, "conformance.yaml": contract})
	for name, c := range map[string]struct{ path, contract string }{
		"folder":        {folder, "one"},
		"kustomization": {write(t, map[string]string{"policy.yaml": good, "kustomization.yaml": "resources: [policy.yaml]\n", "conformance.yaml": contract}), "one"},
		"file":          {filepath.Join(write(t, map[string]string{"p.yaml": good, "p.conformance.yaml": contract, "conformance.yaml": "broken: ["}), "p.yaml"), "one"},
		"none":          {filepath.Join(folder, "policy.yaml"), "policy.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Load(c.path, endpoint(t))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Objects) != 2 || p.Contract.Name != c.contract {
				t.Errorf("%v, contract %q", p.Describe(), p.Contract.Name)
			}
			if c.contract != "one" && p.Contract.AdmissionBound() != 10*time.Second {
				t.Errorf("without a contract the bound is %s", p.Contract.AdmissionBound())
			}
			raw, err := yaml.Marshal(p.Contract)
			if err != nil {
				t.Fatal(err)
			}
			var back Contract
			if err := yaml.UnmarshalStrict(raw, &back); err != nil || !reflect.DeepEqual(back.Features, p.Contract.Features) || back.AdmissionBound() != p.Contract.AdmissionBound() {
				t.Errorf("it does not survive its way to the specs: %v\n%s", err, raw)
			}
		})
	}
	broken := write(t, map[string]string{"policy.yaml": good, "conformance.yaml": strings.Replace(contract, "one", "''", 1)})
	if _, err := Load(broken, endpoint(t)); err == nil || !strings.Contains(err.Error(), "POLICY=") || !strings.Contains(err.Error(), "conformance.yaml:3:7") {
		t.Errorf("a broken contract: %v", err)
	}
}
