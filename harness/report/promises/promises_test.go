package promises

import (
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/stack"
)

var (
	specs = []Spec{
		{"scale/storm", []string{"scale"}},
		{"core/s3-down/401", []string{"core", "needs-gateway"}},
		{"core/s3-down/500", []string{"core"}},
		{"core/s3-down/200", []string{"core"}},
		{"safety/gate", []string{"safety", "gated-start"}},
		{"resilience/late", []string{"resilience", policy.ChangesBaseSecret}},
	}
	stacks = []stack.Stack{withKyverno("b-2"), withKyverno("a-1"), withKyverno("b-1")}
)

func withKyverno(name string) stack.Stack {
	return stack.Stack{Name: name, Versions: map[string]string{"kyverno": "v1"}}
}

func TestTableOfContracts(t *testing.T) {
	all := policy.Contract{Name: "all", Features: []string{"gated-start", "visible-decision"}}
	some := policy.Contract{
		Name: "some", Stacks: []string{"b-*"}, Features: []string{"relabel"},
		ExpectedFailures: []policy.Expectation{
			{Requirement: "scale/storm", Reason: "it is slow"},
			{Requirement: "core/s3-down/200", Reason: "200 is 200"},
			{Requirement: "safety/gate", Reason: "is not tried"},
		},
	}
	other := policy.Contract{
		Name: "other", Stacks: []string{"a-1"}, BaseSecret: policy.BaseSecret{Namespace: "backup"},
		ExpectedFailures: []policy.Expectation{{Requirement: "scale/storm", Reason: "200 is 200"}},
	}
	got, err := Table([]policy.Contract{all, some, other}, specs, stacks)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`|  | all | some | other |
|---|:-:|:-:|:-:|
| made for 'a-1' | ✓ | – | ✓ |
| made for 'b-1', 'b-2' | ✓ | ✓ | – |
| 'core/s3-down/200' | ✓ | ✗ 1 | ✓ |
| 'core/s3-down/…': '401', '500' | ✓ | ✓ | ✓ |
| 'safety/gate' ('gated-start') | ✓ | – | – |
| 'resilience/late' | ✓ | ✓ | – |
| 'scale/storm' | ✓ | ✗ 2 | ✗ 1 |
| 'core/s3-down/…': The policy writes on the PVC what it decided and why, whatever S3 does ('visible-decision') | ✓ | – | – |

`+legend+`

1. 200 is 200
2. it is slow
`, "'", "`")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A policy that is made for no stack with snapshots is asked for nothing that needs them.
func TestTableOfWhatNeedsSnapshots(t *testing.T) {
	with, without := withKyverno("with"), withKyverno("without")
	with.Storage.Classes = []stack.StorageClass{{Name: "csi", Snapshots: true}}
	got, err := Table([]policy.Contract{{Name: "any"}, {Name: "one", Stacks: []string{"without"}}},
		[]Spec{{"safety/clone", []string{"safety", policy.NeedsSnapshots}}}, []stack.Stack{with, without})
	if want := "| `safety/clone` | ✓ | – |\n"; err != nil || !strings.Contains(got, want) {
		t.Errorf("%v, got\n%s\nwant %s", err, got, want)
	}
}

// A policy that is made for no stack with Argo CD is asked for nothing that it deploys.
func TestTableOfWhatNeedsGitOps(t *testing.T) {
	with, without := withKyverno("with"), withKyverno("without")
	with.Versions = map[string]string{"argo-cd": "v3", "kyverno": "v1"}
	got, err := Table([]policy.Contract{{Name: "any"}, {Name: "one", Stacks: []string{"without"}}},
		[]Spec{{"gitops/synced", []string{"gitops", policy.NeedsGitOps}}}, []stack.Stack{with, without})
	if want := "| `gitops/synced` | ✓ | – |\n"; err != nil || !strings.Contains(got, want) {
		t.Errorf("%v, got\n%s\nwant %s", err, got, want)
	}
}

// And for no stack with several nodes, for nothing that needs another.
func TestTableOfWhatNeedsTwoNodes(t *testing.T) {
	two, one := withKyverno("two"), withKyverno("one")
	two.Nodes, one.Nodes = 2, 1
	got, err := Table([]policy.Contract{{Name: "any"}, {Name: "one", Stacks: []string{"one"}}},
		[]Spec{{"resilience/node", []string{"resilience", policy.NeedsTwoNodes}}}, []stack.Stack{two, one})
	if want := "| `resilience/node` | ✓ | – |\n"; err != nil || !strings.Contains(got, want) {
		t.Errorf("%v, got\n%s\nwant %s", err, got, want)
	}
}

func TestTableRefuses(t *testing.T) {
	of := func(c policy.Contract) []policy.Contract { return []policy.Contract{c} }
	for name, c := range map[string]struct {
		contracts []policy.Contract
		want      string
	}{
		"nothing":                       {nil, "a table needs a policy"},
		"two of a name":                 {append(of(policy.Contract{Name: "a"}), policy.Contract{Name: "a"}), "two policies are called a"},
		"a requirement that no one has": {of(policy.Contract{Name: "a", ExpectedFailures: []policy.Expectation{{Requirement: "core/none"}}}), `a: no spec has the requirement "core/none"`},
		"a stack that is none":          {of(policy.Contract{Name: "a", Stacks: []string{"c-*"}}), `a: no stack matches "c-*"`},
	} {
		if table, err := Table(c.contracts, specs, stacks); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %q, wanted %s", name, err, table, c.want)
		}
	}
}

// What an event is about must be a requirement: the table leaves out what there is not.
func TestEventsAreTold(t *testing.T) {
	var all []Spec
	for _, e := range Events {
		all = append(all, Spec{ID: e.Requirement})
	}
	reason := "nobody looks"
	got, err := Table([]policy.Contract{{Name: "one", ExpectedFailures: []policy.Expectation{{Requirement: "resilience/told", Reason: reason}}}}, all, stacks)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| A mover is killed, and leaves its lock (`resilience/killed-mover`) | ✓ |", "| Nobody is told that a volume is not backed up (`resilience/told`) | ✗ 1 |", "1. " + reason} {
		if !strings.Contains(got, want) {
			t.Errorf("want %s in\n%s", want, got)
		}
	}
}
