package session

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/check"
	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/mutants"
	"github.com/smart-restore/conformance/harness/policy"
)

func mutantsOf(t *testing.T) (*policy.Policy, []mutants.Mutant) {
	t.Helper()
	p, err := policy.Load("../../policies/clusterpolicy", endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	return p, mutants.Of(p)
}

// A mutant that is written is a policy that can be tested: the specs on a cluster judge what lives.
func TestAMutantIsWrittenAsAPolicy(t *testing.T) {
	p, all := mutantsOf(t)
	var out bytes.Buffer
	s := &Session{Out: &out}
	if err := s.writeMutant(p, all, all[0].ID); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mutant.yaml")
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	mutant, err := policy.Load(file, endpoint.Endpoint{})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(mutant.Objects) != len(p.Objects)-1 { // the first one is without an object
		t.Errorf("want %d objects, found %d", len(p.Objects)-1, len(mutant.Objects))
	}
	if err := s.writeMutant(p, all, "00000000"); err == nil || !strings.Contains(err.Error(), "has no such mutant") {
		t.Errorf("an ID that no mutant has: %v", err)
	}
}

func TestTheListingIsWrittenWhereItIsAskedFor(t *testing.T) {
	p, all := mutantsOf(t)
	outcomes := map[string]mutants.Outcome{}
	for _, m := range all {
		outcomes[m.ID] = mutants.Outcome{Verdict: mutants.Caught, Catch: check.Catch{Requirement: "core/fresh", All: []string{"core/fresh"}}}
	}
	report := mutants.NewReport(p, "", all, outcomes, nil)
	var out bytes.Buffer
	s := &Session{Out: &out}
	file := filepath.Join(t.TempDir(), "new", "page.html")
	if err := s.writeMutants(report, MutantsOf{HTML: file, All: true}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(page, []byte("decision.yaml")) {
		t.Errorf("the page does not list the policy's files: %v", err)
	}
	if text := out.String(); !strings.Contains(text, "in all  core/fresh\n") || !strings.Contains(text, "100.0 %") {
		t.Errorf("the text does not say which requirement caught all:\n%s", text)
	}
	out.Reset()
	if err := s.writeMutants(report, MutantsOf{JSON: true}); err != nil || !strings.HasPrefix(out.String(), "{\n  \"policy\"") {
		t.Errorf("no JSON: %v", err)
	}
}
