package policy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smart-restore/conformance/harness/endpoint"
)

// The gallery's setups are read as what they are: templates without a policy.
func TestTheGallerysTemplates(t *testing.T) {
	for _, name := range []string{"app-template", "populator-template", "path-by-app", "external-secret", "own-ca"} {
		t.Run(name, func(t *testing.T) {
			p, err := Load(filepath.Join("..", "..", "fixtures", "gallery", name), endpoint.Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(); err != nil {
				t.Error(err)
			}
			if !p.Contract.OnlyTemplates() || len(p.Objects) > 0 || p.Contract.PVC.Label != "" || len(p.Contract.PVC.Labels()) > 0 {
				t.Errorf("%d objects, label %q", len(p.Objects), p.Contract.PVC.Label)
			}
			if !slices.Contains(p.Describe(), "for each PVC: ReplicationSource/${APP}") {
				t.Errorf("described as %v", p.Describe())
			}
			given := map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "RESTIC_PASSWORD": "password"}
			one, err := p.Templates.For("ns", "data", given)
			if err != nil {
				t.Fatal(err)
			}
			if one.Claim == nil || one.Claim.Name != "data" || one.Claim.Namespace != "ns" {
				t.Errorf("the PVC is %+v", one.Claim)
			}
			if all := one.Rest(); len(all) != 3 || all[0].GetName() != "data-volsync" {
				t.Errorf("%d objects before the PVC, %d after it", len(one.Before), len(one.After))
			}
		})
	}
}

