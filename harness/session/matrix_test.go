package session

import (
	"path/filepath"
	"testing"

	"github.com/smart-restore/conformance/fixtures"
	"github.com/smart-restore/conformance/harness/matrix"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
)

// A cell whose policy is not made for its stack would never come to a verdict.
func TestEveryPolicyOfTheMatrixIsMadeForItsStack(t *testing.T) {
	lock, err := stack.Load(fixtures.Files)
	if err != nil {
		t.Fatal(err)
	}
	m, err := matrix.Load(fixtures.Files, lock.StackNames())
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := settings.ParseEndpoint("http://192.168.10.133:9000")
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range m.Cells {
		p, err := policy.Load(filepath.Join("..", "..", filepath.FromSlash(cell.Policy)), endpoint)
		if err == nil {
			err = p.Contract.CheckStack(cell.Stack, lock.StackNames())
		}
		if err != nil {
			t.Errorf("cell %s: %v", cell.Name(), err)
		}
	}
}
