package session

import (
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/stack"
	"github.com/smart-restore/conformance/harness/testbed"
)

func TestCheckSelection(t *testing.T) {
	specs := []spec{{ID: "core/a", Labels: []string{"core"}, Selected: true}, {ID: "core/b", Labels: []string{"core", "s3-down"}}}
	for _, c := range []struct{ labels, want string }{
		{"", ""},
		{"core && !s3-down", ""},
		{"/s3-.*/", ""},
		{"cor", `no spec has the label "cor"; there are core, s3-down`},
		{"core && !s3-dwn", `"s3-dwn"`},
	} {
		err := selection{labels: c.labels}.check(specs)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("LABELS=%q: got %v, wanted %q", c.labels, err, c.want)
		}
	}
	if err := (selection{focus: "nope"}).check(specs[1:]); err == nil || !strings.Contains(err.Error(), "select none of the 1 specs") {
		t.Errorf("a selection of nothing: %v", err)
	}
}

// A stack that is kept up serves S3 at one address: a policy that names another one is told what to do.
func TestAKeptStackHasOneEndpoint(t *testing.T) {
	s := &Session{Stack: &stack.Stack{Name: "one"}}
	kept := &testbed.Testbed{Stack: "one", Endpoint: endpoint.Endpoint{URL: "http://192.168.10.133:9000"}}
	p := &policy.Policy{Endpoint: endpoint.Endpoint{URL: "http://10.0.0.5:9000"}, Contract: policy.Contract{Name: "other"}}
	err := s.usable(t.Context(), kept, p)
	want := "the kept stack is one with S3 at http://192.168.10.133:9000, but the policy needs one with S3 at http://10.0.0.5:9000 (policy other): remove the kept stack with make down"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
