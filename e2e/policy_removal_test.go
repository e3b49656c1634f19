package e2e

import (
	"context"

	"github.com/smart-restore/conformance/harness/scenario"
	"github.com/smart-restore/conformance/harness/verdict"
)

var _ = Prove("safety/policy-removal", verdict.Safety,
	"Deleting and re-applying the policy neither deletes the VolSync objects of volumes in use nor creates new ones.",
	func(ctx context.Context, s *scenario.Scenario) {
		s.GoodBackup(ctx, "restored")
		fresh, restored := s.ClaimWithBackupSource(ctx, "fresh"), s.ClaimWithRestore(ctx, "restored")
		restored.Restored(ctx, restored.HasReplicationDestination(ctx))
		restored.HasReplicationSource(ctx)
		before := s.ObjectsOfTheirs(ctx, fresh, restored)

		reapply := s.RemovePolicy(ctx)
		s.SameObjects(ctx, before, "the policy was deleted")
		reapply(ctx)
		s.SameObjects(ctx, before, "the policy was applied again")
	}, judgesPolicy, alone)
