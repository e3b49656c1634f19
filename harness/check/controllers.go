package check

import (
	"github.com/smart-restore/conformance/harness/check/play"
)

// controllers are situations in which what people ask for is created by somebody else: a controller of Kubernetes, or of GitOps. A policy
// that leaves these out leaves nearly everything out.
func (p plot) controllers() (all []situation) {
	for _, sender := range []struct{ who, account, requirement string }{
		{"a StatefulSet's controller", "system:serviceaccount:kube-system:statefulset-controller", "safety/stateful-set"},
		{"Argo CD", "system:serviceaccount:argocd:argocd-application-controller", "core/restore"},
	} {
		all = append(all, situation{
			name: "backup, and " + sender.who + " creates the PVC", requirement: sender.requirement, wanted: "RD into the PVC, RS",
			play: p.scene(p.backup(), play.Step{Create: p.claim(claimName), By: sender.account}, wait(afterMillis), play.Step{Restored: true}, wait(afterMillis)),
			verify: func(f *found) {
				f.admittedInTime()
				f.hasDestination(afterMillis)
				f.hasSource(2*afterMillis + 1000)
			},
		})
	}
	for _, sender := range []struct{ of, account string }{
		{"a Deployment", "system:serviceaccount:kube-system:replicaset-controller"},
		{"a StatefulSet", "system:serviceaccount:kube-system:statefulset-controller"},
		{"a Job", play.JobController},
	} {
		starts := func(name string) play.Step { return play.Step{Create: pod(name), By: sender.account} }
		all = append(all, situation{
			name: "an app starts before the restore is done, as a pod of " + sender.of, requirement: "safety/no-app-before-restore", wanted: "its pod waits", feature: "gated-start",
			play:   p.scene(p.backup(), create(p.claim(claimName)), wait(afterMillis), starts("early"), play.Step{Restored: true}, wait(afterMillis), starts("late")),
			verify: (*found).appWaits,
		})
	}
	return all
}
