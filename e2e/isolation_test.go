package e2e

import (
	"context"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
	"github.com/smart-restore/conformance/harness/workload/dataset"
)

var _ = Prove("safety/isolation", verdict.Safety,
	"PVCs of one name in two namespaces, and names that could be taken for each other's, never get another's bytes; long names and names with dots work.",
	func(ctx context.Context, s *scenario.Scenario) {
		other := s.Sibling(ctx, "-b")
		long := "a.name-of-" + strings.Repeat("many-letters-", 8) + "end"
		volumes := []struct {
			in   *scenario.Scenario
			name string
		}{{s, "data"}, {other, "data"}, {s, "b-c"}, {other, "c"}, {s, long}}

		for _, v := range volumes {
			v.in.AddSnapshot(ctx, v.name, "of "+v.in.Namespace+"/"+v.name, time.Now().Add(-time.Hour))
		}
		var claims []*scenario.Claim
		for _, v := range volumes {
			claims = append(claims, v.in.ClaimWithRestore(ctx, v.name))
		}
		for i, v := range volumes {
			claims[i].Restored(ctx, claims[i].HasReplicationDestination(ctx))
			app := claims[i].App(ctx)
			if want, got := "of "+v.in.Namespace+"/"+v.name, app.Get(ctx, dataset.SentinelName); got != want {
				s.Failf("PVC %s/%s holds %q, wanted %q", v.in.Namespace, v.name, got, want)
			}
			claims[i].SecretIsSound(ctx)
		}
		s.Step("and the one with the long name is backed up to its own place")
		last := claims[len(claims)-1]
		last.BackUp(ctx)
		last.SnapshotHolds(ctx, "latest", "of "+s.Namespace+"/"+long)
	}, longest)
