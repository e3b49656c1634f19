package claim

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/volsync"
)

// Movers are those that were at work at some moment.
type Movers struct {
	claims *Claims
	pods   map[types.UID]string // their names
}

// MoversAtWork waits until a mover of each of the ReplicationSources and ReplicationDestinations runs.
func (c *Claims) MoversAtWork(ctx context.Context, of ...*unstructured.Unstructured) *Movers {
	m := &Movers{c, map[types.UID]string{}}
	for _, object := range of {
		pod := c.moverThatRuns(ctx, object)
		m.pods[pod.UID] = pod.Name
	}
	return m
}

// Pods are the names of their pods, after Over of those that are over.
func (m *Movers) Pods() []string { return slices.Sorted(maps.Values(m.pods)) }

func atWork(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning }

// Over waits until none of the movers is at work any more or, where somebody leaves them to their work, for as long as one would take.
func (m *Movers) Over(ctx context.Context) {
	e := m.claims.env
	until, seen := time.Now().Add(e.Times.Backup), ""
	var atWorkStill []types.UID
	e.Arrange(ctx, "the movers over that were at work, or left to their work", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		pods, err := m.claims.podsOfJobs(ctx, func(_ string, pod *corev1.Pod) bool { return m.pods[pod.UID] != "" && atWork(pod) })
		if err != nil {
			return await.State{}, err
		}
		var left []string
		told := false
		atWorkStill = nil
		for _, pod := range pods {
			left, atWorkStill = append(left, pod.Name), append(atWorkStill, pod.UID)
			told = told || pod.DeletionTimestamp != nil
		}
		slices.Sort(left)
		seen = fmt.Sprintf("of %d movers that were at work, %d are left to it: %s", len(m.pods), len(left), strings.Join(left, ", "))
		if len(left) == 0 {
			seen = fmt.Sprintf("all %d movers that were at work are over", len(m.pods))
		}
		return await.ReachedIf(len(left) == 0 || !told && time.Now().After(until), "%s", seen), nil
	})
	for _, uid := range atWorkStill {
		delete(m.pods, uid)
	}
	e.Evidence("mover", seen, nil)
}

// NoMoverLeft fails the spec unless the namespace's movers come to their end, and no Job of one is left, nor comes again within the time
// that VolSync may take to react.
func (c *Claims) NoMoverLeft(ctx context.Context) {
	e := c.env
	left := func(ctx context.Context) (string, error) {
		jobs := &batchv1.JobList{}
		err := e.API.List(ctx, jobs, client.InNamespace(e.Namespace))
		var names []string
		for i := range jobs.Items {
			if strings.HasPrefix(jobs.Items[i].Name, "volsync-") {
				names = append(names, jobs.Items[i].Name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, ", "), err
	}
	e.Eventually(ctx, "no Job of a mover left", e.Times.Mover, func(ctx context.Context) (await.State, error) {
		names, err := left(ctx)
		return await.ReachedIf(names == "", "%s", names), err
	})
	e.Throughout(ctx, "no Job of a mover comes again", e.Times.Reaction, func(ctx context.Context) (string, error) {
		names, err := left(ctx)
		if names != "" {
			names = "nobody asked for a mover, and there is " + names
		}
		return names, err
	})
}

// BackupsGoOn waits until the claim's ReplicationSource is not paused any more.
func (c *Claim) BackupsGoOn(ctx context.Context) {
	e, source := c.env(), c.HasReplicationSource(ctx)
	e.Eventually(ctx, "ReplicationSource "+source.GetName()+" not paused", e.Times.Generate, func(ctx context.Context) (await.State, error) {
		if gone, err := c.refresh(ctx, source); err != nil || gone {
			return await.RuledOut("ReplicationSource %s is gone", source.GetName()), err
		}
		return await.ReachedIf(!volsync.Paused(source), "it is paused, and no backup of PVC %s is made", c.Name), nil
	})
}

// usualSync is how long a sync may take before its mover is looked at, too: each such look asks the API server twice more.
const usualSync = 20 * time.Second

// notSynced is the state of a ReplicationSource or a ReplicationDestination whose sync is not over: what VolSync says of it and, if it takes
// long, what becomes of its mover. An error is what keeps it from its work that is no policy's doing.
func (c *Claims) notSynced(ctx context.Context, object *unstructured.Unstructured) (await.State, error) {
	since := volsync.WorkingSince(object)
	switch {
	case since.IsZero() || time.Since(since) < usualSync:
		return await.NotYet("%s", volsync.Progress(object)), nil
	case volsync.Paused(object):
		return await.NotYet("%s; it is paused", volsync.Progress(object)), nil
	}
	seen, atWork, err := c.howFarIsMover(ctx, object)
	if err == nil && !atWork {
		err = c.hindered(ctx, object)
	}
	return await.NotYet("%s; %s", volsync.Progress(object), seen), err
}

// howFarIsMover says how far the mover of an object is, and whether one is at work, or will be without being asked for.
func (c *Claims) howFarIsMover(ctx context.Context, object *unstructured.Unstructured) (how string, atWork bool, err error) {
	pods, err := c.moversOf(ctx, object)
	if err != nil {
		return "", false, err
	}
	var seen []string
	for i := range pods {
		state, _ := app.StateOf(&pods[i])
		seen = append(seen, fmt.Sprintf("mover %s: %s", pods[i].Name, state))
		atWork = atWork || !volsync.Over(&pods[i]) && pods[i].DeletionTimestamp == nil
	}
	if len(seen) > 0 {
		return strings.Join(seen, "; "), atWork, nil
	}
	name := moverOf(object)
	said, err := c.lastWarning(ctx, "Job", name)
	return fmt.Sprintf("Job %s has no pod: %s", name, cmp.Or(said, "nothing says why")), false, err
}

// lastWarning is the newest warning about an object of the namespace; empty: there is none.
func (c *Claims) lastWarning(ctx context.Context, kind, name string) (said string, err error) {
	events := &corev1.EventList{}
	if err := c.env.API.List(ctx, events, client.InNamespace(c.env.Namespace)); err != nil {
		return "", err
	}
	var last time.Time
	for _, event := range events.Items {
		of := event.InvolvedObject
		if of.Kind == kind && of.Name == name && event.Type == corev1.EventTypeWarning && !event.LastTimestamp.Time.Before(last) {
			said, last = event.Message, event.LastTimestamp.Time
		}
	}
	return said, nil
}
