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
