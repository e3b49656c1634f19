package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/fixtures"
)

func TestConfigurationIsKindsAndTheAuditLogIsOurs(t *testing.T) {
	for nodes, roles := range map[int][]string{0: {"control-plane"}, 1: {"control-plane"}, 3: {"control-plane", "worker", "worker"}} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) { configured(t, nodes, roles) })
	}
}

func configured(t *testing.T, nodes int, roles []string) {
	t.Helper()
	o := Options{AuditDir: t.TempDir(), StateDir: t.TempDir(), NodePulled: true, Nodes: nodes}
	raw, err := configuration(fixtures.Files, o)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Kind  string
		Nodes []struct {
			Role        string
			ExtraMounts []struct{ HostPath, ContainerPath string }
		}
		Networking struct{ PodSubnet, ServiceSubnet, APIServerAddress string }
	}
	if err := yaml.Unmarshal(raw, &config); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	var found []string
	for _, node := range config.Nodes {
		found = append(found, node.Role)
	}
	if config.Kind != "Cluster" || !slices.Equal(found, roles) || len(config.Nodes[0].ExtraMounts) != 3 {
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

func TestNodesAreNamedAsKindNamesThem(t *testing.T) {
	for count, want := range map[int][]string{
		0: {"c-control-plane"},
		1: {"c-control-plane"},
		2: {"c-control-plane", "c-worker"},
		3: {"c-control-plane", "c-worker", "c-worker2"},
	} {
		if got := nodeNames("c", count); !slices.Equal(got, want) {
			t.Errorf("%d nodes: got %q, wanted %q", count, got, want)
		}
	}
}
