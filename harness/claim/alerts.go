package claim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/alerts"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/volsync"
)

// latestAlert is the longest that an alert may wait until it fires: somebody hears of it on the next day.
const latestAlert = 24 * time.Hour

// VolSync's metric of an object that has not done what it is to do, and its labels.
const (
	outOfSync       = "volsync_volume_out_of_sync"
	metricNamespace = "obj_namespace"
	metricName      = "obj_name"
	metricRole      = "role"
	roleOfSource    = "source"
)

// AlertsThatNotBackedUp waits until one of the policy's alerting rules is true for the claim, on the metrics that VolSync and Kyverno have.
// It would fire once that has lasted for as long as its "for" says, which is not awaited.
func (c *Claim) AlertsThatNotBackedUp(ctx context.Context) { c.alert(ctx, volsync.Source) }

// AlertsThatNotRestored is AlertsThatNotBackedUp for a restore: by a rule that is true also without the metrics of the claim's
// ReplicationSource.
func (c *Claim) AlertsThatNotRestored(ctx context.Context) { c.alert(ctx, volsync.Destination) }

func (c *Claim) alert(ctx context.Context, of schema.GroupVersionKind) {
	e := c.env()
	rules := c.claims.alertRules()
	if rules == nil {
		return
	}
	var told string
	e.Eventually(ctx, fmt.Sprintf("an alert of %s for PVC %s, by the metrics of its %s", e.Testbed.Contract.Alerts, c.Name, of.Kind), e.Times.Mover, func(ctx context.Context) (await.State, error) {
		seen, err := c.alertsNow(ctx, rules, of == volsync.Destination)
		if err != nil {
			return await.State{}, err
		}
		if len(seen.ours) == 0 {
			return await.NotYet("true are %d alerts of others, and of the stack as a whole %v; VolSync says %q", seen.others, seen.stack, seen.metrics), nil
		}
		first := slices.MinFunc(seen.ours, func(a, b alerts.Told) int { return cmp.Compare(a.For, b.For) })
		if first.For > latestAlert {
			return await.RuledOut("%s: nobody hears of it for longer than %s", first, latestAlert), nil
		}
		told = first.String()
		return await.Reached(), nil
	})
	e.Evidence("decision", fmt.Sprintf("of PVC %s, Prometheus says %s", c.Name, told), nil)
}

// NoAlert waits until none of the policy's alerting rules is true for the claim, although VolSync has metrics of it, and none for the stack
// as a whole, which is well. Those of other objects are theirs.
func (c *Claim) NoAlert(ctx context.Context) {
	e := c.env()
	rules := c.claims.alertRules()
	if rules == nil {
		return
	}
	e.Eventually(ctx, fmt.Sprintf("no alert of %s for PVC %s", e.Testbed.Contract.Alerts, c.Name), e.Times.Backup, func(ctx context.Context) (await.State, error) {
		seen, err := c.alertsNow(ctx, rules, false)
		switch {
		case err != nil:
			return await.State{}, err
		case len(seen.metrics) == 0:
			return await.State{}, errors.New("VolSync has no metrics of it: that there is no alert says nothing")
		}
		return await.ReachedIf(len(seen.ours)+len(seen.stack) == 0, "true is %v, and of the stack as a whole %v; VolSync says %q", seen.ours, seen.stack, seen.metrics), nil
	})
}

// alertRules are the policy's alerting rules; nil: it brings none.
func (c *Claims) alertRules() *alerts.Rules {
	e := c.env
	if e.Testbed.Contract.Alerts == "" {
		e.Step("the policy's contract names no alerting rules: nothing is asked about alerts")
		return nil
	}
	rules, err := alerts.Parse(e.Testbed.Contract.Alerts, []byte(e.Testbed.Alerts))
	e.Must(err)
	return rules
}

// alertsSeen is what the rules say at one moment.
type alertsSeen struct {
	ours    []alerts.Told
	stack   []alerts.Told // about no object that VolSync has metrics of
	others  int
	metrics []string // of VolSync, about the claim's objects
}

