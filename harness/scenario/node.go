package scenario

import (
	"context"

	"github.com/smart-restore/conformance/harness/install"
)

// powerCut kills every container of the node and then what runs them, and starts that again. The node's own network stays
// as it is: a node that boots anew would have its way out of the run's network open for a moment.
const powerCut = `systemctl stop kubelet
for id in $(ctr --namespace k8s.io tasks list --quiet); do
  ctr --namespace k8s.io tasks kill --all --signal SIGKILL "$id" &
done
wait
systemctl kill --signal=KILL containerd
systemctl stop containerd
systemctl start containerd kubelet`

// NodeRestart kills everything that runs on the node, the control plane included, without a word of warning, and waits
// until all of it is back.
func (sc *Scenario) NodeRestart(ctx context.Context) {
	before := sc.Restarts(ctx)
	if _, err := sc.Firewall.Exec(ctx, "bash", "-c", powerCut); err != nil {
		sc.Unknownf("the node could not be restarted: %v", err)
	}
	sc.Step("every container of the node was killed, and its kubelet starts them again")
	sc.APIServerBack(ctx)
	sc.eventually(ctx, "Kyverno and VolSync started again", platformTimeout, func(ctx context.Context) (bool, string, error) {
		now, err := sc.restarts(ctx)
		if err != nil {
			return blind(err)
		}
		for container, count := range before {
			if now[container] <= count {
				return false, container + " was not started again", nil
			}
		}
		return true, "", nil
	})
	sc.must(install.DeploymentsReady(ctx, sc.API, "volsync-system", platformTimeout))
	sc.must(install.VolSyncAnswers(ctx, sc.API, platformTimeout))
	sc.KyvernoBack(ctx)
}
