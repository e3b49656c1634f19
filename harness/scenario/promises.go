package scenario

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/policy"
)

// ChangesBaseSecret labels specs that change the base Secret of their namespace: not every policy has one there.
const ChangesBaseSecret = policy.ChangesBaseSecret

// BackupIsAsPromised fails the spec unless the claim's ReplicationSource has the schedule, the retention and the copy method
// of the policy's contract, and it and its Secret the names.
func (c *Claim) BackupIsAsPromised(ctx context.Context) {
	source, contract := c.HasReplicationSource(ctx), c.sc.Testbed.Contract
	if broken := brokenPromise(contract, source); broken != "" {
		c.sc.Failf("ReplicationSource %s %s", source.GetName(), broken)
	}
	c.sc.Evidence("seen", fmt.Sprintf("ReplicationSource %s runs at %s, copies %s and keeps %v, as promised",
		source.GetName(), nested(source, "spec", "trigger", "schedule"), contract.CopyMethod, contract.Retain.Named()), nil)
	c.IsCalledAsPromised(source)
	if contract.Names.Secret != "" {
		secret := c.secret(ctx)
		c.isCalled("Secret", secret.Name, contract.Names.Secret)
	}
}

// brokenPromise is what of a ReplicationSource is not as the contract says; empty: nothing.
func brokenPromise(contract policy.Contract, source *unstructured.Unstructured) string {
	if found := nested(source, "spec", "trigger", "schedule"); !contract.Schedules(found) {
		return fmt.Sprintf("has the schedule %q, promised is %s", found, contract.Schedule)
	}
	retain, _, _ := unstructured.NestedMap(source.Object, "spec", "restic", "retain")
	for _, kept := range contract.Retain.Named() {
		if found, ok := retain[kept.Name]; !ok || fmt.Sprint(found) != kept.Value {
			return fmt.Sprintf("keeps %v, promised is %s: %s", retain, kept.Name, kept.Value)
		}
	}
	// VolSync's own default is Snapshot.
	if found := nested(source, "spec", "restic", "copyMethod"); found != contract.CopyMethod {
		return fmt.Sprintf("has the copyMethod %q, promised is %s", found, contract.CopyMethod)
	}
	return ""
}

// IsCalledAsPromised fails the spec unless the object, of those that the policy makes for the claim, has the name of the
// policy's contract, where that has one.
func (c *Claim) IsCalledAsPromised(object *unstructured.Unstructured) {
	names := c.sc.Testbed.Contract.Names
	template := names.ReplicationSource
	if object.GetKind() == install.ReplicationDestination.Kind {
		template = names.ReplicationDestination
	}
	c.isCalled(object.GetKind(), object.GetName(), template)
}

func (c *Claim) isCalled(kind, name string, template policy.Template) {
	if template == "" {
		return
	}
	if want := template.Expand(c.sc.Namespace, c.Name, c.UID); name != want {
		c.sc.Failf("the %s of PVC %s is called %s, promised is %s (%s)", kind, c.Name, name, want, template)
	}
	c.sc.Evidence("seen", fmt.Sprintf("the %s of PVC %s is called %s, as promised", kind, c.Name, name), nil)
}

// promisedNames are what the policy would call what it makes for the claim, by resource, where its contract says so.
func (c *Claim) promisedNames() map[string]string {
	names, promised := c.sc.Testbed.Contract.Names, map[string]string{}
	for resource, template := range map[string]policy.Template{
		"replicationsources": names.ReplicationSource, "replicationdestinations": names.ReplicationDestination, "secrets": names.Secret,
	} {
		if template != "" {
			promised[resource] = template.Expand(c.sc.Namespace, c.Name, c.UID)
		}
	}
	return promised
}

// Lookalikes are a name of a PVC in this namespace, a second namespace with a name like this one's, and one of a PVC there:
// whoever joins the names of namespace and PVC without a separator that neither can have takes them for the same.
func (sc *Scenario) Lookalikes(ctx context.Context) (here string, other *Scenario, there string) {
	suffix, here, there := sc.Testbed.Contract.Lookalikes()
	return here, sc.Sibling(ctx, suffix), there
}

// Unlabel takes from the claim the label that the policy is about.
func (c *Claim) Unlabel(ctx context.Context) bool {
	return c.Patch(ctx, "unlabelled", fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, c.sc.Testbed.Contract.PVC.Label))
}

// Relabel gives the claim the label that the policy is about.
func (c *Claim) Relabel(ctx context.Context) bool {
	pvc := c.sc.Testbed.Contract.PVC
	return c.Patch(ctx, "labelled", fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, pvc.Label, pvc.Value))
}
