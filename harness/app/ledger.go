package app

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/smart-restore/conformance/harness/await"
	"github.com/smart-restore/conformance/harness/env"
	"github.com/smart-restore/conformance/harness/podexec"
	"github.com/smart-restore/conformance/harness/workload/ledger"
)

// ThatKeepsWriting is the app of a PVC which is empty that writes a log and its table, record after record, as long as its pod runs.
func ThatKeepsWriting(e *env.Env, pvc string) *corev1.Pod {
	pod := Of(e, pvc)
	pod.Spec.Containers[0].Command = []string{e.Testbed.AgentPath(), "keep-writing", "--dir", mountPath}
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever // a second one would not find the volume empty
	return pod
}

// Record is how far the app of ThatKeepsWriting was at some time.
type Record int64

// TornFileByFile waits until a copy of the app's volume that reads file by file is found not to be of one moment, as such a copy must
// be while the app writes: else, a backup could not be told from one of a moment. It returns a record that was in the log before that.
func (a *App) TornFileByFile(ctx context.Context) Record {
	e := a.env
	var found ledger.State
	e.Arrange(ctx, "a copy of the volume in pod "+a.pod+", made file by file, that is not of one moment", e.Times.Pod, func(ctx context.Context) (_ await.State, err error) {
		reply, err := e.Pods.Run(ctx, ContainerOf(a), podexec.ByAgent(e.Testbed.AgentPath(), "read-ledger", "--dir", mountPath))
		switch {
		case err != nil:
			return await.State{}, err
		case reply.ExitCode != 0: // there is no log yet
			return await.NotYet("%s", reply.Stderr), nil
		}
		if err := json.Unmarshal(reply.Stdout, &found); err != nil {
			return await.State{}, err
		}
		return await.ReachedIf(found.Broken != "", "its log and its table fit, with %d records", found.Log), nil
	})
	e.Evidence("volume", fmt.Sprintf("while the app writes, a copy file by file is not of one moment: %s", found.Broken), nil)
	return Record(found.Log)
}

// WentOn ends the spec as unknown unless the app has written since it wrote this record.
func (a *App) WentOn(ctx context.Context, since Record) {
	now := a.readLedger(ctx)
	if Record(now.Log) <= since {
		a.env.Unknownf("the app in pod %s did not write while it was backed up: its log had record %d before, and ends with record %d", a.pod, since, now.Log)
	}
	a.env.Evidence("volume", fmt.Sprintf("while it was backed up the app wrote on, from record %d to record %d", since, now.Log), nil)
}

// HoldsAMoment fails the spec unless the volume is as the app of ThatKeepsWriting left it at one moment, when this record was written.
func (a *App) HoldsAMoment(ctx context.Context, with Record) {
	found := a.readLedger(ctx)
	if found.Broken != "" {
		a.env.Failf("what was restored is of no one moment: %s", found.Broken)
	}
	if Record(found.Log) < with {
		a.env.Failf("what was restored ends with record %d, and record %d was on the disk before the backup was asked for", found.Log, with)
	}
	a.env.Evidence("volume", fmt.Sprintf("what was restored is of one moment: the log ends with record %d, and the table has record %d", found.Log, found.Table), nil)
}

func (a *App) readLedger(ctx context.Context) (state ledger.State) {
	a.env.Must(json.Unmarshal(a.agent(ctx, a.env.Pods.Run, "read-ledger", "--dir", mountPath), &state))
	return state
}
