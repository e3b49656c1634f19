package policy

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckFindsWhatNeedsNoCluster(t *testing.T) {
	shipped, err := Load(filepath.Join("..", "..", "fixtures", "known-bad", "base"), planEndpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := shipped.Check(); err != nil {
		t.Fatalf("a good policy: %v", err)
	}
	for name, c := range map[string]struct {
		change      func(string) string
		requirement string
		want        string
	}{
		"no RD":          {replace("ReplicationDestination", "Nothing"), Restores, "nothing in it makes a ReplicationDestination"},
		"no RS":          {replace("ReplicationSource", "Nothing"), BacksUp, "nothing in it makes a ReplicationSource"},
		"another value":  {replace("backup: hourly", "backup: daily"), Label, "other PVCs than those labelled backup=hourly: its selectors name backup=daily, smart-restore=true"},
		"another key":    {replace("backup: hourly", "volsync: hourly"), Label, "its selectors name smart-restore=true, volsync=hourly"},
		"no selector":    {replace("matchLabels", "nothing"), Label, "its selectors name no label"},
		"another bucket": {replace("volsync-backups", "backups"), InBucket, "it nowhere names the bucket volsync-backups"},
	} {
		t.Run(name, func(t *testing.T) {
			p := changed(t, c.change)
			found := FindingsIn(p.Check())
			if len(found) != 1 || found[0].Requirement != c.requirement || !strings.Contains(found[0].Error(), c.want) || strings.Contains(found[0].Error(), "\n") {
				t.Errorf("got  %v\nwant %s: %s", found, c.requirement, c.want)
			}
		})
	}
	// Other ways to name the label are taken.
	for _, selector := range []string{
		"matchExpressions: [{key: backup, operator: In, values: [daily, hourly]}]",
		"matchExpressions: [{key: backup, operator: Exists}]",
		`expression: 'object.metadata.?labels["backup"].orValue("") == "hourly"'`,
		`expression: 'object.metadata.labels.backup == "hourly"'`,
	} {
		p := changed(t, func(s string) string {
			return strings.ReplaceAll(s, "matchLabels:\n        backup: hourly", selector)
		})
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", selector, err)
		}
	}
}

func replace(from, to string) func(string) string {
	return func(s string) string { return strings.ReplaceAll(s, from, to) }
}

// changed is the known-bad policies' base, changed as text.
func changed(t *testing.T, change func(string) string) *Policy {
	t.Helper()
	base := filepath.Join("..", "..", "fixtures", "known-bad", "base")
	files := map[string]string{}
	for _, name := range []string{"decision.yaml", "backup.yaml", "restore.yaml", "backup-after-restore.yaml"} {
		files[name] = change(readFile(t, filepath.Join(base, name)))
	}
	p, err := Load(write(t, files), planEndpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFindingsIn(t *testing.T) {
	a, b := &Finding{Requirement: Restores, Text: "a"}, &Finding{Requirement: Acts, Text: "b", Err: errors.New("why")}
	got := FindingsIn(fmt.Errorf("around: %w", errors.Join(a, errors.New("else"), fmt.Errorf("x: %w", b))))
	if len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("%v", got)
	}
	if got := FindingsIn(nil); got != nil {
		t.Errorf("%v", got)
	}
}
