package scenario

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
	"github.com/smart-restore/conformance/harness/install"
	"github.com/smart-restore/conformance/harness/probe"
)

// stormTimeout bounds how long the last of a storm may take; 30 movers side by side take some 2 minutes on 2 cores.
const stormTimeout = 6 * time.Minute

// Storm is a number of labelled PVCs that were created at once.
type Storm struct {
	sc     *Scenario
	start  time.Time
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
func (sc *Scenario) Storm(ctx context.Context, prefix string, n int) *Storm {
	defer sc.s3Up(ctx)()
	storm := &Storm{sc: sc, start: time.Now(), claims: make([]*Claim, n)}
	errs := make([]error, n)
	var all sync.WaitGroup
	for i, name := range StormNames(prefix, n) {
		all.Go(func() {
			claim, pvc := &Claim{sc: sc, Name: name, CreatedAt: time.Now()}, sc.pvc(name, sc.Testbed.Contract.PVC.Labels())
			errs[i] = sc.API.Create(ctx, pvc)
			claim.Admission, claim.UID, claim.Decision = time.Since(claim.CreatedAt), string(pvc.UID), pvc.Annotations
			storm.claims[i] = claim
		})
	}
	all.Wait()
	var slowest time.Duration
	for i, claim := range storm.claims {
		if errs[i] != nil {
			sc.Failf("of %d PVCs at once, %s was not admitted: %v", n, claim.Name, errs[i])
		}
		slowest = max(slowest, claim.Admission)
	}
	sc.Evidence("admission", fmt.Sprintf("%d PVCs created at once, the last admitted after %.1f s", n, slowest.Seconds()), map[string]any{"seconds": slowest.Seconds()})
	return storm
}

// AllHaveSources waits until each has exactly one ReplicationSource.
func (s *Storm) AllHaveSources(ctx context.Context) {
	s.sc.eventually(ctx, fmt.Sprintf("a ReplicationSource for each of %d PVCs", len(s.claims)), stormTimeout, func(ctx context.Context) (bool, string, error) {
		count := map[string]int{}
		for _, source := range s.sc.list(ctx, install.ReplicationSource) {
			count[nested(&source, "spec", "sourcePVC")]++
		}
		have := 0
		for _, claim := range s.claims {
			if count[claim.Name] > 1 {
				return false, "", fmt.Errorf("PVC %s has %d ReplicationSources", claim.Name, count[claim.Name])
			}
			have += count[claim.Name]
		}
		return have == len(s.claims), fmt.Sprintf("%d have one", have), nil
	})
	s.sc.Evidence("seen", fmt.Sprintf("the last ReplicationSource is there %.1f s after the storm began", time.Since(s.start).Seconds()), nil)
}

// NoneRestored proves that none got a ReplicationDestination.
func (s *Storm) NoneRestored(ctx context.Context) {
	s.sc.auditIsCurrent(ctx)
	for _, claim := range s.claims {
		absence := claim.absence("replicationdestinations")
		violations, err := absence.Violations(ctx, s.sc.Made)
		s.sc.must(err)
		if len(violations) > 0 {
			s.sc.Failf("what must not be was made: %s", strings.Join(violations, "; "))
		}
		s.sc.must(s.sc.appendLine(AbsenceFile, absence))
	}
	s.sc.Evidence("audit", fmt.Sprintf("the audit log has no create of replicationdestinations for any of %d PVCs", len(s.claims)), nil)
}

// Delete deletes all its PVCs, without waiting until they are gone: what was to be seen of them was seen.
func (s *Storm) Delete(ctx context.Context) {
	for _, claim := range s.claims {
		s.sc.must(s.sc.API.Delete(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: s.sc.Namespace, Name: claim.Name}}))
	}
}

// AllRestored waits until each is restored, and reads their data in one pod.
func (s *Storm) AllRestored(ctx context.Context) {
	s.sc.eventually(ctx, fmt.Sprintf("all %d PVCs restored", len(s.claims)), stormTimeout, func(ctx context.Context) (bool, string, error) {
		done := map[string]bool{}
		for _, d := range s.sc.list(ctx, install.ReplicationDestination) {
			if triggerDone(&d) && nested(&d, "status", "latestMoverStatus", "result") == "Successful" {
				done[nested(&d, "spec", "restic", "destinationPVC")] = true
			}
		}
		left := slices.DeleteFunc(slices.Clone(s.claims), func(c *Claim) bool { return done[c.Name] })
		return len(left) == 0, fmt.Sprintf("%d are not", len(left)), nil
	})
	s.sc.Evidence("seen", fmt.Sprintf("the last of %d restores is done %.1f s after the storm began", len(s.claims), time.Since(s.start).Seconds()), nil)
	s.sc.AppOfAll(ctx, s.claims).SeesGoodBackups(ctx, s.claims)
}

