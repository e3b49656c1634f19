package external

import (
	"fmt"

	"github.com/smart-restore/conformance/harness/settings"
)

// ChosenBy is the external cluster of the settings, if it may be used; nil: the settings name none. Nothing is sent to it.
func ChosenBy(set settings.ExternalCluster) (*Chosen, error) {
	if set.Context == "" {
		return nil, nil
	}
	chosen, err := Choose(set.Kubeconfig, set.Context)
	if err != nil {
		return nil, err
	}
	return chosen, chosen.Allowed(set.Allow)
}

// CheckForSeveral refuses, for a command that has several runs, what ChosenBy refuses for one, and a plan.
func CheckForSeveral(set settings.ExternalCluster, command string) error {
	if set.PlanOnly {
		return fmt.Errorf("PLAN=1: %s has several runs, and PLAN shows what one would create; use e2e for it, or leave PLAN out", command)
	}
	_, err := ChosenBy(set)
	return err
}

// Refuse refuses an external cluster for a command that works on a stack of its own.
func Refuse(set settings.ExternalCluster, command string) error {
	if set.Context == "" {
		return nil
	}
	return fmt.Errorf("KUBE_CONTEXT=%s: %s creates a cluster of its own and does not use an existing one; leave KUBE_CONTEXT out, or use e2e or soak, which run on the cluster that it names", set.Context, command)
}
