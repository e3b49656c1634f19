package e2e

import (
	"context"
	"strings"
	"time"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/isolation", verdict.Safety,
	"A PVC never gets another PVC's data: not that of a PVC with the same name in another namespace, with a name that could be confused with its own, or with a name that begins alike. Names with dots work.",
	func(ctx context.Context, s *scenario.Scenario) {
		here, other, there := s.Lookalikes(ctx)
		// 63 characters each, of which the first 62 are the same.
		long := "a.name-of-" + strings.Repeat("letters-", 6) + "end."
		volumes := []struct {
			in   *scenario.Scenario
			name string
		}{{s, "data"}, {other, "data"}, {s, here}, {other, there}, {s, long + "1"}, {s, long + "2"}}

		for _, v := range volumes {
			v.in.AddSnapshot(ctx, v.name, "of "+v.in.Namespace+"/"+v.name, time.Now().Add(-time.Hour))
		}
		var claims []*scenario.Claim
		for _, v := range volumes {
			claims = append(claims, v.in.ClaimWithRestore(ctx, v.name))
		}
		for i, v := range volumes {
			claims[i].Restored(ctx, claims[i].HasReplicationDestination(ctx))
			claims[i].App(ctx).Holds(ctx, "of "+v.in.Namespace+"/"+v.name, "it is another's")
			claims[i].SecretIsSound(ctx)
		}
		s.Step("and the one with the long name is backed up to its own place")
		last := claims[len(claims)-1]
		last.BackUp(ctx)
		last.SnapshotHolds(ctx, "latest", "of "+s.Namespace+"/"+last.Name)
	}, longest)

var _ = Prove("safety/long-names", verdict.Safety,
	"A PVC with a name of 64, 120 or 253 characters gets a ReplicationSource and a sound Secret, or is refused by a webhook.",
	func(ctx context.Context, s *scenario.Scenario) {
		for _, letters := range []int{64, 120, 253} {
			name := strings.Repeat("long-name-", 26)[:letters-1] + "x"
			claim := s.ClaimOrRefusal(ctx, name)
			if claim != nil {
				claim.HasReplicationSource(ctx)
				claim.SecretIsSound(ctx)
			}
		}
	}, judgesBackups)
