package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/check/play"
	"github.com/smart-restore/conformance/harness/policy"
)

// withGate is a policy of a GeneratingPolicy and of one that the API server enforces itself, with what binds that.
func withGate(t *testing.T, binding string) *policy.Policy {
	t.Helper()
	return policyOf(t, map[string]string{
		"make.yaml": `apiVersion: policies.kyverno.io/v1
kind: GeneratingPolicy
metadata:
  name: p-restore
spec:
  matchConstraints:
    {objectSelector: {matchLabels: {backup: hourly}}, resourceRules: [{resources: [persistentvolumeclaims]}]}
  variables:
  - name: b
    expression: http.get("http://192.168.10.133:9000/volsync-backups/").statusCode
  generate:
  - expression: generator.apply("ReplicationDestination, ReplicationSource")
`,
		"gate.yaml": `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: bound
spec:
  policyName: ` + binding + `
  validationActions: [Deny]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: gate
spec:
  paramKind: {apiVersion: v1, kind: PersistentVolumeClaim}
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  validations:
  - expression: "true"
  - expression: "false"
`,
		"conformance.yaml": "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: p\ndescription: d\nadmissionSeconds: 6\nfeatures: [gated-start]\n",
	})
}

// native is what the simulator says of them.
func native(problems ...play.Problem) []play.Acceptance {
	return append(slices.Clone(taken),
		play.Acceptance{Kind: policy.NativePolicy, Name: "gate", Called: 1, Problems: problems},
		play.Acceptance{Kind: policy.NativeBinding, Name: "bound"})
}

func TestAPolicyOfTheAPIServersThatNothingBindsEnforcesNothing(t *testing.T) {
	r := run(t, withGate(t, "gate"), fake{acceptances: native(), course: good})
	if len(r.Findings) != 0 || slices.ContainsFunc(r.NotLookedAt, func(text string) bool { return strings.Contains(text, "AdmissionPolicy") }) {
		t.Errorf("%+v %q", r.Findings, r.NotLookedAt)
	}
	r = run(t, withGate(t, "gat"), fake{acceptances: native(), course: good})
	if len(r.Findings) != 1 {
		t.Fatalf("%+v", r.Findings)
	}
	if f := r.Findings[0]; f.Requirement != policy.Acts || filepath.Base(f.File) != "gate.yaml" || f.Line != 9 || !strings.Contains(f.Text, "it enforces nothing") {
		t.Errorf("%+v", f)
	}
}

func TestWhatTheAPIServerDoesNotTake(t *testing.T) {
	r := run(t, withGate(t, "gate"), fake{acceptances: native(play.Problem{Field: "spec.validations[1].expression", Text: "undeclared reference"}), course: good})
	f := r.Findings[0]
	if f.Requirement != policy.Accepted || f.Line != 20 || f.Text != "the API server does not take it: spec.validations[1].expression: undeclared reference" {
		t.Errorf("%+v", f)
	}
	if got := row(t, r, "core/fresh"); got.Verdict != Unknown || got.Text != "nothing was tried: the API server does not take ValidatingAdmissionPolicy/gate" {
		t.Errorf("%+v", got)
	}
}

// That a gate of the API server's was asked does not mean that Kyverno does anything.
func TestAGateAloneDoesNotAct(t *testing.T) {
	acceptances := native()
	for i := range acceptances {
		if acceptances[i].Kind != policy.NativePolicy {
			acceptances[i].Called = 0
		}
	}
	r := run(t, withGate(t, "gate"), fake{acceptances: acceptances, course: good})
	if !slices.ContainsFunc(r.Findings, func(f Trouble) bool { return f.Requirement == policy.Acts }) {
		t.Errorf("%+v", r.Findings)
	}
}

func TestTheGateThatRefusesIsNamed(t *testing.T) {
	s := subjectsOf(withGate(t, "gate"))
	if got := s.namedIn(`pods "late" is forbidden: ValidatingAdmissionPolicy 'gate' with binding 'bound' denied request: no`); got != "ValidatingAdmissionPolicy/gate" {
		t.Error(got)
	}
	for plural, c := range map[string]struct{ kind, want string }{
		"pods":                   {"Pod", "ValidatingAdmissionPolicy/gate"},
		"persistentvolumeclaims": {"PersistentVolumeClaim", ""}, // its params are
	} {
		if got := s.admits(plural, c.kind); got != c.want {
			t.Errorf("%s: %q", plural, got)
		}
	}
}

// A gate that lets errors pass may be one by mistake.
func TestAGateThatIgnoresErrorsIsNoted(t *testing.T) {
	noted := func(p *policy.Policy) (lines []int) {
		for _, n := range run(t, p, fake{acceptances: native(), course: good}).Notes {
			if n.Policy == policy.NativePolicy+"/gate" && strings.Contains(n.Text, "failurePolicy is Ignore") {
				lines = append(lines, n.Line)
			}
		}
		return lines
	}
	if got := noted(withGate(t, "gate")); len(got) > 0 {
		t.Errorf("without a failurePolicy: %v", got)
	}
	p := withGate(t, "gate")
	file := filepath.Join(p.Path, "gate.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(raw), "  paramKind:", "  failurePolicy: Ignore\n  paramKind:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err = policy.Load(p.Path, p.Endpoint); err != nil {
		t.Fatal(err)
	}
	if got := noted(p); !slices.Equal(got, []int{14}) {
		t.Errorf("got lines %v, wanted 14", got)
	}
}
