package claim

import (
	"encoding/json"
	"slices"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestTriggersOfAnUpdateRequest(t *testing.T) {
	pvc := client.ObjectKey{Namespace: "ns", Name: "data"}
	cases := []struct {
		name, spec string
		want       []client.ObjectKey
	}{
		{"a GeneratingPolicy's", `{"requestType":"cel-generate","resource":{},"ruleContext":[{"trigger":{"kind":"PersistentVolumeClaim","namespace":"ns","name":"data"}}]}`, []client.ObjectKey{pvc}},
		{"a ClusterPolicy's, of Kyverno 1.13", `{"requestType":"mutate","resource":{"namespace":"ns","name":"data"}}`, []client.ObjectKey{pvc}},
		{"a MutatingPolicy's", `{"requestType":"cel-mutate","resource":{},"context":{"admissionRequestInfo":{"admissionRequest":{"namespace":"ns","name":"data"}}}}`, []client.ObjectKey{pvc}},
		{"of nothing", `{"requestType":"generate"}`, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var request map[string]any
			if err := json.Unmarshal([]byte(`{"spec":`+c.spec+`}`), &request); err != nil {
				t.Fatal(err)
			}
			if got := triggers(request); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
