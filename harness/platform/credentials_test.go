package platform

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/env/recorded"
	"github.com/smart-restore/conformance/harness/testbed"
)

func TestACredentialIsFoundInTheAuditLog(t *testing.T) {
	const password = "the password of all backups"
	log := filepath.Join(t.TempDir(), "audit.log")
	up := &testbed.Testbed{AuditLog: log}
	up.Credentials.ResticPassword = password
	c := &Credentials{env: env.Offline(t.TempDir(), env.Parts{Testbed: up}).In("ns", "safety/x", &recorded.Reporter{}), read: map[string]int64{}}
	line := func(text string) string {
		return `{"verb":"create","objectRef":{"resource":"updaterequests"},"requestObject":"` + text + "\"}\n"
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.inAuditLog(); err == nil {
		t.Error("no audit log was taken for an empty one")
	}
	for name, test := range map[string]struct {
		before, since string
		want          bool
	}{
		"nothing":     {"", line("something else"), false},
		"in clear":    {"", line("x") + line(password), true},
		"in base64":   {line("x"), line(base64.StdEncoding.EncodeToString([]byte(password))), true},
		"before":      {line(password), line("x"), false},
		"half a line": {"", strings.TrimSuffix(line(password), "\"}\n"), false},
	} {
		write(test.before + test.since)
		c.read = map[string]int64{log: int64(len(test.before))}
		got, err := c.inAuditLog()
		if err != nil || (got != "") != test.want || strings.Contains(got, password) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
