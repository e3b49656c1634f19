package policy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
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
		"another value":  {replace("backup: hourly", "backup: daily"), Label, "other PVCs than those labelled backup=hourly, as its contract has it: its selectors name backup=daily, smart-restore=true"},
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

// A label of the contract that no policy means is found in every shape of policy: by selectors, by expressions, and by both.
func TestAMisspeltLabelIsFoundInEveryShape(t *testing.T) {
	root := filepath.Join("..", "..", "policies")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		p, err := Load(filepath.Join(root, entry.Name()), endpoint.Endpoint{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Errorf("%s, as it is: %v", entry.Name(), err)
		}
		if p.Contract.OnlyTemplates() { // they are for every PVC that they are applied for
			continue
		}
		right := p.Contract.PVC
		for _, wrong := range []PVC{{Label: right.Label, Value: right.Value + "x"}, {Label: right.Label, Value: "weekly"}, {Label: right.Label + "s", Value: right.Value}} {
			p.Contract.PVC = wrong
			found := FindingsIn(p.Check())
			if len(found) != 1 || found[0].Requirement != Label || !strings.Contains(found[0].Text, wrong.Label+"="+wrong.Value) || !strings.Contains(found[0].Text, right.Label+"="+right.Value) {
				t.Errorf("%s, labelled %s=%s by its contract: %v", entry.Name(), wrong.Label, wrong.Value, found)
			}
		}
		tried++
	}
	if tried == 0 {
		t.Error("no policy was tried")
	}
}

func TestOtherLabel(t *testing.T) {
	pvc := PVC{Label: "tier", Value: "nightly"}
	for _, c := range []struct {
		text   string
		labels []string
		want   string
	}{
		{``, nil, "its selectors name no label"},
		{``, []string{"tier=nightly"}, ""},
		{``, []string{"tier=night*"}, ""},
		{``, []string{"tier"}, ""},
		{``, []string{"tier=daily"}, "its selectors name tier=daily"},
		{`"object.metadata.labels.tier == \"daily\""`, nil, "its expressions compare tier with daily"},
		{`"object.metadata.?labels[\"tier\"].orValue(\"\") == \"daily\" \u0026\u0026 x == \"nightly\""`, nil, "its expressions compare tier with daily"},
		{`"object.metadata.?labels[\"tier\"].orValue(\"\") == \"nightly\""`, nil, ""},
		{`"object.metadata.?labels[\"tier\"].orValue(\"\") == \"nightly\""`, []string{"tier=daily"}, ""},
		{`"object.metadata.?labels[\"tier\"].orValue(\"\") == \"daily\""`, []string{"tier=daily", "x=y"}, "its selectors name tier=daily, x=y"},
		{`"object.metadata.labels.tier in [\"daily\", \"nightly\"]"`, []string{"x=y"}, ""},
		{`"has(object.metadata.labels.tier)","name":"other"`, []string{"x=y"}, ""},
		{`{"key":"{{ request.object.metadata.labels.tier }}","operator":"Equals","value":"nightly"}`, []string{"x=y"}, ""},
		{`"object.metadata.labels.tiers == \"nightly\""`, []string{"x=y"}, "its selectors name x=y"},
	} {
		labels := map[string]bool{}
		for _, label := range c.labels {
			labels[label] = true
		}
		if got := otherLabel(pvc, labels, c.text); got != c.want {
			t.Errorf("%s with %v: %q, want %q", c.text, c.labels, got, c.want)
		}
	}
}