// alertsNow says which alerts are true now: those of the claim, which name it or one of its objects, those that name nobody's, and
// how many others. The metrics of its ReplicationSource may be left out.
func (c *Claim) alertsNow(ctx context.Context, rules *alerts.Rules, withoutSource bool) (seen alertsSeen, err error) {
	names := []string{c.Name}
	for _, kind := range volsync.Kinds {
		objects, err := c.claims.list(ctx, kind)
		if err != nil {
			return seen, err
		}
		for i := range objects {
			if o := &objects[i]; (c.isSource(o) || c.isDestination(o)) && !volsync.OwnedByAnother(o, c.UID) && !slices.Contains(names, o.GetName()) {
				names = append(names, o.GetName())
			}
		}
	}
	scrapes, err := c.claims.metrics(ctx)
	if err != nil {
		return seen, err
	}
	ours := func(labels map[string]string) bool {
		return labels[metricNamespace] == c.env().Namespace && slices.Contains(names[1:], labels[metricName])
	}
	namespaces := map[string]bool{} // also of objects that are gone: VolSync still has metrics of them
	for i := range scrapes {
		said, err := scrapes[i].Says(outOfSync, ours)
		if err != nil {
			return seen, err
		}
		seen.metrics = append(seen.metrics, said...)
		scrapes[i].Without = func(labels map[string]string) bool {
			namespaces[labels[metricNamespace]] = true
			return withoutSource && ours(labels) && labels[metricRole] == roleOfSource
		}
	}
	told, err := rules.Tell(ctx, time.Now(), scrapes...)
	for _, one := range told {
		switch values := slices.Collect(maps.Values(one.Labels)); {
		case slices.ContainsFunc(names, func(name string) bool { return one.Has(c.env().Namespace, name) }):
			seen.ours = append(seen.ours, one)
		case slices.ContainsFunc(values, func(value string) bool { return value != "" && namespaces[value] }):
			seen.others++
		default:
			seen.stack = append(seen.stack, one)
		}
	}
	return seen, err
}

// longAgo is so long ago that any schedule was missed since.
const longAgo = 1000 * 24 * time.Hour

// LastBackupWasLongAgo has VolSync take the claim's last backup for one of long ago, so that its schedule was missed since. That is all
// that is not real: VolSync itself finds out that it was missed, and begins a backup at once. A test waits for no schedule.
func (c *Claim) LastBackupWasLongAgo(ctx context.Context) {
	e, source := c.env(), c.HasReplicationSource(ctx)
	then := e.Now().Add(-longAgo).UTC().Format(time.RFC3339)
	status := fmt.Appendf(nil, `{"status":{"lastSyncTime":%q,"nextSyncTime":%[1]q}}`, then)
	e.Arrange(ctx, "the last backup of PVC "+c.Name+" was long ago", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		switch gone, err := c.refresh(ctx, source); {
		case err != nil:
			return await.State{}, err
		case gone:
			return await.RuledOut("ReplicationSource %s is gone", source.GetName()), nil
		case volsync.Nested(source, "status", "lastSyncTime") == then:
			return await.Reached(), nil
		case volsync.Nested(source, "status", "lastSyncTime") == "", volsync.Nested(source, "status", "lastSyncStartTime") != "":
			return await.NotYet("no backup is done: %s", volsync.Progress(source)), nil
		}
		// One that was triggered by hand has no schedule for VolSync until the trigger is taken off.
		err := e.API.Patch(ctx, source, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"trigger":{"manual":null}}}`)))
		if err == nil {
			err = e.API.Status().Patch(ctx, source, client.RawPatch(types.MergePatchType, status))
		}
		return await.NotYet("it was said"), err
	})
	e.Step("VolSync takes the last backup of PVC %s for one of %s", c.Name, then)
}

// AsItSays is the claim with what is written on it now, once that has not changed for as long as Kyverno may take to react: to compare
// with what it says later.
func (c *Claim) AsItSays(ctx context.Context) *Claim {
	e, as := c.env(), *c
	settled := time.Now()
	again := func() { settled = time.Now() }
	e.Arrange(ctx, "nothing more written on PVC "+c.Name, 10*e.Times.Reaction, ifBlind(again, func(ctx context.Context) (await.State, error) {
		said, _, err := c.says(ctx, c)
		if err != nil {
			return await.State{}, err
		}
		if plain(said, c) != plain(as.said, c) {
			as.said = said
			again()
		}
		return await.ReachedIf(time.Since(settled) > e.Times.Reaction, "it says %s", said), nil
	}))
	return &as
}
