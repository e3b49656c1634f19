package claim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/smart-restore/conformance/harness/absence"
	"github.com/smart-restore/conformance/harness/app"
	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/repository"
	"github.com/smart-restore/conformance/harness/s3down"
	"github.com/smart-restore/conformance/harness/subject"
	"github.com/smart-restore/conformance/harness/volsync"
)

// Storm is a number of labelled PVCs that were created at once.
type Storm struct {
	of     *Claims
	start  time.Time // on the API server's clock
	claims []*Claim
}

// StormNames are the names of a storm's PVCs.
func StormNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%02d", prefix, i)
	}
	return names
}

// Storm creates n labelled PVCs at once.
func (c *Claims) Storm(ctx context.Context, prefix string, n int) *Storm {
	return c.storm(ctx, prefix, n)
}

// StormWithoutVolumes creates n labelled PVCs at once, of which none gets a volume, as a twin's: what the policy makes of them can be seen,
// and the storage driver is not what is measured.
func (c *Claims) StormWithoutVolumes(ctx context.Context, prefix string, n int) *Storm {
	return c.storm(ctx, prefix, n, withoutVolume)
}

func (c *Claims) storm(ctx context.Context, prefix string, n int, with ...func(*corev1.PersistentVolumeClaim)) *Storm {
	e := c.env
	defer c.s3.Up(ctx)()
	storm := &Storm{of: c, start: e.Now(), claims: make([]*Claim, n)}
	errs := make([]error, n)
	var all sync.WaitGroup
	for i, name := range StormNames(prefix, n) {
		all.Go(func() {
			claim, pvc := c.claim(name), c.pvc(name, c.labels())
			for _, change := range with {
				change(pvc)
			}
			start := time.Now()
			errs[i] = e.API.Create(ctx, pvc)
			claim.Admission, claim.UID = time.Since(start), string(pvc.UID)
			claim.populatedBy, _ = subject.Populates(pvc)
			storm.claims[i] = claim
		})
	}
	all.Wait()
	var slowest time.Duration
	for i, claim := range storm.claims { // first: what was seen is seen, whatever else could not be
		if err := errs[i]; env.Refused(err) || apierrors.IsTimeout(err) {
			e.Failf("of %d PVCs at once, %s was not admitted: %v", n, claim.Name, err)
		}
	}
	for i, claim := range storm.claims {
		if err := errs[i]; err != nil {
			e.Unknownf("of %d PVCs at once, %s could not be asked for: %v", n, claim.Name, err)
		}
		slowest = max(slowest, claim.Admission)
	}
	e.Evidence("admission", fmt.Sprintf("%d PVCs created at once, the last admitted after %.1f s", n, slowest.Seconds()), map[string]any{"seconds": slowest.Seconds()})
	return storm
}

// AllHaveSources waits until each has exactly one ReplicationSource.
func (s *Storm) AllHaveSources(ctx context.Context) {
	e := s.of.env
	e.Eventually(ctx, fmt.Sprintf("a ReplicationSource for each of %d PVCs", len(s.claims)), e.Times.Storm, func(ctx context.Context) (await.State, error) {
		sources, err := s.of.list(ctx, volsync.Source)
		if err != nil {
			return await.State{}, err
		}
		count, have := map[string]int{}, 0
		for i := range sources {
			count[volsync.Nested(&sources[i], "spec", "sourcePVC")]++
		}
		for _, claim := range s.claims {
			if count[claim.Name] > 1 {
				return await.RuledOut("PVC %s has %d ReplicationSources", claim.Name, count[claim.Name]), nil
			}
			have += count[claim.Name]
		}
		return await.ReachedIf(have == len(s.claims), "%d have one", have), nil
	})
	e.Evidence("seen", fmt.Sprintf("the last ReplicationSource is there %.1f s after the storm began", e.Now().Sub(s.start).Seconds()), nil)
}

