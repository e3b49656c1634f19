package cluster

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/smart-restore/conformance/fixtures"
)

func TestEveryContainerHasTheCA(t *testing.T) {
	for name, c := range map[string]struct {
		trust  Trust
		places []string
	}{
		"http":                       {},
		"trusted by images":          {Trust{CA: "pem", ByImages: true}, []string{CAFile, trusted}},
		"brought by the policy":      {Trust{CA: "pem"}, []string{CAFile}},
		"trusted, and there is none": {Trust{ByImages: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := configuration(fixtures.Files, Options{AuditDir: t.TempDir(), StateDir: t.TempDir(), Nodes: 2, Trust: c.trust})
			if err != nil {
				t.Fatal(err)
			}
			var config struct {
				Nodes []struct {
					ExtraMounts []struct {
						HostPath, ContainerPath string
						ReadOnly                bool
					}
				}
			}
			if err := yaml.Unmarshal(raw, &config); err != nil {
				t.Fatalf("%v\n%s", err, raw)
			}
			for i, node := range config.Nodes {
				given := map[string]string{}
				for _, mount := range node.ExtraMounts {
					given[mount.ContainerPath] = mount.HostPath
				}
				base, there := given["/etc/containerd/cri-base.json"]
				if there != (c.trust.CA != "") {
					t.Fatalf("node %d: given %v", i, given)
				}
				if !there {
					continue
				}
				if content, err := os.ReadFile(given[trustFolder] + "/" + caName); err != nil || string(content) != c.trust.CA {
					t.Errorf("node %d: the CA's file has %q, %v", i, content, err)
				}
				var spec struct {
					Mounts []struct {
						Destination, Type, Source string
						Options                   []string
					}
				}
				text, err := os.ReadFile(base)
				if err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(text, &spec); err != nil {
					t.Fatal(err)
				}
				var places []string
				for _, mount := range spec.Mounts {
					if mount.Type == "bind" && mount.Source == CAFile && slices.Contains(mount.Options, "ro") {
						places = append(places, mount.Destination)
					}
				}
				if !slices.Equal(places, c.places) || len(spec.Mounts) <= len(places) {
					t.Errorf("node %d: want it at %q beside the mounts that are there, found %+v", i, c.places, spec.Mounts)
				}
			}
		})
	}
}
