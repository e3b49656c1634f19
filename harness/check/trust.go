package check

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/policy"
)

// trusts is about the CA of an https endpoint that no image trusts: VolSync's movers have to be given it.
func (t *templates) trusts(requirement string, one template) {
	if t.contract.S3.Trust != policy.TrustPolicy || !strings.HasPrefix(t.endpoint, "https://") {
		return
	}
	at := []any{"spec", "restic", "customCA"}
	custom, _, _ := unstructured.NestedStringMap(one.Object, "spec", "restic", "customCA")
	name, key := custom["secretName"], custom["key"]
	_, _, data := t.secret(name)
	base := name == t.contract.BaseSecret.Name && t.contract.BaseSecret.Namespace == ""
	if base {
		data = t.given
	}
	switch {
	case len(custom) == 0:
		t.wrong(requirement, one, at[:2], "%s %s has no customCA, and by the contract no image trusts the CA of %s (s3.trust: %s)", one.GetKind(), one.GetName(), t.endpoint, policy.TrustPolicy)
	case data == nil: // of a ConfigMap, or of a Secret that somebody else makes
		t.NotLookedAt = append(t.NotLookedAt, "what the customCA of "+one.GetKind()+"/"+one.source.GetName()+" is")
	case data[key] != theCA:
		t.wrong(requirement, one, at, "the customCA of %s %s is the key %q of the Secret %s, which is not the CA's certificate: write {ca} in baseSecret.data or secretStore, and name that key", one.GetKind(), one.GetName(), key, name)
	}
}
