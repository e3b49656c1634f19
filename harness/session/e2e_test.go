package session

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/settings"
	"github.com/smart-restore/conformance/harness/stack"
)

// A report says which endpoint was used, and apart from it what a rerun has to set.
func TestAReportSaysWhichEndpointWasUsed(t *testing.T) {
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	used := endpoint.Endpoint{URL: "http://10.0.0.5:9000"}
	for _, setting := range []endpoint.Endpoint{{}, used} {
		s := &Session{Settings: &settings.Settings{S3Endpoint: setting, Policy: "another"}, Stack: &stack.Stack{Name: "one"}}
		report := s.newE2E(&policy.Policy{Path: filepath.Join(folder, "policies", "p"), Endpoint: used}, selection{}, t.TempDir()).report
		if report.Stack.Endpoint != used.URL || report.Selection.EndpointSetting != setting.URL {
			t.Errorf("S3_ENDPOINT=%s: used is %q, set was %q", setting.URL, report.Stack.Endpoint, report.Selection.EndpointSetting)
		}
		if got := RerunSettings(report)["S3_ENDPOINT"]; got != setting.URL {
			t.Errorf("a rerun sets S3_ENDPOINT=%s, want %s", got, setting.URL)
		}
		if want := filepath.Join("policies", "p"); report.Implementation.Policy != want {
			t.Errorf("the policy is %s, want %s", report.Implementation.Policy, want)
		}
	}
}
