package testbed

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/smart-restore/conformance/harness/endpoint"
	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
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

// The gateway answers for the oracle that a contract names, by what it says, and the policy comes with the Service that leads there.
func TestTheOracleAnswers(t *testing.T) {
	e, err := endpoint.Parse("http://192.168.10.133:9000")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		oracle policy.Oracle
		status int // of the gateway's answer
		told   int
		fails  bool
	}{
		"none":             {},
		"one":              {oracle: policy.Oracle{URL: "http://o.kyverno.svc/{namespace}/{pvc}", Answers: policy.OracleAnswers{Backup: "1", None: "2", Unknown: "3"}}, status: http.StatusNoContent, told: 1},
		"an older gateway": {oracle: policy.Oracle{URL: "http://o.kyverno.svc/{namespace}/{pvc}"}, status: http.StatusNotFound, told: 1, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			told := 0
			control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				told++
				var o gateway.Oracle
				if err := json.NewDecoder(r.Body).Decode(&o); err != nil || r.URL.Path != "/oracle" || o.Question != "/{namespace}/{pvc}" || o.Bucket != "volsync-backups" {
					t.Errorf("%s %s: %+v, %v", r.Method, r.URL, o, err)
				}
				w.WriteHeader(c.status)
			}))
			defer control.Close()
			s := &Testbed{Endpoint: e, Store: &objectstore.Handle{Bucket: policy.Default().S3.Bucket, Control: control.URL}, Contract: policy.Default()}
			s.Contract.Oracle = c.oracle
			err := s.makePrerequisites(t.Context(), fake.NewClientBuilder().Build())
			if (err != nil) != c.fails || told != c.told {
				t.Errorf("told %d times, %v", told, err)
			}
			var kinds []string
			for _, o := range s.oracle(s.Contract) {
				kinds = append(kinds, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
			}
			if got := strings.Join(kinds, ", "); (got == "Service kyverno/o, EndpointSlice kyverno/o") != c.oracle.Named() || !c.oracle.Named() && got != "" {
				t.Errorf("it comes with %q", got)
			}
		})
	}
}
