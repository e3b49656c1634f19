package s3down

import (
	"context"
	"net/http"

	gateway "github.com/smart-restore/conformance/harness/fault/gateway/api"
)

// RefuseBackups has every backup of a PVC end half-way, until the returned function is called: S3 refuses the last that a mover
// writes, the snapshot. restic takes that for an answer, and does not try again.
func (s *S3) RefuseBackups(ctx context.Context, pvc string) (heal func()) {
	return s.healed("S3 still refuses snapshots", s.putFault(ctx, "refuse-backups", "refusing new snapshots of PVC "+pvc, gateway.Rule{
		PathPrefix: s.repos.Path(pvc) + "snapshots/", Methods: []string{http.MethodPut},
		Fault: gateway.Fault{Kind: "status", Status: http.StatusForbidden},
	}))
}

// CutMoversOff keeps VolSync's movers of the namespace from S3, whose answer never comes, as a NetworkPolicy that denies egress would,
// until the returned function is called. Kyverno, which asks without credentials, gets its answers.
func (s *S3) CutMoversOff(ctx context.Context) (back func(context.Context)) {
	heal := s.healed("movers still get no answer", s.putFault(ctx, "movers-cut-off", "giving no answer to movers of the namespace", gateway.Rule{
		PathPrefix: s.repos.NamespacePath(), Auth: []string{gateway.AuthAWS4},
		Fault: gateway.Fault{Kind: "hang", OnHeal: "answer"},
	}))
	return func(context.Context) { heal() }
}
