package claim

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/policy"
	"github.com/smart-restore/conformance/harness/volsync"
)

// BackupIsAsPromised fails the spec unless the claim's ReplicationSource has the schedule, the retention and the copy method
// of the policy's contract, and it and its Secret the names.
func (c *Claim) BackupIsAsPromised(ctx context.Context) {
	source, contract := c.HasReplicationSource(ctx), c.env().Testbed.Contract
	if broken := brokenPromise(contract, source); broken != "" {
		c.env().Failf("ReplicationSource %s %s", source.GetName(), broken)
	}
	c.env().Evidence("seen", fmt.Sprintf("ReplicationSource %s runs at %s, copies %s and keeps %v, as promised",
		source.GetName(), volsync.Nested(source, "spec", "trigger", "schedule"), contract.CopyMethod, contract.Retain.Named()), nil)
	c.HasPromisedName(source)
	if contract.Names.Secret != "" {
		secret := c.secret(ctx)
		c.named("Secret", secret.Name, contract.Names.Secret)
	}
}

// EveryBackupIsAsPromised fails the spec where one of the claim's ReplicationSources is not as BackupIsAsPromised has it: a policy may make
// several, one after the other.
func (c *Claim) EveryBackupIsAsPromised(ctx context.Context) {
	e := c.env()
	var sources []unstructured.Unstructured
	e.Arrange(ctx, "a look at the ReplicationSources of PVC "+c.Name, e.Times.Look, func(ctx context.Context) (_ await.State, err error) {
		sources, err = c.sources(ctx)
		return await.Reached(), err
	})
	for i := range sources {
		if broken := brokenPromise(e.Testbed.Contract, &sources[i]); broken != "" && !volsync.OwnedByAnother(&sources[i], c.UID) {
			e.Failf("ReplicationSource %s, one of %d of PVC %s, %s", sources[i].GetName(), len(sources), c.Name, broken)
		}
	}
}

// brokenPromise is what of a ReplicationSource is not as the contract says; empty: nothing.
func brokenPromise(contract policy.Contract, source *unstructured.Unstructured) string {
	if found := volsync.Nested(source, "spec", "trigger", "schedule"); !contract.Schedules(found) {
		return fmt.Sprintf("has the schedule %q, promised is %s", found, contract.Schedule)
	}
	if manual := volsync.Nested(source, "spec", "trigger", "manual"); manual != "" {
		return fmt.Sprintf("has the manual trigger %q, which goes before a schedule: VolSync backs up once, and then never again", manual)
	}
	retain, _, _ := unstructured.NestedMap(source.Object, "spec", "restic", "retain")
	if broken := contract.Retain.Broken(retain); broken != "" {
		return broken
	}
	// VolSync's own default is Snapshot.
	if found := volsync.Nested(source, "spec", "restic", "copyMethod"); found != contract.CopyMethod {
		return fmt.Sprintf("has the copyMethod %q, promised is %s", found, contract.CopyMethod)
	}
	return ""
}

// RestoresOnce fails the spec where VolSync restores by a ReplicationDestination again and again: on a schedule, or without end, for
// it has no trigger.
func (c *Claim) RestoresOnce(destination *unstructured.Unstructured) {
	if again := restoresAgain(destination); again != "" {
		c.env().Failf("ReplicationDestination %s %s: VolSync restores over the volume again and again", destination.GetName(), again)
	}
	c.env().Evidence("seen", fmt.Sprintf("ReplicationDestination %s restores once: its trigger is %q", destination.GetName(), volsync.Nested(destination, "spec", "trigger", "manual")), nil)
}

// restoresAgain is why a ReplicationDestination restores more than once; empty: it does not.
func restoresAgain(destination *unstructured.Unstructured) string {
	if volsync.Nested(destination, "spec", "trigger", "manual") != "" {
		return "" // VolSync goes by a manual trigger before a schedule
	}
	if schedule := volsync.Nested(destination, "spec", "trigger", "schedule"); schedule != "" {
		return fmt.Sprintf("has the schedule %q", schedule)
	}
	return "has no manual trigger"
}

// HasPromisedName fails the spec unless the object, of those that the policy makes for the claim, has the name of the
// policy's contract, where that has one.
func (c *Claim) HasPromisedName(object *unstructured.Unstructured) {
	names := c.env().Testbed.Contract.Names
	template := names.ReplicationSource
	if object.GetKind() == volsync.Destination.Kind {
		template = names.ReplicationDestination
	}
	c.named(object.GetKind(), object.GetName(), template)
}

func (c *Claim) named(kind, name string, template policy.Template) {
	if template == "" {
		return
	}
	if want := template.Expand(c.env().Namespace, c.Name, c.UID); name != want {
		c.env().Failf("the %s of PVC %s is named %s, promised is %s (%s)", kind, c.Name, name, want, template)
	}
	c.env().Evidence("seen", fmt.Sprintf("the %s of PVC %s is named %s, as promised", kind, c.Name, name), nil)
}