// templated is a folder with app-template, one of whose files is changed.
func templated(t *testing.T, file string, change func(string) string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("..", "..", "fixtures", "gallery", "app-template"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(raw))
	if changed == string(raw) {
		t.Fatalf("%s is as it was", file)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestTemplatesThatAreRefused(t *testing.T) {
	replaced := func(old, by string) func(string) string {
		return func(text string) string { return strings.ReplaceAll(text, old, by) }
	}
	more := func(text string) func(string) string { return func(was string) string { return was + text } }
	for name, c := range map[string]struct {
		file   string
		change func(string) string
		want   string
	}{
		"an unknown placeholder":      {"secret.yaml", replaced("{namespace}", "{cluster}"), "secret.yaml:7:68: there is no placeholder {cluster} in templates"},
		"an undeclared variable":      {"source.yaml", replaced("${VOLSYNC_SCHEDULE:=0 * * * *}", "${SCHEDULE}"), "source.yaml:8:16: nobody says what ${SCHEDULE} is"},
		"a folder that is not there":  {"conformance.yaml", replaced("[.]", "[nowhere]"), "conformance.yaml:6:13: nowhere: "},
		"a policy among them":         {"claim.yaml", more("---\napiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: a}\n"), "conformance.yaml:6:13: . has the policy ClusterPolicy a, which is applied once: list its file under policy"},
		"variables that nothing uses": {"conformance.yaml", replaced("templates: [.]", "policy: [.]"), "conformance.yaml:7:12: they are filled into templates: there are none"},
		"a variable of a variable": {"conformance.yaml", replaced(`"{pvc}"}
names`, `"{app}"}
names`), `there is no placeholder "{app}" here`},
		"a file that SOPS has encrypted": {"secret.yaml", more("sops: {mac: \"ENC[x]\", version: 3.9.1}\n"), "conformance.yaml:6:13: .: Secret ${APP}-volsync is encrypted by SOPS, and the suite has no keys: list the other files, and a Secret of that name with RESTIC_REPOSITORY, and with ${NAME} for each key of the base Secret"},
		"no address of S3":               {"secret.yaml", replaced("192.168.10.133", "10.1.1.1"), "no object in it mentions the S3 endpoint 192.168.10.133:9000"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(templated(t, c.file, c.change), endpoint.Endpoint{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

// An address and a bucket may be put together from variables.
func TestAnAddressInVariables(t *testing.T) {
	folder := templated(t, "secret.yaml", func(text string) string {
		return strings.ReplaceAll(text, "192.168.10.133:9000/volsync-backups", "192.168.${SUBNET}:9000/volsync-${WHAT:=backups}")
	})
	file := filepath.Join(folder, "conformance.yaml")
	raw, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(raw), "variables: {", "variables: {SUBNET: \"10.133\", ", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := Load(folder, endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// Templates alone need no Kyverno, and their classes are looked for once their variables are filled in.
func TestTheStacksOfTemplates(t *testing.T) {
	known := append(stacksNamed("kyverno-1.19"), csiStack)
	load := func(of string) *Policy {
		p, err := Load(filepath.Join("..", "..", "fixtures", "gallery", of), endpoint.Endpoint{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	app, populator := load("app-template"), load("populator-template")
	populator.Contract.Stacks = nil // as one that says nothing
	if names, err := app.Contract.MadeFor(known); err != nil || !slices.Equal(names, []string{"kyverno-1.19", "volsync-csi"}) {
		t.Errorf("made for %v, %v", names, err)
	}
	for _, c := range []struct {
		of    *Policy
		stack string
		want  string
	}{
		{app, "kyverno-1.19", ""}, {app, "volsync-csi", ""}, {populator, "volsync-csi", ""},
		{populator, "kyverno-1.19", "copyMethod Snapshot needs volumes that can be snapshotted; the stack kyverno-1.19 has none: choose with STACK=volsync-csi"},
	} {
		if err := c.of.CheckStack(c.stack, known); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s on %s: %v, wanted %q", c.of.Contract.Name, c.stack, err, c.want)
		}
	}
	populator.Templates.Variables["VOLSYNC_SNAPSHOTCLASS"] = "ceph"
	if err := populator.CheckStack("volsync-csi", known); err == nil || !strings.Contains(err.Error(), `has no VolumeSnapshotClass "ceph"`) {
		t.Errorf("a class that is not there: %v", err)
	}
}

// A PVC is selected by a label, by annotations, or by not having opted out.
func TestWhatSelectsPVCs(t *testing.T) {
	head := "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: a\ndescription: b\n"
	for pvc, want := range map[string][3]string{
		"": {"labelled backup=hourly", `{"labels":{"backup":"hourly"}}`, `{"labels":{"backup":null}}`},
		"pvc: {annotations: {example.com/backup: yes-please}}": {"annotated example.com/backup=yes-please",
			`{"annotations":{"example.com/backup":"yes-please"}}`, `{"annotations":{"example.com/backup":null}}`},
		"pvc: {storageClass: ceph, optOut: {example.com/backup: never}}": {"not annotated example.com/backup=never and of the class ceph",
			`{"annotations":{"example.com/backup":null}}`, `{"annotations":{"example.com/backup":"never"}}`},
		"pvc: {label: a, value: b, annotations: {c: d}}": {"labelled a=b and annotated c=d", `{"annotations":{"c":"d"},"labels":{"a":"b"}}`, `{"annotations":{"c":null},"labels":{"a":null}}`},
	} {
		c := parsed(t, head+pvc)
		selected, err := json.Marshal(c.PVC.Metadata(true))
		if err != nil {
			t.Fatal(err)
		}
		not, err := json.Marshal(c.PVC.Metadata(false))
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]string{c.PVC.String(), string(selected), string(not)}; got != want {
			t.Errorf("%s:\ngot  %q\nwant %q", pvc, got, want)
		}
	}
	other := PVC{Label: "a", Value: "b", Annotations: map[string]string{"c": "d"}}
	if of := other.Of("x"); of.Value != "x" || of.Annotations["c"] != "x" || other.Annotations["c"] != "d" {
		t.Errorf("%+v of %+v", of, other)
	}
	_, err := parseContract("conformance.yaml", []byte(head+"pvc: {annotations: {a: b}, optOut: {a: b}}\n"))
	if err == nil || !strings.Contains(err.Error(), "conformance.yaml:5:37: the annotation a: b both selects") {
		t.Error(err)
	}
}

func TestAReplicationSourceThatComesLate(t *testing.T) {
	head := "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: a\ndescription: b\n"
	for text, want := range map[string]struct {
		late  bool
		delay time.Duration
		err   string
	}{
		"":                              {},
		"backupSource: {when: created}": {},
		"backupSource: {when: bound}":   {late: true},
		"backupSource: {after: 2m}":     {late: true, delay: 2 * time.Minute},
		"backupSource: {when: bound, after: 90s}": {late: true, delay: 90 * time.Second},
		"backupSource: {when: later}":             {err: `"later" is not known here: wanted is created, bound`},
		"backupSource: {after: 2h}":               {err: `"2h" will not do: wanted is a time of at most 5m`},
	} {
		c, err := parseContract("conformance.yaml", []byte(head+text))
		if (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %v, wanted %q", text, err, want.err)
			continue
		}
		if err == nil && (c.BackupSource.Late() != want.late || c.BackupSource.Delay() != want.delay) {
			t.Errorf("%s: %+v", text, c.BackupSource)
		}
	}
}

func TestNoRetain(t *testing.T) {
	c := parsed(t, "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: a\ndescription: b\nretain: {none: true}\n")
	if len(c.Retain.Named()) > 0 || c.Retain.Broken(nil) != "" || c.Retain.Broken(map[string]any{"hourly": 1}) == "" || (Retain{Hourly: 1}).Broken(nil) == "" {
		t.Errorf("%+v", c.Retain)
	}
	_, err := parseContract("conformance.yaml", []byte("apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: a\ndescription: b\nretain: {none: true, hourly: 2}\n"))
	if err == nil || !strings.Contains(err.Error(), "conformance.yaml:5:16: it says that there is no retain") {
		t.Error(err)
	}
}

func TestTemplatesWithoutARestore(t *testing.T) {
	p, err := Load(templated(t, "kustomization.yaml", func(text string) string { return strings.Replace(text, "- destination.yaml\n", "", 1) }), endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	findings := FindingsIn(p.Check())
	if len(findings) != 1 || findings[0].Requirement != Restores {
		t.Errorf("found %v", findings)
	}
}

// What templates say of restores is what the contract says of them.
func TestRestoresAsTheTemplatesDo(t *testing.T) {
	says := func(line string) func(string) string {
		return func(text string) string { return strings.Replace(text, "schedule: ", line+"\nschedule: ", 1) }
	}
	for name, c := range map[string]struct{ line, restores, problem string }{
		"nothing":          {"# nothing", Always, ""},
		"the same":         {"restores: always", Always, ""},
		"the other":        {"restores: never", "", "it is never, and a ReplicationDestination is among the templates, which are applied for each PVC: leave it out, or say always"},
		"what is not said": {"restores: sometimes", "", `"sometimes" is not known here: wanted is decided, always, never`},
	} {
		p, err := Load(templated(t, "conformance.yaml", says(c.line)), endpoint.Endpoint{})
		switch {
		case c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)):
			t.Errorf("%s: got %v, wanted %s", name, err, c.problem)
		case c.problem == "" && (err != nil || p.Contract.Restores != c.restores):
			t.Errorf("%s: got %v, %+v", name, err, p)
		}
	}
	_, err := parseContract("conformance.yaml", []byte("apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: a\ndescription: b\ncompanion: true\n"))
	if err == nil || !strings.Contains(err.Error(), "conformance.yaml:5:12: a policy that is not about PVCs has templates beside it") {
		t.Error(err)
	}
}

// One that backs up only is asked for no restore.
func TestBacksUpOnly(t *testing.T) {
	p, err := Load(filepath.Join("..", "..", "fixtures", "gallery", "backup-only"), endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil || p.Contract.Restores != Never {
		t.Errorf("%v, restores %s", err, p.Contract.Restores)
	}
}

// Templates stand beside a policy, which is applied once.
func TestTemplatesBesideAPolicy(t *testing.T) {
	policies, err := filepath.Abs(filepath.Join("..", "..", "fixtures", "known-bad", "base"))
	if err != nil {
		t.Fatal(err)
	}
	folder := templated(t, "conformance.yaml", func(text string) string {
		return strings.Replace(text, "templates: [.]", "policy: [policy]\npvc: {label: backup, value: hourly}\ntemplates: [.]", 1)
	})
	if err := os.CopyFS(filepath.Join(folder, "policy"), os.DirFS(policies)); err != nil {
		t.Fatal(err)
	}
	p, err := Load(folder, endpoint.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Kyverno()) == 0 || p.Templates == nil || p.Contract.OnlyTemplates() {
		t.Errorf("%d policies, templates %v", len(p.Kyverno()), p.Templates)
	}
	for _, c := range []struct {
		contract Contract
		refuses  bool
	}{{p.Contract, false}, {Contract{Templates: []string{"."}}, true}} {
		if got := c.contract.NotPromised([]string{JudgesPolicy}) != ""; got != c.refuses {
			t.Errorf("not promised: %v, wanted %v", got, c.refuses)
		}
	}
}
