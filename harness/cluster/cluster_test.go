package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/fixtures"
)

func TestConfigurationIsKindsAndTheAuditLogIsOurs(t *testing.T) {
	o := Options{AuditDir: t.TempDir(), StateDir: t.TempDir(), NodePulled: true}
	raw, err := configuration(fixtures.Files, o)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Kind  string
		Nodes []struct {
			ExtraMounts []struct{ HostPath, ContainerPath string }
		}
		Networking struct{ PodSubnet, ServiceSubnet, APIServerAddress string }
	}
	if err := yaml.Unmarshal(raw, &config); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	if config.Kind != "Cluster" || len(config.Nodes) != 1 || len(config.Nodes[0].ExtraMounts) != 3 {
		t.Errorf("got %+v", config)
	}
	if config.Networking.PodSubnet != PodSubnet || config.Networking.ServiceSubnet != ServiceSubnet || config.Networking.APIServerAddress != "127.0.0.1" {
		t.Errorf("networking %+v: the ranges must be PodSubnet and ServiceSubnet, the API server on loopback", config.Networking)
	}
	info, err := os.Stat(filepath.Join(o.AuditDir, "audit.log"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the audit log is not there for us to read: %v, %v", info, err)
	}
}
