package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
)

const kyvernoPolicy = `apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: %}
spec: {s3: "http://192.168.10.133:9000/volsync-backups", makes: [ReplicationSource, ReplicationDestination]}
`

// What a contract says under upgradesFrom is read, or refused with words that say where and why.
func TestThePolicyThatIsReplaced(t *testing.T) {
	const head = "apiVersion: conformance.smart-restore.io/v1alpha1\nkind: PolicyContract\nname: "
	const role = "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: shared}\n"
	for name, c := range map[string]struct {
		from     string            // upgradesFrom; empty: there is none
		set      string            // UPGRADES_FROM, from the folder above
		contract string            // more of the contract of the earlier one
		files    map[string]string // more files, beside the folder of the policy
		want     string            // the objects that only the earlier one has; or what the error says
	}{
		"none":              {"", "", "", nil, ""},
		"another one":       {"../before", "", "", nil, "before"},
		"one that is set":   {"../gone-by-now", "before", "", map[string]string{"gone-by-now/policy.yaml": strings.ReplaceAll(kyvernoPolicy, "%", "gone")}, "before"},
		"none that is set":  {"", "nowhere", "", nil, "UPGRADES_FROM="},
		"not there":         {"../gone", "", "", nil, "conformance.yaml:5:15: ../gone: "},
		"no policy":         {"../roles", "", "", map[string]string{"roles/rbac.yaml": role}, "../roles: none of its 1 objects is a Kyverno policy"},
		"absolute":          {"/before", "", "", nil, `"/before" is not found on another machine`},
		"for other PVCs":    {"../before", "", "pvc: {label: other, value: \"yes\"}\n", nil, "../before: its pvc is labelled other=yes, and here it is labelled backup=hourly"},
		"with other places": {"../before", "", "s3: {path: \"prod/{namespace}/{pvc}\"}\n", nil, "its s3.path is prod/{namespace}/{pvc}, and here it is {namespace}/{pvc}"},
		"another Secret":    {"../before", "", "baseSecret: {name: mine}\n", nil, "its baseSecret is "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{
				"now/policy.yaml":         strings.ReplaceAll(kyvernoPolicy, "%", "now") + role,
				"now/conformance.yaml":    head + "now\ndescription: d\n",
				"before/policy.yaml":      strings.ReplaceAll(kyvernoPolicy, "%", "before") + role,
				"before/conformance.yaml": head + "before\ndescription: d\n" + c.contract,
			}
			if c.from != "" {
				files["now/conformance.yaml"] += "upgradesFrom: " + c.from + "\n"
			}
			for file, content := range c.files {
				files[file] = content
			}
			for file, content := range files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := Load(filepath.Join(dir, "now"), endpoint.Endpoint{})
			if err == nil && c.set != "" {
				err = p.UpgradeFrom(filepath.Join(dir, c.set))
			}
			switch {
			case err != nil:
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Errorf("found %v, wanted %q", err, c.want)
				}
			case p.Earlier == nil:
				if c.want != "" {
					t.Errorf("none was read, wanted %q", c.want)
				}
			default:
				var only []string
				for _, o := range Without(p.Earlier.Objects, p.Objects) {
					only = append(only, o.GetName())
				}
				if !slices.Equal(only, []string{c.want}) || p.Earlier.Name != "before" {
					t.Errorf("only %s has %q, wanted %q", p.Earlier.Name, only, c.want)
				}
			}
		})
	}
}