// NoneRestored proves that none got a ReplicationDestination or, where there is one in any case, that it has restored no snapshot.
func (s *Storm) NoneRestored(ctx context.Context) {
	if s.of.alwaysRestores() {
		for _, claim := range s.claims {
			claim.neverFilled(ctx)
		}
		return
	}
	s.of.auditIsCurrent(ctx)
	for _, claim := range s.claims {
		s.of.prove(ctx, claim.absence(absence.ReplicationDestinations))
	}
	s.of.env.Evidence("audit", fmt.Sprintf("the audit log has no create of replicationdestinations for any of %d PVCs", len(s.claims)), nil)
}

// Delete deletes all its PVCs, and waits until they, their VolSync objects and movers are gone: what is being cleaned up takes from the
// next storm the time in which a policy has to decide.
func (s *Storm) Delete(ctx context.Context) {
	e := s.of.env
	mine := map[types.UID]bool{}
	for _, claim := range s.claims {
		mine[types.UID(claim.UID)] = true
		e.Do(ctx, func(ctx context.Context) error {
			return client.IgnoreNotFound(e.API.Delete(ctx, claim.object()))
		})
	}
	e.Arrange(ctx, fmt.Sprintf("what belonged to %d PVCs gone", len(s.claims)), 2*e.Times.Gone, func(ctx context.Context) (await.State, error) {
		left := map[string]int{}
		owned, err := s.of.owned(ctx, mine)
		if err != nil {
			return await.State{}, err
		}
		for _, object := range owned {
			kind, _, _ := strings.Cut(object, " ")
			left[kind+"s"]++
		}
		pvcs, pods := &corev1.PersistentVolumeClaimList{}, &corev1.PodList{}
		if err := errors.Join(e.API.List(ctx, pvcs, client.InNamespace(e.Namespace)),
			e.API.List(ctx, pods, client.InNamespace(e.Namespace), byVolSync)); err != nil {
			return await.State{}, err
		}
		for i := range pvcs.Items {
			if mine[pvcs.Items[i].UID] {
				left["PVCs"]++
			}
		}
		if len(pods.Items) > 0 {
			left["movers"] = len(pods.Items)
		}
		return await.ReachedIf(len(left) == 0, "there are %v", left), nil
	})
}

// AllHaveDestinations waits until each has a ReplicationDestination: without one, nobody will restore it.
func (s *Storm) AllHaveDestinations(ctx context.Context) {
	e := s.of.env
	e.Eventually(ctx, fmt.Sprintf("a ReplicationDestination for each of %d PVCs", len(s.claims)), e.Times.Generate, func(ctx context.Context) (await.State, error) {
		destinations, err := s.of.list(ctx, volsync.Destination)
		if err != nil {
			return await.State{}, err
		}
		without := slices.DeleteFunc(slices.Clone(s.claims), func(c *Claim) bool {
			return slices.ContainsFunc(destinations, func(d unstructured.Unstructured) bool { return c.isDestination(&d) })
		})
		if len(without) == 0 {
			return await.Reached(), nil
		}
		pvc, err := without[0].get(ctx)
		if err != nil {
			return await.State{}, err
		}
		return await.NotYet("%d have none; PVC %s says %q", len(without), pvc.Name, s.of.written(pvc)), nil
	})
}

// AllRestored waits until each is restored, and reads their data in one pod.
func (s *Storm) AllRestored(ctx context.Context) {
	e := s.of.env
	e.Eventually(ctx, fmt.Sprintf("all %d PVCs restored", len(s.claims)), e.Times.Storm, func(ctx context.Context) (await.State, error) {
		destinations, err := s.of.list(ctx, volsync.Destination)
		if err != nil {
			return await.State{}, err
		}
		done := map[*Claim]bool{}
		for i := range destinations {
			d := &destinations[i]
			if !volsync.Synced(d) {
				continue
			}
			if result := volsync.Nested(d, "status", "latestMoverStatus", "result"); result != "Successful" {
				return await.RuledOut("the result of ReplicationDestination %s is %q", d.GetName(), result), nil
			}
			for _, c := range s.claims {
				done[c] = done[c] || c.isDestination(d)
			}
		}
		left := slices.DeleteFunc(slices.Clone(s.claims), func(c *Claim) bool { return done[c] })
		return await.ReachedIf(len(left) == 0, "%d are not", len(left)), nil
	})
	e.Evidence("seen", fmt.Sprintf("the last of %d restores is done %.1f s after the storm began", len(s.claims), e.Now().Sub(s.start).Seconds()), nil)
	var names []string
	for _, claim := range s.claims {
		names = append(names, claim.Name)
	}
	app.Start(ctx, e, app.OfAll(e, names)).SeesGoodBackups(ctx, names)
}

