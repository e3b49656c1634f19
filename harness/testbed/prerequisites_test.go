package testbed

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/endpoint"
	"github.com/smart-restore/conformance/harness/objectstore"
	"github.com/smart-restore/conformance/harness/policy"
)

// The store that a contract names holds the run's credentials and address, and is there before the policy is; no error has them.
func TestTheStoreOfSecretsIsMade(t *testing.T) {
	const secret = "a-secret-password"
	for name, c := range map[string]struct {
		kind  string
		ready string
		made  int
		fails bool
	}{
		"the cluster's":           {policy.ClusterSecretStore, "True", 1, false},
		"never ready":             {policy.ClusterSecretStore, "False", 1, true},
		"of each namespace":       {policy.NamespaceSecretStore, "", 0, false},
		"the contract names none": {"", "", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, err := endpoint.Parse("http://192.168.10.133:9000")
				if err != nil {
					t.Fatal(err)
				}
				s := &Testbed{Endpoint: e, Store: &objectstore.Handle{}, Contract: policy.Default()}
				s.Store.Bucket, s.Credentials.ResticPassword = s.Contract.S3.Bucket, secret
				if c.kind != "" {
					s.Contract.SecretStore = policy.SecretStore{Kind: c.kind, Name: "vault", Entries: []policy.StoreEntry{{Key: "k", Properties: map[string]string{"P": "{resticPassword}", "A": "{endpoint}/{bucket}"}}}}
				}
				made := 0
				api := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
					Patch: func(ctx context.Context, api client.WithWatch, o client.Object, _ client.Patch, _ ...client.PatchOption) error {
						made++
						u := o.(*unstructured.Unstructured)
						if raw, err := json.Marshal(u.Object); err != nil || !strings.Contains(string(raw), secret) || !strings.Contains(string(raw), "http://192.168.10.133:9000/volsync-backups") {
							t.Errorf("it is %s, %v", raw, err)
						}
						u.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": c.ready}}}
						return api.Create(ctx, u)
					},
				})
				err = s.makePrerequisites(t.Context(), api)
				if (err != nil) != c.fails || made != c.made || err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("made %d, %v", made, err)
				}
				if err != nil && !strings.Contains(err.Error(), "wanted the External Secrets Operator to have the ClusterSecretStore vault ready") {
					t.Error(err)
				}
				if inNamespace := s.SecretStore("ns"); (inNamespace == nil) != (c.kind == "") || inNamespace != nil && (inNamespace.GetNamespace() == "ns") != (c.kind == policy.NamespaceSecretStore) {
					t.Errorf("in a namespace it is %v", inNamespace)
				}
			})
		})
	}
}