// RequestsPerPVC counts what the policy engine asked of S3 for each PVC.
func (s *Storm) RequestsPerPVC(ctx context.Context) {
	page, err := s.sc.Gateway.Records(ctx, 0, s.sc.namespacePath())
	s.sc.must(err)
	counts := map[string]int{}
	for _, r := range page.Records {
		if r.Auth != "none" || r.UserAgent == probe.UserAgent || r.Time.Before(s.start.Add(-time.Second)) {
			continue
		}
		for _, claim := range s.claims {
			if claim.isAbout(r) {
				counts[claim.Name]++
			}
		}
	}
	if page.Dropped > 0 {
		s.sc.Unknownf("the gateway has forgotten %d requests: they cannot be counted", page.Dropped)
	}
	if len(counts) == 0 {
		s.sc.Unknownf("no request of the policy engine's to S3 was seen")
	}
	numbers := slices.Sorted(maps.Values(counts))
	s.sc.Evidence("s3", fmt.Sprintf("the policy engine asked S3 %d to %d times per PVC", numbers[0], numbers[len(numbers)-1]), map[string]any{"requests": counts})
}

// UpdateRequestsPerPVC counts Kyverno's requests to itself about the storm's PVCs and what was made for them. Each is an object
// that the API server stores, changes and deletes, and has Kyverno write again what it has made.
func (s *Storm) UpdateRequestsPerPVC(ctx context.Context) {
	s.sc.auditIsCurrent(ctx)
	made, err := s.sc.Made.Created(ctx, "updaterequests", "", s.start)
	s.sc.must(err)
	counts := map[string]int{}
	for _, request := range made {
		for _, about := range triggers(request.Raw) {
			for _, claim := range s.claims {
				if about.Namespace == s.sc.Namespace && strings.HasPrefix(about.Name, claim.Name) {
					counts[claim.Name]++
				}
			}
		}
	}
	numbers := []int{}
	for _, claim := range s.claims {
		numbers = append(numbers, counts[claim.Name])
	}
	s.sc.Evidence("seen", fmt.Sprintf("the policy engine made %d to %d requests to itself per PVC", slices.Min(numbers), slices.Max(numbers)), map[string]any{"updateRequests": counts})
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

// isAbout says whether a request is about what is in the claim's repository, or lists that.
func (c *Claim) isAbout(r gateway.Record) bool {
	query, err := url.ParseQuery(r.Query)
	return strings.HasPrefix(r.Path, c.sc.path(c.Prefix())) || err == nil && strings.HasPrefix(query.Get("prefix"), c.Prefix())
}

// Restarts counts the restarts of Kyverno's and VolSync's containers, by pod and container.
func (sc *Scenario) Restarts(ctx context.Context) map[string]int32 {
	restarts, err := sc.restarts(ctx)
	sc.must(err)
	return restarts
}

func (sc *Scenario) restarts(ctx context.Context) (map[string]int32, error) {
	restarts := map[string]int32{}
	for _, namespace := range []string{kyvernoNamespace, VolSync.Namespace} {
		pods := &corev1.PodList{}
		if err := sc.API.List(ctx, pods, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for _, pod := range pods.Items {
			for _, status := range pod.Status.ContainerStatuses {
				restarts[pod.Name+"/"+status.Name] = status.RestartCount
			}
		}
	}
	return restarts, nil
}

// SameRestarts fails the spec where one of the containers restarted or was replaced since.
func (sc *Scenario) SameRestarts(ctx context.Context, before map[string]int32) {
	if now := sc.Restarts(ctx); !maps.Equal(before, now) {
		sc.Failf("Kyverno or VolSync restarted: %v before, %v now", before, now)
	}
	sc.Evidence("seen", fmt.Sprintf("none of the %d containers of Kyverno and VolSync restarted", len(before)), nil)
}