// RequestsPerPVC counts what Kyverno asked of S3, or of the oracle, for each PVC. Where nobody is to be asked, by the contract, none is seen in
// a log that has a request of the suite's own.
func (s *Storm) RequestsPerPVC(ctx context.Context) {
	e := s.of.env
	page := s3down.RequestsUpTo(ctx, s.of.s3, s.claims[0].Name)
	counts, asked := map[string]int{}, false
	for _, claim := range s.claims {
		counts[claim.Name] = 0
	}
	for _, r := range page.Records {
		if r.Time.Before(s.start.Add(-time.Second)) {
			continue
		}
		for _, claim := range s.claims {
			if repository.IsQuestion(r, s.of.repos, claim.Name) {
				counts[claim.Name]++
				asked = true
			}
		}
	}
	if page.Dropped > 0 {
		e.Unknownf("the gateway has forgotten %d requests: they cannot be counted", page.Dropped)
	}
	if !asked && !e.Testbed.OnlyMoversAsk() {
		e.Unknownf("no request of Kyverno's to %s was seen", e.Testbed.Asked())
	}
	if !asked {
		e.Evidence("s3", fmt.Sprintf("Kyverno asked S3 nothing about %d PVCs, as the contract has it (restores: %s); a request of the suite's own was seen", len(s.claims), e.Testbed.Contract.Restores),
			map[string]any{"requests": counts})
		return
	}
	numbers := slices.Sorted(maps.Values(counts))
	e.Evidence("s3", fmt.Sprintf("Kyverno asked %s %d to %d times per PVC", e.Testbed.Asked(), numbers[0], numbers[len(numbers)-1]), map[string]any{"requests": counts})
}

// UpdateRequestsPerPVC counts Kyverno's requests to itself about the storm's PVCs and what was made for them. Each is an object
// that the API server stores, changes and deletes, and has Kyverno write again what it has made.
func (s *Storm) UpdateRequestsPerPVC(ctx context.Context) {
	e := s.of.env
	s.of.auditIsCurrent(ctx)
	made, err := e.Created.Created(ctx, "updaterequests", "", s.start)
	e.Must(err)
	counts := map[string]int{}
	for _, request := range made {
		for _, about := range triggers(request.Raw) {
			for _, claim := range s.claims {
				if about.Namespace == e.Namespace && strings.HasPrefix(about.Name, claim.Name) {
					counts[claim.Name]++
				}
			}
		}
	}
	numbers := []int{}
	for _, claim := range s.claims {
		numbers = append(numbers, counts[claim.Name])
	}
	e.Evidence("seen", fmt.Sprintf("Kyverno made %d to %d requests to itself per PVC", slices.Min(numbers), slices.Max(numbers)), map[string]any{"updateRequests": counts})
}

// triggers are the objects that an UpdateRequest is about: one for each rule, in older versions one for all, and of a
// MutatingPolicy what was asked of the API server.
func triggers(updateRequest map[string]any) []client.ObjectKey {
	var keys []client.ObjectKey
	add := func(object map[string]any, fields ...string) {
		name, _, _ := unstructured.NestedString(object, append(fields, "name")...)
		namespace, _, _ := unstructured.NestedString(object, append(fields, "namespace")...)
		if name != "" {
			keys = append(keys, client.ObjectKey{Namespace: namespace, Name: name})
		}
	}
	rules, _, _ := unstructured.NestedSlice(updateRequest, "spec", "ruleContext")
	for _, rule := range rules {
		if rule, ok := rule.(map[string]any); ok {
			add(rule, "trigger")
		}
	}
	if len(keys) == 0 {
		add(updateRequest, "spec", "resource")
	}
	if len(keys) == 0 {
		add(updateRequest, "spec", "context", "admissionRequestInfo", "admissionRequest")
	}
	return keys
}
