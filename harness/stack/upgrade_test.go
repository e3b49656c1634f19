package stack

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
)

// The other version of Kyverno is one that the stack does not run, and its images are on the node.
func TestTheKyvernoThatAStackUpgradesFrom(t *testing.T) {
	raw, err := fs.ReadFile(fixtures.Files, lockFile)
	if err != nil {
		t.Fatal(err)
	}
	const line, preload = "  upgradesFrom: kyverno-1.18\n", "kyverno-pre-1.18, kyverno-1.18, "
	for name, c := range map[string]struct{ old, new, want string }{
		"as it is":        {line, line, ""},
		"no such":         {line, "  upgradesFrom: nope\n", `stack "kyverno-1.19-from-1.18": upgradesFrom: want a manifest of github.com/kyverno/kyverno that is none of the stack's own, found "nope"`},
		"not Kyverno":     {line, "  upgradesFrom: volsync\n", `found "volsync"`},
		"its own":         {line, "  upgradesFrom: kyverno-1.19\n", `found "kyverno-1.19"`},
		"without images":  {preload, "kyverno-pre-1.18, ", "upgradesFrom: the node needs the image kyverno-1.18, too: add it to preload"},
		"another version": {line, "  upgradesFrom: kyverno-1.17\n", "the node needs the image kyverno-pre-1.17, too"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(string(raw), c.old) {
				t.Fatalf("%q is not in the lock", c.old)
			}
			_, err := Parse([]byte(strings.Replace(string(raw), c.old, c.new, 1)))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("found %v, wanted %q", err, c.want)
			}
		})
	}
}
