package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/policy"
)

// Movers that are not given the CA of an endpoint that no image trusts would back up nothing.
func TestMoversAreGivenTheCA(t *testing.T) {
	for name, c := range map[string]struct{ file, old, by, want string }{
		"as it is":         {"", "", "", ""},
		"by images":        {"conformance.yaml", ", trust: policy", "", ""},
		"not given":        {"kustomization.yaml", "/spec/restic/customCA", "/spec/restic/other", "ReplicationSource data has no customCA, and by the contract no image trusts the CA of https://s3.home.example.org:9000"},
		"by another key":   {"kustomization.yaml", "key: ca.crt", "key: ca.pem", `the customCA of ReplicationSource data is the key "ca.pem" of the Secret volsync-rustfs-base, which is not the CA's certificate`},
		"by a credential":  {"kustomization.yaml", "key: ca.crt", "key: RESTIC_PASSWORD", `the customCA of ReplicationSource data is the key "RESTIC_PASSWORD"`},
		"not looked at":    {"kustomization.yaml", "secretName: volsync-rustfs-base", "configMapName: trust", ""},
		"of somebody else": {"kustomization.yaml", "secretName: volsync-rustfs-base", "secretName: theirs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			gallery := t.TempDir()
			for _, of := range []string{"app-template", "own-ca"} {
				if err := os.CopyFS(filepath.Join(gallery, of), os.DirFS(filepath.Join("..", "..", "fixtures", "gallery", of))); err != nil {
					t.Fatal(err)
				}
			}
			folder := filepath.Join(gallery, "own-ca")
			if c.file != "" {
				path := filepath.Join(folder, c.file)
				raw, err := os.ReadFile(path)
				if err != nil || !strings.Contains(string(raw), c.old) {
					t.Fatalf("%s: %v", raw, err)
				}
				if err := os.WriteFile(path, []byte(strings.Replace(string(raw), c.old, c.by, 1)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := policy.Load(folder, endpoint.Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), p, "volsync-csi", noSimulator{})
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, f := range r.Findings {
				if strings.Contains(f.Text, "CA") {
					found = append(found, f.Text)
				}
			}
			if c.want == "" && len(found) > 0 || c.want != "" && (len(found) != 2 || !strings.Contains(strings.Join(found, "\n"), c.want)) {
				t.Errorf("want %q of the source, and the same of the destination, found %q", c.want, found)
			}
		})
	}
}
