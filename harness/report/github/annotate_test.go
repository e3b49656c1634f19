package github

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/verdict"
)

const restorePolicy = `# what restores
apiVersion: policies.kyverno.io/v1alpha1
kind: GeneratingPolicy
metadata: {name: restore}
spec:
  # ReplicationDestination, in words
  variables:
  - name: destination
    expression: |-
      [{
        "kind": dyn("ReplicationDestination")
      }]
---
apiVersion: policies.kyverno.io/v1alpha1
kind: ValidatingPolicy
metadata: {name: gate}
spec: {kinds: ["ReplicationDestination"]}
`

const backupPolicy = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: backup}
spec:
  rules:
  - name: source
    generate:
      apiVersion: volsync.backube/v1alpha1
      kind: ReplicationSource
`

const contract = `apiVersion: conformance.smart-restore.io/v1alpha1
kind: PolicyContract
expectedFailures:
- {requirement: safety/late-restore, reason: a}
- requirement: core/surprise
  reason: b
`

func outcome(id string, v verdict.Verdict, wanted, came verdict.Outcome) verdict.Result {
	return verdict.Result{
		Requirement: verdict.Requirement{ID: id}, Verdict: v, Message: "because: 100%\nmore", Rerun: "make e2e FOCUS=" + id,
		Evidence: []verdict.Evidence{{Kind: verdict.KindOutcome, Data: verdict.Decision{Situation: "x", Wanted: wanted, Outcome: came}.Data()}},
	}
}

func TestAnnotationsAreOnTheLineToBlame(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("my,policy", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"backup.yaml": backupPolicy, "restore.yaml": restorePolicy, "conformance.yaml": contract, "broken.yaml": "a: [", "README.md": "kind: x"} {
		if err := os.WriteFile(filepath.Join("my,policy", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	surprise := verdict.Result{Requirement: verdict.Requirement{ID: "core/surprise"}, Verdict: verdict.Pass, ExpectedFailure: "b"}
	for name, c := range map[string]struct {
		result verdict.Result
		want   string
	}{
		"restored and must not be":   {outcome("core/a", verdict.Fail, verdict.None, verdict.Restore), "file=my%2Cpolicy/restore.yaml,line=11,"},
		"restored late":              {outcome("core/a", verdict.Fail, verdict.None, verdict.LateRestore), "file=my%2Cpolicy/restore.yaml,line=11,"},
		"not restored":               {outcome("core/a", verdict.Fail, verdict.Restore, verdict.None), "file=my%2Cpolicy/restore.yaml,line=11,"},
		"nothing made":               {outcome("core/a", verdict.Fail, verdict.None, verdict.Failed), "file=my%2Cpolicy/backup.yaml,line=9,"},
		"right, and failed":          {outcome("core/a", verdict.Fail, verdict.None, verdict.None), "file=my%2Cpolicy/backup.yaml,line=2,"},
		"unknown blames no rule":     {outcome("core/a", verdict.Unknown, verdict.None, verdict.Restore), "file=my%2Cpolicy/backup.yaml,line=2,"},
		"surprise is the contract's": {surprise, "file=my%2Cpolicy/conformance.yaml,line=5,"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			r := &verdict.Report{Implementation: verdict.Implementation{Policy: "my,policy"}, Requirements: []verdict.Result{c.result, {Requirement: verdict.Requirement{ID: "core/good"}, Verdict: verdict.Pass}}}
			if err := Annotate(&b, r); err != nil {
				t.Fatal(err)
			}
			if got := b.String(); !strings.HasPrefix(got, "::error "+c.want+"title=") || strings.Count(got, "\n") != 1 {
				t.Errorf("got %q, wanted %s", got, c.want)
			}
		})
	}
}

// A policy need not be the files of one folder: what a kustomization is made of, and what a contract names, is blamed where it
// stands; what is in the folder and not in the policy is not.
func TestBlameFollowsThePolicyToItsFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"overlay/kustomization.yaml": "resources: [../base]\n", "overlay/aside.yaml": restorePolicy,
		"base/kustomization.yaml": "resources: [parts/backup.yaml, parts/restore.yaml]\n",
		"base/parts/backup.yaml":  backupPolicy, "base/parts/restore.yaml": restorePolicy, "base/parts/aside.yaml": backupPolicy,
		"tests/conformance.yaml": contract + "policy: [../overlay]\n",
		"tests/aside.yaml":       restorePolicy,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	surprise := verdict.Result{Requirement: verdict.Requirement{ID: "core/surprise"}, Verdict: verdict.Pass, ExpectedFailure: "b"}
	for _, c := range []struct {
		policy string
		result verdict.Result
		want   string
	}{
		{"overlay", outcome("core/a", verdict.Fail, verdict.None, verdict.Restore), "file=base/parts/restore.yaml,line=11,"},
		{"overlay", outcome("core/a", verdict.Fail, verdict.None, verdict.Failed), "file=base/parts/backup.yaml,line=9,"},
		{"overlay", outcome("core/a", verdict.Unknown, verdict.None, verdict.None), "file=base/parts/backup.yaml,line=2,"},
		{"tests", outcome("core/a", verdict.Fail, verdict.None, verdict.Restore), "file=base/parts/restore.yaml,line=11,"},
		{"tests", surprise, "file=tests/conformance.yaml,line=5,"},
		{"tests/conformance.yaml", outcome("core/a", verdict.Fail, verdict.None, verdict.Failed), "file=base/parts/backup.yaml,line=9,"},
		{"tests/conformance.yaml", surprise, "file=tests/conformance.yaml,line=5,"},
	} {
		var b strings.Builder
		r := &verdict.Report{Implementation: verdict.Implementation{Policy: c.policy}, Requirements: []verdict.Result{c.result}}
		if err := Annotate(&b, r); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.HasPrefix(got, "::error "+c.want+"title=") {
			t.Errorf("%s: got %q, wanted %s", c.policy, got, c.want)
		}
	}
}

func TestFindingIsOnThePolicysFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("policy.yaml", []byte(backupPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "policy.yaml"):                "::error file=policy.yaml,line=2,title=policy/restores::nothing restores\n",
		filepath.Join(filepath.Dir(dir), "another.yaml"): "::error title=policy/restores::nothing restores\n",
	} {
		var b strings.Builder
		if err := Finding(&b, &policy.Policy{Path: path, Documents: policy.Documents(path)}, "policy/restores", "nothing restores"); err != nil || b.String() != want {
			t.Errorf("%s: %v, %q", path, err, b.String())
		}
	}
}

func TestAnnotationsOfManyAndOfNone(t *testing.T) {
	r := &verdict.Report{Implementation: verdict.Implementation{Policy: "no-such-policy"}, SetupError: "no engine\n::error::forged", Redact: func(b []byte) []byte {
		return []byte(strings.ReplaceAll(string(b), "100%25", "[redacted]"))
	}}
	for range 30 {
		r.Requirements = append(r.Requirements, outcome("core/a", verdict.Fail, verdict.None, verdict.Restore))
	}
	var b strings.Builder
	if err := Annotate(&b, r); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 1+most || lines[0] != "::error title=set-up failed::no engine" || !strings.Contains(lines[most], "21 more") {
		t.Errorf("%d lines\n%s", len(lines), b.String())
	}
	if lines[1] != "::error title=core/a%3A fail::because: [redacted]%0Amake e2e FOCUS=core/a" {
		t.Errorf("%q", lines[1])
	}
	b.Reset()
	if err := Annotate(&b, &verdict.Report{Requirements: []verdict.Result{{Verdict: verdict.Pass}}}); err != nil || b.Len() > 0 {
		t.Errorf("%v, %q", err, b.String())
	}
}
